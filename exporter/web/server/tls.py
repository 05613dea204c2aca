"""Builds an SSL context from a web configuration and checks client certificates. Between settings.py and rotation.py.

Certificates and keys are read here, bounded, and given to OpenSSL through anonymous memory: OpenSSL itself opens no
path and never asks a terminal for a password.
"""

from __future__ import annotations

import ipaddress
import os
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, NoReturn

from exporter.config.document import Fault
from exporter.config.files import read_bounded
from exporter.web.server.settings import CIPHERS, ClientAuth, Curve, TlsServer, TlsVersion

_VERSIONS = {TlsVersion.TLS12: ssl.TLSVersion.TLSv1_2, TlsVersion.TLS13: ssl.TLSVersion.TLSv1_3}
_CURVES = {Curve.P256: "prime256v1", Curve.P384: "secp384r1", Curve.P521: "secp521r1", Curve.X25519: "X25519"}


def build_context(tls: TlsServer) -> ssl.SSLContext:
    """A server's context; raises Fault with the dotted path where a file cannot be used.

    A required client certificate is requested in the handshake and verified if given. That it was given is checked per
    request (`has_allowed_name`): health endpoints need none, because a kubelet has none.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = _VERSIONS[tls.min_version]
    context.maximum_version = _VERSIONS[tls.max_version]
    context.options |= ssl.OP_NO_RENEGOTIATION
    if not tls.prefer_server_cipher_suites:
        context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE
    context.set_alpn_protocols(["http/1.1"])
    _set_ciphers(context, tls)
    if len(tls.curve_preferences) == 1:
        # Python sets one curve or leaves OpenSSL's list, which has all that can be configured. Debian's Python 3.11.2
        # does not take X25519 here (UNKNOWN_GROUP); it is the first of OpenSSL's list.
        with suppress(ssl.SSLError):
            context.set_ecdh_curve(_CURVES[tls.curve_preferences[0]])
    _load_chain(context, tls)
    _load_authorities(context, tls)
    return context


def has_allowed_name(certificate: Mapping[str, Any] | None, allowed: tuple[str, ...] | None) -> bool:
    """Whether there is a verified client certificate (of getpeercert), with one of the `allowed` names if given."""
    if not certificate:
        return False
    if allowed is None:
        return True
    return any(_spell(kind, value) in allowed for kind, value in certificate.get("subjectAltName", ()))


def _spell(kind: str, value: str) -> str:
    """A name in its usual form: OpenSSL writes IPv6 addresses in full and in capitals."""
    try:
        return str(ipaddress.ip_address(value)) if kind == "IP Address" else value
    except ValueError:
        return value


def _set_ciphers(context: ssl.SSLContext, tls: TlsServer) -> None:
    named = [CIPHERS[name] for name in tls.cipher_suites if CIPHERS[name]]
    if named:
        context.set_ciphers(":".join(named))
    elif tls.cipher_suites:
        if tls.max_version < TlsVersion.TLS13:
            raise Fault("tls_server_config.cipher_suites", f"none of them exists in {tls.max_version}")
        context.minimum_version = ssl.TLSVersion.TLSv1_3


def _load_chain(context: ssl.SSLContext, tls: TlsServer) -> None:
    certificate = _read(tls, "cert", b"-----BEGIN CERTIFICATE-----", "certificate")
    key = _read(tls, "key", b"PRIVATE KEY-----", "private key")

    def refuse_password() -> NoReturn:
        raise Fault(_key(tls, "key"), "the private key is encrypted")

    try:
        with _in_memory(certificate) as certificate_path, _in_memory(key) as key_path:
            context.load_cert_chain(certificate_path, key_path, password=refuse_password)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise Fault(_key(tls, "key"), "the private key is not that of the certificate") from None
        reason = (error.reason or "unknown").lower().replace("_", " ")
        raise Fault(_key(tls, "cert"), f"certificate or private key cannot be used: {reason}") from None


def _load_authorities(context: ssl.SSLContext, tls: TlsServer) -> None:
    if tls.client_auth_type not in {ClientAuth.VERIFY_IF_GIVEN, ClientAuth.REQUIRE_AND_VERIFY}:
        return
    context.verify_mode = ssl.CERT_OPTIONAL
    if not (tls.client_ca or tls.client_ca_file):
        context.load_default_certs(ssl.Purpose.CLIENT_AUTH)
        return
    pem = _read(tls, "client_ca", b"-----BEGIN CERTIFICATE-----", "certificate")
    try:
        with _in_memory(pem) as path:
            context.load_verify_locations(cafile=path)
    except ssl.SSLError:
        raise Fault(_key(tls, "client_ca"), "contains no certificate that OpenSSL can parse") from None


def _key(tls: TlsServer, name: str) -> str:
    return f"tls_server_config.{name}_file" if getattr(tls, f"{name}_file") else f"tls_server_config.{name}"


def _read(tls: TlsServer, name: str, mark: bytes, what: str) -> bytes:
    key, file = _key(tls, name), getattr(tls, f"{name}_file")
    data = read_bounded(file, key=key) if file else getattr(tls, name).encode()
    if mark not in data:
        raise Fault(key, f"contains no {what} in PEM")
    return data


@contextmanager
def _in_memory(data: bytes) -> Iterator[str]:
    """A path from which only this process can read these bytes."""
    descriptor = os.memfd_create("pem", os.MFD_CLOEXEC)
    try:
        os.write(descriptor, data)
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)
