"""The kinds of value about networks and probes: addresses, names, servers, layers, selectors. Like kinds.py; no I/O."""

# ruff: noqa: RUF009  # option() makes a dataclasses.field, which no instance shares

from __future__ import annotations

import ipaddress
import posixpath
import re
from dataclasses import dataclass
from typing import ClassVar
from urllib.parse import urlsplit

from exporter.config.document import Fault, Node, Scalar
from exporter.config.kinds import (
    Choice,
    Count,
    JsonSchema,
    ListOf,
    Plain,
    ScalarKind,
    Section,
    Text,
    ValueKind,
    option,
    or_text,
    scalar_text,
    show,
    show_text,
)
from exporter.config.selector import Selector, parse_selector
from exporter.model.family import FAMILIES, Address, Family, Net, parse_address
from exporter.model.probe import Layer

_LABEL = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")


def is_domain_name(text: str) -> bool:
    """Whether the text is a DNS name in letters, digits, hyphens and underscores (RFC 1035 2.3.4 for the lengths)."""
    labels = text.removesuffix(".").split(".")
    # inet_aton, which libcs call first, takes a last label of only digits for an IPv4 address.
    return len(text) <= 254 and all(_LABEL.fullmatch(label) for label in labels) and not labels[-1].isdecimal()


def is_host(text: str) -> bool:
    """Whether the text is a DNS name or an address without a zone."""
    return is_domain_name(text) or ("%" not in text and parse_address(text) is not None)


_URL = r"""https?://[^\s"<>\\^`{|}@/?#]+(?:[/?][^\s"<>\\^`{|}#]*)?"""


def _is_url(text: str) -> bool:
    try:
        url = urlsplit(text)
        port = url.port
    except ValueError:
        return False
    return re.fullmatch(_URL, text) is not None and is_host(url.hostname or "") and port != 0


NODE_NAME = Text(wanted="a node name", check=re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]*[A-Za-z0-9])?"), longest=253)
NAME = Text(
    wanted="a name (letters, digits, . _ -; at most 63)", check=re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*"), longest=63
)
HOST = Text(wanted="a host name or address", check=is_host)
DOMAIN_NAME = Text(wanted="a domain name", check=is_domain_name)
GLOB = Text(wanted="a name or pattern (* ? [a-z])", check=re.compile(r"[A-Za-z0-9_.*?\[\]!@:+-]+"))
URL = Text(wanted="an http or https URL without user and password", check=_is_url, shape=_URL, empty=True)
URL_PATH = Text(wanted="a path that begins with /", check=re.compile(r"/[!-\"$-~]*"))
FILE = Text(wanted="a file name", empty=True)
DIRECTORY = Text(wanted="an absolute directory", check=posixpath.isabs)


@dataclass(frozen=True, slots=True)
class IpAddress(ScalarKind[Address]):
    """One host's address: no zone, no IPv4 inside IPv6, nothing unspecified, multicast or link-local."""

    label = "address"
    noun = "an IPv4 or IPv6 address"

    def parse(self, text: str, path: str) -> Address:
        address = ipaddress.ip_address(text)
        if isinstance(address, ipaddress.IPv6Address):
            if address.scope_id is not None or address.is_link_local:
                raise Fault(path, f"{show_text(text)} is link-local: it means something on one link only")
            if address.ipv4_mapped is not None:
                raise Fault(path, f"{text} is an IPv4 address inside IPv6, write {address.ipv4_mapped}")
        if address.is_unspecified or address.is_multicast or address == ipaddress.IPv4Address(0xFFFFFFFF):
            raise Fault(path, f"{text} is no single host's address")
        return address


@dataclass(frozen=True, slots=True)
class Cidr(ScalarKind[Net]):
    """A network; a single address is a network too."""

    label = "CIDR"
    noun = "a network (192.0.2.0/24, 2001:db8::/64)"

    def parse(self, text: str, path: str) -> Net:
        network = ipaddress.ip_network(text, strict=False)
        if "%" in text:
            raise ValueError(text)
        if ipaddress.ip_interface(text).ip != network.network_address:
            raise Fault(path, f"{text} has host bits set, write {network}")
        return network


@dataclass(frozen=True, slots=True)
class DnsServer:
    """A nameserver and its name; without an address: those that the pod's own resolv.conf lists."""

    name: str = option(NAME, "label `server` in metrics")
    address: Address | None = option(IpAddress(), "where it is asked, port 53")


POD_SERVERS = DnsServer(name="pod", address=None)


@dataclass(frozen=True, slots=True)
class AskedServer(ValueKind[DnsServer]):
    """An entry of dns.servers: the word `pod`, or {name, address}."""

    label = "pod | {name, address}"
    noun = "pod or {name, address}"

    def decode(self, node: Node, path: str) -> DnsServer:
        if not isinstance(node, Scalar):
            return Section(DnsServer).decode(node, path)
        if node.text != POD_SERVERS.name:
            raise self.refuse(node, path)
        return POD_SERVERS

    def encode(self, value: DnsServer) -> Plain:
        return POD_SERVERS.name if value.address is None else Section(DnsServer).encode(value)

    def json_schema(self) -> JsonSchema:
        return or_text(Section(DnsServer), f"^{POD_SERVERS.name}$")


@dataclass(frozen=True, slots=True)
class ReferenceServer(ValueKind[DnsServer]):
    """An entry of dns.reference: an address (which then has no name of its own), or {name, address}."""

    UNNAMED: ClassVar[str] = "reference"
    label = "address | {name, address}"
    noun = "an address or {name, address}"

    def decode(self, node: Node, path: str) -> DnsServer:
        if isinstance(node, Scalar):
            return DnsServer(name=self.UNNAMED, address=IpAddress().decode(node, path))
        return Section(DnsServer).decode(node, path)

    def encode(self, value: DnsServer) -> Plain:
        return Section(DnsServer).encode(value)

    def json_schema(self) -> JsonSchema:
        return or_text(Section(DnsServer))


# What a probe is about


@dataclass(frozen=True, slots=True)
class Families(ValueKind[tuple[Family, ...] | None]):
    """`auto` (None) or a list of families, kept in one order."""

    label = "auto | list of IPv4, IPv6"
    noun = "auto or a list of IPv4, IPv6"

    def decode(self, node: Node, path: str) -> tuple[Family, ...] | None:
        if isinstance(node, Scalar) and node.text == "auto":
            return None
        if not isinstance(node, list):
            raise self.refuse(node, path)
        named = ListOf(Choice(Family), least=1).decode(node, path)
        return tuple(family for family in FAMILIES if family in named)

    def encode(self, value: tuple[Family, ...] | None) -> Plain:
        return "auto" if value is None else [str(family) for family in value]

    def json_schema(self) -> JsonSchema:
        return or_text(ListOf(Choice(Family), least=1), "^auto$")


@dataclass(frozen=True, slots=True)
class Layers(ValueKind[tuple[Layer, ...]]):
    """Layers, each once and in order. tls and http are phases of a TCP connection, so they imply tcp."""

    allowed: tuple[Layer, ...] = tuple(Layer)
    least: int = 1

    @property
    def label(self) -> str:
        return f"list of {', '.join(self.allowed)}"

    def decode(self, node: Node, path: str) -> tuple[Layer, ...]:
        named = ListOf(Choice(Layer), least=self.least).decode(node, path)
        for index, layer in enumerate(named):
            if layer not in self.allowed:
                raise Fault(f"{path}[{index}]", f"{layer} is not one of {', '.join(self.allowed)}")
        ordered = tuple(layer for layer in Layer if layer in named)
        if named != ordered:
            raise Fault(path, f"out of order, write [{', '.join(ordered)}]")
        connects = Layer.TLS in named or Layer.HTTP in named
        return tuple(layer for layer in Layer if layer in named or (connects and layer is Layer.TCP))

    def encode(self, value: tuple[Layer, ...]) -> Plain:
        return [str(layer) for layer in value]

    def json_schema(self) -> JsonSchema:
        listed = ListOf(Choice(Layer), least=self.least).json_schema()
        return listed | {"items": {"enum": [*map(str, self.allowed)]}}


@dataclass(frozen=True, slots=True)
class Statuses(ValueKind[tuple[tuple[int, int], ...]]):
    """HTTP status codes as inclusive ranges: `200-399`, `200`, or a list of such."""

    label = "status codes"
    noun = "a status code or range (200, 200-399)"

    def decode(self, node: Node, path: str) -> tuple[tuple[int, int], ...]:
        if not isinstance(node, list):
            return (self._range(node, path),)
        if not node:
            raise Fault(path, "must not be empty")
        return tuple(self._range(item, f"{path}[{index}]") for index, item in enumerate(node))

    def _range(self, node: Node, path: str) -> tuple[int, int]:
        match = re.fullmatch(r"([1-5][0-9]{2})(?:-([1-5][0-9]{2}))?", node.text) if isinstance(node, Scalar) else None
        if match is None:
            raise self.refuse(node, path)
        low = int(match[1])
        high = int(match[2] or low)
        if high < low:
            raise Fault(path, f"{show(node)} ends before it begins")
        return low, high

    def encode(self, value: tuple[tuple[int, int], ...]) -> Plain:
        plain: list[Plain] = [low if low == high else f"{low}-{high}" for low, high in value]
        return plain[0] if len(plain) == 1 and isinstance(plain[0], str) else plain

    def json_schema(self) -> JsonSchema:
        one = or_text(Count(100, 599), "^[1-5][0-9]{2}(?:-[1-5][0-9]{2})?$")
        return one | {"type": [*one["type"], "array"], "items": one, "minItems": 1}


@dataclass(frozen=True, slots=True)
class LabelSelector(ValueKind[Selector]):
    """A Kubernetes label selector; empty text selects everything."""

    label = "label selector"
    noun = "a label selector (app=web, tier in (a,b), !old)"

    def decode(self, node: Node, path: str) -> Selector:
        text = scalar_text(node, path, self.noun)
        try:
            return parse_selector(text)
        except ValueError:
            raise self.refuse(node, path) from None

    def encode(self, value: Selector) -> Plain:
        return value.text
