"""What is meant to work: each family for pods of the cluster (dualstack_family_expected), and the operator's policies.

Evaluated once a round, before the rules (docs/specification.md section 3a). Calico creates pools of its own accord:
calico-node creates default-ipv4-ippool on an IPv6-only cluster, and gives every node a tunnel address from it. Such a
pool shows no intent. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import TypeAlias

from exporter.config.schema import Config
from exporter.diagnosis.engine.preconditions import has_calico_ipam
from exporter.diagnosis.engine.rule_input import Expectations
from exporter.diagnosis.network import CALICO_IPAM, pod_network
from exporter.model.cluster.calico import IPPool
from exporter.model.cluster.component import CniConfig
from exporter.model.cluster.inventory import Inventory, InventoryOrigin, ResourceKind
from exporter.model.cni.network import PodNetwork
from exporter.model.family import FAMILIES, Address, Family, Net, contains, family_of, parse_net
from exporter.model.grouping import grouped
from exporter.model.reason import Reason

Evidence: TypeAlias = Mapping[Family, tuple[str, ...]]
CONFIGURED = "the exporter's configuration names it (families)"
CALICO = "calico"
POOL_CIDRS = {Family.V4: "CALICO_IPV4POOL_CIDR", Family.V6: "CALICO_IPV6POOL_CIDR"}  # read when the first pool is made
NO_POOLS = "NO_DEFAULT_POOLS"
# For these reasons, an exporter that lacks the blocks reads the pods of all nodes.
ALL_PODS = frozenset({Reason.NO_PERMISSION, Reason.NOT_APPLICABLE})


def expectations(config: Config) -> Expectations:
    """What the operator configured as intended, as rules read it."""
    return Expectations(config.expect.services, config.dns.aaaa, config.dns.names or ())


def families_expected(
    inventory: Inventory, configured: Sequence[Family] | None, evidence: Evidence | None = None
) -> Mapping[Family, bool | None]:
    """As configured; else (None: auto) as the cluster names the family.

    True: a podCIDR, a service range, the CNI configuration, the address of a pod of the pod network, or a pool that was
    asked for names it. False: all of these could be read and none does. None: not known. `evidence` is that of
    family_evidence, where the caller has it.
    """
    if configured is not None:
        return {family: family in configured for family in FAMILIES}
    network = pod_network(inventory)
    named = _evidence(inventory, network) if evidence is None else evidence
    unknown = frozenset(FAMILIES) if _unread(inventory) else _families_left_open(inventory, network)
    return {family: True if named[family] else None if family in unknown else False for family in FAMILIES}


def family_evidence(inventory: Inventory, configured: Sequence[Family] | None) -> Evidence:
    """What names each family: clauses that continue "IPv6 is expected because ...", one of each kind at most."""
    if configured is not None:
        return {family: (CONFIGURED,) if family in configured else () for family in FAMILIES}
    return _evidence(inventory, pod_network(inventory))


def _evidence(inventory: Inventory, network: PodNetwork) -> Evidence:
    named = grouped(_named(inventory, network), lambda clause: clause[0])
    return {family: tuple(text for _, text in named.get(family, ())) for family in FAMILIES}


def families_of_pods(inventory: Inventory) -> frozenset[Family]:
    """The families that pods have addresses of: by the pods, by the blocks of pools that assign, or by the digest."""
    return frozenset(family for family, _ in _named_by_pods(inventory, pod_network(inventory)))


def _named(inventory: Inventory, network: PodNetwork) -> Iterator[tuple[Family, str]]:
    nodes = inventory.nodes or ()
    yield from ((family, text) for family in FAMILIES if (text := network.declaration(family)))
    # assign_ipv4 is on by default, and then shows nothing.
    declared = (c.source for c in _cni(inventory) if c.assign_ipv4 and c.assign_ipv4_text is not None)
    yield from ((Family.V4, f"{source} has assign_ipv4: true") for source in islice(declared, 1))
    assigned = (c.source for c in _cni(inventory) if c.assign_ipv6)
    yield from ((Family.V6, f"{source} has assign_ipv6: true") for source in islice(assigned, 1))
    if network.uses_pod_cidrs is not False:
        yield from _first_of_each("node/{} has the podCIDR {}", ((n.name, net) for n in nodes for net in n.pod_cidrs))
    if network.profile is not None and network.profile.subnet_annotations:
        yield from _first_of_each("node/{} has the subnet {}", ((n.name, net) for n in nodes for net in n.subnets))
    ranges = ((each.name, net) for each in inventory.service_cidrs or () if each.ready for net in each.cidrs)
    yield from _first_of_each("ServiceCIDR {} has {}", ranges)
    # Before ServiceCIDR objects existed, the Services' own addresses show the range.
    addresses = ((each.key, address) for each in inventory.services or () for address in each.cluster_ips)
    yield from _first_of_each("service/{} has the address {}", addresses)
    yield from _first_of_each("{} is {}", (("podSubnet of kubeadm", net) for net in inventory.cluster_pod_cidrs))
    yield from _first_of_each(
        "{} is {}", (("serviceSubnet of kubeadm", net) for net in inventory.cluster_service_cidrs)
    )
    yield from _named_by_pools(inventory, network)
    yield from _named_by_pods(inventory, network)


def _named_by_pods(inventory: Inventory, network: PodNetwork) -> Iterator[tuple[Family, str]]:
    pods = (pod for pod in inventory.pods or () if not pod.host_network)
    yield from _first_of_each("pod/{} has the address {}", ((pod.key, address) for pod in pods for address in pod.ips))
    used = [block.cidr for block in inventory.ipam_blocks or () if block.pods]
    assigned = (
        (p.name, p.cidr) for p in _assigning(inventory, network) if any(contains(p.cidr, block) for block in used)
    )
    yield from _first_of_each("pods have addresses of IPPool {} ({})", assigned)
    yield from ((family, "pods of other nodes have addresses of it") for family in inventory.pod_families or ())


def _first_of_each(text: str, owned: Iterable[tuple[str, Address | Net]]) -> Iterator[tuple[Family, str]]:
    """The first of each family, as a clause; a cluster has many nodes and pods, and one of them is evidence enough."""
    missing = set(FAMILIES)
    for owner, value in owned:
        if (family := family_of(value)) in missing:
            missing.remove(family)
            yield family, text.format(owner, value)
        if not missing:
            return


def _unread(inventory: Inventory) -> bool:
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


def _named_by_pools(inventory: Inventory, network: PodNetwork) -> Iterator[tuple[Family, str]]:
    """By the pools that assign and that were asked for.

    Where the CNI configuration nevertheless does not assign IPv6, the evidence is contradictory: IPv6 is expected, and
    cni_not_assigning_ipv6 reports what is missing. But IPv4 is assigned by default: that it is off is intended.
    """
    refused = _is_refused(inventory, Family.V4)
    for pool in _usable(inventory, network):
        family = family_of(pool.cidr)
        if (asker := _asker(pool, inventory)) and not (refused and family is Family.V4):
            yield family, f"{asker} IPPool {pool.name} ({pool.cidr})"


def _families_left_open(inventory: Inventory, network: PodNetwork) -> frozenset[Family]:
    """Those of pools that may be in use: the pods of the whole cluster are not known, neither by pods nor by blocks."""
    blocks_unread = inventory.unread.get(ResourceKind.IPAM_BLOCKS)
    sees_pods = inventory.pods is not None and (inventory.source is InventoryOrigin.FILE or blocks_unread in ALL_PODS)
    if sees_pods or inventory.pod_families is not None or inventory.ipam_blocks is not None:
        return frozenset()
    return frozenset(family_of(pool.cidr) for pool in _assigning(inventory, network))


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


def _usable(inventory: Inventory, network: PodNetwork) -> Iterable[IPPool]:
    """The pools that give workloads addresses without being named, on some node."""
    if has_calico_ipam(inventory, network) is False:
        return ()
    return (
        pool
        for pool in inventory.pools or ()
        if not pool.disabled and pool.automatic and pool.is_for_workloads and (pool.nodes is None or pool.nodes)
    )


def _assigning(inventory: Inventory, network: PodNetwork) -> Iterable[IPPool]:
    """Those of them that the CNI configuration, where it was read, takes addresses from."""
    return (pool for pool in _usable(inventory, network) if not _is_refused(inventory, family_of(pool.cidr)))


def _asker(pool: IPPool, inventory: Inventory) -> str:
    """What asked for the pool: the CNI configuration, the Installation, or the settings of calico-node; else empty."""
    for config in _cni(inventory):
        if {pool.name, str(pool.cidr)} & {*config.pools}:
            return f"{config.source} names"
    if inventory.installation is not None and pool.cidr in inventory.installation.pools:
        return "the Installation lists"
    env = inventory.calico_node.env if inventory.calico_node is not None else {}
    variable = POOL_CIDRS[family_of(pool.cidr)]
    made = parse_net(env.get(variable)) == pool.cidr and env.get(NO_POOLS, "").lower() != "true"
    return f"{variable} of calico-node asks for" if made else ""
