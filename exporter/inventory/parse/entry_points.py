"""Ingresses and Gateways: where clients outside enter, by status. Pure; for objects.py. For the steps of migration/."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from exporter.inventory.parse.fields import addresses, mapping, name_of, objects
from exporter.model.cluster.service import EntryPoint


def parse_ingress(source: Mapping[str, Any]) -> EntryPoint:
    """networking.k8s.io/v1 Ingress: status.loadBalancer.ingress. A host name shows no family."""
    given = objects(mapping(mapping(source.get("status")).get("loadBalancer")).get("ingress"))
    return _entry_point("ingress", source, (each.get("ip") for each in given))


def parse_gateway(source: Mapping[str, Any]) -> EntryPoint:
    """gateway.networking.k8s.io/v1 Gateway: status.addresses. One of type Hostname is no address."""
    given = objects(mapping(source.get("status")).get("addresses"))
    return _entry_point("gateway", source, (each.get("value") for each in given))


def _entry_point(kind: str, source: Mapping[str, Any], given: Iterable[Any]) -> EntryPoint:
    metadata = mapping(source.get("metadata"))
    return EntryPoint(
        kind=kind,
        namespace=name_of(metadata.get("namespace")),
        name=name_of(metadata.get("name")),
        addresses=addresses(given),
    )
