"""tcp, tls and http of one check, as phases of one connection to one address. From a Check to Observations.

It never resolves a name, never tries the other family, never dials twice.
"""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import NamedTuple

from exporter.broker.protocol.messages import SocketKind
from exporter.model.family import Address, Family
from exporter.model.probe import Check, Layer, Observation, Outcome
from exporter.probes.engine.waits import limit
from exporter.probes.http1 import ReplyHead, build_request, judge_status
from exporter.probes.outcome import EXPECTED, describe, observe, outcome_of, without_address
from exporter.probes.ports import open_socket
from exporter.probes.tcp import connect, receive, send
from exporter.probes.tls import TlsContexts, server_name_of, shake_hands


class _Passed(NamedTuple):
    """What a phase tells that ended well."""

    seconds: float | None = None  # where the kernel timed it
    expires: float | None = None  # of the certificates


class _ProbeConnection:
    """The one connection of a check: a socket, later perhaps with TLS around it. Its owner closes it."""

    def __init__(self, sock: socket.socket, address: Address, check: Check, contexts: TlsContexts) -> None:
        self._stream = sock
        self._address = address
        self._target = check.target
        self._contexts = contexts

    def close(self) -> None:
        if isinstance(self._stream, ssl.SSLSocket):
            with suppress(OSError, ValueError):  # close_notify, if it can be sent at once; its answer is not awaited
                self._stream.unwrap()
        self._stream.close()

    async def connect(self) -> _Passed:
        return _Passed(seconds=await connect(self._stream, self._address, self._target.port))

    async def secure(self) -> _Passed:
        """The TLS handshake, verified; the earliest expiry of the chain."""
        name, context = server_name_of(self._target), self._contexts.of(self._target.ca_file)
        self._stream = stream = context.wrap_socket(self._stream, server_hostname=name, do_handshake_on_connect=False)
        await shake_hands(stream)
        return _Passed(expires=self._contexts.expiry_of(stream, self._target.ca_file))

    async def request(self) -> _Passed:
        """One GET; reads no further than the headers."""
        await send(self._stream, build_request(self._target, self._address))
        reply, status = ReplyHead(), None
        while status is None:
            status = reply.feed(await receive(self._stream))
        judge_status(self._target, status)
        return _Passed()


# In order: each phase needs the ones before it.
PHASES: Mapping[Layer, Callable[[_ProbeConnection], Awaitable[_Passed]]] = {
    Layer.TCP: _ProbeConnection.connect,
    Layer.TLS: _ProbeConnection.secure,
    Layer.HTTP: _ProbeConnection.request,
}


async def probe_connection(check: Check, contexts: TlsContexts) -> list[Observation]:
    """One observation for each wanted phase, in order.

    A failure is reported once: at its own layer, or, if that one is not wanted, at the first wanted layer after it; the
    layers after that are `not_reached`. If the target is expected to be unreachable, nothing is tried after a
    connection that was made.
    """
    order = list(PHASES)
    wanted = [layer for layer in order if layer in check.target.layers]
    ended = await _run_phases(check, contexts, wanted=wanted)
    last = list(ended)[-1]
    reported_at = next(layer for layer in wanted if order.index(layer) >= order.index(last))
    if reported_at is not last:
        ended[reported_at] = replace(ended[last], layer=reported_at)
    return [ended.get(layer) or observe(check, layer, Outcome.NOT_REACHED) for layer in wanted]


async def _run_phases(check: Check, contexts: TlsContexts, *, wanted: list[Layer]) -> dict[Layer, Observation]:
    """The phases that were run, in order, up to the first that was not ok. tcp is always one of them."""
    if check.address is None:
        return {Layer.TCP: without_address(check, Layer.TCP)}
    deadline = time.monotonic() + check.timeouts.whole
    kind = SocketKind.TCP6 if check.family is Family.V6 else SocketKind.TCP4
    try:
        sock, _ = await open_socket(check.vantage, kind, seconds=check.timeouts.whole)
    except EXPECTED as error:
        return {Layer.TCP: observe(check, Layer.TCP, outcome_of(error), detail=describe(error))}
    connection = _ProbeConnection(sock, check.address, check, contexts)
    ended: dict[Layer, Observation] = {}
    try:
        for layer, run in PHASES.items():
            if layer is Layer.TCP or layer in wanted:
                seconds = min(check.timeouts.layers[layer], deadline - time.monotonic())
                ended[layer] = await _time(check, layer, run(connection), seconds)
                if ended[layer].outcome is not Outcome.OK or not check.target.expect_reachable:
                    break
    finally:
        connection.close()
    return ended


async def _time(check: Check, layer: Layer, phase: Awaitable[_Passed], seconds: float) -> Observation:
    started = time.perf_counter()
    try:
        async with limit(seconds):
            passed = await phase
    except EXPECTED as error:
        took = time.perf_counter() - started
        detail = describe(error) or f"nothing within {max(seconds, 0):.3g} s"
        return observe(check, layer, outcome_of(error), seconds=took, detail=detail)
    took = time.perf_counter() - started if passed.seconds is None else passed.seconds
    return observe(check, layer, Outcome.OK, seconds=took, expires=passed.expires)
