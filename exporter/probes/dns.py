"""DNS questions of one vantage to one nameserver: UDP, then TCP if the reply is truncated. RFC 1035, RFC 7766.

From a Question to a Lookup. It asks only the server it was given, and sends nothing if the question is not allowed. The
query is sent again once, at half its time, with the same id, so that one lost datagram is no failure; where losses are
counted it is sent once. A server without EDNS (RFC 6891 section 7: FORMERR, NOTIMP, or silence) is asked without it.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import zip_longest

import dns.message

from exporter.broker.protocol.messages import SocketKind
from exporter.model.dns import FORMERR, NOTIMP, Reply
from exporter.model.family import Address, Family
from exporter.model.probe import Heard, Lookup, LookupOutcome, Outcome, Purpose, Question, Together
from exporter.probes.dns_reply import MAX_REPLY, build_query, judge, read_reply
from exporter.probes.outcome import EXPECTED, PhaseError, describe, lookup_outcome_of, read_error, watch_errors
from exporter.probes.ports import destination, open_socket
from exporter.probes.tcp import connect, receive, send
from exporter.probes.waits import limit, readable

MAX_DATAGRAM = 4096  # bytes: more than three times the size that queries ask for
EDNS_KNOWN = 600.0  # seconds for which it is known whether a server speaks EDNS
MAX_HEARD = 4  # messages with the query's id that are kept for the prediction
MAX_STRAYS = 256  # datagrams that are not a reply to the question, until it fails

KINDS = {Family.V4: (SocketKind.UDP4, SocketKind.TCP4), Family.V6: (SocketKind.UDP6, SocketKind.TCP6)}


class EdnsMemory:
    """Which nameservers answer questions with an OPT record, and which only without one; for a while.

    Each vantage by itself: an address may be another server in another network namespace, and no pod may decide how
    others ask.
    """

    def __init__(self) -> None:
        self._seen: dict[tuple[str, Address], tuple[bool | None, float]] = {}

    def knows(self, question: Question) -> bool | None:
        speaks, at = self._seen.get(_asked(question), (None, 0.0))
        return speaks if time.monotonic() - at < EDNS_KNOWN else None

    def note(self, question: Question, *, speaks: bool) -> None:
        now = time.monotonic()
        self._seen = {key: seen for key, seen in self._seen.items() if now - seen[1] < EDNS_KNOWN}
        self._seen[_asked(question)] = speaks, now

    def note_silence(self, question: Question) -> None:
        """It answered the second datagram, without an OPT record: the first one was lost, or twice it was no chance."""
        if _asked(question) in self._seen:
            self.note(question, speaks=False)
        else:
            self._seen[_asked(question)] = None, time.monotonic()


def _asked(question: Question) -> tuple[str, Address]:
    return question.vantage.key, question.server.address


async def ask(question: Question, memory: EdnsMemory | None = None) -> Lookup:
    """Ask within `question.timeout` seconds, TCP included. `seconds` is from the first datagram to the last reply."""
    memory = memory or EdnsMemory()
    if not question.allowed:
        return Lookup(question=question, outcome=LookupOutcome.NOT_ALLOWED, time=time.time())
    udp, tcp = KINDS[question.server.family]
    deadline = time.monotonic() + question.timeout
    started: float | None = None
    datagram: Reply | None = None  # the truncated one
    reply: Reply | None = None
    heard: list[Heard] = []
    try:
        query = _query(question, memory)
        sock, _ = await open_socket(question.vantage, udp, seconds=question.timeout)
        with sock:
            started = time.perf_counter()
            received = await _ask_datagram(sock, question, query, memory, heard, seconds=deadline - time.monotonic())
            if query.edns >= 0 and received.rcode in {FORMERR, NOTIMP}:
                plain, left = build_query(question, edns=False), deadline - time.monotonic()
                received = await _ask_datagram(sock, question, plain, memory, heard, seconds=left)
                memory.note(question, speaks=received.rcode in {FORMERR, NOTIMP})
        if received.tc:
            datagram = received
            sock, _ = await open_socket(question.vantage, tcp, seconds=deadline - time.monotonic())
            with sock:
                async with limit(deadline - time.monotonic()):
                    received = await _ask_stream(sock, question, _query(question, memory), heard)
        reply, outcome, detail = received, judge(received), ""
    except EXPECTED as error:
        outcome, detail = lookup_outcome_of(error), describe(error)
        if datagram is not None:
            detail = f"over TCP, after a truncated reply: {detail or 'nothing in time'}"
    return Lookup(
        question=question,
        outcome=outcome,
        seconds=None if started is None else time.perf_counter() - started,
        reply=reply,
        detail=detail,
        time=time.time(),
        truncated=datagram is not None,
        datagram=datagram,
        heard=tuple(heard) if question.purpose is Purpose.PREDICTION else (),
    )


def _query(question: Question, memory: EdnsMemory) -> dns.message.Message:
    return build_query(question, edns=question.edns and memory.knows(question) is not False)


async def _ask_datagram(
    sock: socket.socket,
    question: Question,
    query: dns.message.Message,
    memory: EdnsMemory,
    heard: list[Heard],
    *,
    seconds: float,
) -> Reply:
    """A connected socket: the kernel drops what comes from another address or port.

    A server that is not known to answer questions with EDNS is sent the second datagram without it.
    """
    plain = build_query(question, edns=False)
    plain.id = query.id
    last = query if query.edns < 0 or memory.knows(question) else plain
    watch_errors(sock)
    sock.connect(destination(sock, question.server.address, question.server.port))
    strays = iter(range(MAX_STRAYS))
    started = time.perf_counter()
    for number in range(question.sends):
        sent = last if number else query
        with suppress(TimeoutError):
            async with limit(seconds / question.sends):
                sock.send(sent.to_wire())
                reply = (await _await_reply(sock, (query,), strays, heard, started))[1]
                if query.edns >= 0 and reply.rcode not in {FORMERR, NOTIMP}:
                    if sent is query or reply.additionals > 0:
                        memory.note(question, speaks=True)
                    else:
                        memory.note_silence(question)
                return reply
    raise TimeoutError(f"no reply within {seconds:.3g} s")


async def ask_together(asked: Together) -> tuple[Lookup, ...]:
    """Send all questions from one socket, each once, over UDP. A truncated reply is an answer here."""
    first = asked.questions[0]
    replies: dict[int, tuple[Reply, float]] = {}  # by query id, with the time that it took
    queries: list[dns.message.Message] = []
    started, failed, detail = time.perf_counter(), LookupOutcome.NOT_ALLOWED, ""
    try:
        if first.allowed:
            queries = [build_query(question, edns=question.edns) for question in asked.questions]
            sock, _ = await open_socket(first.vantage, KINDS[first.server.family][0], seconds=first.timeout)
            with sock:
                started = time.perf_counter()
                await _ask_from_one(sock, asked, queries, replies, started)
    except EXPECTED as error:
        failed, detail = lookup_outcome_of(error), describe(error)
    return tuple(
        Lookup(
            question=question,
            outcome=failed if answer is None else judge(answer[0]),
            seconds=time.perf_counter() - started if answer is None else answer[1],
            reply=None if answer is None else answer[0],
            detail=detail if answer is None else "",
            time=time.time(),
        )
        for question, answer in zip_longest(asked.questions, [replies.get(query.id) for query in queries])
    )


async def _ask_from_one(
    sock: socket.socket,
    asked: Together,
    queries: Sequence[dns.message.Message],
    replies: dict[int, tuple[Reply, float]],
    started: float,
) -> None:
    """Collect the replies until all are here; what came by then is kept when the time is over or an error comes."""
    first = asked.questions[0]
    watch_errors(sock)
    sock.connect(destination(sock, first.server.address, first.server.port))
    strays = iter(range(MAX_STRAYS))
    async with limit(first.timeout):
        for number, query in enumerate(queries, 1):
            sock.send(query.to_wire())
            awaited = number if asked.in_turn or number == len(queries) else 0
            while len(replies) < awaited:
                answered, reply = await _await_reply(sock, [q for q in queries if q.id not in replies], strays)
                replies[answered.id] = reply, time.perf_counter() - started


async def _await_reply(
    sock: socket.socket,
    queries: Sequence[dns.message.Message],
    strays: Iterator[int],
    heard: list[Heard] | None = None,
    started: float = 0.0,
) -> tuple[dns.message.Message, Reply]:
    """The first reply to one of these, and which; each other datagram uses up one of `strays`.

    One read per wait, against floods.
    """
    while True:
        await readable(sock)
        try:
            wire = sock.recv(MAX_DATAGRAM + 1)
        except OSError as error:
            reason = read_error(sock) or error
            if not isinstance(reason, BlockingIOError):
                raise reason from None
            continue
        for query in queries:
            if heard is not None and len(heard) < MAX_HEARD and wire[:2] == query.id.to_bytes(2, "big"):
                heard.append(Heard(time.perf_counter() - started, wire))
            reply = read_reply(query, wire, limit=MAX_DATAGRAM)
            if reply is not None:
                return query, reply
        if next(strays, None) is None:
            detail = f"more than {MAX_STRAYS} datagrams, none of them a reply to the question"
            raise PhaseError(Outcome.PROTOCOL, detail)


async def _ask_stream(sock: socket.socket, question: Question, query: dns.message.Message, heard: list[Heard]) -> Reply:
    """Over TCP there is one reply, and it must be ours."""
    await connect(sock, question.server.address, question.server.port)
    wire = query.to_wire()
    await send(sock, len(wire).to_bytes(2, "big") + wire)
    length = int.from_bytes(await _receive_exactly(sock, 2), "big")
    if length > MAX_REPLY:
        raise PhaseError(Outcome.PROTOCOL, f"a reply of more than {MAX_REPLY} bytes")
    message = await _receive_exactly(sock, length)
    if message[:2] == query.id.to_bytes(2, "big"):
        heard.append(Heard(0.0, message, stream=True))
    reply = read_reply(query, message)
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
