"""The cluster's address ranges by kind: pods, Services, node addresses; and which of them overlap. Pure, without quadratic steps.

CIDRs are nested or disjoint, so one pass over them in order with a stack of the enclosing ones finds every overlap.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import ip_network

from exporter.model.calico import IPPool
from exporter.model.component import ComponentFlags
from exporter.model.family import Address, Net, parse_net
from exporter.model.inventory import Inventory

KUBEADM = "configmap/kube-system/kubeadm-config"
API_SERVICE = "service/default/kubernetes"  # stands for the Service range, which has no object of a subject's form
POD_USES = frozenset({"Workload", "Tunnel"})


class RangeKind(StrEnum):
    PODS = "pods"
    SERVICES = "Services"
    NODES = "nodes"


@dataclass(frozen=True, slots=True)
class Range:
    """A range, whose it is (a subject), and how evidence calls it."""

    net: Net
    kind: RangeKind
    subject: str
    label: str


def pod_ranges(inventory: Inventory) -> Iterator[Range]:
    """Pools, and the podCIDRs and pod networks that lie in none of them."""
    pools = [pool for pool in inventory.pools or () if pool.allowed_uses & POD_USES]
    yield from (Range(p.cidr, RangeKind.PODS, f"pool/{p.name}", f"pool/{p.name} {p.cidr}") for p in pools)
    outside = _OutsideOf(pools)
    for net in filter(outside, inventory.cluster_pod_cidrs):
        yield Range(net, RangeKind.PODS, KUBEADM, f"podSubnet {net} of {KUBEADM}")
    for node in inventory.nodes or ():
        for net in filter(outside, node.pod_cidrs):
            yield Range(net, RangeKind.PODS, f"node/{node.name}", f"podCIDR {net} of node/{node.name}")


class _OutsideOf:
    """Whether a network lies in no pool; pools are looked up by prefix length."""

    def __init__(self, pools: Iterable[IPPool]) -> None:
        self._nets = frozenset(pool.cidr for pool in pools)
        self._lengths = {(net.version, net.prefixlen) for net in self._nets}

    def __call__(self, net: Net) -> bool:
        wider = (length for version, length in self._lengths if version == net.version and length <= net.prefixlen)
        return not any(net.supernet(new_prefix=length) in self._nets for length in wider)


def service_ranges(inventory: Inventory) -> Iterator[Range]:
    """The Service ranges as the API has them, else as kubeadm or kube-apiserver's arguments say; else the Services' own addresses."""
    if inventory.service_cidrs:
        for each in inventory.service_cidrs:
            yield from (
                Range(net, RangeKind.SERVICES, API_SERVICE, f"Service range {net} (servicecidr {each.name})")
                for net in each.cidrs
            )
        return
    said = [(net, KUBEADM) for net in inventory.cluster_service_cidrs] or list(_from_flags(inventory.components or ()))
    yield from (Range(net, RangeKind.SERVICES, where, f"Service range {net} of {where}") for net, where in said)
    if not said:
        for service in inventory.services or ():
            yield from (
                _single(address, RangeKind.SERVICES, f"service/{service.key}", "ClusterIP")
                for address in service.cluster_ips
            )


def _from_flags(components: Iterable[ComponentFlags]) -> Iterator[tuple[Net, str]]:
    for each in components:
        if each.component == "kube-apiserver":
            nets = map(parse_net, each.arguments.get("service-cluster-ip-range", "").split(","))
            yield from ((net, API_SERVICE) for net in nets if net is not None)


def node_ranges(inventory: Inventory) -> Iterator[Range]:
    """Each node's own addresses, as the API and Calico have them."""
    for node in inventory.nodes or ():
        own = dict.fromkeys((*node.internal_ips, *(each.ip for each in node.calico_addresses)))
        yield from (_single(address, RangeKind.NODES, f"node/{node.name}", "address") for address in own)


def _single(address: Address, kind: RangeKind, subject: str, word: str) -> Range:
    return Range(ip_network(address), kind, subject, f"{word} {address} of {subject}")


def overlaps(ranges: Iterable[Range]) -> Iterator[tuple[list[Range], list[Range]]]:
    """Pairs of networks of different kinds that overlap, the outer one first, each with all ranges that name it."""
    named: dict[tuple[int, int, int, str], list[Range]] = {}
    for each in ranges:
        net = each.net
        named.setdefault((net.version, int(net.network_address), net.prefixlen, each.kind), []).append(each)
    enclosing: list[list[Range]] = []
    for key in sorted(named):
        here = named[key]
        while enclosing and not _contains(enclosing[-1][0].net, here[0].net):
            enclosing.pop()
        yield from ((outer, here) for outer in enclosing if outer[0].kind is not here[0].kind)
        enclosing.append(here)


def _contains(outer: Net, inner: Net) -> bool:
    return outer.version == inner.version and outer.prefixlen <= inner.prefixlen and inner.network_address in outer
