"""Changes of the cluster's objects that somebody might make by mistake: each function returns an edit of the list of
objects.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence

from tests.kernel.calico_nodes import LabPod
from tests.lab.objects import CNI, COREFILE, Object, pick, slice_object

Edit = Callable[[list[Object]], object]
TUNNEL_ANNOTATION = "projectcalico.org/IPv6VXLANTunnelAddr"


def without(kind: str, *names: str) -> Edit:
    """Delete objects."""

    def edit(objects: list[Object]) -> None:
        for name in names:
            objects.remove(pick(objects, kind, name))

    return edit


def added(*made: Object) -> Edit:
    return lambda objects: objects.extend(made)


def spec(kind: str, name: str, **fields: object) -> Edit:
    """Set fields of spec; None removes one."""
    return lambda objects: _set(pick(objects, kind, name)["spec"], fields)


def status(kind: str, name: str, **fields: object) -> Edit:
    return lambda objects: _set(pick(objects, kind, name).setdefault("status", {}), fields)


def metadata(kind: str, name: str, **fields: object) -> Edit:
    return lambda objects: _set(pick(objects, kind, name)["metadata"], fields)


def annotation(kind: str, name: str, key: str, value: str | None) -> Edit:
    return lambda objects: _set(pick(objects, kind, name)["metadata"].setdefault("annotations", {}), {key: value})


def addresses(node: str, *ips: str) -> Edit:
    """The node's InternalIPs."""
    return status("Node", node, addresses=[{"type": "InternalIP", "address": ip} for ip in ips])


def pod_ips(pod: str, *ips: str) -> Edit:
    return status("Pod", pod, podIP=ips[0], podIPs=[{"ip": ip} for ip in ips])


def corefile(directive: str) -> Edit:
    """Put a directive before the kubernetes plugin."""
    text = COREFILE.replace("    kubernetes ", f"    {directive}\n    kubernetes ", 1)
    return lambda objects: _set(pick(objects, "ConfigMap", "coredns")["data"], {"Corefile": text})


def cni(**ipam: str | None) -> Edit:
    """Settings of the calico plugin's ipam."""
    config = json.loads(CNI.replace("__CNI_MTU__", "0"))
    _set(config["plugins"][0]["ipam"], ipam)
    text = json.dumps(config)
    return lambda objects: _set(pick(objects, "ConfigMap", "calico-config")["data"], {"cni_network_config": text})


def arguments(pod: str, *given: str) -> Edit:
    """The arguments of a control plane component, behind its name."""

    def edit(objects: list[Object]) -> None:
        container = pick(objects, "Pod", pod)["spec"]["containers"][0]
        container["command"] = [container["name"], *given]

    return edit


def endpoints(slice_name: str, names: Sequence[str] = ()) -> Edit:
    """Keep only the endpoints of these pods in an EndpointSlice."""

    def edit(objects: list[Object]) -> None:
        found = pick(objects, "EndpointSlice", slice_name)
        found["endpoints"] = [e for e in found["endpoints"] if e["targetRef"]["name"] in names]

    return edit


def served_by(slice_name: str, pods: Sequence[LabPod]) -> Edit:
    """Let these pods be the endpoints of an EndpointSlice."""

    def edit(objects: list[Object]) -> None:
        found = pick(objects, "EndpointSlice", slice_name)
        six = found["addressType"] == "IPv6"
        addresses = {pod.name: pod.address6 if six else pod.address4 for pod in pods}
        found["endpoints"] = slice_object("", "", 0, found["addressType"], addresses)["endpoints"]

    return edit


def _set(target: Object, fields: Mapping[str, object]) -> None:
    for key, value in fields.items():
        if value is None:
            target.pop(key, None)
        else:
            target[key] = value
