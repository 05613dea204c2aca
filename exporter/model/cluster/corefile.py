"""What a CoreDNS configuration does, above all to AAAA. Values of the inventory, made by inventory/corefile; no I/O."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from exporter.model.family import Address


class AaaaTreatment(StrEnum):
    """What a Corefile does with AAAA in a zone."""

    NODATA = "nodata"
    NXDOMAIN = "nxdomain"
    REFUSED = "refused"
    SERVFAIL = "servfail"
    DROPPED = "dropped"
    REWRITTEN = "rewritten"
    FILTERED = "filtered"
    UNUSABLE = "unusable"  # an answer of ::, loopback or an IPv4-mapped address


@dataclass(frozen=True, slots=True, kw_only=True)
class DnsProcess:
    """What a pod's or DaemonSet's spec shows of the CoreDNS, or node cache built on it, that it runs."""

    config_maps: tuple[str, ...]  # mounted, in the pod's namespace
    local_ips: tuple[Address, ...] = ()  # -localip: NodeLocal DNSCache's own addresses on each node
    node_cache: bool = False
    keys: tuple[tuple[str, str], ...] = ()  # (ConfigMap, key) of the file that -conf names


@dataclass(frozen=True, slots=True, kw_only=True)
class AaaaBlock:
    """One directive of a Corefile that withholds AAAA, as CoreDNS would run it."""

    zone: str  # "." for all names
    plugin: str  # template | rewrite | acl | hosts | view
    fate: AaaaTreatment
    line: int  # 1-based, in `file`
    text: str  # the directive as written, shortened
    file: str = "Corefile"
    all_names: bool = True  # False: limited by a regex, a subzone or the client's address
    except_zones: tuple[str, ...] = ()  # subzones that another server block serves without withholding
    ipv4_clients_only: bool = False  # dns64 answers those that ask over IPv6


@dataclass(frozen=True, slots=True, kw_only=True)
class Corefile:
    """A CoreDNS ConfigMap, read as CoreDNS reads it."""

    namespace: str
    name: str
    cluster_domains: tuple[str, ...] = ()  # zones of the kubernetes plugin, without the reverse ones
    blocks: tuple[AaaaBlock, ...] = ()
    dns64: bool = False
    binds: tuple[Address, ...] = ()  # the addresses of its `bind` lines
    errors: tuple[str, ...] = ()  # what could not be read
