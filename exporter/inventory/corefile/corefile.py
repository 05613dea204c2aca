"""A CoreDNS ConfigMap read as CoreDNS reads it: cluster domains, forwarders, and which directives withhold AAAA. Pure.

Called by parse/configmaps.py. Reads what the text means; diagnosis decides whether that is a fault.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from fnmatch import fnmatchcase
from itertools import islice

from exporter.inventory.corefile.aaaa import Withholding
from exporter.inventory.corefile.syntax import (
    DEFAULT_PORT,
    Files,
    ServerBlock,
    SyntaxParser,
    TooMuchWorkError,
    Work,
    within,
    zones_of,
)
from exporter.model.cluster.corefile import AaaaBlock, Corefile

MAX_ERRORS = 20
MAX_BLOCKS = 200
MAX_BINDS = 20
KEY = "Corefile"
SERVER_BLOCK = re.compile(r"^[^\s#{}(][^\n{}]*\{", re.MULTILINE)


def looks_like_corefile(text: str) -> bool:
    """Whether a line opens a server block; whether pods use it, only what mounts it can say."""
    return SERVER_BLOCK.search(text) is not None


def read_corefile(
    namespace: str,
    name: str,
    data: Mapping[str, str],
    custom: Mapping[str, str] | None = None,
    ports: Collection[str] = (),
) -> Corefile:
    """The ConfigMap's Corefile. `data` are its keys, `custom` those of ConfigMap coredns-custom for imports.

    `ports`: where its pods are asked, as the DNS Service's targetPort says.
    """
    try:
        return _read(namespace, name, data, custom or {}, ports)
    except TooMuchWorkError:
        return Corefile(
            namespace=namespace, name=name, cluster_domains=(), errors=("too many lists that meet; it was not read",)
        )


def _read(
    namespace: str, name: str, data: Mapping[str, str], custom: Mapping[str, str], ports: Collection[str]
) -> Corefile:
    work = Work()
    parser = SyntaxParser(data.get(KEY, ""), _files(data, custom, work), work)
    servers = [block for block in parser.parse() if block.zones]
    work.take(len(servers) ** 2)
    withholding = Withholding(servers)
    servers = _asked(servers, ports)
    found = [(server, withholding.of(server)) for server in servers]
    errors = [*parser.errors, *(error for server in servers for error in server.errors)]
    zones, blocks = sum(len(server.zones) for server in servers), sum(len(blocks) for _, blocks in found)
    work.take((len(servers) + min(blocks, MAX_BLOCKS)) * zones)
    return Corefile(
        namespace=namespace,
        name=name,
        cluster_domains=_cluster_domains(servers),
        blocks=tuple(islice(_except_served_elsewhere(found), MAX_BLOCKS)),
        dns64=any(any(server.of("dns64")) for server in servers),
        binds=tuple(dict.fromkeys(a for s in servers for a in s.binds))[:MAX_BINDS],
        errors=tuple(dict.fromkeys(errors))[:MAX_ERRORS],
    )


def _asked(servers: list[ServerBlock], ports: Collection[str]) -> list[ServerBlock]:
    """Those on the port that pods ask: the Service's, else 53, else any (OpenShift's 5353 behind the Service)."""
    for wanted in (ports, (DEFAULT_PORT,)):
        if found := [server for server in servers if server.port in wanted]:
            return found
    return servers


def _files(data: Mapping[str, str], custom: Mapping[str, str], work: Work) -> Files:
    """The files that an import may reach: keys of either ConfigMap by the last path component."""

    def find(pattern: str) -> Mapping[str, str] | None:
        work.take(len(custom) + len(data))
        last = pattern.rpartition("/")[2]
        found = {f"coredns-custom/{key}": custom[key] for key in sorted(custom) if fnmatchcase(key, last)}
        if not found:
            found = {key: data[key] for key in sorted(data) if key != KEY and fnmatchcase(key, last)}
        # CoreDNS accepts a pattern that matches no file, but not a path that does not exist.
        return found if found or any(sign in pattern for sign in "*?[") else None

    return find


def _except_served_elsewhere(found: list[tuple[ServerBlock, list[AaaaBlock]]]) -> Iterator[AaaaBlock]:
    """The blocks, each with the subzones that other server blocks serve without withholding."""
    blocked = {block.zone for _, blocks in found for block in blocks}
    for server, blocks in found:
        others = {zone for other, _ in found if other is not server for zone in other.zones} - blocked
        for block in blocks:
            yield replace(
                block,
                except_zones=tuple(
                    sorted({*block.except_zones, *(z for z in others if z != block.zone and within(z, block.zone))})
                ),
            )


def _cluster_domains(servers: list[ServerBlock]) -> tuple[str, ...]:
    """The forward zones of the kubernetes plugin; without arguments it has those of its server block."""
    found = (
        zone
        for server in servers
        for directive in server.of("kubernetes")
        for zone in zones_of(directive.arguments) or server.zones
    )
    return tuple(dict.fromkeys(found))
