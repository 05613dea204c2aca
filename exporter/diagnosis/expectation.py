"""What is meant to be: each family for pods of the cluster (dualstack_family_expected), and what the operator said. Pure; comes before the rules."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from exporter.config.schema import Config
from exporter.diagnosis.engine.rule_input import Expectations, NamespacePolicy
from exporter.diagnosis.intent import (
    families_left_open,
    families_of_declared_pools,
    families_of_pods,
    switched_on,
)
from exporter.model.family import FAMILIES, Family, family_of
from exporter.model.inventory import Inventory, ResourceKind
from exporter.model.reason import Reason


def expectations(config: Config) -> Expectations:
    """What the operator said is meant to be, as rules read it."""
    return Expectations(
        services=tuple(NamespacePolicy(s.namespaces, s.policy.value) for s in config.expect.services),
        aaaa=config.dns.aaaa.value,
        control_names=tuple((n.name, tuple(e.value for e in n.expect)) for n in config.dns.names or ()),
    )


def families_expected(inventory: Inventory, configured: Sequence[Family] | None) -> Mapping[Family, bool | None]:
    """As configured; else (None: auto) as the cluster names the family.

    True: a podCIDR, a service range, the CNI configuration, the address of a pod of the pod network, or a pool that
    somebody asked for names it. False: all of these could be read and none does. None: not known.
    """
    if configured is not None:
        return {family: family in configured for family in FAMILIES}
    named = set(_named(inventory))
    unknown = frozenset(FAMILIES) if _unknown(inventory) else families_left_open(inventory)
    return {family: True if family in named else None if family in unknown else False for family in FAMILIES}


def _named(inventory: Inventory) -> Iterator[Family]:
    yield from switched_on(inventory)
    yield from families_of_declared_pools(inventory)
    yield from families_of_pods(inventory)
    yield from (family_of(net) for node in inventory.nodes or () for net in node.pod_cidrs)
    yield from (family_of(net) for each in inventory.service_cidrs or () for net in each.cidrs)
    yield from map(family_of, (*inventory.cluster_pod_cidrs, *inventory.cluster_service_cidrs))
    # Before ServiceCIDR objects existed, the Services' own addresses show the range.
    yield from (family_of(address) for service in inventory.services or () for address in service.cluster_ips)


def _unknown(inventory: Inventory) -> bool:
    """Whether something that could name a family was not read."""
    ranges = inventory.services if inventory.service_cidrs is None else inventory.service_cidrs
    needed = {
        ResourceKind.IP_POOLS: inventory.pools,
        ResourceKind.NODES: inventory.nodes,
        ResourceKind.SERVICE_CIDRS: ranges,
        ResourceKind.CONFIG_MAPS: inventory.cni,
        ResourceKind.PODS: inventory.pods,
    }
    return any(
        read is None and inventory.unread.get(kind) is not Reason.NOT_APPLICABLE for kind, read in needed.items()
    )
