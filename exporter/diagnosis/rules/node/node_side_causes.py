"""Causes of both roles, from the node's side: a warning where this node sees the damage of a setting. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from exporter.diagnosis.engine.preconditions import bounded, lacking, listed
from exporter.diagnosis.engine.rule_input import Judgement, RuleInput
from exporter.diagnosis.rules.cluster import CLUSTER_RULES
from exporter.diagnosis.rules.judging import found, this_node
from exporter.diagnosis.rules.node.masquerade import masquerade
from exporter.diagnosis.rules.node.nat import nat_kube_proxy_missing
from exporter.diagnosis.samples import probes_of
from exporter.model.cause import Cause, Role, Severity
from exporter.model.cluster.component import CniConfig, ComponentFlags
from exporter.model.dial import ARRIVED, Dial
from exporter.model.family import Family
from exporter.model.probe import Group, Layer, Outcome
from exporter.model.reason import Reason


def ippool_nat_outgoing_off(view: RuleInput) -> Judgement:
    """A warning where an outside IPv6 target fails from pods and passes from the host."""
    return _with_damage(view, Cause.IPPOOL_NAT_OUTGOING_OFF, _outside_fails_from_pods_only(view))


def cni_ipv6_masquerade_off(view: RuleInput) -> Judgement:
    """A warning where an outside IPv6 target fails from pods and passes from the host, and no rule masquerades.

    The node's rules decide, whatever the CNI's settings say; where they cannot be understood, the settings do.
    """
    damage = _outside_fails_from_pods_only(view)
    judgement = _with_damage(view, Cause.CNI_IPV6_MASQUERADE_OFF, damage)
    shown = masquerade(view.snapshot) if damage and lacking(view.inventory) is None else None
    if shown is None:
        return judgement
    if shown.holds:
        return () if view.role is Role.NODE else CLUSTER_RULES[Cause.CNI_IPV6_MASQUERADE_OFF](view)
    if shown.holds is None:
        said = f"whether a rule of this node masquerades them is not known: {'; '.join(bounded(shown.doubts, 3))}"
    else:
        pods = listed(map(str, shown.sources), 3)
        said = f"no rule masquerades {pods} to the outside: {listed(shown.walked) or 'no table has such a chain'}"
    if isinstance(judgement, Reason) or not judgement:
        if shown.holds is None:
            return judgement if isinstance(judgement, Reason) else Reason.READER_FAILED
        return found(
            Cause.CNI_IPV6_MASQUERADE_OFF,
            [this_node(view)],
            evidence=[said, *damage[:3]],
            command="ip6tables-save -t nat; nft list ruleset | grep -A9 'type nat hook postrouting'",
            severity=Severity.WARNING,
        )
    return tuple(replace(f, evidence=(said, *f.evidence)) for f in judgement)


def ippool_vxlan_mode_mismatch(view: RuleInput) -> Judgement:
    """A warning where this node's cross-node IPv6 fails."""
    return _with_damage(view, Cause.IPPOOL_VXLAN_MODE_MISMATCH, _cross_node_fails(view))


def cni_not_assigning_ipv6(view: RuleInput) -> Judgement:
    """On a node: only where its own CNI file is mounted."""
    return _where_mounted(view, Cause.CNI_NOT_ASSIGNING_IPV6, view.inventory.cni or ())


def control_plane_flags(view: RuleInput) -> Judgement:
    """On a node: only where the components' argument files are mounted."""
    return _where_mounted(view, Cause.CONTROL_PLANE_FLAGS, view.inventory.components or ())


def _with_damage(view: RuleInput, cause: Cause, damage: list[str]) -> Judgement:
    judgement = CLUSTER_RULES[cause](view)
    if isinstance(judgement, Reason):
        return judgement
    if not damage:
        return () if view.role is Role.NODE else judgement
    return tuple(replace(f, severity=Severity.WARNING, evidence=(*f.evidence, *damage[:3])) for f in judgement)


def _where_mounted(view: RuleInput, cause: Cause, sources: Iterable[CniConfig | ComponentFlags]) -> Judgement:
    if view.role is Role.NODE and not any(each.subject is None for each in sources):
        return Reason.NOT_APPLICABLE
    return CLUSTER_RULES[cause](view)


def _outside_fails_from_pods_only(view: RuleInput) -> list[str]:
    outside = (d for d in probes_of(view).now if d.group is Group.OUTSIDE and d.vantage.kind == "host")
    from_host = {d.destination for d in outside if _outcome(d) in ARRIVED}
    return [
        f"{d.vantage.subject} to {d.destination} over IPv6: {_outcome(d)}; from the host it passes"
        for d in _lost_twice(view, Group.OUTSIDE)
        if d.vantage.kind == "pod" and d.destination in from_host
    ]


def _cross_node_fails(view: RuleInput) -> list[str]:
    """A peer is lost over IPv6 only; or the cluster's DNS is, from every place, although kube-proxy knows it.

    Peers without tunnel addresses are dialled at their nodes' own addresses, for which no tunnel is needed: they show
    nothing then. Where a peer's echo comes back, TCP is what gets lost, there and on the way to the DNS.
    """
    lost = [d for d in _lost_twice(view, Group.PEERS) if _well_over_ipv4(d)]
    echoed = any(d.group is Group.PEERS and _silent(d) and _echoes(d) for d in probes_of(view).now)
    if not lost and not echoed and not nat_kube_proxy_missing(view):
        dns = [d for d in probes_of(view).now if d.group is Group.CLUSTER_DNS and _outcome(d) is not None]
        lost = [d for d in _lost_twice(view, Group.CLUSTER_DNS) if _well_over_ipv4(d)]
        if len(lost) < len(dns):
            lost = []
    return [f"{d.vantage.subject} to {d.destination} over IPv6: {_outcome(d)}" for d in lost]


def _lost_twice(view: RuleInput, group: Group) -> list[Dial]:
    """What did not arrive in two of a vantage's last dials: nothing is decided on one."""
    return [t.last(_lost) for t in probes_of(view).pairs if t.now.group is group and t.shows(_lost)]


def _lost(dial: Dial) -> bool:
    """Nothing came back, not even an echo."""
    return _silent(dial) and not _echoes(dial)


def _silent(dial: Dial) -> bool:
    return _outcome(dial) is not None and _outcome(dial) not in ARRIVED


def _echoes(dial: Dial) -> bool:
    return dial.outcome(Family.V6, Layer.ICMP) is Outcome.OK


def _outcome(dial: Dial) -> Outcome | None:
    return dial.outcome(Family.V6, Layer.TCP)


def _well_over_ipv4(dial: Dial) -> bool:
    """One that is lost over either family is down, and shows nothing about IPv6."""
    return dial.arrives(Family.V4) or not dial.has_ipv4
