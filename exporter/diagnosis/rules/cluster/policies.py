"""The cause that network policies show: what they do to one family alone. A pure rule of the cluster exporter."""

from __future__ import annotations

from exporter.diagnosis.engine.preconditions import bounded, counted
from exporter.diagnosis.engine.rule_input import Judgement, RuleInput
from exporter.diagnosis.rules.judging import found, needs
from exporter.model.cause import Cause
from exporter.model.cluster.inventory import ResourceKind
from exporter.model.cluster.policy import Gap, PolicyKind

RESOURCES = {
    PolicyKind.KUBERNETES: "networkpolicy",
    PolicyKind.CALICO: "networkpolicies.crd.projectcalico.org",
    PolicyKind.CALICO_GLOBAL: "globalnetworkpolicy",
    PolicyKind.CILIUM: "ciliumnetworkpolicy",
    PolicyKind.CILIUM_CLUSTERWIDE: "ciliumclusterwidenetworkpolicy",
    PolicyKind.ADMIN: "adminnetworkpolicy",
    PolicyKind.BASELINE_ADMIN: "baselineadminnetworkpolicy",
    PolicyKind.CLUSTER: "clusternetworkpolicy",
}
EFFECTS = {
    Gap.DENIED: "its allow list names {named} only: {other} is denied",
    Gap.OPEN: "its exceptions name {named} only: {other} is open",
    Gap.REFUSED: "a rule denies all of {other} and not {named}",
}


@needs(ResourceKind.POLICIES)
def network_policy_ipv6_gap(view: RuleInput) -> Judgement:
    """Policies that treat an expected family unlike the other: denied, or open beside an except list. Only info."""
    gaps = [
        (policy, gap, f"{direction}: {EFFECTS[gap].format(named=other.other, other=other)}")
        for policy in view.inventory.policies or ()
        for direction, other, gap in policy.gaps
        if view.expected(other) is not False
    ]
    if not gaps:
        return ()
    gaps.sort(key=lambda item: item[1] is Gap.REFUSED)  # what somebody wrote on purpose comes last
    first = gaps[0][0]
    space = f"-n {first.namespace} " if first.namespace else ""
    policies = len({(policy.kind, policy.key) for policy, _, _ in gaps})
    return found(
        Cause.NETWORK_POLICY_IPV6_GAP,
        (policy.subject for policy, _, _ in gaps),
        evidence=[
            f"{counted(policies, 'policy', 'policies')} with rules about one family alone",
            *bounded(f"{policy.kind} {policy.key}: {effect}" for policy, _, effect in gaps),
        ],
        first={policy.subject for policy, gap, _ in gaps if gap is not Gap.REFUSED},
        command=f"kubectl {space}get {RESOURCES[first.kind]} {first.name} -o yaml",
    )
