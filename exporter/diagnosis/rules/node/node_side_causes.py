"""Causes of both roles, from the node's side: what the cluster's objects say, made a warning by what this node sees of it. Pure.

Role cluster reports a pool's setting as info. A node reports it itself, as a warning, where the damage shows.
"""

from __future__ import annotations

from dataclasses import replace

from exporter.diagnosis.engine.rule_input import Judgement, Rule, RuleInput
from exporter.diagnosis.rules.cluster.registry import CLUSTER_RULES
from exporter.diagnosis.rules.node.nat import nat_kube_proxy_missing
from exporter.diagnosis.rules.path.samples import ARRIVED, PathSample, probes_of
from exporter.model.family import Family
from exporter.model.probe import Group, Layer, Outcome
from exporter.model.reason import Reason
from exporter.model.report import Cause, Role, Severity


def ippool_nat_outgoing_off(view: RuleInput) -> Judgement:
    """A warning where an outside IPv6 target fails from pods and passes from the host."""
    return _seen_here(view, Cause.IPPOOL_NAT_OUTGOING_OFF, _outside_fails_from_pods_alone(view))


def ippool_vxlan_mode_mismatch(view: RuleInput) -> Judgement:
    """A warning where this node's cross-node IPv6 fails."""
    return _seen_here(view, Cause.IPPOOL_VXLAN_MODE_MISMATCH, _cross_node_fails(view))


def cni_not_assigning_ipv6(view: RuleInput) -> Judgement:
    """On a node: only where its own CNI file is mounted."""
    mounted = any(c.source.startswith("/") for c in view.inventory.cni or ())
    return _where_mounted(view, Cause.CNI_NOT_ASSIGNING_IPV6, mounted=mounted)


def control_plane_flags(view: RuleInput) -> Judgement:
    """On a node: only where the components' argument files are mounted."""
    mounted = any(c.source.startswith("/") for c in view.inventory.components or ())
    return _where_mounted(view, Cause.CONTROL_PLANE_FLAGS, mounted=mounted)


def _seen_here(view: RuleInput, cause: Cause, damage: list[str]) -> Judgement:
    said = CLUSTER_RULES[cause](view)
    if isinstance(said, Reason):
        return said
    if not damage:
        return () if view.role is Role.NODE else said
    return tuple(replace(f, severity=Severity.WARNING, evidence=(*f.evidence, *damage[:3])) for f in said)


def _where_mounted(view: RuleInput, cause: Cause, *, mounted: bool) -> Judgement:
    if view.role is Role.NODE and not mounted:
        return Reason.NOT_APPLICABLE
    return CLUSTER_RULES[cause](view)


def _outside_fails_from_pods_alone(view: RuleInput) -> list[str]:
    outside = [d for d in probes_of(view).now if d.group is Group.OUTSIDE]
    from_host = {d.destination for d in outside if d.vantage.kind == "host" and _outcome(d) in ARRIVED}
    return [
        f"{d.vantage.subject} to {d.destination} over IPv6: {_outcome(d)}; from the host it passes"
        for d in _lost_twice(view, Group.OUTSIDE)
        if d.vantage.kind == "pod" and d.destination in from_host
    ]


def _cross_node_fails(view: RuleInput) -> list[str]:
    """A peer is lost over IPv6 alone; or the cluster's DNS is, from every place, although kube-proxy knows it.

    Peers without tunnel addresses are dialled at their nodes' own, for which no tunnel is needed: they tell nothing
    then. A peer whose echo comes back tells that it is TCP that gets lost, there and on the way to the DNS.
    """
    lost = [d for d in _lost_twice(view, Group.PEERS) if _well_over_ipv4(d)]
    echoed = any(d.group is Group.PEERS and _silent_beside_echo(d) for d in probes_of(view).now)
    if not lost and not echoed and not nat_kube_proxy_missing(view):
        dns = [d for d in probes_of(view).now if d.group is Group.CLUSTER_DNS and _outcome(d) is not None]
        lost = [d for d in _lost_twice(view, Group.CLUSTER_DNS) if _well_over_ipv4(d)]
        if len(lost) < len(dns):
            lost = []
    return [f"{d.vantage.subject} to {d.destination} over IPv6: {_outcome(d)}" for d in lost]


def _lost_twice(view: RuleInput, group: Group) -> list[PathSample]:
    """What did not arrive in two of a vantage's last dials: nothing is decided on one."""
    return [t.last(_lost) for t in probes_of(view).pairs if t.now.group is group and t.shows(_lost)]


def _lost(dial: PathSample) -> bool:
    """Nothing came back: where an echo does, the pool's packets find their way."""
    return _silent(dial) and dial.outcome(Family.V6, Layer.ICMP) is not Outcome.OK


def _silent_beside_echo(dial: PathSample) -> bool:
    return _silent(dial) and dial.outcome(Family.V6, Layer.ICMP) is Outcome.OK


def _silent(dial: PathSample) -> bool:
    return _outcome(dial) is not None and _outcome(dial) not in ARRIVED


def _outcome(dial: PathSample) -> Outcome | None:
    return dial.outcome(Family.V6, Layer.TCP)


def _well_over_ipv4(dial: PathSample) -> bool:
    """One that is lost over either family is down, and says nothing of IPv6."""
    return dial.arrives(Family.V4) or not dial.has_ipv4


LOCAL_RULES: dict[Cause, Rule] = {
    Cause.IPPOOL_NAT_OUTGOING_OFF: ippool_nat_outgoing_off,
    Cause.IPPOOL_VXLAN_MODE_MISMATCH: ippool_vxlan_mode_mismatch,
    Cause.CNI_NOT_ASSIGNING_IPV6: cni_not_assigning_ipv6,
    Cause.CONTROL_PLANE_FLAGS: control_plane_flags,
}
