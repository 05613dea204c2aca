"""What happens in clusters all day, as acts on the lab: nodes are drained, join and stop, pods start and go, policies
close egress.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from tests.kernel import namespaces
from tests.kernel.calico_nodes import LabNode, LabPod
from tests.lab import edits
from tests.lab.cluster import SEARCH, Cluster
from tests.lab.fault import Act, all_of
from tests.lab.objects import Object, meta
from tests.lab.path_faults import filtered


def moment(seconds_ago: float = 0.0) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - seconds_ago))


def objects(*made: edits.Edit) -> Act:
    return lambda cluster: cluster.change(*made)


def serving_without(node: Callable[[Cluster], LabNode]) -> Act:
    """The node's endpoints leave the EndpointSlices and kube-proxy's rules; those of all other nodes are there."""

    def act(cluster: Cluster) -> None:
        others = [n for n in cluster.lab.nodes if n is not node(cluster)]
        firsts = [n.pods[0] for n in others]
        rest = [p for n in others for p in n.pods[1:]]
        cluster.change(
            *(edits.served_by(f"web-{family}", firsts) for family in ("ipv4", "ipv6")),
            *(edits.served_by(f"client-{family}", rest) for family in ("ipv4", "ipv6")),
        )
        cluster.lab.serve_from(*others)

    return act


def last(cluster: Cluster) -> LabNode:
    return cluster.lab.nodes[-1]


def own(cluster: Cluster) -> LabNode:
    return cluster.node


def pods_deleted(node: Callable[[Cluster], LabNode]) -> Act:
    def act(cluster: Cluster) -> None:
        for pod in node(cluster).pods:
            cluster.change(edits.metadata("Pod", pod.name, deletionTimestamp=moment()))

    return act


def interfaces_gone(node: Callable[[Cluster], LabNode]) -> Act:
    """The CNI plugin has run; the API and the namespaces follow later."""
    return lambda cluster: namespaces.batch(
        {node(cluster).netns: [f"link delete {pod.link}" for pod in node(cluster).pods]}
    )


def pods_gone(node: Callable[[Cluster], LabNode]) -> Act:
    return lambda cluster: cluster.change(edits.without("Pod", *(pod.name for pod in node(cluster).pods)))


def drained(node: Callable[[Cluster], LabNode]) -> tuple[Act, ...]:
    return (
        lambda cluster: cluster.change(edits.spec("Node", node(cluster).name, unschedulable=True)),
        all_of(pods_deleted(node), serving_without(node)),
        interfaces_gone(node),
        pods_gone(node),
    )


def not_ready(cluster: Cluster) -> None:
    condition = {"type": "Ready", "status": "Unknown", "lastTransitionTime": moment()}
    cluster.change(edits.status("Node", last(cluster).name, conditions=[condition]))


def dead(cluster: Cluster) -> None:
    """The last node's machine stops: nothing comes from it, nothing passes it."""
    for hook in ("input", "forward", "output"):
        filtered("peer", "inet", hook, "drop")(cluster)


def registered(cluster: Cluster) -> None:
    """A node whose kubelet has said its addresses; nobody else has done anything for it yet."""
    made = _node("node-d", "linux", ("10.99.0.14", "2001:db8:1::14"), "False", moment())
    made["metadata"]["creationTimestamp"] = moment()
    cluster.change(edits.added(made))


def _node(name: str, system: str, addresses: Sequence[str], ready: str, since: str, *cidrs: str) -> Object:
    made = meta(
        "Node",
        "v1",
        name,
        spec={"podCIDRs": list(cidrs)},
        status={
            "addresses": [{"type": "InternalIP", "address": address} for address in addresses],
            "conditions": [{"type": "Ready", "status": ready, "lastTransitionTime": since}],
        },
    )
    made["metadata"]["labels"] = {"kubernetes.io/os": system, "kubernetes.io/hostname": name}
    return made


def joined(cluster: Cluster) -> None:
    """Ready, with podCIDRs, addresses of Calico and blocks; Felix of this node has not programmed it yet."""
    condition = {"type": "Ready", "status": "True", "lastTransitionTime": moment()}
    blocks = [
        meta(
            "BlockAffinity",
            "crd.projectcalico.org/v1",
            f"node-d-{number}",
            spec={"cidr": cidr, "node": "node-d", "state": "confirmed", "deleted": "false"},
        )
        for number, cidr in enumerate(("10.244.4.64/26", "fd00:10:244:4::40/122"))
    ]
    for block in blocks:
        block["metadata"]["creationTimestamp"] = moment()
    annotations = {
        "projectcalico.org/IPv4Address": "10.99.0.14/24",
        "projectcalico.org/IPv6Address": "2001:db8:1::14/64",
        "projectcalico.org/IPv4VXLANTunnelAddr": "10.244.4.64",
        "projectcalico.org/IPv6VXLANTunnelAddr": "fd00:10:244:4::40",
    }
    cluster.change(
        edits.spec("Node", "node-d", podCIDRs=["10.244.4.0/24", "fd00:10:244:4::/64"]),
        edits.status("Node", "node-d", conditions=[condition]),
        edits.metadata("Node", "node-d", annotations=annotations),
        edits.added(*blocks),
    )


def foreign_nodes(cluster: Cluster) -> None:
    """A Windows node, which Calico gives no IPv6, and a virtual one, which runs no pods of the cluster's network."""
    ranges = ("10.244.7.0/24", "fd00:10:244:7::/64")
    windows = _node("win-1", "windows", ("10.99.0.17", "2001:db8:1::17"), "True", moment(3600), *ranges)
    virtual = _node("virtual-1", "linux", ("10.99.0.18",), "True", moment(3600))
    virtual["metadata"]["labels"]["type"] = "virtual-kubelet"
    cluster.change(edits.added(windows, virtual))


def client(cluster: Cluster) -> LabPod:
    return cluster.node.pods[1]


def without_ipv6(cluster: Cluster, *, in_api: bool = True) -> None:
    """The node's second pod has no IPv6 address."""
    pod = client(cluster)
    if in_api:
        cluster.change(edits.pod_ips(pod.name, pod.address4))
        cluster.change(
            edits.annotation("Pod", pod.name, "cni.projectcalico.org/podIPs", f"{pod.address4}/32"),
            edits.endpoints("client-ipv6", [p.name for n in cluster.lab.nodes[1:] for p in n.pods[1:]]),
        )
    namespaces.batch({pod.netns: [f"address delete {pod.address6}/128 dev eth0"]})


def ipv6_nameserver_first(cluster: Cluster) -> None:
    """The node's second pod has a file of its own, so that it asks everything; it names the nameserver over IPv6
    first.
    """
    addresses = (cluster.resolver.address6, cluster.resolver.address4)
    lines = "".join(f"nameserver {address}\n" for address in addresses)
    cluster.pod_roots[client(cluster).netns].resolv_conf(lines + SEARCH)


def of_client(make: Callable[[str], edits.Edit]) -> Act:
    return lambda cluster: cluster.change(make(client(cluster).name))


def starting(cluster: Cluster) -> None:
    """Just started, and its address is still tentative."""
    pod = client(cluster)
    settings = {"accept_dad": 1, "dad_transmits": 200, "router_solicitation_delay": 0}
    namespaces.configure({pod.netns: {f"net/ipv6/conf/eth0/{key}": value for key, value in settings.items()}})
    namespaces.batch({pod.netns: [f"address {verb} {pod.address6}/128 dev eth0" for verb in ("delete", "add")]})


def pending(cluster: Cluster) -> None:
    """A pod that the scheduler has just bound: no namespace, no address."""
    made = meta(
        "Pod",
        "v1",
        "fresh",
        "default",
        spec={"nodeName": "node-a", "containers": [{"name": "web"}]},
        status={"phase": "Pending"},
    )
    made["metadata"]["creationTimestamp"] = moment()
    cluster.change(edits.added(made))


def odd_pods(cluster: Cluster) -> None:
    """One on the host's network, one that has finished, one in a sandbox: none is looked from."""

    def pod(name: str, spec: Object, phase: str, *ips: str) -> Object:
        return meta(
            "Pod", "v1", name, "default", spec={"nodeName": "node-a", "containers": [{"name": "web"}], **spec},
            status={"phase": phase, "podIPs": [{"ip": ip} for ip in ips]},
        )  # fmt: skip

    cluster.change(
        edits.added(
            pod("agent", {"hostNetwork": True}, "Running", "10.99.0.11"),
            pod("job", {}, "Succeeded", "10.244.1.77"),
            pod("sandbox", {"runtimeClassName": "gvisor"}, "Running", "10.244.1.78"),
        )
    )


DROP_EGRESS = filtered("node", "inet", "forward", 'iifname "cali*" drop')


def policy(kind: str, version: str, **spec: Any) -> Act:
    """A policy that denies the pods everything outwards, and what enforces it."""
    made = meta(kind, version, "deny-egress", "" if kind.startswith(("Global", "Admin")) else "default", spec=spec)
    return all_of(objects(edits.added(made)), DROP_EGRESS)


def for_one_round(act: Act) -> Act:
    """Break something, let one round see it, and mend it."""

    def once(cluster: Cluster) -> None:
        act(cluster)
        cluster.round()
        cluster.heal()

    return once
