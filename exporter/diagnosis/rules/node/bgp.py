"""Causes of BGP over IPv6 on a node: sessions and routes against what Calico's objects ask for (diagnosis/bgp.py).

Pure. Whether a session is there, the kernel's table of TCP connections tells; what it brought, the routes.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

from exporter.diagnosis.bgp import BgpPlan, BgpSession, bgp_plan, routed_blocks
from exporter.diagnosis.endpoints import services_on
from exporter.diagnosis.engine.preconditions import bounded, unread
from exporter.diagnosis.engine.rule_input import Judgement, RuleInput
from exporter.diagnosis.host_links import described, route_table
from exporter.diagnosis.rules.judging import changed_lately, found, reader_reason
from exporter.model.cause import Cause
from exporter.model.cluster.calico import BlockAffinity
from exporter.model.cluster.inventory import ResourceKind
from exporter.model.cluster.node import Node
from exporter.model.facts import Reader
from exporter.model.family import Family, contains
from exporter.model.reason import Reason
from exporter.model.subject import Subject, SubjectKind


def bgp_session_down(view: RuleInput) -> Judgement:
    """No established TCP connection of port 179 with a peer that Calico is configured to have, over IPv6."""
    plan, connected = _plan(view), view.snapshot.kernel.bgp_peers
    if isinstance(plan, Reason):
        return plan
    if connected is None:
        return reader_reason(view, Reader.BGP)
    missing = [s for s in plan.sessions if s.address not in connected and _is_settled(view, s)]
    return found(
        Cause.BGP_SESSION_DOWN,
        (Subject.of(SubjectKind.PEER, s.name) for s in missing),
        evidence=bounded(f"peer/{s.name}: no BGP connection with {s.address} ({s.because})" for s in missing),
        command="ss -6 -t -n 'sport = :179 or dport = :179'",
        affects_destinations=services_on(view.inventory, {s.name for s in missing if s.node is not None}),
    )


def bgp_route_missing(view: RuleInput) -> Judgement:
    """No route to a block of IPv6 that a Ready node has and that no tunnel leads to.

    The default route counts where a router outside the cluster is a peer, which may announce nothing else.
    """
    plan = _plan(view)
    if isinstance(plan, Reason):
        return plan
    if any(session.filtered for session in plan.sessions):
        return Reason.NOT_APPLICABLE
    if view.inventory.block_affinities is None:
        return unread(view.inventory, ResourceKind.BLOCK_AFFINITIES)
    if view.snapshot.kernel.routes is None:
        return reader_reason(view, Reader.ROUTES)
    missing = dict(_without_route(view, plan))
    return found(
        Cause.BGP_ROUTE_MISSING,
        (Subject.of(SubjectKind.PEER, name) for name in missing),
        evidence=bounded(missing.values()),
        command="ip -6 route show proto bird",
        affects_destinations=services_on(view.inventory, missing),
    )


@lru_cache(maxsize=1)
def _plan(view: RuleInput) -> BgpPlan | Reason:
    own = view.inventory.node(view.node)
    if own is not None and changed_lately(own, view.now):
        return Reason.NOT_APPLICABLE
    return bgp_plan(view.inventory, view.network, view.node)


def _is_settled(view: RuleInput, session: BgpSession) -> bool:
    return session.node is None or _is_steady(view, session.node)


def _is_steady(view: RuleInput, node: Node) -> bool:
    return node.ready and not changed_lately(node, view.now)


def _without_route(view: RuleInput, plan: BgpPlan) -> Iterator[tuple[str, str]]:
    """Peers by name with the first of their blocks that has no route, and what leads there instead."""
    own, table = view.inventory.node(view.node), route_table(view)
    outside = any(session.node is None for session in plan.sessions)
    for peer in view.inventory.nodes or ():
        if own is None or peer.name == own.name or not _is_steady(view, peer):
            continue
        for block in routed_blocks(plan, view.inventory, own, peer):
            route = table.match(block.cidr.network_address, longest=block.cidr.prefixlen)
            leads = route is not None and route.type == "unicast" and (outside or not route.is_default)
            if not (leads or changed_lately(block, view.now) or _has_single_routes(view, peer, block)):
                yield peer.name, f"peer/{peer.name}: no route to {block.cidr}; instead {described(route)}"
                break


def _has_single_routes(view: RuleInput, peer: Node, block: BlockAffinity) -> bool:
    """Whether the peer announces addresses of its block one by one, as Calico does until it knows the whole block."""
    theirs = peer.calico_address(Family.V6)
    return theirs is not None and any(
        route.gateway == theirs.ip and contains(block.cidr, route.destination)
        for route in view.snapshot.kernel.routes or ()
    )
