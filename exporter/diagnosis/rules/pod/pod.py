"""Causes that a pod's own namespace states: sysctl, addresses, default route, listeners; first match per pod. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from exporter.diagnosis.endpoints import services_behind
from exporter.diagnosis.engine.preconditions import has_calico_ipam
from exporter.diagnosis.engine.rule_input import Judgement, Rule, RuleInput, finding
from exporter.diagnosis.rules.node.node import reader_reason, reason_of_no_pods
from exporter.model.facts import PodFacts, Reader
from exporter.model.family import Family, family_of
from exporter.model.pod import Pod
from exporter.model.reason import Reason
from exporter.model.report import Cause, Finding, PodView, Severity
from exporter.model.service import Service, ServicePort
from exporter.model.subject import Subject, SubjectKind
from exporter.model.vantage import PodState
from exporter.plan.family_support import first_pool, is_older

INSPECTED = frozenset({PodState.ELIGIBLE, PodState.INTERCEPTED})
SHOWN = 5


def pod_ipv6_disabled(view: RuleInput) -> Judgement:
    """disable_ipv6 in the pod's namespace: all, or its own link."""
    return _judge(view, Cause.POD_IPV6_DISABLED)


def pod_ipv6_missing(view: RuleInput) -> Judgement:
    """No global IPv6 address in the namespace."""
    return _judge(view, Cause.POD_IPV6_MISSING)


def pod_ipv6_address_unusable(view: RuleInput) -> Judgement:
    """Its global addresses are tentative or failed duplicate address detection (RFC 4862 5.4)."""
    return _judge(view, Cause.POD_IPV6_ADDRESS_UNUSABLE)


def pod_ip_mismatch(view: RuleInput) -> Judgement:
    """An address of status.podIPs is on no interface of the pod."""
    return _judge(view, Cause.POD_IP_MISMATCH)


def pod_no_ipv6_default_route(view: RuleInput) -> Judgement:
    """A usable address and no default route."""
    return _judge(view, Cause.POD_NO_IPV6_DEFAULT_ROUTE)


def first_match(pod: PodView, facts: PodFacts) -> tuple[Cause, str] | None:
    """The one thing that is wrong with a pod's IPv6, and what shows it."""
    addresses = facts.global_addresses(Family.V6)
    held = {a.interface.ip for a in facts.addresses}
    absent = [a for a in pod.vantage.addresses if a not in held]
    if facts.disable_ipv6:
        return Cause.POD_IPV6_DISABLED, "disable_ipv6 = 1 in the pod's namespace"
    if not addresses:
        return Cause.POD_IPV6_MISSING, "no global IPv6 address on any link of the pod"
    if not any(a.usable for a in addresses):
        return (
            Cause.POD_IPV6_ADDRESS_UNUSABLE,
            f"{addresses[0].interface} is {'dadfailed' if addresses[0].dadfailed else 'tentative'}",
        )
    if absent:
        return Cause.POD_IP_MISMATCH, f"status.podIPs names {absent[0]}, which is on no interface"
    if not facts.has_default_route(Family.V6):
        return Cause.POD_NO_IPV6_DEFAULT_ROUTE, f"address {addresses[0].interface}, no ::/0 in the pod"
    return None


def pod_listens_ipv4_only(view: RuleInput) -> Judgement:
    """A Service with IPv6 sends to a port on which the pod's namespace listens over IPv4 and not over IPv6."""
    if view.inventory.services is None or view.inventory.pods is None:
        return Reason.NO_INVENTORY
    services = [s for s in view.inventory.services if Family.V6 in s.families and s.selector]
    objects = {p.key: p for p in view.inventory.local_pods(view.node)}
    found: list[tuple[Subject, str]] = []
    for pod in _inspected(view):
        known = objects.get(f"{pod.vantage.namespace}/{pod.vantage.name}")
        if known is not None and pod.facts is not None and Family.V6 in pod.vantage.families:
            found.extend((pod.vantage.subject, text) for text in _deaf_ports(known, pod.facts, services))
    if not found:
        return ()
    return (
        finding(
            Cause.POD_LISTENS_IPV4_ONLY,
            [subject for subject, _ in found],
            evidence=[f"{subject}: {text}" for subject, text in found[:SHOWN]],
            command=f"kubectl exec -n {found[0][0].namespace} {found[0][0].name} -- ss -ltn",
        ),
    )


def _judge(view: RuleInput, cause: Cause) -> Judgement:
    pods = [p for p in view.snapshot.pods if p.vantage.state in INSPECTED]
    if not pods:
        return reason_of_no_pods(view)
    inspected = [p for p in pods if p.facts is not None]
    if not inspected:
        return reader_reason(view, Reader.PODS)
    if _no_pool(view):
        return Reason.NOT_APPLICABLE
    exempt = _exempt(view)
    found: list[tuple[PodView, str]] = []
    for pod in inspected:
        match = first_match(pod, pod.facts) if pod.facts is not None and _meant(pod, exempt) else None
        if match is not None and match[0] is cause:
            found.append((pod, match[1]))
    old = _older_than_ipv6(view, cause)
    fresh = [(p, text) for p, text in found if not old(p)]
    stale = [(p, text + "; older than IPv6 on its node: restart it") for p, text in found if old(p)]
    return (*_findings(cause, fresh, view, None), *_findings(cause, stale, view, Severity.INFO))


def _findings(
    cause: Cause, found: list[tuple[PodView, str]], view: RuleInput, severity: Severity | None
) -> tuple[Finding, ...]:
    if not found:
        return ()
    first = found[0][0].vantage
    where = (
        f"ip netns exec {first.name}"
        if first.namespace == "netns"
        else f"kubectl exec -n {first.namespace} {first.name} --"
    )
    return (
        finding(
            cause,
            [p.vantage.subject for p, _ in found],
            evidence=[f"{p.vantage.subject}: {text}" for p, text in found[:SHOWN]],
            command=f"{where} ip -6 address",
            severity=severity,
            affects_destinations=services_behind(view.inventory, [p.vantage for p, _ in found]),
        ),
    )


def _inspected(view: RuleInput) -> list[PodView]:
    return [p for p in view.snapshot.pods if p.vantage.state in INSPECTED and p.facts is not None]


def _meant(pod: PodView, exempt: frozenset[str]) -> bool:
    return Family.V6 in pod.vantage.families and pod.vantage.subject not in exempt


def _exempt(view: RuleInput) -> frozenset[str]:
    """Pods whose pools or families were chosen by annotation, on themselves or their namespace."""
    spaces = {n.name for n in view.inventory.namespaces or () if n.address_choice}
    return frozenset(
        Subject.of(SubjectKind.POD, p.key)
        for p in view.inventory.pods or ()
        if p.address_choice or p.namespace in spaces
    )


def _no_pool(view: RuleInput) -> bool:
    """No IPv6 pool, enabled or disabled, for this node: nobody means these pods to have IPv6. Without Calico's IPAM pools say nothing."""
    pools = view.inventory.pools
    if pools is None or has_calico_ipam(view.inventory) is False:
        return False
    return not any(family_of(p.cidr) is Family.V6 and p.selects(view.node) for p in pools)


def _older_than_ipv6(view: RuleInput, cause: Cause) -> Callable[[PodView], bool]:
    """Pods that are older than the node's first IPv6 pool and were never given IPv6: one that was lost it, whatever its age."""
    if cause is Cause.POD_NO_IPV6_DEFAULT_ROUTE:
        return lambda _: False
    since = first_pool(view.inventory, view.node, Family.V6)
    known = {pod.uid: pod for pod in view.inventory.local_pods(view.node) if Family.V6 not in map(family_of, pod.ips)}
    return lambda pod: pod.vantage.uid in known and is_older(known[pod.vantage.uid], since)


def _deaf_ports(pod: Pod, facts: PodFacts, services: Iterable[Service]) -> Iterable[str]:
    if facts.listeners is None:
        return
    for service in services:
        if service.namespace != pod.namespace or not service.selector.items() <= pod.labels.items():
            continue
        for port in service.ports:
            number = _target_port(port, pod)
            over = {each.family for each in facts.listeners if each.port == number and not each.address.is_loopback}
            if port.protocol == "TCP" and over == {Family.V4}:
                yield f"port {number} of service/{service.key} is bound over IPv4 alone"


def _target_port(port: ServicePort, pod: Pod) -> int:
    if not port.target:
        return port.port
    if port.target.isdigit():
        return int(port.target)
    return next((p.port for p in pod.ports if p.name == port.target), port.port)


POD_RULES: dict[Cause, Rule] = {
    Cause.POD_IPV6_DISABLED: pod_ipv6_disabled,
    Cause.POD_IPV6_MISSING: pod_ipv6_missing,
    Cause.POD_IPV6_ADDRESS_UNUSABLE: pod_ipv6_address_unusable,
    Cause.POD_IP_MISMATCH: pod_ip_mismatch,
    Cause.POD_NO_IPV6_DEFAULT_ROUTE: pod_no_ipv6_default_route,
    Cause.POD_LISTENS_IPV4_ONLY: pod_listens_ipv4_only,
}
