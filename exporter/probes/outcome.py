"""From what went wrong to an outcome: one table for probes and lookups, and the one maker of observations.

Behind every probe: what the world does becomes a value here. What is in no table is a bug of ours and is raised again.
"""

from __future__ import annotations

import errno
import os
import ssl
import time

from exporter.model.probe import Check, Layer, LookupOutcome, Observation, Outcome
from exporter.probes.ports import NoSocketError

DETAIL_LIMIT = 200  # characters


class PhaseError(Exception):
    """A phase ended otherwise than ok, and the probe itself knows how. `detail` is for people."""

    def __init__(self, outcome: Outcome, detail: str = "") -> None:
        super().__init__(detail)
        self.outcome = outcome


EXPECTED = (PhaseError, NoSocketError, OSError)  # OSError holds TimeoutError and ssl.SSLError

# No socket could be had. EAFNOSUPPORT: the kernel runs without that family, which is as unreachable as it gets.
OPENING = {
    errno.EACCES: Outcome.NO_PERMISSION,
    errno.EPERM: Outcome.NO_PERMISSION,
    errno.ESTALE: Outcome.VANISHED,
    errno.ENOENT: Outcome.VANISHED,
    errno.ESRCH: Outcome.VANISHED,
    errno.EAFNOSUPPORT: Outcome.UNREACHABLE,
    errno.EADDRINUSE: Outcome.LOCAL,
    errno.EADDRNOTAVAIL: Outcome.LOCAL,
    errno.EAGAIN: Outcome.LOCAL,
    errno.EBUSY: Outcome.LOCAL,
    errno.EIO: Outcome.LOCAL,
    errno.EMFILE: Outcome.LOCAL,
    errno.ENFILE: Outcome.LOCAL,
    errno.ENOBUFS: Outcome.LOCAL,
    errno.ENOMEM: Outcome.LOCAL,
}

# A socket was used. The kernel turns ICMP errors into these (net/ipv4/icmp.c icmp_err_convert, net/ipv6/icmp.c
# tab_unreach). EACCES and EPERM come from a firewall rule, a "prohibit" route or ICMPv6 code 1, not from a lack of
# privilege.
USING = {
    errno.ETIMEDOUT: Outcome.TIMEOUT,
    errno.ECONNREFUSED: Outcome.REFUSED,
    errno.ECONNRESET: Outcome.RESET,
    errno.ECONNABORTED: Outcome.RESET,
    errno.EPIPE: Outcome.RESET,
    errno.ENOTCONN: Outcome.RESET,
    errno.ENETUNREACH: Outcome.UNREACHABLE,
    errno.EHOSTUNREACH: Outcome.UNREACHABLE,
    errno.ENETDOWN: Outcome.UNREACHABLE,
    errno.EHOSTDOWN: Outcome.UNREACHABLE,
    errno.ENONET: Outcome.UNREACHABLE,
    errno.ENODEV: Outcome.UNREACHABLE,
    errno.EADDRNOTAVAIL: Outcome.UNREACHABLE,  # connect() found no source address: the pod lost its own
    errno.EAFNOSUPPORT: Outcome.UNREACHABLE,
    errno.EINVAL: Outcome.UNREACHABLE,  # connect() on a "blackhole" route (net/ipv6/route.c ip6_blackhole, fib_props)
    errno.ENOPROTOOPT: Outcome.UNREACHABLE,  # ICMP protocol unreachable
    errno.EOPNOTSUPP: Outcome.UNREACHABLE,  # ICMP source route failed
    errno.EPROTO: Outcome.UNREACHABLE,  # ICMPv6 parameter problem, time exceeded in some kernels
    errno.EACCES: Outcome.PROHIBITED,
    errno.EPERM: Outcome.PROHIBITED,
    errno.EMSGSIZE: Outcome.TOO_BIG,
    errno.EAGAIN: Outcome.LOCAL,  # a datagram found our own send buffer full
    errno.ESTALE: Outcome.VANISHED,
    errno.EMFILE: Outcome.LOCAL,
    errno.ENFILE: Outcome.LOCAL,
    errno.ENOBUFS: Outcome.LOCAL,
    errno.ENOMEM: Outcome.LOCAL,
}

# X509_V_ERR_* of openssl/x509_vfy.h; what is not here is a matter of the chain.
VERIFICATION = {
    9: Outcome.TLS_EXPIRED,  # not yet valid
    10: Outcome.TLS_EXPIRED,
    62: Outcome.TLS_NAME,  # host name
    64: Outcome.TLS_NAME,  # IP address
}

LOOKUPS = {
    Outcome.TIMEOUT: LookupOutcome.TIMEOUT,
    Outcome.REFUSED: LookupOutcome.UNREACHABLE,  # nobody listens; LookupOutcome.REFUSED is the rcode
    Outcome.RESET: LookupOutcome.UNREACHABLE,
    Outcome.UNREACHABLE: LookupOutcome.UNREACHABLE,
    Outcome.PROHIBITED: LookupOutcome.UNREACHABLE,
    Outcome.TOO_BIG: LookupOutcome.UNREACHABLE,
    Outcome.PROTOCOL: LookupOutcome.MALFORMED,
    Outcome.NO_PERMISSION: LookupOutcome.NOT_ASKED,
    Outcome.VANISHED: LookupOutcome.NOT_ASKED,
    Outcome.LOCAL: LookupOutcome.NOT_ASKED,
}


def outcome_of(error: PhaseError | NoSocketError | OSError) -> Outcome:
    """The outcome of a phase that ended in this; an error of no table is raised again."""
    if isinstance(error, PhaseError):
        return error.outcome
    if isinstance(error, NoSocketError):
        return _looked_up(OPENING, error.number, error)
    if isinstance(error, ssl.SSLCertVerificationError):
        return VERIFICATION.get(error.verify_code, Outcome.TLS_CHAIN)
    if isinstance(error, ssl.SSLError):  # before errno: an SSLError's is OpenSSL's own number
        return Outcome.TLS_PROTOCOL
    if isinstance(error, TimeoutError):  # asyncio's carries no errno
        return Outcome.TIMEOUT
    return _looked_up(USING, error.errno or 0, error)


def _looked_up(table: dict[int, Outcome], number: int, error: Exception) -> Outcome:
    if number not in table:
        raise error
    return table[number]


def lookup_outcome_of(error: PhaseError | NoSocketError | OSError) -> LookupOutcome:
    """The outcome of a question that ended in this."""
    return LOOKUPS[outcome_of(error)]


def describe(error: PhaseError | NoSocketError | OSError) -> str:
    """One printable line of at most 200 characters; empty where the outcome says it all."""
    if isinstance(error, ssl.SSLCertVerificationError):
        text = error.verify_message
    elif isinstance(error, ssl.SSLError):
        text = error.reason or str(error)
    elif isinstance(error, OSError) and error.errno:
        text = os.strerror(error.errno)
    else:
        text = str(error)
    return printable(text)


def printable(text: str) -> str:
    """Foreign text as it may stand in a log line."""
    return "".join(c if c.isprintable() else "?" for c in text[:DETAIL_LIMIT])


def observe(
    check: Check,
    layer: Layer,
    outcome: Outcome,
    *,
    seconds: float | None = None,
    detail: str = "",
    expires: float | None = None,
    full_size: Outcome | None = None,
    full_size_bytes: int = 0,
) -> Observation:
    """The observation of one layer of a check, now."""
    return Observation(
        vantage=check.vantage,
        target=check.target,
        layer=layer,
        family=check.family,
        outcome=outcome,
        seconds=seconds,
        detail=detail,
        time=time.time(),
        address=check.address,
        full_size=full_size,
        full_size_bytes=full_size_bytes,
        expires=expires,
    )
