"""The cluster's address ranges by kind: pods, Services, node addresses; and which of them overlap. Pure.

Used by rules/cluster/ranges.py. CIDRs are nested or disjoint, so one pass over them in order, with a stack of the
enclosing ones, finds every overlap. With 5,000 nodes there are tens of thousands of them: they are compared as whole
numbers, and written out only where evidence names them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Address, IPv6Address

from exporter.model.cluster.calico import IPPool
from exporter.model.cluster.component import ComponentFlags
from exporter.model.cluster.inventory import Inventory
from exporter.model.family import Address, Net, parse_net
from exporter.model.grouping import grouped
from exporter.model.subject import Subject, SubjectKind

KUBEADM = Subject.of(SubjectKind.CONFIGMAP, "kube-system", "kubeadm-config")
API_SERVICE = Subject.of(SubjectKind.SERVICE, "default", "kubernetes")  # for the Service range, which has no object
POD_USES = frozenset({"Workload", "Tunnel"})


class RangeKind(StrEnum):
    PODS = "pods"
    SERVICES = "Services"
    NODES = "nodes"


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """A network or a single address, the subject it belongs to, and the words of evidence around it."""

    where: Net | Address
    kind: RangeKind
    subject: Subject
    before: str
    after: str = ""
    idle: bool = False  # a pool that nothing uses

    @property
    def label(self) -> str:
        """How evidence calls it."""
        return f"{self.before} {self.where}{self.after}"

    @property
    def version(self) -> int:
        return self.where.version

    @property
    def first(self) -> int:
        """Its first address."""
        where = self.where
        return int(where if isinstance(where, IPv4Address | IPv6Address) else where.network_address)

    @property
    def length(self) -> int:
        """The length of its prefix: all bits, for an address."""
        where = self.where
        return where.max_prefixlen if isinstance(where, IPv4Address | IPv6Address) else where.prefixlen

    @property
    def is_address(self) -> bool:
        return self.length == self.where.max_prefixlen


def pod_ranges(inventory: Inventory, idle: Collection[str] = ()) -> Iterator[Range]:
    """Pools, and the podCIDRs and pod networks that are in none of them. `idle`: pools that nothing uses, by name."""
    pools = [pool for pool in inventory.pools or () if pool.allowed_uses & POD_USES]
    for pool in pools:
        subject, unused = pool.subject, pool.name in idle
        yield Range(where=pool.cidr, kind=RangeKind.PODS, subject=subject, before=subject, idle=unused)
    outside = _outside(pool for pool in pools if pool.name not in idle)
    yield from (_of(KUBEADM, net, RangeKind.PODS, "podSubnet") for net in filter(outside, inventory.cluster_pod_cidrs))
    for node in inventory.nodes or ():
        for net in filter(outside, node.pod_cidrs):
            yield _of(Subject.of(SubjectKind.NODE, node.name), net, RangeKind.PODS, "podCIDR")


def _outside(pools: Iterable[IPPool]) -> Callable[[Net], bool]:
    """Whether a network is in no pool; pools are looked up by prefix length."""
    firsts: dict[tuple[int, int], set[int]] = {}
    for net in (pool.cidr for pool in pools):
        firsts.setdefault((net.version, net.prefixlen), set()).add(int(net.network_address))

    def is_outside(net: Net) -> bool:
        first, bits = int(net.network_address), net.max_prefixlen
        return not any(
            first >> (bits - wider) << (bits - wider) in found
            for (version, wider), found in firsts.items()
            if version == net.version and wider <= net.prefixlen
        )

    return is_outside


def service_ranges(inventory: Inventory) -> Iterator[Range]:
    """The Service ranges of the API, else of kubeadm or kube-apiserver's arguments, else the Services' addresses."""
    kind = RangeKind.SERVICES
    for each in inventory.service_cidrs or ():
        after = f" (servicecidr {each.name})"
        for net in each.cidrs:
            yield Range(where=net, kind=kind, subject=API_SERVICE, before="Service range", after=after)
    if inventory.service_cidrs:
        return
    said = [(net, KUBEADM) for net in inventory.cluster_service_cidrs] or list(_from_flags(inventory.components or ()))
    yield from (_of(subject, net, kind, "Service range") for net, subject in said)
    for service in inventory.services or () if not said else ():
        subject = Subject.of(SubjectKind.SERVICE, service.key)
        yield from (_of(subject, address, kind, "ClusterIP") for address in service.cluster_ips)


def is_service_address(address: Address, inventory: Inventory) -> bool:
    """Whether it is a ClusterIP, or in a range of them."""
    if any(address in service.cluster_ips for service in inventory.services or ()):
        return True
    within = (each for each in service_ranges(inventory) if each.version == address.version)
    return any((int(address) ^ each.first) >> (address.max_prefixlen - each.length) == 0 for each in within)


def _from_flags(components: Iterable[ComponentFlags]) -> Iterator[tuple[Net, Subject]]:
    for each in components:
        if each.component == "kube-apiserver":
            nets = map(parse_net, each.arguments.get("service-cluster-ip-range", "").split(","))
            yield from ((net, API_SERVICE) for net in nets if net is not None)


def node_ranges(inventory: Inventory) -> Iterator[Range]:
    """Each node's own addresses, from the API and Calico."""
    for node in inventory.nodes or ():
        subject = Subject.of(SubjectKind.NODE, node.name)
        own = dict.fromkeys((*node.internal_ips, *(each.ip for each in node.calico_addresses)))
        yield from (_of(subject, address, RangeKind.NODES, "address") for address in own)


def _of(subject: Subject, where: Net | Address, kind: RangeKind, word: str) -> Range:
    return Range(where=where, kind=kind, subject=subject, before=word, after=f" of {subject}")


def overlaps(ranges: Iterable[Range]) -> Iterator[tuple[list[Range], list[Range]]]:
    """Pairs of networks of different kinds that overlap, the outer one first, each with all ranges that name it."""
    named = grouped(ranges, lambda each: (each.version, each.first, each.length, each.kind))
    enclosing: list[tuple[int, int, RangeKind, list[Range]]] = []  # version, last address
    for key in sorted(named):
        version, first, length, _ = key
        here = named[key]
        while enclosing and not (enclosing[-1][0] == version and first <= enclosing[-1][1]):
            enclosing.pop()
        kind = here[0].kind
        yield from ((outer, here) for _, _, other, outer in enclosing if other is not kind)
        last = first + (1 << (here[0].where.max_prefixlen - length)) - 1
        enclosing.append((version, last, kind, here))


def meet(one: Range, other: Net) -> bool:
    """Whether a range and a network overlap: their first bits are equal, as many as the wider has."""
    if one.version != other.version:
        return False
    shift = other.max_prefixlen - min(one.length, other.prefixlen)
    return one.first >> shift == int(other.network_address) >> shift
