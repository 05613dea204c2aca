"""One DNS question to one nameserver from one vantage: UDP, then TCP where the reply is truncated. RFC 1035, RFC 7766.

From plan's Question to a Lookup. It asks exactly the server it was given, and sends nothing where the question is not
allowed. The query is sent again once, at half its time, with the same id: one lost datagram is no failure. Where losses
are counted it is not.
"""

from __future__ import annotations

import socket
import time
from asyncio import timeout
from collections.abc import Iterator
from contextlib import suppress

import dns.message

from exporter.broker.protocol.messages import SocketKind
from exporter.model.dns import Reply
from exporter.model.family import Family
from exporter.model.probe import Lookup, LookupOutcome, Outcome, Question
from exporter.probes.dns_reply import MAX_REPLY, build_query, judge, read_reply, too_large
from exporter.probes.error_queue import read_error, watch_errors
from exporter.probes.outcome import EXPECTED, PhaseError, describe, lookup_outcome_of
from exporter.probes.ports import Network, open_socket, readable
from exporter.probes.tcp import connect, receive, send

MAX_DATAGRAM = 4096  # bytes: more than three times what is asked for
MAX_STRAYS = 256  # datagrams that are no reply to the question, before it counts as answered by nonsense


async def ask(question: Question, network: Network) -> Lookup:
    """Ask within `question.timeout` seconds, TCP included. `seconds` counts from the first datagram to the last reply."""
    if not question.allowed:
        return _lookup(question, LookupOutcome.NOT_ALLOWED)
    six = question.server.family is Family.V6
    udp, tcp = (SocketKind.UDP6, SocketKind.TCP6) if six else (SocketKind.UDP4, SocketKind.TCP4)
    deadline = time.monotonic() + question.timeout
    started: float | None = None
    datagram: Reply | None = None  # the truncated one
    try:
        query = build_query(question)
        sock, _ = await open_socket(network, question.vantage, udp, seconds=question.timeout)
        with sock:
            started = time.perf_counter()
            reply = await _ask_datagram(sock, question, query, seconds=deadline - time.monotonic())
        if reply.tc:
            datagram = reply
            sock, _ = await open_socket(network, question.vantage, tcp, seconds=deadline - time.monotonic())
            with sock:
                async with timeout(deadline - time.monotonic()):
                    reply = await _ask_stream(sock, question, query)
    except EXPECTED as error:
        return _lookup(question, lookup_outcome_of(error), started, detail=describe(error), datagram=datagram)
    return _lookup(question, judge(reply), started, reply=reply, datagram=datagram)


def _lookup(
    question: Question,
    outcome: LookupOutcome,
    started: float | None = None,
    *,
    reply: Reply | None = None,
    detail: str = "",
    datagram: Reply | None = None,
) -> Lookup:
    seconds = None if started is None else time.perf_counter() - started
    if datagram is not None and reply is None:
        detail = f"over TCP, after a truncated reply: {detail or 'nothing in time'}"
    return Lookup(
        question=question,
        outcome=outcome,
        seconds=seconds,
        reply=reply,
        detail=detail,
        time=time.time(),
        truncated=datagram is not None,
        datagram=datagram,
    )


async def _ask_datagram(
    sock: socket.socket, question: Question, query: dns.message.Message, *, seconds: float
) -> Reply:
    """A connected socket: the kernel drops what comes from another address or port."""
    wire = query.to_wire()
    watch_errors(sock)
    sock.connect((str(question.server.address), question.server.port))
    strays = iter(range(MAX_STRAYS))
    for _ in range(question.sends):
        with suppress(TimeoutError):
            async with timeout(seconds / question.sends):
                sock.send(wire)
                return await _await_reply(sock, query, strays)
    raise TimeoutError(f"no reply within {seconds:.3g} s")


async def _await_reply(sock: socket.socket, query: dns.message.Message, strays: Iterator[int]) -> Reply:
    """The first datagram that is a reply to this query; one a turn, so that a flood cannot hold up the event loop.

    What is no reply to it uses up one of `strays`.
    """
    while True:
        await readable(sock)
        try:
            wire = sock.recv(MAX_DATAGRAM + 1)
        except BlockingIOError:
            _raise_queued(sock)
        except OSError:
            _raise_queued(sock)
            raise
        else:
            reply = read_reply(query, wire, limit=MAX_DATAGRAM)
            if reply is not None:
                return reply
            if next(strays, None) is None:
                raise PhaseError(
                    Outcome.PROTOCOL, f"more than {MAX_STRAYS} datagrams, none of them a reply to the question"
                )


def _raise_queued(sock: socket.socket) -> None:
    said = read_error(sock)
    if said is not None:
        raise PhaseError(said.outcome, said.detail)


async def _ask_stream(sock: socket.socket, question: Question, query: dns.message.Message) -> Reply:
    """Over TCP there is one reply, and it must be ours."""
    await connect(sock, question.server.address, question.server.port)
    wire = query.to_wire()
    await send(sock, len(wire).to_bytes(2, "big") + wire)
    length = int.from_bytes(await _receive_exactly(sock, 2), "big")
    if length > MAX_REPLY:
        raise PhaseError(Outcome.PROTOCOL, too_large(MAX_REPLY))
    reply = read_reply(query, await _receive_exactly(sock, length))
    if reply is None:
        raise PhaseError(Outcome.PROTOCOL, "the reply is to another question")
    return reply


async def _receive_exactly(sock: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        more = await receive(sock, size - len(data))
        if not more:
            raise PhaseError(Outcome.PROTOCOL, "closed in the middle of the reply")
        data += more
    return bytes(data)
