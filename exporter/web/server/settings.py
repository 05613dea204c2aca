"""The format of --web.config.file: TLS, basic authentication, headers and rate limit, as in exporter-toolkit.

It is read as strictly as our own configuration and by the same kinds. This module makes frozen values of the text,
tls.py and passwords.py use them, rotation.py keeps them current. Messages never show a key or a hash.
"""

# ruff: noqa: RUF009  # option() makes a dataclasses.field, which no instance shares

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from exporter.config.document import Fault, Node, is_empty, join_path
from exporter.config.files import resolve_file
from exporter.config.kinds import (
    Choice,
    Count,
    Duration,
    Flag,
    ListOf,
    Plain,
    Section,
    Text,
    ValueKind,
    option,
    scalar_text,
    show,
    unknown,
)
from exporter.config.load import naming, parse_mapping
from exporter.config.network_kinds import FILE


class ClientAuth(StrEnum):
    """Go's tls.ClientAuthType, by name. RequireClientCert is the toolkit's older spelling of RequireAnyClientCert."""

    NONE = "NoClientCert"
    REQUEST = "RequestClientCert"
    REQUIRE_ANY = "RequireAnyClientCert"
    REQUIRE_ANY_OLD = "RequireClientCert"
    VERIFY_IF_GIVEN = "VerifyClientCertIfGiven"
    REQUIRE_AND_VERIFY = "RequireAndVerifyClientCert"


class TlsVersion(StrEnum):
    TLS10 = "TLS10"
    TLS11 = "TLS11"
    TLS12 = "TLS12"
    TLS13 = "TLS13"


class Curve(StrEnum):
    P256 = "CurveP256"
    P384 = "CurveP384"
    P521 = "CurveP521"
    X25519 = "X25519"


# Go's cipher suites (crypto/tls CipherSuites) with OpenSSL's names; those of TLS 1.3 are not configurable in Go either.
CIPHERS: Mapping[str, str] = {
    "TLS_AES_128_GCM_SHA256": "",
    "TLS_AES_256_GCM_SHA384": "",
    "TLS_CHACHA20_POLY1305_SHA256": "",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA": "ECDHE-ECDSA-AES128-SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA": "ECDHE-ECDSA-AES256-SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA": "ECDHE-RSA-AES128-SHA",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA": "ECDHE-RSA-AES256-SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256": "ECDHE-ECDSA-AES128-GCM-SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384": "ECDHE-ECDSA-AES256-GCM-SHA384",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256": "ECDHE-RSA-AES128-GCM-SHA256",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384": "ECDHE-RSA-AES256-GCM-SHA384",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-ECDSA-CHACHA20-POLY1305",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-RSA-CHACHA20-POLY1305",
}

# Pairs, because a field's default must be hashable and a mapping is not before Python 3.12.
_Pairs = tuple[tuple[str, str], ...]

# The headers that the format knows, with the values it takes (none listed: any).
_HEADERS: Mapping[str, tuple[str, ...]] = {
    "Content-Security-Policy": (),
    "Strict-Transport-Security": (),
    "X-Content-Type-Options": ("nosniff",),
    "X-Frame-Options": ("deny", "sameorigin"),
    "X-XSS-Protection": (),
}
_PEMS = ("cert", "key", "client_ca")  # each inline or in a file
_LEAST_COST, _MOST_COST = 4, 14  # bcrypt: 14 is about a second of CPU per attempt
# The 22nd character has 2 bits.
_BCRYPT = re.compile(r"\$2[aby]\$([0-9]{2})\$[./A-Za-z0-9]{21}[.Oeu][./A-Za-z0-9]{31}")


class _Pem(ValueKind[str]):
    """PEM inside the file; no message and no output shows any of it."""

    label = "PEM"

    def decode(self, node: Node, path: str) -> str:
        text = scalar_text(node, path, "PEM") if not is_empty(node) else ""
        if "-----BEGIN " not in text:
            raise Fault(path, "is not PEM")
        return text

    def encode(self, value: str) -> Plain:
        return value


@dataclass(frozen=True)
class _Mapping(ValueKind[_Pairs]):
    """A mapping whose keys are not fixed. `check` gives an entry's value, of its name, node and path, or Fault."""

    check: Callable[[str, Node, str], str]
    secret: bool = False

    label = "mapping"
    noun = "a mapping"

    def decode(self, node: Node, path: str) -> _Pairs:
        if not isinstance(node, dict):
            raise self.refuse(node, path)
        return tuple((name, self.check(name, child, join_path(path, name))) for name, child in node.items())

    def encode(self, value: _Pairs) -> Plain:
        return {name: "<secret>" if self.secret else text for name, text in value}


def _header(name: str, node: Node, path: str) -> str:
    if name not in _HEADERS:
        raise Fault(path, unknown(name, dict(_HEADERS)))
    if is_empty(node):
        return ""
    value = Text(wanted="a header's value", check=str.isascii, empty=True).decode(node, path)
    if value and _HEADERS[name] and value not in _HEADERS[name]:
        raise Fault(path, f"{show(node)} is not {' or '.join(_HEADERS[name])}")
    return value


def _user(name: str, node: Node, path: str) -> str:
    if not name or ":" in name or not name.isprintable():
        raise Fault(path, "a user's name is printable and without a colon (RFC 7617)")
    text = "" if isinstance(node, dict) or is_empty(node) else getattr(node, "text", "")
    match = _BCRYPT.fullmatch(text)
    if match is None:
        raise Fault(path, "is not a bcrypt hash ($2a$, $2b$ or $2y$)")
    if not _LEAST_COST <= int(match[1]) <= _MOST_COST:
        raise Fault(path, f"bcrypt cost {int(match[1])} is out of range ({_LEAST_COST}-{_MOST_COST})")
    return text


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsServer:
    cert: str = option(_Pem(), "certificate chain", default="")
    key: str = option(_Pem(), "private key", default="")
    cert_file: str = option(FILE, "file of the certificate chain", default="")
    key_file: str = option(FILE, "file of the private key", default="")
    client_auth_type: ClientAuth = option(Choice(ClientAuth), "what is asked of clients", default=ClientAuth.NONE)
    client_ca: str = option(_Pem(), "authorities of client certificates", default="")
    client_ca_file: str = option(FILE, "file of the authorities of client certificates", default="")
    client_allowed_sans: tuple[str, ...] | None = option(
        ListOf(Text(longest=1024)), "subject alternative names of which a client must have one", default=None
    )
    min_version: TlsVersion = option(Choice(TlsVersion), "oldest TLS spoken", default=TlsVersion.TLS12)
    max_version: TlsVersion = option(Choice(TlsVersion), "newest TLS spoken", default=TlsVersion.TLS13)
    cipher_suites: tuple[str, ...] = option(
        ListOf(Text(wanted="a cipher suite", check=CIPHERS.__contains__)), "suites up to TLS 1.2, in order", default=()
    )
    prefer_server_cipher_suites: bool = option(Flag(), "our order of suites counts", default=True)
    curve_preferences: tuple[Curve, ...] = option(ListOf(Choice(Curve)), "curves, in order", default=())

    @property
    def enabled(self) -> bool:
        """Whether TLS is configured; versions and suites by themselves do not enable it."""
        named = (self.cert, self.cert_file, self.key, self.key_file, self.client_ca, self.client_ca_file)
        return any(named) or self.client_auth_type is not ClientAuth.NONE

    @property
    def files(self) -> tuple[str, ...]:
        return tuple(name for name in (self.cert_file, self.key_file, self.client_ca_file) if name)

    @property
    def client_required(self) -> bool:
        return self.client_auth_type is ClientAuth.REQUIRE_AND_VERIFY


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpServer:
    http2: bool = option(Flag(), "understood and without effect: HTTP/1.1 is spoken", default=True)
    headers: _Pairs = option(_Mapping(_header), "headers of every response; empty: not sent", default=())


@dataclass(frozen=True, slots=True, kw_only=True)
class RateLimit:
    interval: float = option(Duration(least=0.0), "time between two requests; 0: no limit", default=0.0)
    burst: int = option(Count(0, 1_000_000), "requests that may come at once", default=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class WebConfig:
    """The whole file. Without one, everything is served in the clear to anybody."""

    tls_server_config: TlsServer = option(Section(TlsServer), "TLS", default=TlsServer())
    http_server_config: HttpServer = option(Section(HttpServer), "HTTP", default=HttpServer())
    basic_auth_users: _Pairs = option(_Mapping(_user, secret=True), "users with bcrypt hashes", default=())
    rate_limit: RateLimit = option(Section(RateLimit), "token bucket over all requests", default=RateLimit())


def load_web_config(source: str | bytes, *, path: str) -> WebConfig:
    """The web configuration of this YAML; raises ConfigError with one line. Relative file names start at `path`."""
    with naming(path):
        root = parse_mapping(source)
        # An empty section is an absent one: a bare `basic_auth_users:` is common in files made by templates.
        root = {key: child for key, child in root.items() if not is_empty(child)}
        config = Section(WebConfig).decode(root, "")
        _check_tls(config.tls_server_config)
        if config.rate_limit.interval and not config.rate_limit.burst:
            raise Fault("rate_limit.burst", "0 lets nothing pass")
    tls = config.tls_server_config
    cert, key, client_ca = (resolve_file(getattr(tls, f"{name}_file"), path) for name in _PEMS)
    return replace(config, tls_server_config=replace(tls, cert_file=cert, key_file=key, client_ca_file=client_ca))


def _check_tls(tls: TlsServer) -> None:
    for name in _PEMS:
        inline, file = getattr(tls, name), getattr(tls, f"{name}_file")
        if inline and file:
            raise Fault(f"tls_server_config.{name}", f"is set together with {name}_file: set one of them")
        if tls.enabled and not inline and not file and name != "client_ca":
            raise Fault(f"tls_server_config.{name}_file", "is missing")
    for name in ("min_version", "max_version"):
        if getattr(tls, name) < TlsVersion.TLS12:
            raise Fault(f"tls_server_config.{name}", f"{getattr(tls, name)} is forbidden by RFC 8996: TLS12 or TLS13")
    if tls.min_version > tls.max_version:
        raise Fault("tls_server_config.max_version", f"{tls.max_version} is older than min_version ({tls.min_version})")
    _check_clients(tls)


def _check_clients(tls: TlsServer) -> None:
    asked, key = tls.client_auth_type, "tls_server_config.client_auth_type"
    authorities = bool(tls.client_ca or tls.client_ca_file)
    if asked in {ClientAuth.REQUIRE_ANY, ClientAuth.REQUIRE_ANY_OLD}:
        # Python's ssl verifies every certificate that it requires, and one that anybody can make protects nothing.
        raise Fault(
            key, f"{asked} takes any certificate unverified, which is not supported: {ClientAuth.REQUIRE_AND_VERIFY}"
        )
    if authorities and asked is ClientAuth.NONE:
        raise Fault(key, "is missing: a client_ca is given")
    if asked is ClientAuth.REQUIRE_AND_VERIFY and not authorities:
        raise Fault("tls_server_config.client_ca_file", f"is missing: {asked} verifies against it")
    if tls.client_allowed_sans is not None and not tls.client_required:
        raise Fault("tls_server_config.client_allowed_sans", f"needs client_auth_type {ClientAuth.REQUIRE_AND_VERIFY}")
