"""Reads the host's and the pods' kernel state through the broker, and says how each reader fared: what rounds call.

It never raises for the state of the world: what could not be read is None, and its Reading says why.
"""

from __future__ import annotations

import asyncio
import errno
import time

from exporter.broker.messages import Place
from exporter.kernel import requests
from exporter.kernel.answers import KernelBroker, Unread
from exporter.kernel.links import parse_addresses
from exporter.kernel.malformed import Malformed
from exporter.kernel.pod import complete_pod_facts, read_pod_facts, wanted_more
from exporter.kernel.settling import has_new_gaps
from exporter.kernel.survey import survey_host
from exporter.kernel.visitor import Clock, Visitor
from exporter.model.facts import HostFacts, PodFacts, Reader, Reading
from exporter.model.family import Address
from exporter.model.report import Reason

SETTLE = 0.3  # seconds before a half-written state is looked at again
VANISHED = "vanished"
_GONE = frozenset({errno.ESTALE, errno.ENOENT, errno.ESRCH})


async def read_host(
    broker: KernelBroker,
    *,
    previous: HostFacts | None = None,
    lsm: bool = False,
    clock: Clock = time.monotonic,
    settle: float = SETTLE,
) -> tuple[HostFacts, tuple[Reading, ...]]:
    """The host's facts, and how each reader fared.

    `previous`: the facts of the round before, which carry the last copy of the legacy tables. `lsm`: a security module confines the
    broker, so its EACCES is called `lsm`. `settle`: seconds to wait before a second look at a state that seems half-written.
    """
    visitor = Visitor(broker, clock, lsm)
    seen = await survey_host(visitor, previous)
    if seen.passing or has_new_gaps(seen.facts, previous):
        await asyncio.sleep(settle)
        seen = await survey_host(visitor, previous)
    return seen.facts, seen.readings


async def read_pod(
    broker: KernelBroker, place: Place, *, lsm: bool = False, clock: Clock = time.monotonic
) -> tuple[PodFacts | None, Reading]:
    """One pod's facts. None where they could not be read: reason `vanished` for a namespace that is gone, else a Reason value."""
    began = clock()
    visitor = Visitor(broker, clock, lsm, place)
    first = await visitor.visit(requests.POD_FIRST)
    facts: PodFacts | None = None
    reason, detail = "", ""
    try:
        facts = read_pod_facts(first)
        more = wanted_more(facts, first)
        if more:
            facts = complete_pod_facts(facts, first, await visitor.visit(more))
    except Unread as error:
        facts = None
        reason = VANISHED if first.visit_errno in _GONE else error.reason.value
        detail = error.detail
    except Malformed as error:
        facts = None
        reason, detail = Reason.READER_FAILED.value, f"malformed: {error}"
    return facts, Reading(Reader.PODS.value, not reason, clock() - began, reason, detail)


async def read_addresses(broker: KernelBroker, place: Place) -> tuple[Address, ...]:
    """The global addresses in a namespace, to tell whose it is; none where they could not be read."""
    answers = await Visitor(broker, time.monotonic, place=place).visit((requests.ADDRESSES,))
    try:
        found = parse_addresses(answers.data(requests.ADDRESSES), {})
    except (Unread, Malformed):
        return ()
    return tuple(a.interface.ip for a in found if a.is_global)
