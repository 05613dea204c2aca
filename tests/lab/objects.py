"""The lab's cluster as Kubernetes objects: what `kubectl get ... -o yaml` would print of it. Faults of the API change
these.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Sequence
from typing import Any

from tests.kernel.calico_nodes import POOL4, POOL6, SERVICE4, SERVICE6, LabNode, LabPod
from tests.lab.dataplanes import DNS_PORTS, SERVICE_RANGE4, SERVICE_RANGE6, ServingLab

Object = dict[str, Any]

BORN = "2026-01-01T00:00:00Z"
COREFILE = """.:53 {
    errors
    kubernetes cluster.local in-addr.arpa ip6.arpa {
        pods insecure
    }
    forward . /etc/resolv.conf
    cache 30
}
"""
CNI = """{"name": "k8s-pod-network", "cniVersion": "0.3.1", "plugins": [{"type": "calico", "mtu": __CNI_MTU__,
"ipam": {"type": "calico-ipam", "assign_ipv4": "true", "assign_ipv6": "true"}}]}"""

CLIENT4, CLIENT6 = "10.96.0.60", "fd00:10:96::60"  # a second Service: objects and records alone
CONTROL_PLANE = {
    "kube-apiserver": (f"--service-cluster-ip-range={SERVICE_RANGE4},{SERVICE_RANGE6}",),
    "kube-controller-manager": (
        f"--service-cluster-ip-range={SERVICE_RANGE4},{SERVICE_RANGE6}",
        f"--cluster-cidr={POOL4},{POOL6}",
        "--allocate-node-cidrs=true",
    ),
}


def cluster_objects(lab: ServingLab, dns: LabPod) -> list[Object]:
    """Everything, healthy."""
    made = [
        *(_node(node) for node in lab.nodes),
        *(pod_object(lab, pod, node, app_of(pod, node)) for node in lab.nodes for pod in node.pods),
        *(_static_pod(name, lab.nodes[-1], arguments) for name, arguments in CONTROL_PLANE.items()),
        *(meta("Namespace", "v1", name) for name in ("default", "kube-system")),
        *_services(lab, dns),
        _pool("default-ipv4-ippool", POOL4, 26),
        _pool("default-ipv6-ippool", lab.pool6, 122),
        *(_affinity(node, block) for node in lab.nodes for block in (node.block4, node.block6)),
        *(
            ipam_block(block, node.name, used=len(node.pods) + 1)
            for node in lab.nodes
            for block in (node.block4, node.block6)
        ),
        _felix(),
        meta("ConfigMap", "v1", "coredns", "kube-system", data={"Corefile": COREFILE}),
        meta("ConfigMap", "v1", "calico-config", "kube-system", data={"cni_network_config": CNI}),
        meta("ServiceCIDR", "networking.k8s.io/v1", "kubernetes", spec={"cidrs": [SERVICE_RANGE4, SERVICE_RANGE6]}),
        network_policy("from-anywhere", {"ingress": [{"from": [block(cidr) for cidr in ("0.0.0.0/0", "::/0")]}]}),
    ]
    return lab.in_objects(made)


def app_of(pod: LabPod, node: LabNode) -> str:
    """Each node's first pod serves the Service, its others are clients."""
    return "web" if pod is node.pods[0] else "client"


def pick(objects: list[Object], kind: str, name: str) -> Object:
    """The one object of that kind and name."""
    return next(o for o in objects if o["kind"] == kind and o["metadata"]["name"] == name)


def as_list(objects: list[Object]) -> Object:
    return {"apiVersion": "v1", "kind": "List", "items": objects}


def meta(kind: str, version: str, name: str, namespace: str = "", **rest: Any) -> Object:
    metadata: Object = {"name": name, "uid": f"uid-{kind}-{namespace}-{name}", "creationTimestamp": BORN}
    if namespace:
        metadata["namespace"] = namespace
    return {"apiVersion": version, "kind": kind, "metadata": metadata, **rest}


def _node(node: LabNode) -> Object:
    made = meta(
        "Node",
        "v1",
        node.name,
        spec={"podCIDR": node.block4, "podCIDRs": [node.block4, node.block6]},
        status={
            "addresses": [{"type": "InternalIP", "address": a} for a in (node.address4, node.address6)],
            "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": BORN}],
        },
    )
    made["metadata"]["labels"] = {"kubernetes.io/os": "linux", "kubernetes.io/hostname": node.name}
    made["metadata"]["annotations"] = {
        "projectcalico.org/IPv4Address": f"{node.address4}/24",
        "projectcalico.org/IPv6Address": f"{node.address6}/64",
        "projectcalico.org/IPv4VXLANTunnelAddr": node.tunnel4,
        "projectcalico.org/IPv6VXLANTunnelAddr": node.tunnel6,
    }
    return made


def pod_uid(lab: ServingLab, pod: LabPod) -> str:
    """Of this lab alone: several may be up on one machine."""
    return str(uuid.uuid5(uuid.NAMESPACE_DNS, f"{lab.prefix}{pod.name}"))


def pod_object(lab: ServingLab, pod: LabPod, node: LabNode, app: str) -> Object:
    ips = [{"ip": pod.address4}, {"ip": pod.address6}]
    made = meta(
        "Pod",
        "v1",
        pod.name,
        pod.namespace,
        spec={
            "nodeName": node.name,
            "containers": [{"name": "web", "ports": [{"name": "http", "containerPort": 8080}]}],
        },
        status={
            "phase": "Running",
            "podIP": pod.address4,
            "podIPs": ips,
            "startTime": BORN,
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    )
    made["metadata"] |= {"labels": {"app": app}, "uid": pod_uid(lab, pod)}
    made["metadata"]["annotations"] = {"cni.projectcalico.org/podIPs": f"{pod.address4}/32,{pod.address6}/128"}
    return made


def _services(lab: ServingLab, dns: LabPod) -> list[Object]:
    servers = [node.pods[0] for node in lab.nodes]
    clients = [pod for node in lab.nodes for pod in node.pods[1:]]
    of_dns = [
        service_object("kube-system", "kube-dns", (dns.address4, dns.address6), 53, "53", {"k8s-app": "kube-dns"}),
        *_slices("kube-dns", "kube-system", 53, [dns]),
    ]
    for each in of_dns:
        (port,) = (each.get("spec") or each)["ports"]
        (each.get("spec") or each)["ports"] = [
            {**port, "name": name, "protocol": protocol.upper()} for name, protocol in DNS_PORTS.items()
        ]
    return [
        service_object(
            "default", "web", (SERVICE4, SERVICE6), 80, "8080", {"app.kubernetes.io/name": "dualstack-exporter"}
        ),
        *_slices("web", "default", 8080, servers),
        service_object("default", "client", (CLIENT4, CLIENT6), 80, "8080", {}),
        *_slices("client", "default", 8080, clients),
        *of_dns,
    ]


def service_object(
    namespace: str, name: str, ips: Sequence[str], port: int, target: str, labels: dict[str, str]
) -> Object:
    families = ["IPv6" if ":" in ip else "IPv4" for ip in ips]
    made = meta(
        "Service",
        "v1",
        name,
        namespace,
        spec={
            "type": "ClusterIP",
            "clusterIP": ips[0],
            "clusterIPs": list(ips),
            "ipFamilies": families,
            "ipFamilyPolicy": "PreferDualStack" if len(families) > 1 else "SingleStack",
            "ports": [{"name": "main", "port": port, "targetPort": int(target), "protocol": "TCP"}],
            "selector": {"app": name},
        },
    )
    made["metadata"]["labels"] = labels
    return made


def _slices(service: str, namespace: str, port: int, pods: Sequence[LabPod]) -> list[Object]:
    return [
        slice_object(
            service, namespace, port, family, {p.name: p.address4 if family == "IPv4" else p.address6 for p in pods}
        )
        for family in ("IPv4", "IPv6")
    ]


def slice_object(service: str, namespace: str, port: int, family: str, pods: dict[str, str]) -> Object:
    """An EndpointSlice; `pods` by name with their address."""
    made = meta(
        "EndpointSlice",
        "discovery.k8s.io/v1",
        f"{service}-{family.lower()}",
        namespace,
        addressType=family,
        endpoints=[
            {
                "addresses": [address],
                "conditions": {"ready": True},
                "targetRef": {"kind": "Pod", "namespace": "default", "name": name},
            }
            for name, address in pods.items()
        ],
        ports=[{"name": "main", "port": port, "protocol": "TCP"}],
    )
    made["metadata"]["labels"] = {"kubernetes.io/service-name": service}
    return made


def _pool(name: str, cidr: str, block: int) -> Object:
    spec = {"cidr": cidr, "vxlanMode": "Always", "natOutgoing": True, "blockSize": block, "nodeSelector": "all()"}
    return meta("IPPool", "crd.projectcalico.org/v1", name, spec=spec)


def ipam_block(cidr: str, node: str, used: int) -> Object:
    """A block of 64 addresses, of which the first are allocated."""
    spec = {"cidr": cidr, "affinity": f"host:{node}", "allocations": [0] * used + [None] * (64 - used)}
    return meta("IPAMBlock", "crd.projectcalico.org/v1", _as_name(cidr), spec=spec)


def network_policy(name: str, spec: Object) -> Object:
    """A NetworkPolicy for all pods of namespace default unless the spec says otherwise."""
    return meta("NetworkPolicy", "networking.k8s.io/v1", name, "default", spec={"podSelector": {}, **spec})


def block(cidr: str) -> Object:
    return {"ipBlock": {"cidr": cidr}}


def _static_pod(component: str, node: LabNode, arguments: Sequence[str]) -> Object:
    """A mirror pod, as kubelet makes it of a static one."""
    made = meta(
        "Pod",
        "v1",
        f"{component}-{node.name}",
        "kube-system",
        spec={
            "nodeName": node.name,
            "hostNetwork": True,
            "containers": [{"name": component, "command": [component, *arguments]}],
        },
        status={"phase": "Running", "podIP": node.address4, "podIPs": [{"ip": node.address4}, {"ip": node.address6}]},
    )
    made["metadata"]["labels"] = {"component": component, "tier": "control-plane"}
    made["metadata"]["annotations"] = {"kubernetes.io/config.hash": hashlib.md5(component.encode()).hexdigest()}
    return made


def _felix() -> Object:
    return meta(
        "FelixConfiguration",
        "crd.projectcalico.org/v1",
        "default",
        spec={"ipv6Support": True, "vxlanEnabled": True},
    )


def _as_name(cidr: str) -> str:
    return cidr.replace(":", "-").replace(".", "-").replace("/", "-")


def _affinity(node: LabNode, block: str) -> Object:
    name = f"{node.name}-{_as_name(block)}"
    spec = {"cidr": block, "node": node.name, "state": "confirmed", "deleted": "false"}
    return meta("BlockAffinity", "crd.projectcalico.org/v1", name, spec=spec)
