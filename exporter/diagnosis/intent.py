"""Which of Calico's pools somebody meant, or somebody uses (contract section 3a). Pure; used by expectation.py.

Calico makes pools of its own accord: calico-node creates default-ipv4-ippool on a cluster of IPv6 alone, and gives
every node a tunnel address from it. Such a pool is nobody's intent.
"""

from __future__ import annotations

from collections.abc import Iterable

from exporter.diagnosis.engine.preconditions import has_calico_ipam
from exporter.model.calico import IPPool
from exporter.model.component import CniConfig
from exporter.model.family import Family, Net, family_of, parse_net
from exporter.model.inventory import Inventory, ResourceKind
from exporter.model.reason import Reason

CALICO, CALICO_IPAM = "calico", "calico-ipam"
WORKLOAD = "Workload"
POOL_CIDRS = {Family.V4: "CALICO_IPV4POOL_CIDR", Family.V6: "CALICO_IPV6POOL_CIDR"}  # read when the first pool is made
NO_POOLS = "NO_DEFAULT_POOLS"
# With these the blocks were read, or never will be, by an exporter that reads the pods of all nodes.
ALL_PODS = frozenset({Reason.NO_PERMISSION, Reason.NOT_APPLICABLE})


def switched_on(inventory: Inventory) -> frozenset[Family]:
    """The families that the CNI configuration itself says are assigned: assign_ipv4 is on by default, and then says nothing."""
    return frozenset(
        family
        for config in _configs(inventory)
        for family, on in (
            (Family.V4, config.assign_ipv4 and config.assign_ipv4_text is not None),
            (Family.V6, config.assign_ipv6),
        )
        if on
    )


def families_of_pods(inventory: Inventory) -> frozenset[Family]:
    """The families that pods have addresses of: as the pods say, as the blocks of pools that assign say, or as the digest says."""
    seen = {family_of(address) for pod in inventory.pods or () if not pod.host_network for address in pod.ips}
    used = (family_of(pool.cidr) for pool in _assigning(inventory) if _holds_a_pod(pool, inventory))
    return frozenset({*seen, *used, *(inventory.pod_families or ())})


def families_of_declared_pools(inventory: Inventory) -> frozenset[Family]:
    """Those of the pools that assign and that somebody asked for.

    Where the CNI configuration does not assign the family all the same, the evidence contradicts itself: the family is
    expected, and cni_not_assigning_ipv6 says what is missing. But IPv4 is assigned by default: that it is off is
    somebody's will.
    """
    found = {family_of(pool.cidr) for pool in _usable(inventory) if _declared(pool, inventory)}
    return frozenset(found - {Family.V4} if _refused(inventory, Family.V4) else found)


def families_left_open(inventory: Inventory) -> frozenset[Family]:
    """Those of pools that may be in use, as far as is known: the blocks were not read, and the pods of this node alone were."""
    if _sees_all_pods(inventory):
        return frozenset()
    return frozenset(family_of(pool.cidr) for pool in _assigning(inventory))


def _configs(inventory: Inventory) -> tuple[CniConfig, ...]:
    """The CNI configurations to be seen that take addresses from Calico's pools."""
    return tuple(
        config
        for config in inventory.cni or ()
        if config.main_plugin == CALICO and config.ipam in ("", CALICO_IPAM) and not config.error
    )


def _refused(inventory: Inventory, family: Family) -> bool:
    """Whether there is CNI configuration to be seen, and none of it assigns the family."""
    configs = _configs(inventory)
    return bool(configs) and not any(c.assign_ipv6 if family is Family.V6 else c.assign_ipv4 for c in configs)


def _usable(inventory: Inventory) -> Iterable[IPPool]:
    """The pools that give workloads addresses by themselves, on some node."""
    if has_calico_ipam(inventory) is False:
        return ()
    return (
        pool
        for pool in inventory.pools or ()
        if not pool.disabled and pool.automatic and WORKLOAD in pool.allowed_uses and (pool.nodes is None or pool.nodes)
    )


def _assigning(inventory: Inventory) -> Iterable[IPPool]:
    """Those of them that the CNI configuration, where it can be seen, takes addresses from."""
    return (pool for pool in _usable(inventory) if not _refused(inventory, family_of(pool.cidr)))


def _holds_a_pod(pool: IPPool, inventory: Inventory) -> bool:
    return any(block.pods and _contains(pool.cidr, block.cidr) for block in inventory.ipam_blocks or ())


def _declared(pool: IPPool, inventory: Inventory) -> bool:
    """Whether the CNI configuration refers to the pool, the Installation lists it, or calico-node was told to make it."""
    if any(each in (pool.name, str(pool.cidr)) for config in _configs(inventory) for each in config.pools):
        return True
    if inventory.installation is not None and pool.cidr in inventory.installation.pools:
        return True
    env = inventory.calico_node.env if inventory.calico_node is not None else {}
    told = parse_net(env.get(POOL_CIDRS[family_of(pool.cidr)]))
    return told == pool.cidr and env.get(NO_POOLS, "").lower() != "true"


def _sees_all_pods(inventory: Inventory) -> bool:
    """Whether pods or blocks of the whole cluster are known, so that what none of them shows is not there."""
    if inventory.pod_families is not None or inventory.ipam_blocks is not None:
        return True
    if inventory.pods is None:
        return False
    return inventory.source == "file" or inventory.unread.get(ResourceKind.IPAM_BLOCKS) in ALL_PODS


def _contains(outer: Net, inner: Net) -> bool:
    return outer.version == inner.version and outer.prefixlen <= inner.prefixlen and inner.network_address in outer
