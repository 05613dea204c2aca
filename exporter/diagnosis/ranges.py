"""The cluster's address ranges by kind: pods, Services, node addresses; and which of them overlap. Pure, without quadratic steps.

CIDRs are nested or disjoint, so one pass over them in order with a stack of the enclosing ones finds every overlap.
With 5,000 nodes there are tens of thousands of them: they are compared as whole numbers, and written out only where
evidence names them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Address, IPv6Address

from exporter.model.calico import IPPool
from exporter.model.component import ComponentFlags
from exporter.model.family import Address, Net, parse_net
from exporter.model.inventory import Inventory
from exporter.model.subject import Subject, SubjectKind

KUBEADM = Subject.of(SubjectKind.CONFIGMAP, "kube-system", "kubeadm-config")
API_SERVICE = Subject.of(
    SubjectKind.SERVICE, "default", "kubernetes"
)  # stands for the Service range, which has no object of a subject's form
POD_USES = frozenset({"Workload", "Tunnel"})


class RangeKind(StrEnum):
    PODS = "pods"
    SERVICES = "Services"
    NODES = "nodes"


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """A network, or an address by itself; whose it is (a subject); and what evidence says before and after it."""

    where: Net | Address
    kind: RangeKind
    subject: Subject
    before: str
    after: str = ""

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
        """Whether it is one address alone."""
        return self.length == self.where.max_prefixlen


def pod_ranges(inventory: Inventory) -> Iterator[Range]:
    """Pools, and the podCIDRs and pod networks that lie in none of them."""
    pools = [pool for pool in inventory.pools or () if pool.allowed_uses & POD_USES]
    yield from (
        Range(
            where=p.cidr,
            kind=RangeKind.PODS,
            subject=Subject.of(SubjectKind.POOL, p.name),
            before=Subject.of(SubjectKind.POOL, p.name),
        )
        for p in pools
    )
    outside = _OutsideOf(pools)
    for net in filter(outside, inventory.cluster_pod_cidrs):
        yield Range(where=net, kind=RangeKind.PODS, subject=KUBEADM, before="podSubnet", after=f" of {KUBEADM}")
    for node in inventory.nodes or ():
        for net in filter(outside, node.pod_cidrs):
            yield _of(Subject.of(SubjectKind.NODE, node.name), net, RangeKind.PODS, "podCIDR")


class _OutsideOf:
    """Whether a network lies in no pool; pools are looked up by prefix length."""

    def __init__(self, pools: Iterable[IPPool]) -> None:
        nets = [pool.cidr for pool in pools]
        self._firsts: dict[tuple[int, int], set[int]] = {}
        for net in nets:
            self._firsts.setdefault((net.version, net.prefixlen), set()).add(int(net.network_address))

    def __call__(self, net: Net) -> bool:
        version, length, first, bits = net.version, net.prefixlen, int(net.network_address), net.max_prefixlen
        return not any(
            first >> (bits - wider) << (bits - wider) in firsts
            for (of, wider), firsts in self._firsts.items()
            if of == version and wider <= length
        )


def service_ranges(inventory: Inventory) -> Iterator[Range]:
    """The Service ranges as the API has them, else as kubeadm or kube-apiserver's arguments say; else the Services' own addresses."""
    if inventory.service_cidrs:
        for each in inventory.service_cidrs:
            yield from (
                Range(
                    where=net,
                    kind=RangeKind.SERVICES,
                    subject=API_SERVICE,
                    before="Service range",
                    after=f" (servicecidr {each.name})",
                )
                for net in each.cidrs
            )
        return
    said = [(net, KUBEADM) for net in inventory.cluster_service_cidrs] or list(_from_flags(inventory.components or ()))
    yield from (_of(where, net, RangeKind.SERVICES, "Service range") for net, where in said)
    if not said:
        for service in inventory.services or ():
            yield from (
                _of(Subject.of(SubjectKind.SERVICE, service.key), address, RangeKind.SERVICES, "ClusterIP")
                for address in service.cluster_ips
            )


def _from_flags(components: Iterable[ComponentFlags]) -> Iterator[tuple[Net, Subject]]:
    for each in components:
        if each.component == "kube-apiserver":
            nets = map(parse_net, each.arguments.get("service-cluster-ip-range", "").split(","))
            yield from ((net, API_SERVICE) for net in nets if net is not None)


def node_ranges(inventory: Inventory) -> Iterator[Range]:
    """Each node's own addresses, as the API and Calico have them."""
    for node in inventory.nodes or ():
        own = dict.fromkeys((*node.internal_ips, *(each.ip for each in node.calico_addresses)))
        yield from (
            _of(Subject.of(SubjectKind.NODE, node.name), address, RangeKind.NODES, "address") for address in own
        )


def _of(subject: Subject, where: Net | Address, kind: RangeKind, word: str) -> Range:
    return Range(where=where, kind=kind, subject=subject, before=word, after=f" of {subject}")


def overlaps(ranges: Iterable[Range]) -> Iterator[tuple[list[Range], list[Range]]]:
    """Pairs of networks of different kinds that overlap, the outer one first, each with all ranges that name it."""
    named: dict[tuple[int, int, int, str], list[Range]] = {}
    for each in ranges:
        named.setdefault((each.version, each.first, each.length, each.kind), []).append(each)
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
    """Whether a range and a network overlap: their first bits agree, as many as the wider has."""
    if one.version != other.version:
        return False
    shift = other.max_prefixlen - min(one.length, other.prefixlen)
    return one.first >> shift == int(other.network_address) >> shift
