"""HTTP/1.1 as far as a probe needs it: one GET, the status line and the headers of the reply. Bytes only, no I/O.

Under probes/connection.py. Strict, so that garbage does not count as a reply (RFC 9112 sections 2 to 5).
"""

from __future__ import annotations

import re
from contextlib import suppress
from functools import lru_cache
from urllib.parse import quote

from exporter import __version__
from exporter.model.family import Address, Family, family_of, parse_address
from exporter.model.probe import Layer, Outcome, Target
from exporter.probes.outcome import PhaseError, printable

HEAD_LIMIT = 32 * 1024  # bytes, interim replies included
STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([1-9][0-9]{2})(?: [^\r\n\0]*)?")
FIELD_LINE = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+:[^\r\n\0]*")
END_OF_HEAD = re.compile(rb"\r?\n\r?\n")
PATH_SAFE = "/%:=&?~#+!$,;'@()*[]"
INTERIM = frozenset({100, 102, 103})


def build_request(target: Target, address: Address) -> bytes:
    """A GET with the target's name in the Host header, whichever address the connection is to."""
    default_port = 443 if Layer.TLS in target.layers else 80
    port = "" if target.port == default_port else f":{target.port}"
    lines = (
        f"GET {quote(target.path or '/', safe=PATH_SAFE)} HTTP/1.1",
        f"Host: {_host(target.host or target.server_name or str(address))}{port}",
        f"User-Agent: dualstack-exporter/{__version__}",
        "Accept: */*",
        "Connection: close",
    )
    return ("\r\n".join(lines) + "\r\n\r\n").encode("ascii")


@lru_cache(256)
def _host(name: str) -> str:
    literal = parse_address(name.strip("[]"))
    if literal is not None:
        return f"[{literal}]" if family_of(literal) is Family.V6 else str(literal)
    with suppress(UnicodeError):
        name = name.encode("idna").decode("ascii")
    return quote(name, safe="")  # nothing in a name may end the header


class ReplyHead:
    """Takes the bytes of a reply up to the end of its headers. PhaseError as soon as they cannot be an HTTP reply."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._interim = 0  # bytes of interim replies, removed from the buffer
        self._searched = 0  # the headers do not end before it: a slow reply must not be searched whole at each byte

    def feed(self, data: bytes) -> int | None:
        """The final status, or None while more is needed; empty data is the connection's end."""
        if not data:
            begun = self._buffer or self._interim
            raise PhaseError(Outcome.PROTOCOL, "closed before the headers ended" if begun else "closed without a reply")
        self._buffer += data
        while self._buffer:
            if not b"HTTP/1.".startswith(self._buffer[:7]):
                raise _foreign("not HTTP/1", self._buffer)
            end = END_OF_HEAD.search(self._buffer, self._searched)
            if self._interim + (end.end() if end else len(self._buffer)) > HEAD_LIMIT:
                raise PhaseError(Outcome.PROTOCOL, f"headers of more than {HEAD_LIMIT} bytes")
            if end is None:
                self._searched = max(0, len(self._buffer) - 3)
                break
            status = _parse_head(bytes(self._buffer[: end.start()]))
            if status not in INTERIM:
                return status
            self._interim += end.end()
            del self._buffer[: end.end()]
            self._searched = 0
        return None


def _parse_head(head: bytes) -> int:
    first, *fields = re.split(rb"\r?\n", head)
    matched = STATUS_LINE.fullmatch(first)
    if matched is None:
        raise _foreign("no status line", first)
    for line in fields:
        if FIELD_LINE.fullmatch(line) is None:
            raise _foreign("no header", line)
    return int(matched[1])


def _foreign(problem: str, data: bytes | bytearray) -> PhaseError:
    return PhaseError(Outcome.PROTOCOL, f"{problem}: {printable(data[:40].decode('latin-1'))}")


def judge_status(target: Target, status: int) -> None:
    """PhaseError(STATUS) if the status is in none of the target's ranges."""
    if not any(low <= status <= high for low, high in target.statuses):
        raise PhaseError(Outcome.STATUS, f"status {status}")
