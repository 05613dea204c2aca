"""Causes that a pod's own namespace shows: sysctl, addresses, default route, listeners. Pure rules."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache

from exporter.diagnosis.endpoints import services_behind
from exporter.diagnosis.engine.rule_input import Judgement, RuleInput
from exporter.diagnosis.network import CALICO_IPAM
from exporter.diagnosis.rules.cluster import CLUSTER_RULES
from exporter.diagnosis.rules.judging import INSPECTED, found, inspected, only, reader_reason, reason_of_no_pods
from exporter.model.cause import Cause, Role, Severity
from exporter.model.cluster.pod import Pod
from exporter.model.cluster.service import Service, ServicePort
from exporter.model.cni.profile import Cni
from exporter.model.facts import AddressFact, PodFacts, Reader
from exporter.model.family import Family, family_of
from exporter.model.reason import Reason
from exporter.model.report import Finding
from exporter.model.subject import Subject
from exporter.model.vantage import Vantage
from exporter.plan.family_support import family_since, is_older

SHOWN = 5


def pod_ipv6_disabled(view: RuleInput) -> Judgement:
    """disable_ipv6 in the pod's namespace: all, or its own link."""
    return only(Cause.POD_IPV6_DISABLED, _match_pods(view))


def pod_ipv6_missing(view: RuleInput) -> Judgement:
    """No global IPv6 address in the namespace."""
    return only(Cause.POD_IPV6_MISSING, _match_pods(view))


def pod_ipv6_address_unusable(view: RuleInput) -> Judgement:
    """Its global addresses are tentative or failed duplicate address detection (RFC 4862 5.4)."""
    return only(Cause.POD_IPV6_ADDRESS_UNUSABLE, _match_pods(view))


def pod_ip_mismatch(view: RuleInput) -> Judgement:
    """An address of status.podIPs is on no interface, or one that the pod has, or its annotation, is not in podIPs."""
    noted = () if view.role is Role.NODE else CLUSTER_RULES[Cause.POD_IP_MISMATCH](view)
    if view.role is Role.CLUSTER:
        return noted
    seen = only(Cause.POD_IP_MISMATCH, _match_pods(view))
    if isinstance(seen, Reason) or isinstance(noted, Reason):
        return noted or seen if isinstance(seen, Reason) else seen
    told = {subject for finding in noted for subject in finding.subjects}
    return (*noted, *(finding for finding in seen if not told.issuperset(finding.subjects)))


def pod_no_ipv6_default_route(view: RuleInput) -> Judgement:
    """A usable address and no default route."""
    return only(Cause.POD_NO_IPV6_DEFAULT_ROUTE, _match_pods(view))


def pod_listens_ipv4_only(view: RuleInput) -> Judgement:
    """A Service with IPv6 sends to a port on which the pod's namespace listens over IPv4 and not over IPv6."""
    if view.inventory.services is None or view.inventory.pods is None:
        return Reason.NO_INVENTORY
    services = [s for s in view.inventory.services if Family.V6 in s.families and s.selector]
    objects = {p.subject: p for p in view.inventory.local_pods(view.node)}
    deaf = [
        (pod, text)
        for pod, facts in inspected(view)
        if pod.subject in objects and Family.V6 in pod.families
        for text in _deaf_ports(objects[pod.subject], facts, services)
    ]
    if not deaf:
        return ()
    return found(
        Cause.POD_LISTENS_IPV4_ONLY,
        (pod.subject for pod, _ in deaf),
        evidence=[f"{pod.subject}: {text}" for pod, text in deaf[:SHOWN]],
        command=f"kubectl exec -n {deaf[0][0].namespace} {deaf[0][0].name} -- ss -ltn",
        affects_destinations=services_behind(view.inventory, [pod for pod, _ in deaf]),
    )


@lru_cache(maxsize=1)
def _match_pods(view: RuleInput) -> Judgement:
    """What is wrong with the IPv6 of each inspected pod: one cause per pod."""
    if not any(p.vantage.state in INSPECTED for p in view.snapshot.pods):
        return reason_of_no_pods(view)
    pods = inspected(view)
    if not pods:
        return reader_reason(view, Reader.PODS)
    if _has_no_pool(view):
        return Reason.NOT_APPLICABLE
    exempt, older, switched_off = lacks_by_choice(view), _older_than_ipv6(view), _switched_off(view)
    matches: dict[tuple[Cause, Severity | None], list[tuple[Vantage, str]]] = {}
    for pod, facts in pods:
        match = first_match(pod, facts) if Family.V6 in pod.families and pod.subject not in exempt else None
        if match is None:
            continue
        cause, text = match
        severity = None
        if cause is Cause.POD_IPV6_DISABLED and pod.subject in switched_off:
            severity, text = Severity.INFO, f"{text}, as the sysctls of its own spec or of its networks ask for"
        elif pod.uid in older and cause is not Cause.POD_NO_IPV6_DEFAULT_ROUTE:
            severity, text = Severity.INFO, f"{text}; older than IPv6 on its node: restart it"
        matches.setdefault((cause, severity), []).append((pod, text))
    usual_first = sorted(matches.items(), key=lambda item: item[0][1] is not None)
    return tuple(f for (cause, severity), affected in usual_first for f in _finding(view, cause, affected, severity))


def first_match(pod: Vantage, facts: PodFacts) -> tuple[Cause, str] | None:
    """The one thing that is wrong with a pod's IPv6, and what shows it."""
    addresses = facts.global_addresses(Family.V6)
    present = {a.interface.ip for a in facts.addresses}
    absent = [a for a in pod.addresses if a not in present]
    if facts.disable_ipv6:
        return Cause.POD_IPV6_DISABLED, "disable_ipv6 = 1 in the pod's namespace"
    if not addresses:
        return Cause.POD_IPV6_MISSING, "no global IPv6 address on any link of the pod"
    if not any(a.usable for a in addresses):
        flaw = "dadfailed" if addresses[0].dadfailed else "tentative"
        return Cause.POD_IPV6_ADDRESS_UNUSABLE, f"{addresses[0].interface} is {flaw}"
    if absent:
        return Cause.POD_IP_MISMATCH, f"status.podIPs names {absent[0]}, which is on no interface"
    if (unreported := _unreported(pod, facts)) is not None:
        return Cause.POD_IP_MISMATCH, f"{unreported.interface.ip} on {unreported.link} is not in status.podIPs"
    if not facts.has_default_route(Family.V6):
        return Cause.POD_NO_IPV6_DEFAULT_ROUTE, f"address {addresses[0].interface}, no ::/0 in the pod"
    return None


def _unreported(pod: Vantage, facts: PodFacts) -> AddressFact | None:
    """An IPv6 address of the link that has the reported IPv4 address, where the API reports none: no Service uses it.

    One from a router advertisement is not the CNI's, and one on a further link is of another network.
    """
    if not pod.addresses or Family.V6 in map(family_of, pod.addresses):
        return None
    links = {a.link for a in facts.addresses if a.interface.ip in pod.addresses}
    own = (a for a in facts.global_addresses(Family.V6) if a.usable and a.permanent and a.link in links)
    return next(own, None)


def _finding(
    view: RuleInput, cause: Cause, matches: list[tuple[Vantage, str]], severity: Severity | None
) -> tuple[Finding, ...]:
    first = matches[0][0]
    inside = f"kubectl exec -n {first.namespace} {first.name} --"
    if first.namespace == "netns":
        inside = f"ip netns exec {first.name}"
    return found(
        cause,
        (pod.subject for pod, _ in matches),
        evidence=[f"{pod.subject}: {text}" for pod, text in matches[:SHOWN]],
        command=f"{inside} ip -6 address",
        severity=severity,
        affects_destinations=services_behind(view.inventory, [pod for pod, _ in matches]),
    )


def _switched_off(view: RuleInput) -> frozenset[Subject]:
    """Pods that ask for disable_ipv6 themselves."""
    return frozenset(p.subject for p in view.inventory.local_pods(view.node) if p.disables_ipv6)


def lacks_by_choice(view: RuleInput) -> frozenset[Subject]:
    """Pods whose pools or families were chosen by annotation, on themselves or their namespace."""
    spaces = {n.name for n in view.inventory.namespaces or () if n.address_choice}
    return frozenset(p.subject for p in view.inventory.pods or () if p.address_choice or p.namespace in spaces)


def _has_no_pool(view: RuleInput) -> bool:
    """No IPv6 pool, even a disabled one, selects this node: its pods need no IPv6. Only Calico's IPAM uses pools."""
    pools = view.inventory.pools
    if pools is None or (view.network.cni, view.network.ipam) != (Cni.CALICO, CALICO_IPAM):
        return False
    return not any(p.family is Family.V6 and p.selects(view.node) for p in pools)


def _older_than_ipv6(view: RuleInput) -> frozenset[str]:
    """The uids of pods that are older than IPv6 on the node and have none: one that had IPv6 lost it."""
    since = family_since(view.inventory, view.node, Family.V6)
    local = view.inventory.local_pods(view.node)
    return frozenset(p.uid for p in local if Family.V6 not in map(family_of, p.ips) and is_older(p, since))


def _deaf_ports(pod: Pod, facts: PodFacts, services: Iterable[Service]) -> Iterator[str]:
    if facts.listeners is None:
        return
    for service in services:
        if service.namespace != pod.namespace or not service.selector.items() <= pod.labels.items():
            continue
        for port in service.ports:
            number = _target_port(port, pod)
            over = {each.family for each in facts.listeners if each.port == number and not each.address.is_loopback}
            if port.protocol == "TCP" and over == {Family.V4}:
                yield f"port {number} of {service.subject} is bound over IPv4 only"


def _target_port(port: ServicePort, pod: Pod) -> int:
    if not port.target:
        return port.port
    if port.target.isdigit():
        return int(port.target)
    return next((p.port for p in pod.ports if p.name == port.target), port.port)
