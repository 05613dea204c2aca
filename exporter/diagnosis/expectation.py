"""What is meant to work: each family for pods of the cluster (dualstack_family_expected), and the operator's policies.

Evaluated once a round, before the rules (docs/specification.md section 3a). Calico creates pools of its own accord:
calico-node creates default-ipv4-ippool on an IPv6-only cluster, and gives every node a tunnel address from it. Such a
pool shows no intent. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from exporter.config.schema import Config
from exporter.diagnosis.engine.preconditions import has_calico_ipam
from exporter.diagnosis.engine.rule_input import Expectations
from exporter.diagnosis.network import CALICO_IPAM, pod_network
from exporter.model.cluster.calico import IPPool
from exporter.model.cluster.component import CniConfig
from exporter.model.cluster.inventory import Inventory, InventoryOrigin, ResourceKind
from exporter.model.family import FAMILIES, Family, contains, family_of, parse_net
from exporter.model.reason import Reason

CALICO = "calico"
POOL_CIDRS = {Family.V4: "CALICO_IPV4POOL_CIDR", Family.V6: "CALICO_IPV6POOL_CIDR"}  # read when the first pool is made
NO_POOLS = "NO_DEFAULT_POOLS"
# For these reasons, an exporter that lacks the blocks reads the pods of all nodes.
ALL_PODS = frozenset({Reason.NO_PERMISSION, Reason.NOT_APPLICABLE})


def expectations(config: Config) -> Expectations:
    """What the operator configured as intended, as rules read it."""
    return Expectations(config.expect.services, config.dns.aaaa, config.dns.names or ())


def families_expected(inventory: Inventory, configured: Sequence[Family] | None) -> Mapping[Family, bool | None]:
    """As configured; else (None: auto) as the cluster names the family.

    True: a podCIDR, a service range, the CNI configuration, the address of a pod of the pod network, or a pool that was
    asked for names it. False: all of these could be read and none does. None: not known.
    """
    if configured is not None:
        return {family: family in configured for family in FAMILIES}
    named = set(_named(inventory))
    unknown = frozenset(FAMILIES) if _is_incomplete(inventory) else _families_left_open(inventory)
    return {family: True if family in named else None if family in unknown else False for family in FAMILIES}


def families_of_pods(inventory: Inventory) -> frozenset[Family]:
    """The families that pods have addresses of: by the pods, by the blocks of pools that assign, or by the digest."""
    seen = {family_of(address) for pod in inventory.pods or () if not pod.host_network for address in pod.ips}
    used = [block.cidr for block in inventory.ipam_blocks or () if block.pods]
    assigned = (p.cidr for p in _assigning(inventory) if any(contains(p.cidr, block) for block in used))
    return frozenset({*seen, *map(family_of, assigned), *(inventory.pod_families or ())})


def _named(inventory: Inventory) -> Iterator[Family]:
    for config in _cni(inventory):
        # assign_ipv4 is on by default, and then shows nothing.
        yield from (Family.V4,) if config.assign_ipv4 and config.assign_ipv4_text is not None else ()
        yield from (Family.V6,) if config.assign_ipv6 else ()
    yield from _families_of_declared_pools(inventory)
    yield from families_of_pods(inventory)
    network = pod_network(inventory)
    if network.uses_pod_cidrs is not False:
        yield from (family_of(net) for node in inventory.nodes or () for net in node.pod_cidrs)
    if network.profile is not None and network.profile.subnet_annotations:
        yield from (family_of(net) for node in inventory.nodes or () for net in node.subnets)
    yield from (family for family in FAMILIES if network.declares(family))
    yield from (family_of(net) for each in inventory.service_cidrs or () if each.ready for net in each.cidrs)
    yield from map(family_of, (*inventory.cluster_pod_cidrs, *inventory.cluster_service_cidrs))
    # Before ServiceCIDR objects existed, the Services' own addresses show the range.
    yield from (family_of(address) for service in inventory.services or () for address in service.cluster_ips)


def _is_incomplete(inventory: Inventory) -> bool:
    """Whether something that could name a family was not read."""
    needed = {
        ResourceKind.IP_POOLS: inventory.pools,
        ResourceKind.NODES: inventory.nodes,
        ResourceKind.SERVICE_CIDRS: inventory.services if inventory.service_cidrs is None else inventory.service_cidrs,
        ResourceKind.CONFIG_MAPS: inventory.cni,
        ResourceKind.PODS: inventory.pods,
    }
    return any(
        read is None and inventory.unread.get(kind) is not Reason.NOT_APPLICABLE for kind, read in needed.items()
    )


def _families_of_declared_pools(inventory: Inventory) -> frozenset[Family]:
    """Those of the pools that assign and that were asked for.

    Where the CNI configuration nevertheless does not assign IPv6, the evidence is contradictory: IPv6 is expected, and
    cni_not_assigning_ipv6 reports what is missing. But IPv4 is assigned by default: that it is off is intended.
    """
    found = {family_of(pool.cidr) for pool in _usable(inventory) if _is_declared(pool, inventory)}
    return frozenset(found - {Family.V4} if _is_refused(inventory, Family.V4) else found)


def _families_left_open(inventory: Inventory) -> frozenset[Family]:
    """Those of pools that may be in use: the pods of the whole cluster are not known, neither by pods nor by blocks."""
    blocks_unread = inventory.unread.get(ResourceKind.IPAM_BLOCKS)
    sees_pods = inventory.pods is not None and (inventory.source is InventoryOrigin.FILE or blocks_unread in ALL_PODS)
    if sees_pods or inventory.pod_families is not None or inventory.ipam_blocks is not None:
        return frozenset()
    return frozenset(family_of(pool.cidr) for pool in _assigning(inventory))


def _cni(inventory: Inventory) -> tuple[CniConfig, ...]:
    """The CNI configurations read that take addresses from Calico's pools."""
    return tuple(
        config
        for config in inventory.cni or ()
        if config.main_plugin == CALICO and config.ipam in ("", CALICO_IPAM) and not config.error
    )


def _is_refused(inventory: Inventory, family: Family) -> bool:
    """Whether CNI configuration was read and none of it assigns the family."""
    configs = _cni(inventory)
    return bool(configs) and not any(c.assign_ipv6 if family is Family.V6 else c.assign_ipv4 for c in configs)


def _usable(inventory: Inventory) -> Iterable[IPPool]:
    """The pools that give workloads addresses without being named, on some node."""
    if has_calico_ipam(inventory) is False:
        return ()
    return (
        pool
        for pool in inventory.pools or ()
        if not pool.disabled and pool.automatic and pool.is_for_workloads and (pool.nodes is None or pool.nodes)
    )


def _assigning(inventory: Inventory) -> Iterable[IPPool]:
    """Those of them that the CNI configuration, where it was read, takes addresses from."""
    return (pool for pool in _usable(inventory) if not _is_refused(inventory, family_of(pool.cidr)))


def _is_declared(pool: IPPool, inventory: Inventory) -> bool:
    """Whether the CNI configuration names the pool, the Installation lists it, or calico-node was told to make it."""
    if any(each in (pool.name, str(pool.cidr)) for config in _cni(inventory) for each in config.pools):
        return True
    if inventory.installation is not None and pool.cidr in inventory.installation.pools:
        return True
    env = inventory.calico_node.env if inventory.calico_node is not None else {}
    configured = parse_net(env.get(POOL_CIDRS[family_of(pool.cidr)]))
    return configured == pool.cidr and env.get(NO_POOLS, "").lower() != "true"
