"""The cause that network policies show: ipBlocks that name one family. A pure rule of role cluster."""

from __future__ import annotations

from exporter.diagnosis.engine.preconditions import bounded, counted, lacking
from exporter.diagnosis.engine.rule_input import Judgement, Rule, RuleInput, finding
from exporter.model.inventory import ResourceKind
from exporter.model.policy import Gap, Policy, PolicyKind
from exporter.model.report import Cause
from exporter.model.subject import Subject, SubjectKind

RESOURCES = {
    PolicyKind.KUBERNETES: "networkpolicy",
    PolicyKind.CALICO: "networkpolicies.crd.projectcalico.org",
    PolicyKind.CALICO_GLOBAL: "globalnetworkpolicy",
    PolicyKind.CILIUM: "ciliumnetworkpolicy",
    PolicyKind.CILIUM_CLUSTERWIDE: "ciliumclusterwidenetworkpolicy",
    PolicyKind.ADMIN: "adminnetworkpolicy",
    PolicyKind.BASELINE_ADMIN: "baselineadminnetworkpolicy",
}
FATES = {
    Gap.DENIED: "its allow list names {named} alone: {other} is denied",
    Gap.OPEN: "its exceptions name {named} alone: {other} is open",
}


def network_policy_ipv6_gap(view: RuleInput) -> Judgement:
    """Policies that leave one expected family out: denied by an allow list, open beside an except list. Information only."""
    reason = lacking(view.inventory, ResourceKind.POLICIES)
    if reason is not None:
        return reason
    found = [
        (policy, gap)
        for policy in view.inventory.policies or ()
        for gap in policy.gaps
        if view.expected(gap[1]) is not False
    ]
    if not found:
        return ()
    policies = len({(policy.kind, policy.key) for policy, _ in found})
    first = found[0][0]
    return (
        finding(
            Cause.NETWORK_POLICY_IPV6_GAP,
            (Subject.of(SubjectKind.POLICY, policy.key) for policy, _ in found),
            evidence=[
                f"{counted(policies, 'policy', 'policies')} with ipBlocks of one family",
                *bounded(_evidence(policy, *gap) for policy, gap in found),
            ],
            command=f"kubectl {f'-n {first.namespace} ' if first.namespace else ''}get {RESOURCES[first.kind]} {first.name} -o yaml",
        ),
    )


def _evidence(policy: Policy, direction: str, other: object, gap: Gap) -> str:
    named = "IPv4" if other == "IPv6" else "IPv6"
    return f"{policy.kind} {policy.key}: {direction}: {FATES[gap].format(named=named, other=other)}"


POLICY_RULES: dict[Cause, Rule] = {Cause.NETWORK_POLICY_IPV6_GAP: network_policy_ipv6_gap}
