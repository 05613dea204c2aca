"""Causes that Services show: families, EndpointSlices, load balancers. Pure rules of the cluster exporter."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from fnmatch import fnmatchcase

from exporter.config.schema import ServicePolicy
from exporter.diagnosis.endpoints import destinations_of
from exporter.diagnosis.engine.preconditions import bounded, counted, listed
from exporter.diagnosis.engine.rule_input import Expectations, Judgement, RuleInput
from exporter.diagnosis.rules.judging import found, needs
from exporter.model.cause import Cause, Severity
from exporter.model.cluster.inventory import ResourceKind
from exporter.model.cluster.service import Endpoint, EndpointSlice, Service
from exporter.model.family import Family, family_of

API_SERVICE = "default/kubernetes"  # made by the API server, always of its primary family
EXTERNAL_NAME = "ExternalName"
PREFERS = "PreferDualStack"  # asked for both families and stayed with one


@needs(ResourceKind.SERVICES)
def service_ipv6_missing(view: RuleInput) -> Judgement:
    """Services with IPv4 only: a warning where expect.services asks for dual-stack; if none is there, info for all."""
    v4_only = [service for service in view.inventory.services or () if _is_v4_only(service)]
    asking = _dual_stack_namespaces({s.namespace for s in v4_only}, view.expect)
    breaking = [service for service in v4_only if service.namespace in asking]
    shown = sorted(breaking or v4_only, key=lambda s: (s.family_policy != PREFERS, s.subject))
    namespaces = counted(len({service.namespace for service in shown}), "namespace")
    return found(
        Cause.SERVICE_IPV6_MISSING,
        (service.subject for service in shown),
        evidence=[
            f"{counted(len(shown), 'Service')} in {namespaces} with IPv4 only",
            *bounded(
                f"{s.subject}: ipFamilyPolicy {s.family_policy or 'absent'}, ipFamilies [{listed(s.families)}]"
                for s in shown
            ),
            *(("expect.services asks for prefer_dual_stack there",) if breaking else ()),
        ],
        command="kubectl get services -A"
        " -o custom-columns=NS:.metadata.namespace,NAME:.metadata.name,POLICY:.spec.ipFamilyPolicy",
        severity=None if breaking else Severity.INFO,
        first=frozenset(s.subject for s in shown if s.family_policy == PREFERS),
    )


def _is_v4_only(service: Service) -> bool:
    """IPv4 only by ipFamilies; [IPv6] is a choice, and the API server's own Service cannot be changed."""
    return service.type != EXTERNAL_NAME and service.key != API_SERVICE and service.families == (Family.V4,)


def _dual_stack_namespaces(namespaces: Iterable[str], expect: Expectations) -> frozenset[str]:
    """Those whose policy, the first one with a pattern that matches, asks for dual-stack."""

    def policy_of(name: str) -> ServicePolicy:
        matching = (e.policy for e in expect.services if any(fnmatchcase(name, pattern) for pattern in e.namespaces))
        return next(matching, ServicePolicy.ANY)

    return frozenset(name for name in namespaces if policy_of(name) is ServicePolicy.PREFER_DUAL_STACK)


@needs(ResourceKind.SERVICES, ResourceKind.ENDPOINT_SLICES, ResourceKind.PODS)
def endpointslice_ipv6_missing(view: RuleInput) -> Judgement:
    """Services with IPv6 and only IPv4 endpoints ready, which are of a pod with IPv6 or were written by hand."""
    ready = _ready_endpoints(view.inventory.endpoint_slices or ())
    suspects = [
        (service, ready[service.key, Family.V4])
        for service in view.inventory.services or ()
        if service.type != EXTERNAL_NAME and Family.V6 in service.families
        if service.selector or service.cluster_ips  # else headless without selector: its families are a default
        if (service.key, Family.V4) in ready and (service.key, Family.V6) not in ready
    ]
    behind = {endpoint.pod for _, endpoints in suspects for endpoint in endpoints}
    pods = (pod for pod in view.inventory.pods or () if pod.key in behind) if behind else ()
    able = {pod.key for pod in pods if any(family_of(address) is Family.V6 for address in pod.ips)}
    lacking = [
        (service, endpoints)
        for service, endpoints in suspects
        if all(not e.pod for e in endpoints) or any(e.pod in able for e in endpoints)
    ]
    if not lacking:
        return ()
    of_pods = [(service, endpoints) for service, endpoints in lacking if any(e.pod for e in endpoints)]
    lacking = of_pods or lacking
    first = lacking[0][0]
    return found(
        Cause.ENDPOINTSLICE_IPV6_MISSING,
        (service.subject for service, _ in lacking),
        evidence=bounded(_endpoint_evidence(service, endpoints, able) for service, endpoints in lacking),
        command=f"kubectl -n {first.namespace} get endpointslices -l kubernetes.io/service-name={first.name}",
        affects_destinations=destinations_of(view.inventory, {service.subject for service, _ in lacking}),
        severity=None if of_pods else Severity.INFO,
    )


def _ready_endpoints(slices: Iterable[EndpointSlice]) -> dict[tuple[str, Family], list[Endpoint]]:
    """Ready endpoints with addresses, by Service and family."""
    ready: dict[tuple[str, Family], list[Endpoint]] = {}
    for each in slices:
        for endpoint in each.endpoints if each.family is not None and each.service else ():
            if each.family is not None and endpoint.ready and endpoint.addresses:
                ready.setdefault((f"{each.namespace}/{each.service}", each.family), []).append(endpoint)
    return ready


def _endpoint_evidence(service: Service, endpoints: list[Endpoint], able: Collection[str]) -> str:
    pods = [endpoint.pod for endpoint in endpoints if endpoint.pod in able]
    behind = f"of their pods {len(pods)} have IPv6 (pod/{pods[0]})" if pods else "written by hand, no pods behind them"
    count = counted(len(endpoints), "ready IPv4 endpoint")
    return f"{service.subject}: ipFamilies [{listed(service.families)}], {count}, none of IPv6; {behind}"


@needs(ResourceKind.SERVICES)
def loadbalancer_ipv6_missing(view: RuleInput) -> Judgement:
    """Dual-stack LoadBalancers that got IPv4 addresses only. None yet, or a host name, shows nothing about families."""
    v4_only = [
        s
        for s in view.inventory.services or ()
        if s.type == "LoadBalancer" and len(s.families) == 2 and not s.ingress_hostnames
        if set(map(family_of, s.ingress_ips)) == {Family.V4}
    ]
    if not v4_only:
        return ()
    return found(
        Cause.LOADBALANCER_IPV6_MISSING,
        (service.subject for service in v4_only),
        evidence=bounded(
            f"{s.subject}: ipFamilies [{listed(s.families)}],"
            f" status.loadBalancer.ingress [{listed(map(str, s.ingress_ips))}]"
            for s in v4_only
        ),
        command=f"kubectl -n {v4_only[0].namespace} describe service {v4_only[0].name}",
    )
