"""TLS for the connection probe: contexts cached per CA file, the handshake by name, the earliest expiry of the chain.

Under probes/connection.py. Always verifies chain and name; there is no way to ask it not to.
"""

from __future__ import annotations

import re
import socket
import ssl
from pathlib import Path
from typing import TypeAlias

from exporter.model.family import parse_address
from exporter.model.probe import Outcome, Target
from exporter.probes.outcome import PhaseError
from exporter.probes.ports import readable, writable

_Stamp: TypeAlias = tuple[int, int, int]

NAME = re.compile(r"[0-9A-Za-z_:*-][!-~]{0,252}")  # checked first: on others ssl raises, and leaves its socket open
NAMELESS = "no server name given: what a certificate says of a literal address says nothing about the address family"


class TlsContexts:
    """One verifying context per CA file, made anew when the file changes (a default one costs 21 ms, a shared one nothing)."""

    def __init__(self) -> None:
        self._contexts: dict[str, tuple[_Stamp, ssl.SSLContext]] = {}

    def of(self, ca_file: str) -> ssl.SSLContext:
        """The context that trusts this file's certificates, or the system's where it is empty. Failure(LOCAL) when unreadable."""
        path = ca_file or ssl.get_default_verify_paths().cafile or ""
        try:
            stamp = _stamp(path) if path else (0, 0, 0)
            known = self._contexts.get(ca_file)
            if known is None or known[0] != stamp:
                known = self._contexts[ca_file] = (stamp, _make_context(ca_file))
        except (OSError, ssl.SSLError) as error:
            raise PhaseError(Outcome.LOCAL, f"CA file {path}: {error.strerror or error}") from error
        return known[1]


def _stamp(path: str) -> _Stamp:
    status = Path(path).stat()
    return (status.st_mtime_ns, status.st_size, status.st_ino)


def _make_context(ca_file: str) -> ssl.SSLContext:
    """Not create_default_context: its strictness changes with Python's version, so that the same chain would pass or fail by image."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # checks chain and host name
    context.set_alpn_protocols(["http/1.1"])
    if ca_file:
        context.load_verify_locations(cafile=ca_file)
    else:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    return context


def server_name_of(target: Target) -> str:
    """What the certificate must prove and SNI asks for, in ASCII. Failure(TLS_NAME) where there is no such name."""
    name = target.server_name or target.host
    if not target.server_name and (not name or parse_address(name.strip("[]")) is not None):
        raise PhaseError(Outcome.TLS_NAME, NAMELESS)
    try:
        ascii_name = name.removesuffix(".").encode("idna").decode("ascii")
    except UnicodeError:
        ascii_name = ""
    if NAME.fullmatch(ascii_name) is None:
        raise PhaseError(Outcome.TLS_NAME, f"{name[:80]!r} is no name that TLS can ask for")
    return ascii_name


def wrap(sock: socket.socket, context: ssl.SSLContext, server_name: str) -> ssl.SSLSocket:
    """TLS over a connected non-blocking socket, which it takes over; no handshake yet. The name is one of server_name_of."""
    return context.wrap_socket(sock, server_hostname=server_name, do_handshake_on_connect=False)


async def shake_hands(stream: ssl.SSLSocket) -> None:
    """The handshake, chain and name verified. ssl.SSLError and OSError as they come."""
    while True:
        try:
            stream.do_handshake()
        except ssl.SSLWantReadError:
            await readable(stream)
        except ssl.SSLWantWriteError:
            await writable(stream)
        except ssl.SSLEOFError as error:
            raise PhaseError(Outcome.TLS_PROTOCOL, "the server closed in the middle of the handshake") from error
        else:
            return


def earliest_expiry(stream: ssl.SSLSocket) -> float | None:
    """The earliest notAfter of the verified chain, Unix seconds, trust anchor included.

    Python has a public way to the chain from 3.13 on; the private one beneath it exists since 3.10. Where neither does,
    the leaf's.
    """
    get_chain = getattr(getattr(stream, "_sslobj", None), "get_verified_chain", None)
    certificates = [certificate.get_info() for certificate in get_chain()] if get_chain else [stream.getpeercert()]
    ends = [ssl.cert_time_to_seconds(str(c["notAfter"])) for c in certificates if c and "notAfter" in c]
    return min(ends, default=None)
