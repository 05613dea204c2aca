"""tcp, tls and http of one check, as phases of one connection to the one address of the one family.

From plan's Check to Observations. It never resolves a name, never tries the other family, never dials twice.
"""

from __future__ import annotations

import socket
import ssl
import time
from asyncio import timeout
from collections.abc import Awaitable
from contextlib import suppress
from dataclasses import dataclass

from exporter.broker.protocol.messages import SocketKind
from exporter.model.family import Address, Family
from exporter.model.probe import Check, Layer, Observation, Outcome
from exporter.probes.http1 import ReplyHead, build_request, judge_status
from exporter.probes.outcome import EXPECTED, describe, observe, outcome_of
from exporter.probes.ports import Network, open_socket
from exporter.probes.tcp import connect, receive, send
from exporter.probes.tls import TlsContexts, earliest_expiry, server_name_of, shake_hands, wrap

PHASES = (Layer.TCP, Layer.TLS, Layer.HTTP)


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """How one phase ended. `seconds` is None where nothing was timed."""

    outcome: Outcome
    seconds: float | None = None
    detail: str = ""
    expires: float | None = None


async def probe_connection(check: Check, network: Network, contexts: TlsContexts) -> list[Observation]:
    """One observation for each wanted layer of tcp, tls and http, in this order.

    A failure is told once: at its own layer, or, where nobody asked for that one, at the first wanted layer behind it;
    what lies further behind is `not_reached`. Where the target is expected to be unreachable, a connection that was
    made says all: nothing behind it is tried.
    """
    wanted = [layer for layer in PHASES if layer in check.target.layers]
    if not wanted:
        return []
    ended = await _run_phases(check, network, contexts, wanted=wanted)
    last = list(ended)[-1]
    told_at = next(layer for layer in wanted if PHASES.index(layer) >= PHASES.index(last))
    phases = {layer: ended[last] if layer is told_at else ended.get(layer) for layer in wanted}
    return [_observe(check, layer, phase or Phase(outcome=Outcome.NOT_REACHED)) for layer, phase in phases.items()]


def _observe(check: Check, layer: Layer, phase: Phase) -> Observation:
    return observe(check, layer, phase.outcome, seconds=phase.seconds, detail=phase.detail, expires=phase.expires)


async def _run_phases(
    check: Check, network: Network, contexts: TlsContexts, *, wanted: list[Layer]
) -> dict[Layer, Phase]:
    """The phases that were run, in order, up to the first that was not ok. tcp is always one of them."""
    if check.address is None:
        return {Layer.TCP: Phase(outcome=Outcome.NO_ADDRESS)}
    deadline = time.monotonic() + check.timeouts.whole
    kind = SocketKind.TCP6 if check.family is Family.V6 else SocketKind.TCP4
    try:
        sock, _ = await open_socket(network, check.vantage, kind, seconds=check.timeouts.whole)
    except EXPECTED as error:
        return {Layer.TCP: Phase(outcome=outcome_of(error), detail=describe(error))}
    connection = _ProbeConnection(sock, check.address, check, contexts)
    steps = {
        Layer.TCP: (connection.connect, check.timeouts.tcp),
        Layer.TLS: (connection.secure, check.timeouts.tls),
        Layer.HTTP: (connection.request, check.timeouts.http),
    }
    ended: dict[Layer, Phase] = {}
    try:
        for layer, (step, seconds) in steps.items():
            if layer is Layer.TCP or layer in wanted:
                ended[layer] = await _time(step(), min(seconds, deadline - time.monotonic()))
                if ended[layer].outcome is not Outcome.OK or not check.target.expect_reachable:
                    break
    finally:
        connection.close()
    return ended


async def _time(step: Awaitable[float | None], seconds: float) -> Phase:
    """Run one phase for at most so many seconds. Its result is the certificate's expiry, where it has one."""
    started = time.perf_counter()
    try:
        async with timeout(seconds):
            expires = await step
    except EXPECTED as error:
        detail = describe(error) or f"nothing within {max(seconds, 0):.3g} s"
        return Phase(outcome=outcome_of(error), seconds=time.perf_counter() - started, detail=detail)
    return Phase(outcome=Outcome.OK, seconds=time.perf_counter() - started, expires=expires)


class _ProbeConnection:
    """The one connection of a check: a socket, later perhaps with TLS around it. Its owner closes it."""

    def __init__(self, sock: socket.socket, address: Address, check: Check, contexts: TlsContexts) -> None:
        self._stream = sock
        self._address = address
        self._check = check
        self._contexts = contexts

    def close(self) -> None:
        if isinstance(self._stream, ssl.SSLSocket):
            with suppress(OSError, ValueError):  # close_notify, if it can be said at once; the answer is not waited for
                self._stream.unwrap()
        self._stream.close()

    async def connect(self) -> None:
        """The TCP handshake."""
        await connect(self._stream, self._address, self._check.target.port)

    async def secure(self) -> float | None:
        """The TLS handshake, verified; the earliest expiry of the chain."""
        name = server_name_of(self._check.target)
        stream = self._stream = wrap(self._stream, self._contexts.of(self._check.target.ca_file), name)
        await shake_hands(stream)
        return earliest_expiry(stream)

    async def request(self) -> None:
        """One GET; reads no further than the headers."""
        await send(self._stream, build_request(self._check.target, self._address))
        reply, status = ReplyHead(), None
        while status is None:
            status = reply.feed(await receive(self._stream))
        judge_status(self._check.target, status)
