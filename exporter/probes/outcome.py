"""Turns what went wrong into an outcome: errno, TLS and ICMP errors, for probes and lookups.

Used by every probe. What is in no table is a bug of ours and is raised again. errno alone is not enough: over IPv4 an
administrative prohibition reads as "no route to host". The socket error queue has the ICMP error itself (RFC 792, RFC
1812 5.2.7.1, RFC 4443; struct sock_extended_err is in linux/errqueue.h).
"""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
import ssl
import struct
import time
from collections.abc import Mapping

from exporter.model.probe import Check, Layer, LookupOutcome, Observation, Outcome
from exporter.probes.ports import NoSocketError

DETAIL_LIMIT = 200  # characters


class PhaseError(Exception):
    """A phase failed, and the probe itself knows how. `detail` is for people."""

    def __init__(self, outcome: Outcome, detail: str = "") -> None:
        super().__init__(detail)
        self.outcome = outcome


class IcmpError(PhaseError):
    """An ICMP error. `packet` is what it quotes, from the transport header on; `mtu` is 0 unless it is TOO_BIG."""

    def __init__(self, outcome: Outcome, detail: str, *, mtu: int, packet: bytes) -> None:
        super().__init__(outcome, detail)
        self.mtu = mtu
        self.packet = packet


EXPECTED = (PhaseError, NoSocketError, OSError)  # OSError includes TimeoutError and ssl.SSLError


def _by_number(groups: Mapping[Outcome, tuple[int, ...]]) -> dict[int, Outcome]:
    return {number: outcome for outcome, numbers in groups.items() for number in numbers}


# Our own limits. EAGAIN: a datagram found our own send buffer full.
EXHAUSTED = (errno.EAGAIN, errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)

# No socket. EAFNOSUPPORT: the kernel runs without that family.
OPENING = _by_number(
    {
        Outcome.NO_PERMISSION: (errno.EACCES, errno.EPERM),
        Outcome.VANISHED: (errno.ESTALE, errno.ENOENT, errno.ESRCH),
        Outcome.UNREACHABLE: (errno.EAFNOSUPPORT,),
        Outcome.LOCAL: (*EXHAUSTED, errno.EADDRINUSE, errno.EADDRNOTAVAIL, errno.EBUSY, errno.EIO),
    }
)

# A socket was used. The kernel turns ICMP errors into these (net/ipv4/icmp.c icmp_err_convert, net/ipv6/icmp.c
# tab_unreach).
USING = _by_number(
    {
        Outcome.TIMEOUT: (errno.ETIMEDOUT,),
        Outcome.REFUSED: (errno.ECONNREFUSED,),
        Outcome.RESET: (errno.ECONNRESET, errno.ECONNABORTED, errno.EPIPE, errno.ENOTCONN),
        Outcome.UNREACHABLE: (
            *(errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN, errno.EHOSTDOWN, errno.ENONET, errno.ENODEV),
            errno.EADDRNOTAVAIL,  # connect() found no source address: the pod lost its own
            errno.EAFNOSUPPORT,
            errno.EINVAL,  # connect() on a "blackhole" route (net/ipv6/route.c ip6_blackhole, fib_props)
            errno.ENOPROTOOPT,  # ICMP protocol unreachable
            errno.EOPNOTSUPP,  # ICMP source route failed
            errno.EPROTO,  # ICMPv6 parameter problem, time exceeded in some kernels
        ),
        Outcome.PROHIBITED: (errno.EACCES, errno.EPERM),  # a firewall, a "prohibit" route or ICMPv6 code 1
        Outcome.TOO_BIG: (errno.EMSGSIZE,),
        Outcome.VANISHED: (errno.ESTALE,),
        Outcome.LOCAL: EXHAUSTED,
    }
)

IP_RECVERR, IPV6_RECVERR = 11, 25
MSG_ERRQUEUE = 0x2000
ORIGIN_ICMP, ORIGIN_ICMP6 = 2, 3
# errno, origin, type, code, info (the MTU), data; then the offender's sockaddr
EXTENDED_ERROR = struct.Struct("=IBBBxII")

UNREACHABLE4 = {
    3: (Outcome.REFUSED, "port unreachable"),
    4: (Outcome.TOO_BIG, "fragmentation needed"),
    9: (Outcome.PROHIBITED, "network administratively prohibited"),
    10: (Outcome.PROHIBITED, "host administratively prohibited"),
    13: (Outcome.PROHIBITED, "administratively prohibited"),
}
UNREACHABLE6 = {
    0: (Outcome.UNREACHABLE, "no route"),
    1: (Outcome.PROHIBITED, "administratively prohibited"),
    3: (Outcome.UNREACHABLE, "address unreachable"),
    4: (Outcome.REFUSED, "port unreachable"),
    5: (Outcome.PROHIBITED, "source address failed policy"),  # 5 and 6 are finer forms of 1
    6: (Outcome.PROHIBITED, "reject route"),
}

# X509_V_ERR_* of openssl/x509_vfy.h: not yet valid, expired; host name, IP address. All others are about the chain.
VERIFICATION = _by_number({Outcome.TLS_EXPIRED: (9, 10), Outcome.TLS_NAME: (62, 64)})

LOOKUPS = {
    Outcome.TIMEOUT: LookupOutcome.TIMEOUT,
    Outcome.PROTOCOL: LookupOutcome.MALFORMED,
    # REFUSED: nothing listens there; LookupOutcome.REFUSED is the rcode.
    **dict.fromkeys((Outcome.REFUSED, Outcome.RESET, Outcome.TOO_BIG), LookupOutcome.UNREACHABLE),
    **dict.fromkeys((Outcome.UNREACHABLE, Outcome.PROHIBITED), LookupOutcome.UNREACHABLE),
    **dict.fromkeys((Outcome.NO_PERMISSION, Outcome.VANISHED, Outcome.LOCAL), LookupOutcome.NOT_ASKED),
}


def outcome_of(error: PhaseError | NoSocketError | OSError) -> Outcome:
    """The outcome of a phase that ended in this error; one in no table is raised again."""
    if isinstance(error, PhaseError):
        return error.outcome
    if isinstance(error, ssl.SSLCertVerificationError):
        return VERIFICATION.get(error.verify_code, Outcome.TLS_CHAIN)
    if isinstance(error, ssl.SSLError):  # before errno: an SSLError's is OpenSSL's own number
        return Outcome.TLS_PROTOCOL
    if isinstance(error, TimeoutError):  # asyncio's has no errno
        return Outcome.TIMEOUT
    table, number = (OPENING, error.number) if isinstance(error, NoSocketError) else (USING, error.errno or 0)
    if number not in table:
        raise error
    return table[number]


def lookup_outcome_of(error: PhaseError | NoSocketError | OSError) -> LookupOutcome:
    return LOOKUPS[outcome_of(error)]


def describe(error: PhaseError | NoSocketError | OSError) -> str:
    """One printable line of at most 200 characters; empty where the outcome is enough."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return printable(error.verify_message)
    if isinstance(error, ssl.SSLError):
        return printable(error.reason or str(error))
    if isinstance(error, OSError) and error.errno:
        return printable(os.strerror(error.errno))
    return printable(str(error))


def printable(text: str) -> str:
    """Foreign text that is safe in a log line."""
    return "".join(c if c.isprintable() else "?" for c in text[:DETAIL_LIMIT])


def watch_errors(sock: socket.socket, *, on: bool = True) -> None:
    """Have the kernel queue ICMP errors for this socket, or not."""
    six = sock.family == socket.AF_INET6
    sock.setsockopt(*((socket.IPPROTO_IPV6, IPV6_RECVERR) if six else (socket.IPPROTO_IP, IP_RECVERR)), on)


def read_error(sock: socket.socket) -> IcmpError | None:
    """The oldest queued error that came by ICMP; None if there is none. Errors of the kernel itself are skipped."""
    while True:
        try:
            packet, ancillary, _, _ = sock.recvmsg(512, 512, MSG_ERRQUEUE)
        except BlockingIOError:
            return None
        for level, kind, data in ancillary:
            if (level, kind) in {(socket.IPPROTO_IP, IP_RECVERR), (socket.IPPROTO_IPV6, IPV6_RECVERR)}:
                error = _icmp_error(data, packet)
                if error is not None:
                    return error


def _icmp_error(data: bytes, packet: bytes) -> IcmpError | None:
    _, origin, kind, code, info, _ = EXTENDED_ERROR.unpack_from(data)
    if origin == ORIGIN_ICMP:
        other = (Outcome.UNREACHABLE, f"ICMP type {kind} code {code}")
        outcome, text = UNREACHABLE4.get(code, other) if kind == 3 else other
        offender = data[EXTENDED_ERROR.size + 4 : EXTENDED_ERROR.size + 8]
    elif origin == ORIGIN_ICMP6:
        other = (Outcome.UNREACHABLE, f"ICMPv6 type {kind} code {code}")
        if kind == 2:
            other = (Outcome.TOO_BIG, "packet too big")
        outcome, text = UNREACHABLE6.get(code, other) if kind == 1 else other
        offender = data[EXTENDED_ERROR.size + 8 : EXTENDED_ERROR.size + 24]
    else:
        return None
    source = f", sent by {ipaddress.ip_address(offender)}" if len(offender) in {4, 16} else ""
    return IcmpError(outcome, text + source, mtu=info if outcome is Outcome.TOO_BIG else 0, packet=packet)


def without_address(check: Check, layer: Layer) -> Observation:
    """The observation of a check whose target has no address of the family, or none that is known."""
    refused = check.target.refused
    return observe(check, layer, Outcome.NOT_ALLOWED if refused else Outcome.NO_ADDRESS, detail=refused)


def observe(
    check: Check,
    layer: Layer,
    outcome: Outcome,
    *,
    seconds: float | None = None,
    detail: str = "",
    expires: float | None = None,
) -> Observation:
    """The observation of one layer of a check, as of now."""
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
        expires=expires,
    )
