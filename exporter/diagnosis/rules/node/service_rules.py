"""The cause that kube-proxy's rules of a Service show: they do not lead where its EndpointSlices say. A pure rule.

kube-proxy may leave endpoints out, by topology or because they terminate. It never leads to an address that no
EndpointSlice has, nor past all that are ready.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from exporter.diagnosis.endpoints import destinations_of
from exporter.diagnosis.engine.preconditions import bounded, listed
from exporter.diagnosis.engine.rule_input import Judgement, RuleInput
from exporter.diagnosis.rules.judging import SETTLED, found, needs, reader_reason
from exporter.diagnosis.rules.node.nat import NO_KUBE_PROXY
from exporter.diagnosis.watched_services import slices_of, watched_services
from exporter.model.cause import Cause
from exporter.model.cluster.inventory import ResourceKind
from exporter.model.cluster.service import EndpointSlice
from exporter.model.facts import Backend, Reader, ServiceRoute
from exporter.model.family import FAMILIES, Address, Family
from exporter.model.reason import Reason
from exporter.model.report import Finding
from exporter.model.subject import Subject, SubjectKind

MODES = frozenset({"iptables", "nftables"})


@needs(ResourceKind.SERVICES, ResourceKind.ENDPOINT_SLICES)
def service_rules_stale(view: RuleInput) -> Judgement:
    """Rules that reject a Service with ready endpoints, lead to none of these, or to an address that is no endpoint.

    The EndpointSlices must not have changed for two minutes.
    """
    facts = view.snapshot.kernel.kube_proxy
    if view.network.proxy in NO_KUBE_PROXY or (facts is not None and facts.mode not in MODES):
        return Reason.NOT_APPLICABLE
    if facts is None:
        return reader_reason(view, Reader.KUBE_PROXY)
    if not facts.routes:
        return Reason.NOT_APPLICABLE  # no Service of interest, or another finding: no rules of any Service
    slices = slices_of(view.inventory, watched_services(view.inventory))
    wrong: dict[Family, list[tuple[ServiceRoute, str]]] = {family: [] for family in FAMILIES}
    for route in facts.routes:
        own = [s for s in slices.get(route.port.service, ()) if s.family is route.port.family]
        if all(s.changed is None or view.now - s.changed >= SETTLED for s in own):
            wrong[route.port.family] += ((route, problem) for problem in _problems(route, own))
    return tuple(finding for routes in wrong.values() for finding in _findings(view, routes))


def _problems(route: ServiceRoute, slices: Iterable[EndpointSlice]) -> Iterator[str]:
    """What is wrong with where the rules of a port lead, at most one thing."""
    of_port = [s for s in slices if any(port.name == route.port.name for port in s.ports)]
    ready = {a for s in of_port for e in s.endpoints if e.ready for a in e.addresses}
    known = {a for s in of_port for e in s.endpoints for a in e.addresses}
    stale = route.addresses - known
    if not ready:
        return
    if not route.addresses:
        yield f"leads to no endpoint, its EndpointSlices have {_shown(ready)} ready"
    elif stale:
        yield f"leads to {_shown(stale)}, its EndpointSlices have {_shown(known)}"
    elif route.addresses.isdisjoint(ready):
        yield f"leads to {_shown(route.addresses)}, none of which is ready; ready: {_shown(ready)}"


def _shown(addresses: Iterable[Address]) -> str:
    return listed(map(str, sorted(addresses, key=int)), 5)


def _findings(view: RuleInput, wrong: list[tuple[ServiceRoute, str]]) -> tuple[Finding, ...]:
    """One for the ports of a family."""
    if not wrong:
        return ()
    services = {_service(route) for route, _ in wrong}
    first = wrong[0][0]
    made = found(
        Cause.SERVICE_RULES_STALE,
        services,
        evidence=bounded(
            f"{_service(route)} {route.port.name or '-'}/{route.port.protocol} over {route.port.family}:"
            f" {route.chain} ({route.backend}) {problem}"
            for route, problem in wrong
        ),
        command=f"{_command(first)}; kubectl -n {{}} get endpointslices -l kubernetes.io/service-name={{}}".format(
            *first.port.service.split("/")
        ),
        affects_destinations=destinations_of(view.inventory, services),
    )
    return tuple(replace(finding, family=first.port.family) for finding in made)


def _service(route: ServiceRoute) -> Subject:
    return Subject.of(SubjectKind.SERVICE, route.port.service)


def _command(route: ServiceRoute) -> str:
    six = "6" if route.port.family is Family.V6 else ""
    if route.backend is Backend.NFTABLES:
        return f"nft list chain ip{six} kube-proxy {route.chain}"
    return f"ip{six}tables-{route.backend.removeprefix('iptables-')} -t nat -S {route.chain}"
