"""Which pods of another node a pod dials to test the way there. Pure; for the plan, and for the digest of the nodes.

An address of a pod goes the way that pods' traffic goes with every CNI; that of its node may not. A pod answers echoes
and refuses connections without any process that listens. One that a policy may protect shows nothing of the path.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from exporter.model.cluster.inventory import Inventory, ResourceKind
from exporter.model.cluster.pod import Pod
from exporter.model.family import Address, Family, family_of
from exporter.model.reason import Reason

PODS = 2  # for each family: when one does not answer, the other decides


def peer_pods(inventory: Inventory) -> Mapping[str, tuple[Address, ...]]:
    """By node the addresses of some running pods: those of its pods that are known here, else what the digest says."""
    found: dict[str, list[Address]] = {node.name: list(node.pod_addresses) for node in inventory.nodes or ()}
    for pod in _answering(inventory):
        known = found.setdefault(pod.node, [])
        for address in pod.ips:
            family = family_of(address)
            if sum(family_of(each) is family for each in known) >= PODS or address.is_link_local:
                continue
            if not (family is Family.V6 and pod.disables_ipv6):
                known.append(address)
    return {node: tuple(addresses) for node, addresses in found.items() if addresses}


def _answering(inventory: Inventory) -> Iterable[Pod]:
    """Running pods outside the reach of policies, those with most families first: always the same ones."""
    if inventory.unread.get(ResourceKind.POLICIES) in (Reason.NO_PERMISSION, Reason.API_UNAVAILABLE):
        return ()
    guarded = {policy.namespace for policy in inventory.policies or ()}
    if "" in guarded:
        return ()
    able = (
        pod
        for pod in inventory.pods or ()
        if pod.phase == "Running" and pod.ready and pod.ips and pod.namespace not in guarded
        if not (pod.host_network or pod.deleting or pod.runtime_class)
    )
    return sorted(able, key=lambda pod: (-len(pod.ips), pod.key))
