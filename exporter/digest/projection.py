"""The part of a cluster that every node needs: what the digest contains of the inventory. Pure; used by format.py.

What does not matter to a node is left out, also times of changes that are long past, so that the same cluster gives the
same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import TypeVar

from exporter.diagnosis.expectation import NO_POOLS, POOL_CIDRS, families_of_pods
from exporter.diagnosis.felix import VARIABLES
from exporter.diagnosis.watched_services import PROXY_NAME, slices_of, watched_services
from exporter.model import EMPTY
from exporter.model.cluster.calico import BlockAffinity, CalicoNode, Felix
from exporter.model.cluster.corefile import Corefile
from exporter.model.cluster.inventory import Inventory, InventoryOrigin
from exporter.model.cluster.node import Node
from exporter.model.cluster.pod import Namespace
from exporter.model.cluster.policy import Policy, PolicyKind
from exporter.model.cluster.service import EndpointSlice, Service
from exporter.model.cluster.well_known import OWN_SERVICE, dns_services
from exporter.model.family import Address, Family, family_of
from exporter.plan.peer_pods import peer_pods

# Services with IPv6 beyond the DNS's: more are left out, and the cause pod_listens_ipv4_only does not see them.
MAX_SERVICES = 5_000
MAX_RESTRICTED = 50_000  # pods named one by one; beyond that their whole namespaces count as restricted
RECENT = 600.0  # seconds for which the time of a change may still matter
SERVICE_LABELS = frozenset({"app.kubernetes.io/name", "k8s-app", PROXY_NAME})
_T = TypeVar("_T")


def project(inventory: Inventory, now: float) -> Inventory:
    """The part of the cluster that every node needs."""
    dns = dns_services(inventory)
    read = inventory.services
    pods = peer_pods(inventory)
    return Inventory(
        source=InventoryOrigin.DIGEST,
        stale=inventory.stale,
        nodes=_if_read(inventory.nodes, lambda nodes: (_node(each, now, pods.get(each.name, ())) for each in nodes)),
        namespaces=_if_read(inventory.namespaces, _namespaces),
        services=_if_read(inventory.services, lambda services: _services(services, dns)),
        endpoint_slices=_if_read(
            inventory.endpoint_slices, lambda slices: _slices(slices, _served(inventory, dns), now)
        ),
        service_cidrs=inventory.service_cidrs,
        policies=_if_read(inventory.policies, restrictions),
        pools=inventory.pools,
        block_affinities=_if_read(inventory.block_affinities, lambda blocks: (_block(each, now) for each in blocks)),
        bgp=inventory.bgp,
        bgp_peers=inventory.bgp_peers,
        felix=_if_read(inventory.felix, lambda found: (each for each in found if each.felix != Felix())),
        calico_node=_calico_node(inventory.calico_node),
        installation=inventory.installation,
        corefile=_corefile(inventory.corefile),
        node_local=_corefile(inventory.node_local),
        cni=inventory.cni,
        cni_signs=inventory.cni_signs,
        cluster_pod_cidrs=inventory.cluster_pod_cidrs,
        cluster_service_cidrs=inventory.cluster_service_cidrs,
        unread=inventory.unread,
        service_count_v6=None if read is None else sum(map(_has_ipv6, read)),
        uid=inventory.uid,
        pod_families=None if inventory.pods is None else families_of_pods(inventory),
    )


def _if_read(values: tuple[_T, ...] | None, make: Callable[[tuple[_T, ...]], Iterable[_T]]) -> tuple[_T, ...] | None:
    """What is made of the values; None where they were not read."""
    return None if values is None else tuple(make(values))


def _has_ipv6(service: Service) -> bool:
    return any(family_of(address) is Family.V6 for address in service.cluster_ips)


def _recent(moment: float | None, now: float) -> float | None:
    return moment if moment is not None and now - moment < RECENT else None


def _node(node: Node, now: float, pods: tuple[Address, ...]) -> Node:
    created, changed = _recent(node.created, now), _recent(node.changed, now)
    known = replace(node, uid="", labels=EMPTY, created=created, changed=changed, kubelet_version="", components=())
    return replace(known, cni_signs=(), pod_addresses=pods, provided_ips=(), provider="")


def _block(block: BlockAffinity, now: float) -> BlockAffinity:
    return replace(block, created=_recent(block.created, now), changed=_recent(block.changed, now))


def _namespaces(namespaces: Iterable[Namespace]) -> Iterator[Namespace]:
    """Those that declare something about their pods' families."""
    for each in namespaces:
        if each.families is not None or each.address_choice:
            yield replace(each, uid="", labels=EMPTY)


def _services(services: Iterable[Service], dns: tuple[Service, ...]) -> Iterator[Service]:
    """The destinations of every node and what answers DNS; of the others those with IPv6, for the pods behind them."""
    known = {each.key for each in dns} | {"default/kubernetes"}
    left = MAX_SERVICES
    for each in services:
        labels = {key: value for key, value in each.labels.items() if key in SERVICE_LABELS}
        needed = each.key in known or labels.get("app.kubernetes.io/name") == OWN_SERVICE
        if not needed and not any(port.port == 53 for port in each.ports):
            if not left or not each.selector or not _has_ipv6(each):
                continue
            left -= 1
            labels = {}
        yield replace(
            each, uid="", created=None, labels=labels or EMPTY, ingress_ips=(), ingress_hostnames=(), family_policy=""
        )


def _served(inventory: Inventory, dns: tuple[Service, ...]) -> frozenset[str]:
    """The Services whose endpoints nodes need: those that answer DNS, and those whose rules they check."""
    return frozenset({*(each.key for each in dns), *slices_of(inventory, watched_services(inventory))})


def _slices(slices: Iterable[EndpointSlice], served: frozenset[str], now: float) -> Iterator[EndpointSlice]:
    for each in slices:
        if f"{each.namespace}/{each.service}" in served:
            endpoints = tuple(replace(end, node="", pod="") for end in each.endpoints)
            yield replace(each, endpoints=endpoints, changed=_recent(each.changed, now))


def _calico_node(daemonset: CalicoNode | None) -> CalicoNode | None:
    if daemonset is None:
        return None
    names = frozenset({*VARIABLES.values(), *POOL_CIDRS.values(), NO_POOLS})
    env = {key: value for key, value in daemonset.env.items() if key in names}
    return replace(daemonset, env=env, env_unseen=daemonset.env_unseen & (names | {"*"}))


def _corefile(corefile: Corefile | None) -> Corefile | None:
    """Its domains and addresses; what it withholds is among the found causes."""
    return None if corefile is None else replace(corefile, blocks=(), dns64=False, errors=())


def restrictions(policies: Iterable[Policy]) -> tuple[Policy, ...]:
    """Which pods may not send everything everywhere, whatever policy restricts them: whole namespaces, or by name."""
    whole: dict[str, set[Family]] = {}
    named: dict[Family, set[str]] = {}
    for policy in policies:
        if policy.selects_all and policy.restricts_egress:
            whole.setdefault(policy.namespace, set()).update(policy.restricts_egress)
        for family in policy.restricts_egress if not policy.selects_all else ():
            named.setdefault(family, set()).update(policy.selected)
    if sum(map(len, named.values())) > MAX_RESTRICTED:
        # Too many to name: no fault of their pods is attributed to the path, which is right for those selected and
        # harmless for the others.
        for family, keys in named.items():
            for namespace in {key.partition("/")[0] for key in keys}:
                whole.setdefault(namespace, set()).add(family)
        named = {}
    kind = PolicyKind.KUBERNETES
    by_namespace = (
        Policy(kind=kind, namespace=each, name="restricted", selects_all=True, restricts_egress=frozenset(whole[each]))
        for each in sorted(whole)
    )
    by_name = (
        Policy(
            kind=kind,
            namespace="",
            name=f"restricted-{family}",
            selected=frozenset(named[family]),
            restricts_egress=frozenset({family}),
        )
        for family in sorted(named)
    )
    return (*by_namespace, *by_name)
