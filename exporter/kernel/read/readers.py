"""Reads the kernel state of the host and of pods through the broker, with each reader's status. What rounds call.

It never raises for the state of the world: what could not be read is None, and its ReaderStatus has the reason.
"""

from __future__ import annotations

import asyncio
import errno
import time

from exporter.broker.protocol.messages import KernelState, NamespaceRef
from exporter.kernel.decode.links import parse_addresses
from exporter.kernel.read import pod_facts, requests
from exporter.kernel.read.dump_consistency import has_new_gaps
from exporter.kernel.read.host_facts import USUAL, HostWish
from exporter.kernel.read.host_reader import pass_over_host
from exporter.kernel.read.route_cache import Changes
from exporter.kernel.read.visits import (
    Clock,
    KernelBroker,
    ReadError,
    VisitAnswers,
    Visitor,
    attempt,
    attempt_optional,
    gather,
)
from exporter.model.facts import HostFacts, PodFacts, Reader, ReaderStatus
from exporter.model.family import Address

SETTLE = 0.3  # seconds before a half-written state is read again
_GONE = frozenset({errno.ESTALE, errno.ENOENT, errno.ESRCH})
_ADDRESSES = (requests.ADDRESSES,)


async def read_host(
    broker: KernelBroker,
    *,
    previous: HostFacts | None = None,
    changes: Changes | None = None,
    wish: HostWish = USUAL,
    lsm: bool = False,
    clock: Clock = time.monotonic,
    settle: float = SETTLE,
) -> tuple[HostFacts, tuple[ReaderStatus, ...]]:
    """The host's facts, and each reader's status.

    `previous`: the facts of the round before, with the last copy of the legacy tables. `changes`: the kernel's
    announcements; without them everything is read again. `lsm`: a security module confines the broker, so its EACCES
    is reported as `lsm`. `settle`: seconds to wait before a second pass over a state that seems half-written.
    """
    visitor = Visitor(broker, clock, lsm)
    found = await pass_over_host(visitor, previous, changes, held=previous, wish=wish)
    if found.passing or has_new_gaps(found.facts, previous):
        await asyncio.sleep(settle)
        found = await pass_over_host(visitor, previous, changes, held=found.facts, wish=wish)
    return found.facts, found.readings


async def read_pods(
    broker: KernelBroker, places: tuple[NamespaceRef, ...], *, lsm: bool = False, clock: Clock = time.monotonic
) -> tuple[tuple[PodFacts | None, ReaderStatus], ...]:
    """The facts of each pod, in order; at most MAX_PLACES at once.

    None where they could not be read: the status has the reason, or `vanished` for a namespace that is gone.
    """
    visitor = Visitor(broker, clock, lsm)
    states, seconds = await visitor.visit_each(places, pod_facts.FIRST_VISIT)
    return tuple([await _read_pod(visitor, p, s, seconds) for p, s in zip(places, states, strict=True)])


async def _read_pod(
    visitor: Visitor, place: NamespaceRef, state: KernelState, seconds: float
) -> tuple[PodFacts | None, ReaderStatus]:
    """One pod from its first visit, and from a second where that is needed."""
    began = visitor.clock()
    draft = attempt(lambda: pod_facts.draft_pod_facts(state, place, lsm=visitor.lsm))
    facts = draft if isinstance(draft, ReadError) else draft.facts
    if not isinstance(draft, ReadError) and draft.more:
        second = await visitor.visit(draft.more, place)
        facts = attempt(lambda: pod_facts.complete_pod_facts(draft, second))
    seconds += visitor.clock() - began
    if not isinstance(facts, ReadError):
        return facts, ReaderStatus(reader=Reader.PODS.value, success=True, seconds=seconds)
    vanished = facts.code in _GONE and facts.entering
    return None, ReaderStatus(
        reader=Reader.PODS.value,
        success=False,
        seconds=seconds,
        reason=None if vanished else facts.reason,
        detail=facts.detail,
        vanished=vanished,
    )


async def read_addresses(broker: KernelBroker, places: tuple[NamespaceRef, ...]) -> tuple[tuple[Address, ...], ...]:
    """The global addresses in each namespace, to identify it; none where they could not be read. At most MAX_PLACES."""
    visitor = Visitor(broker, time.monotonic)
    states, seconds = await visitor.visit_each(places, _ADDRESSES)
    return tuple(_global_addresses(gather(_ADDRESSES, state, seconds, lsm=False)) for state in states)


def _global_addresses(answers: VisitAnswers) -> tuple[Address, ...]:
    found = attempt_optional(lambda: parse_addresses(answers.data(requests.ADDRESSES), {}))
    return tuple(a.interface.ip for a in found or () if a.is_global)
