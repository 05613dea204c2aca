"""The socket error queue: which ICMP error came, about which packet, from whom. Under the icmp and connection probes.

errno alone loses it: over IPv4 an administrative prohibition reads as "no route to host". RFC 792, RFC 1812 5.2.7.1,
RFC 4443; struct sock_extended_err is in linux/errqueue.h.
"""

from __future__ import annotations

import ipaddress
import socket
import struct
from dataclasses import dataclass

from exporter.model.probe import Outcome

IP_RECVERR, IPV6_RECVERR = 11, 25
MSG_ERRQUEUE = 0x2000
ORIGIN_ICMP, ORIGIN_ICMP6 = 2, 3
EXTENDED_ERROR = struct.Struct(
    "=IBBBxII"
)  # errno, origin, type, code, info (the MTU), data; then the offender's sockaddr

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


@dataclass(frozen=True, slots=True, kw_only=True)
class IcmpError:
    """One ICMP error. `packet` is what it quotes, from the transport header on; `mtu` only with TOO_BIG."""

    outcome: Outcome
    detail: str
    mtu: int
    packet: bytes


def watch_errors(sock: socket.socket, *, on: bool = True) -> None:
    """Have the kernel queue ICMP errors for this socket, or not."""
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, IPV6_RECVERR, on)
    else:
        sock.setsockopt(socket.IPPROTO_IP, IP_RECVERR, on)


def read_error(sock: socket.socket) -> IcmpError | None:
    """The oldest queued error that came by ICMP; None when there is none. What the kernel itself queued is passed over."""
    while True:
        try:
            packet, ancillary, _, _ = sock.recvmsg(512, 512, MSG_ERRQUEUE)
        except BlockingIOError:
            return None
        for level, kind, data in ancillary:
            if (level, kind) in {(socket.IPPROTO_IP, IP_RECVERR), (socket.IPPROTO_IPV6, IPV6_RECVERR)}:
                error = _parse(data, packet)
                if error is not None:
                    return error


def _parse(data: bytes, packet: bytes) -> IcmpError | None:
    _, origin, kind, code, info, _ = EXTENDED_ERROR.unpack_from(data)
    if origin == ORIGIN_ICMP:
        other = (Outcome.UNREACHABLE, f"ICMP type {kind} code {code}")
        outcome, text = UNREACHABLE4.get(code, other) if kind == 3 else other
        offender = data[EXTENDED_ERROR.size + 4 : EXTENDED_ERROR.size + 8]
    elif origin == ORIGIN_ICMP6:
        other = (Outcome.UNREACHABLE, f"ICMPv6 type {kind} code {code}")
        outcome, text = UNREACHABLE6.get(code, other) if kind == 1 else other
        if kind == 2:
            outcome, text = Outcome.TOO_BIG, "packet too big"
        offender = data[EXTENDED_ERROR.size + 8 : EXTENDED_ERROR.size + 24]
    else:
        return None
    said_by = f", said by {ipaddress.ip_address(offender)}" if len(offender) in {4, 16} else ""
    return IcmpError(
        outcome=outcome, detail=text + said_by, mtu=info if outcome is Outcome.TOO_BIG else 0, packet=packet
    )
