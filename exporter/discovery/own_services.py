"""Where a Service of the exporter's own namespace is, on a node whose resolver does not know the cluster's names. The rim of digest_source.py.

The exporter's pod uses the host's network and the host's resolv.conf, so that it starts and reports while the cluster's DNS is down. The
kubelet tells each container the Services of its own namespace in variables (NAME_SERVICE_HOST; Kubernetes documentation, "Service",
environment variables). A cluster name that they lack is asked only of a resolver that says it is the cluster's: any other would be one
outside, which must not be told the names of Services and could answer with an address of its own.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Mapping
from pathlib import Path

from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver

from exporter.model.family import Address, parse_address
from exporter.resolvconf import parse_resolv_conf

NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")  # where kubelet mounts it
RESOLV_CONF = Path("/etc/resolv.conf")
MAX_FILE = 64 << 10


class OwnServices(AbstractResolver):
    """Resolves host names for aiohttp: Services by the kubelet's variables, everything else as this host does."""

    def __init__(
        self, variables: Mapping[str, str], *, namespace: Path = NAMESPACE, resolv_conf: Path = RESOLV_CONF
    ) -> None:
        self._variables = variables
        self._namespace = _read(namespace).decode("latin-1").strip()
        self._resolv_conf = resolv_conf
        self._host: ThreadedResolver | None = None

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """The addresses of a host name.

        Raises:
            OSError: it has none, or it is a cluster name that nothing on this host may be asked about.
        """
        address = self.told(host)
        if address is not None:
            return [_result(host, port, address)]
        if is_cluster_name(host) and not is_cluster_resolver(_read(self._resolv_conf)):
            raise OSError(errno.EADDRNOTAVAIL, "not among the Services that the kubelet told this pod at its start")
        if self._host is None:
            self._host = ThreadedResolver()
        return await self._host.resolve(host, port, family)

    def told(self, host: str) -> Address | None:
        """The address in the kubelet's variables; None for a Service of another namespace, or one that came after the pod."""
        name, _, rest = host.rstrip(".").partition(".")
        namespace, _, suffix = rest.partition(".")
        if namespace and (namespace != self._namespace or suffix.split(".")[0] not in {"", "svc"}):
            return None
        return parse_address(self._variables.get(f"{name.upper().replace('-', '_')}_SERVICE_HOST", ""))

    async def close(self) -> None:
        """Nothing is kept open."""


def is_cluster_name(host: str) -> bool:
    """Whether the name is one of the cluster's DNS whatever its domain: NAME.NAMESPACE.svc, with or without more behind."""
    labels = host.rstrip(".").lower().split(".")
    return len(labels) > 2 and labels[2] == "svc"


def is_cluster_resolver(content: bytes) -> bool:
    """Whether a resolv.conf is one that the kubelet wrote for cluster DNS: its search list goes through svc.DOMAIN."""
    return any(".svc." in f".{domain.lower()}" for domain in parse_resolv_conf(content).search)


def _result(host: str, port: int, address: Address) -> ResolveResult:
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
