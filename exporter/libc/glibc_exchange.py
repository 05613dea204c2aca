"""How glibc sends one candidate's questions and which replies it keeps: resolv/res_send.c of 2.36 as a pure function.

The lower half of glibc.py. Servers go in order, `attempts` times; A and AAAA leave on one socket. No I/O: the answers
are given.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from exporter.libc.replies import Answer, NoReply, SearchWalk, nameservers
from exporter.model.dns import NOERROR, NOTIMP, REFUSED, SERVFAIL, Reply, ResolvConf

MAX_TIMEOUT, MAX_ATTEMPTS = 30, 5  # RES_MAXRETRANS, RES_MAXRETRY
TCP_GIVE_UP = (
    127  # seconds until the kernel gives up a connection (net.ipv4.tcp_syn_retries 6); glibc itself sets no limit
)


class Errno(Enum):
    """The errno that the last query left; the resolver looks at it in two places."""

    NONE = 0
    REFUSED = 1
    TIMEOUT = 2


STREAM_ERRNO = {NoReply.REFUSED: Errno.REFUSED, NoReply.SILENT: Errno.TIMEOUT, NoReply.CLOSED: Errno.NONE}


@dataclass(slots=True, kw_only=True)
class Transaction:
    """The part of res_state that lasts from query to query within one call, in a fresh process."""

    conf: ResolvConf
    walk: SearchWalk
    single: bool = False  # RES_SNGLKUP or its fallback: AAAA only after A
    reopen: bool = False  # RES_SNGLKUPREOP or its fallback: and from a new socket
    heard: bool = False  # gotsomewhere
    stream_errno: Errno = Errno.TIMEOUT  # terrno
    errno: Errno = Errno.NONE
    first_rcode: int | None = None  # in the answer buffer: the first reply of the last server that replied

    def __post_init__(self) -> None:
        self.reopen = "single-request-reopen" in self.conf.options
        self.single = self.reopen or "single-request" in self.conf.options

    def send(self, candidate: str, qtypes: tuple[str, ...]) -> list[Reply] | None:
        """__res_context_send: the usable replies of the first server that gives some, None after all attempts."""
        stream = "use-vc" in self.conf.options
        self.heard, self.stream_errno, self.first_rcode = False, Errno.TIMEOUT, None
        for _ in range(min(self.conf.attempts, MAX_ATTEMPTS)):
            for index in range(len(nameservers(self.conf.nameservers))):
                replies = None if stream else self._datagrams(candidate, qtypes, index)
                stream |= replies is not None and any(reply.tc for reply in replies)
                if stream:
                    replies = self._stream(candidate, qtypes, index)
                if replies is not None:
                    self.errno = Errno.NONE
                    return replies
            if stream:
                break  # over TCP each server is tried once
        silent = Errno.TIMEOUT if self.heard else Errno.REFUSED
        self.errno = self.stream_errno if stream else silent
        return None

    def _datagrams(self, candidate: str, qtypes: tuple[str, ...], index: int) -> list[Reply] | None:
        """send_dg: the usable replies over UDP in the order asked (one with TC means: go to TCP), None for the next server."""
        if len(qtypes) == 1 or self.single:
            return self._one_by_one(candidate, qtypes, index)
        answers = [self._answer(candidate, qtype, index) for qtype in qtypes]
        if any(answer.datagram is NoReply.REFUSED for answer in answers):
            return None
        received = [answer.datagram for answer in answers if isinstance(answer.datagram, Reply)]
        usable = [reply for reply in received if not _bad(reply)]
        self._hear(received)
        if len(received) == len(qtypes) or any(reply.tc for reply in usable):
            self.walk.seconds += max(answer.seconds for answer in answers)
            return usable or None
        self._wait(index)
        if not usable:
            return None
        self.single = True
        return self._one_by_one(candidate, qtypes, index)

    def _one_by_one(self, candidate: str, qtypes: tuple[str, ...], index: int) -> list[Reply] | None:
        """send_dg with a single question, or in single-request mode, which tries once more from a new socket."""
        replies = self._in_turn(candidate, qtypes, index)
        if (
            replies is not None
            and len(replies) < len(qtypes)
            and not self.reopen
            and self._silent(candidate, qtypes, index)
        ):
            self.reopen = True
            replies = self._in_turn(candidate, qtypes, index)
        return replies

    def _in_turn(self, candidate: str, qtypes: tuple[str, ...], index: int) -> list[Reply] | None:
        """Each question after the answer to the one before; the replies up to the first that is missing, bad or truncated."""
        replies: list[Reply] = []
        for qtype in qtypes:
            answer = self._answer(candidate, qtype, index)
            if answer.datagram is NoReply.REFUSED:
                return None
            if not isinstance(answer.datagram, Reply):
                self._wait(index)
                break
            self.walk.seconds += answer.seconds
            if not replies:
                self._hear([answer.datagram])
            if _bad(answer.datagram):
                break
            replies.append(answer.datagram)
            if answer.datagram.tc:
                break
        return replies or None

    def _silent(self, candidate: str, qtypes: tuple[str, ...], index: int) -> bool:
        return any(not isinstance(self._answer(candidate, qtype, index).datagram, Reply) for qtype in qtypes)

    def _answer(self, candidate: str, qtype: str, index: int) -> Answer:
        return self.walk.answer(candidate, qtype, nameservers(self.conf.nameservers)[index])

    def _hear(self, received: list[Reply]) -> None:
        if received:
            self.heard = True
            self.first_rcode = received[0].rcode

    def _wait(self, index: int) -> None:
        """The time send_dg gives one server: timeout doubled per position, shared among the servers, one second at least."""
        count = len(nameservers(self.conf.nameservers))
        seconds = min(self.conf.timeout, MAX_TIMEOUT) << index
        self.walk.seconds += max(seconds // count if index else seconds, 1)
        self.heard = True

    def _stream(self, candidate: str, qtypes: tuple[str, ...], index: int) -> list[Reply] | None:
        """send_vc: all replies over one TCP connection, whatever their rcode; None where one of them did not come."""
        replies: list[Reply] = []
        for qtype in qtypes:
            outcome = self._answer(candidate, qtype, index).over_tcp
            if isinstance(outcome, NoReply):
                self.walk.seconds += TCP_GIVE_UP if outcome is NoReply.SILENT else 0
                self.stream_errno = STREAM_ERRNO[outcome]
                return None
            if not replies:
                self.first_rcode = outcome.rcode
            replies.append(outcome)
        return replies


def _bad(reply: Reply) -> bool:
    """A UDP reply that send_dg throws away: an error, or what looks like a lame referral."""
    if reply.rcode in {SERVFAIL, NOTIMP, REFUSED}:
        return True
    return reply.rcode == NOERROR and not (reply.answers or reply.aa or reply.ra or reply.additionals)
