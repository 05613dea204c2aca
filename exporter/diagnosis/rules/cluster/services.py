"""Causes that Services show: families, EndpointSlices, load balancers. Pure rules of role cluster."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase

from exporter.diagnosis.endpoints import destinations_of
from exporter.diagnosis.engine.preconditions import bounded, counted, lacking, listed
from exporter.diagnosis.engine.rule_input import Judgement, NamespacePolicy, Rule, RuleInput, finding
from exporter.model.family import Family, family_of
from exporter.model.inventory import ResourceKind
from exporter.model.pod import Pod
from exporter.model.report import Cause, Severity
from exporter.model.service import Endpoint, EndpointSlice, Service
from exporter.model.subject import Subject, SubjectKind

API_SERVICE = "default/kubernetes"  # made by the API server, always of its primary family
EXTERNAL_NAME = "ExternalName"
DUAL_STACK = "prefer_dual_stack"


def _subject(service: Service) -> Subject:
    return Subject.of(SubjectKind.SERVICE, service.key)


def service_ipv6_missing(view: RuleInput) -> Judgement:
    """Services of IPv4 alone: a warning where expect.services asks for dual-stack, else worth knowing.

    Only one severity is reported: where some break the policy, these; else the rest as info.
    """
    reason = lacking(view.inventory, ResourceKind.SERVICES)
    if reason is not None:
        return reason
    lone = [service for service in view.inventory.services or () if _is_v4_only(service)]
    policies = _Policies(view.expect.services)
    breaking = [service for service in lone if policies.of(service.namespace) == DUAL_STACK]
    shown = breaking or lone
    if not shown:
        return ()
    namespaces = {service.namespace for service in shown}
    return (
        finding(
            Cause.SERVICE_IPV6_MISSING,
            map(_subject, shown),
            evidence=[
                f"{counted(len(shown), 'Service')} in {counted(len(namespaces), 'namespace')} of IPv4 alone",
                *bounded(
                    f"service/{s.key}: ipFamilyPolicy {s.family_policy or 'absent'}, ipFamilies [{listed(s.families)}]"
                    for s in shown
                ),
                *(("expect.services asks for prefer_dual_stack there",) if breaking else ()),
            ],
            command="kubectl get services -A -o custom-columns=NS:.metadata.namespace,NAME:.metadata.name,POLICY:.spec.ipFamilyPolicy",
            severity=None if breaking else Severity.INFO,
        ),
    )


def _is_v4_only(service: Service) -> bool:
    """IPv4 alone by ipFamilies; [IPv6] is a choice, and the API server's own Service is nobody's fault."""
    return service.type != EXTERNAL_NAME and service.key != API_SERVICE and service.families == (Family.V4,)


class _Policies:
    """The policy of each namespace: the first entry of which a pattern fits. Remembers namespaces."""

    def __init__(self, entries: tuple[NamespacePolicy, ...]) -> None:
        self._entries = entries
        self._known: dict[str, str] = {}

    def of(self, namespace: str) -> str:
        if namespace not in self._known:
            fitting = (e.policy for e in self._entries if any(fnmatchcase(namespace, p) for p in e.namespaces))
            self._known[namespace] = next(fitting, "any")
        return self._known[namespace]


def endpointslice_ipv6_missing(view: RuleInput) -> Judgement:
    """Services with IPv6 that have ready IPv4 endpoints and no ready IPv6 one, although a pod behind them has IPv6.

    Endpoints that are no pods were written by somebody: they count as well.
    """
    reason = lacking(view.inventory, ResourceKind.SERVICES, ResourceKind.ENDPOINT_SLICES, ResourceKind.PODS)
    if reason is not None:
        return reason
    ready = _ready_endpoints(view.inventory.endpoint_slices or ())
    suspects = [
        (service, ready[service.key][Family.V4])
        for service in view.inventory.services or ()
        if _has_v6(service)
        and service.key in ready
        and ready[service.key][Family.V4]
        and not ready[service.key][Family.V6]
    ]
    pods = {pod.key: pod for pod in view.inventory.pods or ()} if suspects else {}
    found = [(service, endpoints) for service, endpoints in suspects if _should_have_v6(endpoints, pods)]
    if not found:
        return ()
    return (
        finding(
            Cause.ENDPOINTSLICE_IPV6_MISSING,
            (_subject(service) for service, _ in found),
            evidence=bounded(_endpoint_evidence(service, endpoints, pods) for service, endpoints in found),
            command=f"kubectl -n {found[0][0].namespace} get endpointslices -l kubernetes.io/service-name={found[0][0].name}",
            affects_destinations=destinations_of(view.inventory, {_subject(service) for service, _ in found}),
        ),
    )


def _has_v6(service: Service) -> bool:
    return service.type != EXTERNAL_NAME and Family.V6 in service.families


def _ready_endpoints(slices: Iterable[EndpointSlice]) -> dict[str, dict[Family, list[Endpoint]]]:
    """Ready endpoints with addresses, by Service and family."""
    found: dict[str, dict[Family, list[Endpoint]]] = {}
    for each in slices:
        if each.family is not None and each.service:
            by_family = found.setdefault(f"{each.namespace}/{each.service}", {Family.V4: [], Family.V6: []})
            by_family[each.family] += (endpoint for endpoint in each.endpoints if endpoint.ready and endpoint.addresses)
    return found


def _should_have_v6(endpoints: list[Endpoint], pods: dict[str, Pod]) -> bool:
    behind = [pods[endpoint.pod] for endpoint in endpoints if endpoint.pod in pods]
    by_hand = all(not endpoint.pod for endpoint in endpoints)
    return by_hand or any(_pod_has_v6(pod) for pod in behind)


def _pod_has_v6(pod: Pod) -> bool:
    return any(family_of(address) is Family.V6 for address in pod.ips)


def _endpoint_evidence(service: Service, endpoints: list[Endpoint], pods: dict[str, Pod]) -> str:
    able = [endpoint.pod for endpoint in endpoints if endpoint.pod in pods and _pod_has_v6(pods[endpoint.pod])]
    behind = f"of their pods {len(able)} have IPv6 (pod/{able[0]})" if able else "written by hand, no pods behind them"
    return f"service/{service.key}: ipFamilies [{listed(service.families)}], {counted(len(endpoints), 'ready IPv4 endpoint')}, none of IPv6; {behind}"


def loadbalancer_ipv6_missing(view: RuleInput) -> Judgement:
    """Dual-stack LoadBalancers that got IPv4 addresses alone. None yet, or a host name, says nothing about families."""
    reason = lacking(view.inventory, ResourceKind.SERVICES)
    if reason is not None:
        return reason
    found = [service for service in view.inventory.services or () if _got_v4_only(service)]
    if not found:
        return ()
    return (
        finding(
            Cause.LOADBALANCER_IPV6_MISSING,
            map(_subject, found),
            evidence=bounded(
                f"service/{s.key}: ipFamilies [{listed(s.families)}], status.loadBalancer.ingress [{listed(map(str, s.ingress_ips))}]"
                for s in found
            ),
            command=f"kubectl -n {found[0].namespace} describe service {found[0].name}",
        ),
    )


def _got_v4_only(service: Service) -> bool:
    if service.type != "LoadBalancer" or len(service.families) != 2 or service.ingress_hostnames:
        return False
    return {family_of(address) for address in service.ingress_ips} == {Family.V4}


SERVICE_RULES: dict[Cause, Rule] = {
    Cause.SERVICE_IPV6_MISSING: service_ipv6_missing,
    Cause.ENDPOINTSLICE_IPV6_MISSING: endpointslice_ipv6_missing,
    Cause.LOADBALANCER_IPV6_MISSING: loadbalancer_ipv6_missing,
}
