"""The lab's cluster as Kubernetes objects: what `kubectl get ... -o yaml` would print of it. Faults of the API change these."""

from __future__ import annotations

from typing import Any

from tests.kernel.calico import Lab
from tests.kernel.calico_nodes import POOL4, POOL6, SERVICE4, SERVICE6, LabNode, LabPod

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


def cluster_objects(lab: Lab, dns: LabPod) -> list[Object]:
    """Everything, healthy."""
    return [
        *(_node(node) for node in lab.nodes),
        *(_pod(pod, node) for node in lab.nodes for pod in node.pods),
        *(_meta("Namespace", "v1", name) for name in ("default", "kube-system")),
        _service("default", "web", (SERVICE4, SERVICE6), 80, "8080", {"app.kubernetes.io/name": "dualstack-exporter"}),
        _service("kube-system", "kube-dns", (dns.address4, dns.address6), 53, "53", {"k8s-app": "kube-dns"}),
        _slice("IPv4", [p.address4 for n in lab.nodes for p in n.pods[:1]]),
        _slice("IPv6", [p.address6 for n in lab.nodes for p in n.pods[:1]]),
        _pool("default-ipv4-ippool", POOL4, 26),
        _pool("default-ipv6-ippool", POOL6, 122),
        *(_affinity(node, block) for node in lab.nodes for block in (node.block4, node.block6)),
        _meta(
            "FelixConfiguration",
            "crd.projectcalico.org/v1",
            "default",
            spec={"ipv6Support": True, "vxlanEnabled": True},
        ),
        _meta("ConfigMap", "v1", "coredns", "kube-system", data={"Corefile": COREFILE}),
        _meta("ConfigMap", "v1", "calico-config", "kube-system", data={"cni_network_config": CNI}),
        _meta(
            "ServiceCIDR", "networking.k8s.io/v1", "kubernetes", spec={"cidrs": ["10.96.0.0/16", "fd00:10:96::/112"]}
        ),
    ]


def pick(objects: list[Object], kind: str, name: str) -> Object:
    """The one object of that kind and name."""
    return next(o for o in objects if o["kind"] == kind and o["metadata"]["name"] == name)


def as_list(objects: list[Object]) -> Object:
    return {"apiVersion": "v1", "kind": "List", "items": objects}


def _meta(kind: str, version: str, name: str, namespace: str = "", **rest: Any) -> Object:
    metadata: Object = {"name": name, "uid": f"uid-{kind}-{namespace}-{name}", "creationTimestamp": BORN}
    if namespace:
        metadata["namespace"] = namespace
    return {"apiVersion": version, "kind": kind, "metadata": metadata, **rest}


def _node(node: LabNode) -> Object:
    made = _meta(
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


def _pod(pod: LabPod, node: LabNode) -> Object:
    ips = [{"ip": pod.address4}, {"ip": pod.address6}]
    made = _meta(
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
    made["metadata"]["labels"] = {"app": "web"}
    made["metadata"]["annotations"] = {"cni.projectcalico.org/podIPs": f"{pod.address4}/32,{pod.address6}/128"}
    return made


def _service(namespace: str, name: str, ips: tuple[str, str], port: int, target: str, labels: dict[str, str]) -> Object:
    made = _meta(
        "Service",
        "v1",
        name,
        namespace,
        spec={
            "type": "ClusterIP",
            "clusterIP": ips[0],
            "clusterIPs": list(ips),
            "ipFamilies": ["IPv4", "IPv6"],
            "ipFamilyPolicy": "PreferDualStack",
            "ports": [{"name": "main", "port": port, "targetPort": int(target), "protocol": "TCP"}],
            "selector": {"app": name},
        },
    )
    made["metadata"]["labels"] = labels
    return made


def _slice(family: str, addresses: list[str]) -> Object:
    made = _meta(
        "EndpointSlice",
        "discovery.k8s.io/v1",
        f"web-{family.lower()}",
        "default",
        addressType=family,
        endpoints=[{"addresses": [a], "conditions": {"ready": True}} for a in addresses],
        ports=[{"name": "main", "port": 8080, "protocol": "TCP"}],
    )
    made["metadata"]["labels"] = {"kubernetes.io/service-name": "web"}
    return made


def _pool(name: str, cidr: str, block: int) -> Object:
    spec = {"cidr": cidr, "vxlanMode": "Always", "natOutgoing": True, "blockSize": block, "nodeSelector": "all()"}
    return _meta("IPPool", "crd.projectcalico.org/v1", name, spec=spec)


def _affinity(node: LabNode, block: str) -> Object:
    name = f"{node.name}-{block.replace(':', '-').replace('.', '-').replace('/', '-')}"
    spec = {"cidr": block, "node": node.name, "state": "confirmed", "deleted": "false"}
    return _meta("BlockAffinity", "crd.projectcalico.org/v1", name, spec=spec)
