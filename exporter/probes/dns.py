"""DNS questions of one vantage to one nameserver: UDP, then TCP if the reply is truncated. RFC 1035, RFC 7766.

From a Question to a Lookup. It asks only the server it was given, and sends nothing if the question is not allowed. The
query is sent again once, at half its time, with the same id, so that one lost datagram is no failure; where losses are
counted it is sent once. A server without EDNS (RFC 6891 section 7: FORMERR, NOTIMP, or silence) is asked without it.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from itertools import zip_longest

from exporter.broker.protocol.messages import SocketKind
from exporter.model.dns import FORMERR, NOTIMP, Reply
from exporter.model.family import Address, Family
from exporter.model.probe import Heard, Lookup, LookupOutcome, Nameserver, Outcome, Purpose, Question, Together
from exporter.probes.dns_reply import MAX_REPLY, Query, build_query, judge, read_reply
from exporter.probes.engine.timing import Stopwatch, receive_datagram
from exporter.probes.engine.waits import limit, readable
from exporter.probes.outcome import EXPECTED, PhaseError, describe, lookup_outcome_of, read_error, watch_errors
from exporter.probes.ports import destination, open_socket
from exporter.probes.tcp import connect, receive, send

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

    def note(self, question: Question, *, speaks: bool | None) -> None:
        key, now = _asked(question), time.monotonic()
        self._seen.pop(key, None)
        self._seen[key] = speaks, now  # the last of them now: they stand in order of time
        while now - self._seen[oldest := next(iter(self._seen))][1] >= EDNS_KNOWN:
            del self._seen[oldest]

    def note_silence(self, question: Question) -> None:
        """It answered the second datagram, without an OPT record: the first one was lost, or twice it was no chance."""
        self.note(question, speaks=False if _asked(question) in self._seen else None)


def _asked(question: Question) -> tuple[str, Address]:
    return question.vantage.key, question.server.address


async def ask(question: Question, memory: EdnsMemory | None = None) -> Lookup:
    """Ask within `question.timeout` seconds, TCP included. `seconds` is from the first datagram to the last reply."""
    if not question.allowed:
        return Lookup(question=question, outcome=LookupOutcome.NOT_ALLOWED, time=time.time())
    exchange = _Exchange(question, memory or EdnsMemory())
    reply: Reply | None = None
    try:
        reply = await exchange.run()
        outcome, detail = judge(reply), ""
    except EXPECTED as error:
        outcome, detail = lookup_outcome_of(error), describe(error)
        if exchange.truncated is not None:
            detail = f"over TCP, after a truncated reply: {detail or 'nothing in time'}"
    return Lookup(
        question=question,
        outcome=outcome,
        seconds=exchange.seconds,
        reply=reply,
        detail=detail,
        time=time.time(),
        truncated=exchange.truncated is not None,
        datagram=exchange.truncated,
        heard=tuple(exchange.heard),
    )


class _Exchange:
    """One question, and what came of it so far."""

    def __init__(self, question: Question, memory: EdnsMemory) -> None:
        self.heard: list[Heard] = []  # of a prediction alone
        self.truncated: Reply | None = None
        self._question = question
        self._memory = memory
        self._deadline = time.monotonic() + question.timeout
        self._watch: Stopwatch | None = None  # from the first datagram on
        self._took: float | None = None  # until the last reply, where that came over UDP

    @property
    def seconds(self) -> float | None:
        return self._watch.now() if self._took is None and self._watch is not None else self._took

    @property
    def _left(self) -> float:
        return self._deadline - time.monotonic()

    async def run(self) -> Reply:
        udp, tcp = KINDS[self._question.server.family]
        query = self._query()
        sock, _ = await open_socket(self._question.vantage, udp, seconds=self._question.timeout)
        with sock:
            connect_datagrams(sock, self._question.server)
            self._watch = Stopwatch()
            reply = await self._over_udp(sock, query)
            if query.edns and reply.rcode in {FORMERR, NOTIMP}:
                reply = await self._over_udp(sock, build_query(self._question, edns=False))
                self._memory.note(self._question, speaks=reply.rcode in {FORMERR, NOTIMP})
        if not reply.tc:
            return reply
        self.truncated, self._took = reply, None
        sock, _ = await open_socket(self._question.vantage, tcp, seconds=self._left)
        with sock:
            async with limit(self._left):
                return await self._over_tcp(sock, self._query())

    def _query(self) -> Query:
        return build_query(self._question, edns=self._question.edns and self._memory.knows(self._question) is not False)

    async def _over_udp(self, sock: socket.socket, query: Query) -> Reply:
        """A server that is not known to answer questions with EDNS is sent the second datagram without it."""
        question, memory, seconds = self._question, self._memory, self._left
        last = query
        if query.edns and not memory.knows(question):
            last = build_query(question, edns=False, identifier=query.identifier)
        strays = iter(range(MAX_STRAYS))
        for number in range(question.sends):
            sent = last if number else query
            with suppress(TimeoutError):
                async with limit(seconds / question.sends):
                    sock.send(sent.wire)
                    _, reply, arrived = await _await_reply(sock, (query,), strays, self._hear)
                    assert self._watch is not None
                    self._took = self._watch.until(arrived)
                    if query.edns and reply.rcode not in {FORMERR, NOTIMP}:
                        if sent is query or reply.additionals > 0:
                            memory.note(question, speaks=True)
                        else:
                            memory.note_silence(question)
                    return reply
        raise TimeoutError(f"no reply within {seconds:.3g} s")

    def _hear(self, wire: bytes, arrived: float | None) -> None:
        if self._question.purpose is Purpose.PREDICTION and len(self.heard) < MAX_HEARD and self._watch is not None:
            self.heard.append(Heard(self._watch.until(arrived), wire))

    async def _over_tcp(self, sock: socket.socket, query: Query) -> Reply:
        """Over TCP there is one reply, and it must be ours."""
        await connect(sock, self._question.server.address, self._question.server.port)
        await send(sock, len(query.wire).to_bytes(2, "big") + query.wire)
        length = int.from_bytes(await _receive_exactly(sock, 2), "big")
        if length > MAX_REPLY:
            raise PhaseError(Outcome.PROTOCOL, f"a reply of more than {MAX_REPLY} bytes")
        message = await _receive_exactly(sock, length)
        if self._question.purpose is Purpose.PREDICTION and message[:2] == query.wire[:2]:
            self.heard.append(Heard(0.0, message, stream=True))
        reply = read_reply(query, message)
        if reply is None:
            raise PhaseError(Outcome.PROTOCOL, "the reply is to another question")
        return reply


def connect_datagrams(sock: socket.socket, server: Nameserver) -> None:
    """From now on the kernel drops what comes from another address or port."""
    watch_errors(sock)
    sock.connect(destination(sock, server.address, server.port))


async def ask_together(asked: Together) -> tuple[Lookup, ...]:
    """Send all questions from one socket, each once, over UDP. A truncated reply is an answer here."""
    first = asked.questions[0]
    replies: dict[int, tuple[Reply, float]] = {}  # by query id, with the time that it took
    queries: list[Query] = []
    watch, failed, detail = Stopwatch(), LookupOutcome.NOT_ALLOWED, ""
    try:
        if first.allowed:
            queries = [build_query(question, edns=question.edns) for question in asked.questions]
            sock, _ = await open_socket(first.vantage, KINDS[first.server.family][0], seconds=first.timeout)
            with sock:
                connect_datagrams(sock, first.server)
                watch = Stopwatch()
                await _ask_from_one(sock, asked, queries, replies, watch)
    except EXPECTED as error:
        failed, detail = lookup_outcome_of(error), describe(error)
    return tuple(
        Lookup(
            question=question,
            outcome=failed if answer is None else judge(answer[0]),
            seconds=watch.now() if answer is None else answer[1],
            reply=None if answer is None else answer[0],
            detail=detail if answer is None else "",
            time=time.time(),
        )
        for question, answer in zip_longest(asked.questions, [replies.get(query.identifier) for query in queries])
    )


async def _ask_from_one(
    sock: socket.socket,
    asked: Together,
    queries: Sequence[Query],
    replies: dict[int, tuple[Reply, float]],
    watch: Stopwatch,
) -> None:
    """Collect the replies until all are here; what came by then is kept when the time is over or an error comes."""
    strays = iter(range(MAX_STRAYS))
    async with limit(asked.questions[0].timeout):
        for number, query in enumerate(queries, 1):
            sock.send(query.wire)
            awaited = number if asked.in_turn or number == len(queries) else 0
            while len(replies) < awaited:
                missing = [q for q in queries if q.identifier not in replies]
                answered, reply, arrived = await _await_reply(sock, missing, strays)
                replies[answered.identifier] = reply, watch.until(arrived)


async def _await_reply(
    sock: socket.socket,
    queries: Sequence[Query],
    strays: Iterator[int],
    hear: Callable[[bytes, float | None], None] | None = None,
) -> tuple[Query, Reply, float | None]:
    """The first reply to one of these, to which, and when it arrived; each other datagram uses up one of `strays`.

    One read per wait, against floods. `hear`: is told what has the id of a query.
    """
    while True:
        await readable(sock)
        try:
            wire, arrived, _ = receive_datagram(sock, MAX_DATAGRAM + 1)
        except OSError as error:
            reason = read_error(sock) or error
            if not isinstance(reason, BlockingIOError):
                raise reason from None
            continue
        for query in queries:
            if hear is not None and wire[:2] == query.wire[:2]:
                hear(wire, arrived)
            reply = read_reply(query, wire, limit=MAX_DATAGRAM)
            if reply is not None:
                return query, reply, arrived
        if next(strays, None) is None:
            detail = f"more than {MAX_STRAYS} datagrams, none of them a reply to the question"
            raise PhaseError(Outcome.PROTOCOL, detail)


async def _receive_exactly(sock: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        more = await receive(sock, size - len(data))
        if not more:
            raise PhaseError(Outcome.PROTOCOL, "closed in the middle of the reply")
        data += more
    return bytes(data)
