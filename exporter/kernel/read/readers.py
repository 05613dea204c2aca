"""Reads the host's and the pods' kernel state through the broker, and says how each reader fared: what rounds call.

It never raises for the state of the world: what could not be read is None, and its Reading says why.
"""

from __future__ import annotations

import asyncio
import errno
import time

from exporter.broker.protocol.messages import KernelState, NamespaceRef
from exporter.kernel.decode.links import parse_addresses
from exporter.kernel.decode.parse_error import ParseError
from exporter.kernel.read import requests
from exporter.kernel.read.answers import KernelBroker, ReadError, VisitAnswers, gather
from exporter.kernel.read.dump_consistency import has_new_gaps
from exporter.kernel.read.host_reader import survey_host
from exporter.kernel.read.pod_facts import complete_pod_facts, look_at
from exporter.kernel.read.route_cache import Changes
from exporter.kernel.read.visitor import Clock, Visitor
from exporter.model.facts import HostFacts, PodFacts, Reader, ReaderStatus
from exporter.model.family import Address
from exporter.model.reason import Reason

SETTLE = 0.3  # seconds before a half-written state is looked at again
_GONE = frozenset({errno.ESTALE, errno.ENOENT, errno.ESRCH})
_ADDRESSES = (requests.ADDRESSES,)


async def read_host(
    broker: KernelBroker,
    *,
    previous: HostFacts | None = None,
    changes: Changes | None = None,
    lsm: bool = False,
    clock: Clock = time.monotonic,
    settle: float = SETTLE,
) -> tuple[HostFacts, tuple[ReaderStatus, ...]]:
    """The host's facts, and how each reader fared.

    `previous`: the facts of the round before, which carry the last copy of the legacy tables. `changes`: the kernel's
    announcements; without, nothing of the round before is taken to hold still. `lsm`: a security module confines the
    broker, so its EACCES is called `lsm`. `settle`: seconds to wait before a second look at a state that seems
    half-written.
    """
    visitor = Visitor(broker, clock, lsm)
    seen = await survey_host(visitor, previous, changes, held=previous)
    if seen.passing or has_new_gaps(seen.facts, previous):
        await asyncio.sleep(settle)
        seen = await survey_host(visitor, previous, changes, held=seen.facts)
    return seen.facts, seen.readings


async def read_pods(
    broker: KernelBroker, places: tuple[NamespaceRef, ...], *, lsm: bool = False, clock: Clock = time.monotonic
) -> tuple[tuple[PodFacts | None, ReaderStatus], ...]:
    """The facts of each pod, in order; at most MAX_PLACES at once.

    None where they could not be read: the status shows the reason, and `vanished` for a namespace that is gone.
    """
    visitor = Visitor(broker, clock, lsm)
    states, seconds = await visitor.visit_each(places, requests.POD_FIRST)
    return tuple([await _read_pod(visitor, p, s, seconds) for p, s in zip(places, states, strict=True)])


async def read_pod(
    broker: KernelBroker, place: NamespaceRef, *, lsm: bool = False, clock: Clock = time.monotonic
) -> tuple[PodFacts | None, ReaderStatus]:
    """As read_pods, of one."""
    (found,) = await read_pods(broker, (place,), lsm=lsm, clock=clock)
    return found


async def _read_pod(
    visitor: Visitor, place: NamespaceRef, state: KernelState, seconds: float
) -> tuple[PodFacts | None, ReaderStatus]:
    """One pod from its first visit, and from a second where that is needed."""
    began = visitor.clock()
    facts: PodFacts | None = None
    reason: Reason | None = None
    detail, vanished = "", False
    try:
        look = look_at(state, lsm=visitor.lsm)
        facts = look.facts
        if look.more:
            facts = complete_pod_facts(look, await visitor.visit(look.more, place))
    except ReadError as error:
        facts = None
        vanished, detail = error.code in _GONE and error.entering, error.detail
        reason = None if vanished else error.reason
    except ParseError as error:
        facts = None
        reason, detail = Reason.READER_FAILED, f"malformed: {error}"
    return facts, ReaderStatus(
        reader=Reader.PODS.value,
        success=facts is not None,
        seconds=seconds + visitor.clock() - began,
        reason=reason,
        detail=detail,
        vanished=vanished,
    )


async def read_addresses(broker: KernelBroker, places: tuple[NamespaceRef, ...]) -> tuple[tuple[Address, ...], ...]:
    """The global addresses in each namespace, to tell whose it is; none where they could not be read. At most MAX_PLACES."""
    visitor = Visitor(broker, time.monotonic)
    states, seconds = await visitor.visit_each(places, _ADDRESSES)
    return tuple(_global_addresses(gather(_ADDRESSES, state, seconds, lsm=False)) for state in states)


def _global_addresses(answers: VisitAnswers) -> tuple[Address, ...]:
    try:
        found = parse_addresses(answers.data(requests.ADDRESSES), {})
    except (ReadError, ParseError):
        return ()
    return tuple(a.interface.ip for a in found if a.is_global)
