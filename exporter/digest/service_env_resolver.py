"""Where a Service of the exporter's own namespace is, on a node whose resolver does not know cluster names. An I/O rim.

The exporter's pod uses the host's network and the host's resolv.conf, so that it starts and reports while the cluster's
DNS is down. The kubelet gives each container the Services of its own namespace in variables (NAME_SERVICE_HOST;
Kubernetes documentation, "Service", environment variables): the first ClusterIP only, and kube-proxy must work. If
nothing answers there, the API server is asked for the endpoints, once, of either family. A cluster name that neither
resolves is sent only to a resolver that is recognizably the cluster's: any other would be outside, must not learn the
names of Services and could answer with an address of its own.
"""

from __future__ import annotations

import errno
import logging
import socket
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import TypeAlias

from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver

from exporter.inventory.fetching import read_file
from exporter.inventory.kubernetes.api_error import ApiError
from exporter.inventory.kubernetes.client import ApiServer
from exporter.inventory.kubernetes.stream import read_page
from exporter.inventory.kubernetes.watched_resources import own_endpoints
from exporter.inventory.parse.core import parse_endpoint_slice
from exporter.inventory.parse.fields import mapping
from exporter.libc.resolv_conf import parse_resolv_conf
from exporter.model.family import Address, Family, family_of, parse_address
from exporter.telemetry.logs import fields

log = logging.getLogger(__name__)

AddressPort: TypeAlias = tuple[Address, int]
# Namespace and name of a Service to its endpoints; raises ApiError.
Lister: TypeAlias = Callable[[str, str], Awaitable[tuple[AddressPort, ...]]]

NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")  # where kubelet mounts it
RESOLV_CONF = Path("/etc/resolv.conf")
MAX_FILE = 64 << 10
LIST_WITHIN = 5.0  # seconds for the list of endpoints
MAX_ENDPOINTS = 8  # the cluster role has one of each family


async def list_endpoints(api: ApiServer, namespace: str, service: str) -> tuple[AddressPort, ...]:
    """Where the Service's ready endpoints listen, each once. Raises ApiError."""
    watched = own_endpoints(namespace, service)
    query = [("labelSelector", watched.labels), ("resourceVersion", "0")]
    answer = await api.get(watched.path(watched.api_versions[0]), query, longest=LIST_WITHIN)
    found = (
        (address, port.port)
        for part in (parse_endpoint_slice(mapping(each)) for each in read_page(answer.body).objects)
        for port in part.ports
        if port.protocol == "TCP" and port.port
        for endpoint in part.endpoints
        if endpoint.ready
        for address in endpoint.addresses
    )
    return tuple(dict.fromkeys(found))[:MAX_ENDPOINTS]


class ServiceEnvResolver(AbstractResolver):
    """Resolves Services by the kubelet's variables and by their endpoints, other names as this host does."""

    def __init__(
        self,
        variables: Mapping[str, str],
        *,
        endpoints: Lister | None = None,
        namespace: Path = NAMESPACE,
        resolv_conf: Path = RESOLV_CONF,
    ) -> None:
        self._variables = variables
        self._endpoints = endpoints
        self._listed: dict[str, tuple[AddressPort, ...]] = {}  # of Services that did not answer at their variable
        self._misses = 0
        self._namespace = (read_file(namespace, MAX_FILE) or b"").decode("latin-1").strip()
        self._resolv_conf = resolv_conf
        self._host: ThreadedResolver | None = None

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """The addresses of a host name, after each miss another one first. Raises OSError if there is none."""
        address = self.env_address(host)
        first = [] if address is None else [(address, port)]
        found = [*first, *self._listed.get(self._own_service(host), ())]
        if found:
            turn = self._misses % len(found)
            return [_result(host, each) for each in (*found[turn:], *found[:turn])]
        if is_cluster_name(host) and not is_cluster_resolver(read_file(self._resolv_conf, MAX_FILE) or b""):
            raise OSError(errno.EADDRNOTAVAIL, "not among the Services that the kubelet told this pod at its start")
        if self._host is None:
            self._host = ThreadedResolver()
        return await self._host.resolve(host, port, family)

    def env_address(self, host: str) -> Address | None:
        """The address in the kubelet's variables; None for another namespace's Service, or one newer than the pod."""
        name = self._own_service(host)
        return parse_address(self._variables.get(f"{name.upper().replace('-', '_')}_SERVICE_HOST", ""))

    async def miss(self, host: str, *, ask: bool) -> bool:
        """Record that no address answered, and list the endpoints if `ask`; whether there is another to try."""
        self._misses += 1
        service = self._own_service(host)
        if not (ask and service and self._namespace and self._endpoints):
            return False
        try:
            listed = await self._endpoints(self._namespace, service)
        except ApiError as error:
            extra = fields(service=service, problem=str(error))
            log.warning("the endpoints of its Service could not be listed", extra=extra)
            return False
        if listed and listed != self._listed.get(service):
            shown = ", ".join(f"{address} port {port}" for address, port in listed)
            log.info("its Service's address gives no answer; its endpoints are asked", extra=fields(endpoints=shown))
        self._listed[service] = listed
        return bool(listed)

    def _own_service(self, host: str) -> str:
        """The Service of the exporter's own namespace that the host name is; empty for every other."""
        name, _, rest = host.rstrip(".").partition(".")
        namespace, _, suffix = rest.partition(".")
        elsewhere = namespace and (namespace != self._namespace or suffix.split(".")[0] not in {"", "svc"})
        return "" if elsewhere or parse_address(host) is not None else name

    async def close(self) -> None:
        """Nothing is kept open."""


def is_cluster_name(host: str) -> bool:
    """Whether the name is one of the cluster's DNS, whatever its domain: NAME.NAMESPACE.svc, with or without more."""
    labels = host.rstrip(".").lower().split(".")
    return len(labels) > 2 and labels[2] == "svc"


def is_cluster_resolver(content: bytes) -> bool:
    """Whether the kubelet wrote this resolv.conf for cluster DNS: its search list has svc.DOMAIN."""
    return any(".svc." in f".{domain.lower()}" for domain in parse_resolv_conf(content).search)


def _result(host: str, endpoint: AddressPort) -> ResolveResult:
    address, port = endpoint
    family = socket.AF_INET6 if family_of(address) is Family.V6 else socket.AF_INET
    return ResolveResult(
        hostname=host, host=str(address), port=port, family=family, proto=0, flags=socket.AI_NUMERICHOST
    )
