"""Whether the inventory lets a rule decide, and how rules word lists in evidence. For rules of every scope; pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from exporter.diagnosis.network import CALICO_IPAM
from exporter.model.cluster.inventory import Inventory, InventoryOrigin, ResourceKind
from exporter.model.cluster.node import Node
from exporter.model.cni.network import PodNetwork
from exporter.model.cni.profile import Cni
from exporter.model.reason import Reason

FIELDS: Mapping[ResourceKind, str] = {
    ResourceKind.NODES: "nodes",
    ResourceKind.PODS: "pods",
    ResourceKind.SERVICES: "services",
    ResourceKind.ENDPOINT_SLICES: "endpoint_slices",
    ResourceKind.SERVICE_CIDRS: "service_cidrs",
    ResourceKind.POLICIES: "policies",
    ResourceKind.IP_POOLS: "pools",
    ResourceKind.BLOCK_AFFINITIES: "block_affinities",
    ResourceKind.IPAM_BLOCKS: "ipam_blocks",
    ResourceKind.FELIX: "felix",
}
LISTED = 10


def lacking(inventory: Inventory, *kinds: ResourceKind) -> Reason | None:
    """Why a rule that needs these kinds cannot decide: the inventory is stale or lacks one. None: it can."""
    if inventory.source is InventoryOrigin.NONE:
        return Reason.NO_INVENTORY
    if inventory.stale:
        return Reason.STALE_INVENTORY
    return next((unread(inventory, kind) for kind in kinds if getattr(inventory, FIELDS[kind]) is None), None)


def unread(inventory: Inventory, kind: ResourceKind) -> Reason:
    """Why a kind was not read, as reported by the source."""
    return inventory.unread.get(kind, Reason.NO_INVENTORY)


def has_calico(inventory: Inventory) -> bool | None:
    """Whether Calico runs the cluster's pod network; None where nothing that would show it was read."""
    shown = (inventory.pools, inventory.felix, inventory.block_affinities)
    if any(shown) or inventory.calico_node is not None or inventory.installation is not None:
        return True
    kinds = (ResourceKind.IP_POOLS, ResourceKind.FELIX)
    absent = all(inventory.unread.get(kind) is Reason.NOT_APPLICABLE for kind in kinds)
    return None if all(each is None for each in shown) and not absent else False


def has_calico_ipam(inventory: Inventory, network: PodNetwork) -> bool | None:
    """Whether pod addresses come from Calico's pools rather than from the nodes' podCIDRs; None: not known."""
    if network.cni is Cni.UNKNOWN and not network.calico_alone_for_policy and not network.ipam:
        return False if has_calico(inventory) is False else None
    return network.ipam == CALICO_IPAM


def pod_nodes(inventory: Inventory) -> tuple[Node, ...]:
    """The nodes that run pods on the cluster's network: all but virtual ones."""
    return tuple(node for node in inventory.nodes or () if not node.virtual)


def listed(names: Iterable[str], limit: int = LISTED) -> str:
    """Names separated by commas, the first of them and how many more."""
    found = list(names)
    more = f" and {len(found) - limit} more" if len(found) > limit else ""
    return ", ".join(found[:limit]) + more


def bounded(lines: Iterable[str], limit: int = LISTED) -> tuple[str, ...]:
    """Evidence lines, the first of them and how many more."""
    found = list(lines)
    return (*found[:limit], f"and {len(found) - limit} more") if len(found) > limit else tuple(found)


def counted(number: int, noun: str, plural: str = "") -> str:
    """A number with its noun: 1 node, 3 nodes."""
    return f"{number} {noun if number == 1 else plural or noun + 's'}"
