"""icmp of one check: a small echo, then a full-size one of the route's MTU.

From plan's Check to one Observation. Its outcome is the small echo's; the full-size one tells whether big packets
vanish on a path that small ones pass.
"""

from __future__ import annotations

import time

from exporter.broker.protocol.messages import SocketKind
from exporter.model.family import Family
from exporter.model.probe import Check, Layer, Observation, Outcome
from exporter.probes.echo import HEADER, Echo, EchoSocket
from exporter.probes.outcome import EXPECTED, describe, observe, outcome_of
from exporter.probes.ports import Network, open_socket

SMALL_PAYLOAD = 56  # bytes, as ping(8)


async def probe_icmp(check: Check, network: Network) -> list[Observation]:
    """The one observation of layer icmp. The full-size echo is sent only when the small one was answered."""
    if check.address is None:
        return [observe(check, Layer.ICMP, Outcome.NO_ADDRESS)]
    deadline = time.monotonic() + check.timeouts.whole
    kind = SocketKind.ICMP6 if check.family is Family.V6 else SocketKind.ICMP4
    full: Echo | None = None
    try:
        sock, identifier = await open_socket(network, check.vantage, kind, seconds=check.timeouts.whole)
        with sock:
            echoes = EchoSocket(sock, check.address, identifier)
            echoes.connect()
            small = await echoes.exchange(
                echoes.form.header + HEADER.size + SMALL_PAYLOAD,
                min(check.timeouts.icmp, deadline - time.monotonic()),
            )
            if small.outcome is Outcome.OK:
                full = await _exchange_full(echoes, check.timeouts.icmp, deadline)
    except EXPECTED as error:
        return [observe(check, Layer.ICMP, outcome_of(error), detail=describe(error))]
    return [
        observe(
            check,
            Layer.ICMP,
            small.outcome,
            seconds=small.seconds,
            detail=full.detail if full else small.detail,
            full_size=full.outcome if full else None,
            full_size_bytes=full.size if full else 0,
        )
    ]


async def _exchange_full(echoes: EchoSocket, seconds: float, deadline: float) -> Echo | None:
    """The full-size echo, repeated once at the MTU that a Packet Too Big (or EMSGSIZE) names.

    None where too little time is left: an echo that we cut short would look like one that vanished.
    """
    size, echo = echoes.mtu(), None
    for _ in range(2):
        left = deadline - time.monotonic()
        if size is None or left < seconds / 2:
            return None
        echo = await echoes.exchange(size, min(seconds, left))
        smaller = echo.mtu or echoes.mtu() or 0
        if echo.outcome is not Outcome.TOO_BIG or not echoes.form.least <= smaller < size:
            break
        size = smaller
    return echo
