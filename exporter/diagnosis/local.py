"""Causes of both roles, from the node's side: what the cluster's objects say, made a warning by what this node sees of it. Pure.

Role cluster reports a pool's setting as info. A node reports it itself, as a warning, where the damage shows.
"""

from __future__ import annotations

from dataclasses import replace

from exporter.diagnosis.cluster import CLUSTER_RULES
from exporter.diagnosis.dials import ARRIVED
from exporter.diagnosis.nat import nat_kube_proxy_missing
from exporter.diagnosis.view import Judgement, Rule, View
from exporter.model.family import Family
from exporter.model.probe import Group, Layer, Observation
from exporter.model.report import Cause, Reason, Role, Severity


def ippool_nat_outgoing_off(view: View) -> Judgement:
    """A warning where an outside IPv6 target fails from pods and passes from the host."""
    return _seen_here(view, Cause.IPPOOL_NAT_OUTGOING_OFF, _outside_fails_from_pods_alone(view))


def ippool_vxlan_mode_mismatch(view: View) -> Judgement:
    """A warning where this node's cross-node IPv6 fails."""
    return _seen_here(view, Cause.IPPOOL_VXLAN_MODE_MISMATCH, _cross_node_fails(view))


def cni_not_assigning_ipv6(view: View) -> Judgement:
    """On a node: only where its own CNI file is mounted."""
    mounted = any(c.source.startswith("/") for c in view.inventory.cni or ())
    return _where_mounted(view, Cause.CNI_NOT_ASSIGNING_IPV6, mounted=mounted)


def control_plane_flags(view: View) -> Judgement:
    """On a node: only where the components' argument files are mounted."""
    mounted = any(c.source.startswith("/") for c in view.inventory.components or ())
    return _where_mounted(view, Cause.CONTROL_PLANE_FLAGS, mounted=mounted)


def _seen_here(view: View, cause: Cause, damage: list[str]) -> Judgement:
    said = CLUSTER_RULES[cause](view)
    if isinstance(said, Reason):
        return said
    if not damage:
        return () if view.role is Role.NODE else said
    return tuple(replace(f, severity=Severity.WARNING, evidence=(*f.evidence, *damage[:3])) for f in said)


def _where_mounted(view: View, cause: Cause, *, mounted: bool) -> Judgement:
    if view.role is Role.NODE and not mounted:
        return Reason.NOT_APPLICABLE
    return CLUSTER_RULES[cause](view)


def _outside_fails_from_pods_alone(view: View) -> list[str]:
    made = _of(view, Group.OUTSIDE)
    from_host = {o.target.name for o in made if o.vantage.kind == "host" and o.outcome in ARRIVED}
    return [
        f"{o.vantage.subject} to target/{o.target.name} over IPv6: {o.outcome}; from the host it passes"
        for o in _lost_twice(view, Group.OUTSIDE)
        if o.vantage.kind == "pod" and o.target.name in from_host
    ]


def _cross_node_fails(view: View) -> list[str]:
    """A peer is lost; or the cluster's DNS is, from every place, although kube-proxy knows it.

    Peers without tunnel addresses are dialled at their nodes' own, for which no tunnel is needed: they tell nothing then.
    """
    lost = _lost_twice(view, Group.PEERS)
    if not lost and not nat_kube_proxy_missing(view):
        lost = _lost_twice(view, Group.CLUSTER_DNS)
        if len(lost) < len(_of(view, Group.CLUSTER_DNS)):
            lost = []
    return [f"{o.vantage.subject} to {o.target.subject} over IPv6: {o.outcome}" for o in lost]


def _of(view: View, group: Group) -> list[Observation]:
    return [o for o in view.snapshot.kept if _tells(o) and o.target.group is group]


def _lost_twice(view: View, group: Group) -> list[Observation]:
    """What did not arrive in a vantage's last two probes: nothing is decided on one."""
    before = {(o.vantage.key, o.target.subject) for o in view.snapshot.kept_before if _tells(o) and _lost(o)}
    return [o for o in _of(view, group) if _lost(o) and (o.vantage.key, o.target.subject) in before]


def _lost(o: Observation) -> bool:
    return o.outcome not in ARRIVED


def _tells(o: Observation) -> bool:
    return o.family is Family.V6 and o.layer is Layer.TCP and o.counted and o.target.expect_reachable


LOCAL_RULES: dict[Cause, Rule] = {
    Cause.IPPOOL_NAT_OUTGOING_OFF: ippool_nat_outgoing_off,
    Cause.IPPOOL_VXLAN_MODE_MISMATCH: ippool_vxlan_mode_mismatch,
    Cause.CNI_NOT_ASSIGNING_IPV6: cni_not_assigning_ipv6,
    Cause.CONTROL_PLANE_FLAGS: control_plane_flags,
}
