"""Where a Service of the exporter's own namespace is, on a node whose resolver does not know the cluster's names. The rim of digest_source.py.

The exporter's pod uses the host's network and the host's resolv.conf, so that it starts and reports while the cluster's
DNS is down. The kubelet tells each container the Services of its own namespace in variables (NAME_SERVICE_HOST;
Kubernetes documentation, "Service", environment variables). Where nobody answers at that address, the API tells those
of the endpoints. A cluster name that they lack is asked only of a resolver that says it is the cluster's: any other
would be one outside, which must not be told the names of Services and could answer with an address of its own.
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

from exporter.digest.own_endpoints import Place
from exporter.inventory.kubernetes.api_error import ApiError
from exporter.libc.resolv_conf import parse_resolv_conf
from exporter.model.family import Address, parse_address
from exporter.telemetry.logs import fields

log = logging.getLogger(__name__)

# Namespace and name of a Service to its endpoints; raises ApiError.
Lister: TypeAlias = Callable[[str, str], Awaitable[tuple[Place, ...]]]

NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")  # where kubelet mounts it
RESOLV_CONF = Path("/etc/resolv.conf")
MAX_FILE = 64 << 10


class ServiceEnvResolver(AbstractResolver):
    """Resolves host names for aiohttp: Services by the kubelet's variables and their endpoints, everything else as this host does."""

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
        self._listed: dict[str, tuple[Place, ...]] = {}  # of Services that gave no answer by the address told
        self._misses = 0
        self._namespace = _read(namespace).decode("latin-1").strip()
        self._resolv_conf = resolv_conf
        self._host: ThreadedResolver | None = None

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """The addresses of a host name. After each miss another one stands first.

        Raises:
            OSError: it has none, or it is a cluster name that nothing on this host may be asked about.
        """
        address = self.told(host)
        told = [] if address is None else [(address, port)]
        places = [*told, *self._listed.get(self._own_service(host), ())]
        if places:
            first = self._misses % len(places)
            return [_result(host, place) for place in (*places[first:], *places[:first])]
        if is_cluster_name(host) and not is_cluster_resolver(_read(self._resolv_conf)):
            raise OSError(errno.EADDRNOTAVAIL, "not among the Services that the kubelet told this pod at its start")
        if self._host is None:
            self._host = ThreadedResolver()
        return await self._host.resolve(host, port, family)

    def told(self, host: str) -> Address | None:
        """The address in the kubelet's variables; None for a Service of another namespace, or one that came after the pod."""
        name = self._own_service(host)
        return parse_address(self._variables.get(f"{name.upper().replace('-', '_')}_SERVICE_HOST", ""))

    async def miss(self, host: str, *, ask: bool) -> bool:
        """Take note that nobody answered by the addresses given. `ask`: list the endpoints anew. Whether there is something else to try."""
        self._misses += 1
        service = self._own_service(host)
        if not (ask and service and self._namespace and self._endpoints):
            return False
        try:
            listed = await self._endpoints(self._namespace, service)
        except ApiError as error:
            log.warning(
                "the endpoints of its Service could not be listed", extra=fields(service=service, problem=str(error))
            )
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
    """Whether the name is one of the cluster's DNS whatever its domain: NAME.NAMESPACE.svc, with or without more behind."""
    labels = host.rstrip(".").lower().split(".")
    return len(labels) > 2 and labels[2] == "svc"


def is_cluster_resolver(content: bytes) -> bool:
    """Whether a resolv.conf is one that the kubelet wrote for cluster DNS: its search list goes through svc.DOMAIN."""
    return any(".svc." in f".{domain.lower()}" for domain in parse_resolv_conf(content).search)


def _result(host: str, place: Place) -> ResolveResult:
    address, port = place
    family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
    return ResolveResult(
        hostname=host, host=str(address), port=port, family=family, proto=0, flags=socket.AI_NUMERICHOST
    )


def _read(path: Path) -> bytes:
    """The beginning of a file; nothing where it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(MAX_FILE)
    except OSError:
        return b""
