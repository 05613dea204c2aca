"""TLS for the connection probe: contexts cached per CA file, the handshake by name, the earliest expiry of the chain.

Under probes/connection.py. Always verifies chain and name; no option turns this off.
"""

from __future__ import annotations

import hashlib
import re
import ssl
import time
from functools import lru_cache

from exporter.config.files import file_fingerprint
from exporter.model.family import parse_address
from exporter.model.probe import Outcome, Target
from exporter.probes.engine.waits import readable
from exporter.probes.outcome import PhaseError
from exporter.probes.tcp import complete

NAME = re.compile(r"[0-9A-Za-z_:*-][!-~]{0,252}")  # checked first: on others ssl raises, and leaves its socket open
EXPIRY_KNOWN = 300.0  # seconds: an authority between may be renewed while the first certificate stays
NAMELESS = "no server name given: a certificate for a literal address shows nothing about the address family"


class TlsContexts:
    """One verifying context per CA file, made again when the file changes (making one costs 21 ms).

    And for some minutes when a chain ends, by its CA file and first certificate: reading a chain costs a third of a
    whole handshake.
    """

    def __init__(self) -> None:
        self._contexts: dict[str, tuple[tuple[int, ...], ssl.SSLContext]] = {}
        self._expiries: dict[tuple[str, bytes], tuple[float | None, float]] = {}

    def of(self, ca_file: str) -> ssl.SSLContext:
        """The context that trusts this file's certificates, the system's if it is empty. PhaseError if unreadable."""
        path = ca_file or ssl.get_default_verify_paths().cafile or ""
        stamp = file_fingerprint(path) if path else ()
        known = self._contexts.get(ca_file)
        if known is None or known[0] != stamp:
            try:
                known = self._contexts[ca_file] = (stamp, _make_context(ca_file))
            except (OSError, ssl.SSLError) as error:
                raise PhaseError(Outcome.LOCAL, f"CA file {path}: {error.strerror or error}") from error
        return known[1]

    def expiry_of(self, stream: ssl.SSLSocket, ca_file: str) -> float | None:
        """The earliest notAfter of the chain that this handshake verified."""
        key, now = (ca_file, hashlib.sha256(stream.getpeercert(binary_form=True) or b"").digest()), time.monotonic()
        expires, at = self._expiries.get(key, (None, -EXPIRY_KNOWN))
        if now - at >= EXPIRY_KNOWN:
            expires = earliest_expiry(stream)
            self._expiries = {k: known for k, known in self._expiries.items() if now - known[1] < EXPIRY_KNOWN}
            self._expiries[key] = expires, now
        return expires


def _make_context(ca_file: str) -> ssl.SSLContext:
    """Not create_default_context: its strictness changes with Python's version, and so would the result for a chain."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # checks chain and host name
    context.set_alpn_protocols(["http/1.1"])
    if ca_file:
        context.load_verify_locations(cafile=ca_file)
    else:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    return context


def server_name_of(target: Target) -> str:
    """The name that SNI sends and the certificate must prove, in ASCII. PhaseError(TLS_NAME) if there is none."""
    name = target.server_name or target.host
    if not target.server_name and (not name or parse_address(name.strip("[]")) is not None):
        raise PhaseError(Outcome.TLS_NAME, NAMELESS)
    return _ascii(name)


@lru_cache(256)
def _ascii(name: str) -> str:
    try:
        ascii_name = name.removesuffix(".").encode("idna").decode("ascii")
    except UnicodeError:
        ascii_name = ""
    if NAME.fullmatch(ascii_name) is None:
        raise PhaseError(Outcome.TLS_NAME, f"{name[:80]!r} is not a name that TLS can ask for")
    return ascii_name


async def shake_hands(stream: ssl.SSLSocket) -> None:
    try:
        await complete(stream, stream.do_handshake, readable)
    except ssl.SSLEOFError as error:
        raise PhaseError(Outcome.TLS_PROTOCOL, "the server closed in the middle of the handshake") from error


def earliest_expiry(stream: ssl.SSLSocket) -> float | None:
    """The earliest notAfter of the verified chain, trust anchor included; of the leaf if Python hides the chain."""
    # The public method is new in Python 3.13; the private one under it exists since 3.10.
    get_chain = getattr(getattr(stream, "_sslobj", None), "get_verified_chain", None)
    certificates = [certificate.get_info() for certificate in get_chain()] if get_chain else [stream.getpeercert()]
    ends = [ssl.cert_time_to_seconds(str(c["notAfter"])) for c in certificates if c and "notAfter" in c]
    return min(ends, default=None)
