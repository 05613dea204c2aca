"""The arguments of Kubernetes components, wherever they can be seen: pods, nodes, ConfigMaps, files.

Pure parsers to ComponentFlags, called by core.py, configmaps.py and nodefiles.py, for mirror pods, kubeadm-config,
kube-proxy's ConfigMap, MicroK8s' files, and what k3s and RKE2 note on nodes. Only the arguments that decide about
address families are kept.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any

from exporter.inventory.parse.fields import flag, items, mapping, name_of, net_list, text
from exporter.model.component import ComponentFlags
from exporter.model.family import Net

COMPONENTS = frozenset({"kube-apiserver", "kube-controller-manager", "kube-proxy", "kubelet"})
RELEVANT = frozenset(
    {
        "service-cluster-ip-range",
        "cluster-cidr",
        "allocate-node-cidrs",
        "node-cidr-mask-size",
        "node-cidr-mask-size-ipv4",
        "node-cidr-mask-size-ipv6",
        "feature-gates",
        "node-ip",
        "bind-address",
        "proxy-mode",
        "ipvs-strict-arp",
    }
)
MAX_VALUE = 1024
MAX_ARGUMENTS = 500
MAX_NOTE = 64 << 10


def arguments_of(words: list[str]) -> dict[str, str]:
    """Go's flags: --name=value, --name value, and --name alone for true; one dash or two. The last of a name wins."""
    found: dict[str, str] = {}
    words = words[:MAX_ARGUMENTS]
    for index, word in enumerate(words):
        if not word.startswith("-"):
            continue
        name, given, value = word.lstrip("-").partition("=")
        if not given:
            following = words[index + 1] if index + 1 < len(words) else "-"
            value = "true" if following.startswith("-") else following
        if name in RELEVANT:
            found[name] = value.strip("\"'")[:MAX_VALUE]
    return found


def component_flags(container: Mapping[str, Any], *, source: str, node: str = "") -> ComponentFlags | None:
    """The arguments of a container that runs a component directly; None where it runs something else (a shell hides them)."""
    words = [word for part in ("command", "args") for word in items(container.get(part)) if isinstance(word, str)]
    if not words:
        return None
    program = words[0].rpartition("/")[2]
    return (
        ComponentFlags(component=program, source=source, arguments=arguments_of(words[1:]), node=node)
        if program in COMPONENTS
        else None
    )


def parse_arguments_file(content: str, *, component: str, path: str, node: str) -> ComponentFlags:
    """A MicroK8s arguments file: one flag a line, shell quoting, comments by #."""
    words: list[str] = []
    for line in content.splitlines()[:MAX_ARGUMENTS]:
        try:
            words += shlex.split(line, comments=True)
        except ValueError:  # an unclosed quote: the line as it stands
            words += line.split()
    return ComponentFlags(component=component, source=path, arguments=arguments_of(words), node=node)


# The flags of `k3s server` that become flags of components, and of which. A component's own flags come as
# --COMPONENT-arg=NAME=VALUE.
NODE_ARGUMENTS = ("k3s.io/node-args", "rke2.io/node-args")
_SERVER_FLAGS = {
    "cluster-cidr": (("kube-controller-manager", "cluster-cidr"), ("kube-proxy", "cluster-cidr")),
    "service-cidr": (("kube-apiserver", "service-cluster-ip-range"), ("kube-controller-manager", "service-cluster-ip-range")),
}  # fmt: skip
_NODE_FLAGS = {"node-ip": (("kubelet", "node-ip"),)}


def parse_node_arguments(annotations: Mapping[str, Any], *, node: str) -> tuple[ComponentFlags, ...]:
    """What k3s and RKE2 note on a node of how they were started: a JSON list of words, the first `server` or `agent`.

    Defaults are not among them (k3s issue 6516), and stay unknown.
    """
    return tuple(flags for key in NODE_ARGUMENTS for flags in _noted(annotations.get(key), key, node))


def _noted(note: object, key: str, node: str) -> Iterator[ComponentFlags]:
    if not isinstance(note, str) or len(note) > MAX_NOTE:
        return
    try:
        words = [word for word in items(json.loads(note)) if isinstance(word, str)][:MAX_ARGUMENTS]
    except (ValueError, RecursionError):
        return
    known = _NODE_FLAGS | (_SERVER_FLAGS if words[:1] == ["server"] else {})
    found: dict[str, dict[str, str]] = {}
    extra: dict[str, list[str]] = {}
    for name, value in _pairs(words[1:]):
        for component, flag_name in known.get(name, ()):
            flags = found.setdefault(component, {})
            # A list may be given in several flags.
            flags[flag_name] = ",".join(part for part in (flags.get(flag_name, ""), value) if part)[:MAX_VALUE]
        component = name.removesuffix("-arg")
        if component != name and component in COMPONENTS:
            extra.setdefault(component, []).append("--" + value.lstrip("-"))
    if "cluster-cidr" in found.get("kube-controller-manager", {}):
        found["kube-controller-manager"]["allocate-node-cidrs"] = "true"  # k3s: pkg/daemons/control/server.go
    for component in sorted(found.keys() | extra.keys()):
        arguments = found.get(component, {}) | arguments_of(extra.get(component, []))
        if arguments:
            yield ComponentFlags(
                component=component, source=f"node/{node} annotation {key}", arguments=arguments, node=node
            )


def _pairs(words: list[str]) -> Iterator[tuple[str, str]]:
    """--name=value and --name value; a flag without a value is left out."""
    for word, following in pairwise([*words, "-"]):
        name, given, value = word.lstrip("-").partition("=")
        if word.startswith("-") and (given or not following.startswith("-")):
            yield name, value if given else following


def parse_kubeadm(document: object, source: str) -> tuple[tuple[ComponentFlags, ...], tuple[Net, ...], tuple[Net, ...]]:
    """A kubeadm ClusterConfiguration: the arguments it makes of it, the pod networks and the service networks.

    kubeadm turns networking.podSubnet and serviceSubnet into flags by itself; extraArgs (a map up to v1beta3, a list of
    name and value since v1beta4) override them.
    """
    fields = mapping(document)
    networking = mapping(fields.get("networking"))
    pods, services = text(networking.get("podSubnet")), text(networking.get("serviceSubnet"))
    shared = {"service-cluster-ip-range": services} if services else {}
    manager = {**shared, "cluster-cidr": pods, "allocate-node-cidrs": "true"} if pods else dict(shared)
    made = (("kube-apiserver", "apiServer", shared), ("kube-controller-manager", "controllerManager", manager))
    found = tuple(
        ComponentFlags(
            component=component,
            source=source,
            arguments={**given, **_extra_arguments(mapping(fields.get(part)).get("extraArgs"))},
        )
        for component, part, given in made
    )
    return tuple(flags for flags in found if flags.arguments), net_list(pods), net_list(services)


def _extra_arguments(source: object) -> dict[str, str]:
    listed = [(text(mapping(each).get("name")), mapping(each).get("value")) for each in items(source)]
    pairs = list(mapping(source).items()) or listed
    return {name: value[:MAX_VALUE] for name, value in pairs if name in RELEVANT and isinstance(value, str)}


def parse_kube_proxy(document: object, source: str) -> ComponentFlags | None:
    """A KubeProxyConfiguration, said as the flags of the same meaning."""
    fields = mapping(document)
    if fields.get("kind") != "KubeProxyConfiguration":
        return None
    gates = {name_of(gate): flag(value) for gate, value in mapping(fields.get("featureGates")).items()}
    arguments = {
        "cluster-cidr": text(fields.get("clusterCIDR")),
        "bind-address": text(fields.get("bindAddress")),
        "proxy-mode": text(fields.get("mode")),
        "feature-gates": ",".join(f"{gate}={str(value).lower()}" for gate, value in gates.items() if gate),
    }
    return ComponentFlags(
        component="kube-proxy",
        source=source,
        arguments={name: value[:MAX_VALUE] for name, value in arguments.items() if value},
    )
