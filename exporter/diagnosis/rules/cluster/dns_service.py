"""The cause that the cluster's DNS Service shows: nothing ready behind it. A pure rule of the cluster exporter."""

from __future__ import annotations

from collections.abc import Iterator

from exporter.diagnosis.endpoints import destinations_of
from exporter.diagnosis.engine.preconditions import bounded, listed
from exporter.diagnosis.engine.rule_input import Judgement, RuleInput
from exporter.diagnosis.rules.judging import found, needs
from exporter.model.cause import Cause, Severity
from exporter.model.cluster.inventory import Inventory, ResourceKind
from exporter.model.cluster.pod import Pod
from exporter.model.cluster.service import Service
from exporter.model.cluster.well_known import DNS_NAMESPACES, dns_endpoints, dns_services
from exporter.model.reason import Reason


@needs(ResourceKind.SERVICES, ResourceKind.ENDPOINT_SLICES)
def dns_service_no_endpoints(view: RuleInput) -> Judgement:
    """No Service of the cluster's DNS has a ready endpoint; a warning where NodeLocal DNSCache answers."""
    inventory = view.inventory
    known = dns_services(inventory)
    services = tuple(s for s in known if s.namespace in DNS_NAMESPACES) or known
    if not services:
        return Reason.NOT_APPLICABLE
    if dns_endpoints(inventory, services):
        return ()
    cached = inventory.node_local is not None
    return found(
        Cause.DNS_SERVICE_NO_ENDPOINTS,
        (service.subject for service in services),
        evidence=[
            *(f"{service.subject}: no ready endpoint in its EndpointSlices" for service in services),
            *bounded(line for service in services for line in _pods(service, inventory)),
            *(("NodeLocal DNSCache is configured: it answers what it has in its cache",) if cached else ()),
        ],
        command=f"kubectl -n {services[0].namespace} get pods,endpointslices -o wide",
        severity=Severity.WARNING if cached else None,
        affects_destinations=destinations_of(inventory, {service.subject for service in services}),
    )


def _pods(service: Service, inventory: Inventory) -> Iterator[str]:
    """The pods that the Service selects, with what keeps them from being ready as far as the API shows it."""
    if inventory.pods is None or not service.selector:
        return
    pods = [p for p in inventory.pods if p.namespace == service.namespace]
    chosen = [p for p in pods if service.selector.items() <= p.labels.items()]
    yield from (f"{pod.subject}: {_state(pod, inventory)}" for pod in chosen)
    if not chosen:
        yield f"{service.subject}: no pod has {listed(f'{k}={v}' for k, v in sorted(service.selector.items()))}"


def _state(pod: Pod, inventory: Inventory) -> str:
    node = inventory.node(pod.node)
    there = f"on {pod.node}" if pod.node else "on no node yet"
    lost = ", which is not Ready" if node is not None and not node.ready else ""
    ready = "Ready" if pod.ready else "not Ready"
    return f"{pod.phase or 'phase unknown'}, {ready}{', being deleted' if pod.deleting else ''}, {there}{lost}"
