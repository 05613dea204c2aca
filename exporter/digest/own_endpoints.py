"""Where a Service's endpoints are, by one list at the API server: the way to the cluster role that needs neither ClusterIP nor kube-proxy.

A rim beside own_services.py, which decides when to ask. The kubelet tells a pod the first ClusterIP of a Service alone,
so this is also how a node learns the addresses of the other family.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import TypeAlias

from exporter.inventory.kubernetes.api_error import ApiError, ApiErrorKind
from exporter.inventory.kubernetes.client import ApiServer
from exporter.inventory.kubernetes.stream import read_page
from exporter.inventory.kubernetes.watched_resources import own_endpoints
from exporter.inventory.parse.fields import mapping
from exporter.inventory.parse.services import parse_endpoint_slice
from exporter.model.family import Address
from exporter.model.service import EndpointSlice

WAIT = 5.0  # seconds for the whole list
AT_MOST = 8  # addresses; the cluster role has one of each family
Place: TypeAlias = tuple[Address, int]


async def list_endpoints(api: ApiServer, namespace: str, service: str) -> tuple[Place, ...]:
    """Addresses and ports of the Service's ready endpoints.

    Raises:
        ApiError: they could not be listed.
    """
    reading = own_endpoints(namespace, service)
    query = [("labelSelector", reading.labels), ("resourceVersion", "0")]
    try:
        async with asyncio.timeout(WAIT):
            answer = await api.get(reading.path(reading.places[0]), query)
    except TimeoutError:
        raise ApiError(ApiErrorKind.STREAM_IDLE, f"no answer within {WAIT:g} s") from None
    return places_of(parse_endpoint_slice(mapping(each)) for each in read_page(answer.body).objects)


def places_of(slices: Iterable[EndpointSlice]) -> tuple[Place, ...]:
    """Where the ready endpoints of these slices listen, each once."""
    found = (
        (address, port.port)
        for part in slices
        for port in part.ports
        if port.protocol == "TCP" and port.port
        for endpoint in part.endpoints
        if endpoint.ready
        for address in endpoint.addresses
    )
    return tuple(dict.fromkeys(found))[:AT_MOST]
