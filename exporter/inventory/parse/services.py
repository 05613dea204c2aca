"""Services, EndpointSlices and ServiceCIDRs: one API object to one frozen value of the inventory. Pure; called by objects.py."""

from __future__ import annotations

from collections.abc import Mapping
from sys import intern
from typing import Any

from exporter.inventory.parse.fields import (
    addresses,
    families,
    items,
    mapping,
    moment,
    name_of,
    nets,
    number,
    string_map,
    text,
)
from exporter.model.family import FAMILIES
from exporter.model.service import Endpoint, EndpointSlice, Service, ServiceCIDR, ServicePort

SERVICE_NAME = "kubernetes.io/service-name"
MANAGED_BY = "endpointslice.kubernetes.io/managed-by"
MAX_PORTS = 100
MAX_ENDPOINTS = 1_000  # the API's own limit of one slice


def parse_service(source: Mapping[str, Any]) -> Service:
    """A Service; families and policy stay empty where the API server did not set them (ExternalName, metadata only)."""
    metadata, spec, status = (mapping(source.get(part)) for part in ("metadata", "spec", "status"))
    given = items(spec.get("clusterIPs")) or [spec.get("clusterIP")]
    ingress = [mapping(each) for each in items(mapping(status.get("loadBalancer")).get("ingress"))]
    return Service(
        namespace=intern(name_of(metadata.get("namespace"))),
        name=name_of(metadata.get("name")),
        uid=text(metadata.get("uid")),
        created=moment(metadata.get("creationTimestamp")),
        type=intern(text(spec.get("type"))[:32] or "ClusterIP"),
        headless="None" in given,
        cluster_ips=addresses(given),
        families=families(items(spec.get("ipFamilies"))),
        family_policy=intern(text(spec.get("ipFamilyPolicy"))[:32]),
        ports=tuple(_service_port(mapping(port)) for port in items(spec.get("ports"))[:MAX_PORTS]),
        selector=string_map(spec.get("selector")),
        labels=string_map(metadata.get("labels")),
        ingress_ips=addresses(each.get("ip") for each in ingress),
        ingress_hostnames=tuple(text(each.get("hostname")) for each in ingress if text(each.get("hostname"))),
    )


def _service_port(source: Mapping[str, Any]) -> ServicePort:
    port, target = number(source.get("port")), source.get("targetPort")
    return ServicePort(
        name=intern(text(source.get("name"))[:63]),
        port=port if port is not None and 0 <= port < 65536 else 0,
        target=str(target)[:63] if isinstance(target, str) or (isinstance(target, int) and target is not True) else "",
        protocol=intern(text(source.get("protocol"))[:8] or "TCP"),
    )


def parse_endpoint_slice(source: Mapping[str, Any]) -> EndpointSlice:
    """An EndpointSlice; one of FQDNs has no family and no addresses."""
    metadata = mapping(source.get("metadata"))
    labels = mapping(metadata.get("labels"))
    namespace = intern(name_of(metadata.get("namespace")))
    known = {str(family): family for family in FAMILIES}
    return EndpointSlice(
        namespace=namespace,
        name=name_of(metadata.get("name")),
        service=name_of(labels.get(SERVICE_NAME)),
        family=known.get(text(source.get("addressType"))),
        endpoints=tuple(_endpoint(mapping(each), namespace) for each in items(source.get("endpoints"))[:MAX_ENDPOINTS]),
        ports=tuple(_service_port(mapping(port)) for port in items(source.get("ports"))[:MAX_PORTS]),
        managed_by=intern(text(labels.get(MANAGED_BY))[:63]),
    )


def _endpoint(source: Mapping[str, Any], namespace: str) -> Endpoint:
    target = mapping(source.get("targetRef"))
    pod = name_of(target.get("name")) if target.get("kind") == "Pod" else ""
    return Endpoint(
        addresses=addresses(items(source.get("addresses"))),
        ready=mapping(source.get("conditions")).get("ready")
        is not False,  # absent and null count as ready (API reference)
        node=intern(name_of(source.get("nodeName"))),
        pod=f"{name_of(target.get('namespace')) or namespace}/{pod}" if pod else "",
    )


def parse_service_cidr(source: Mapping[str, Any]) -> ServiceCIDR:
    metadata, spec = mapping(source.get("metadata")), mapping(source.get("spec"))
    return ServiceCIDR(name_of(metadata.get("name")), nets(items(spec.get("cidrs"))))
