"""Looks at this node's pods: kernel facts and files of each, a few of them with every request to the broker.

Part of the inspection. With hundreds of pods the way of every single request would cost more than its answer.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from exporter.broker.client import BrokerClient
from exporter.broker.messages import Libc, Place, PodFiles
from exporter.broker.wire import MAX_PLACES
from exporter.inspection.fared import is_confined, reason_of_file
from exporter.inspection.files import read_named_resolv_conf
from exporter.kernel.readers import VANISHED, read_pods
from exporter.model.dns import ResolvConf
from exporter.model.facts import PodFacts, Reading
from exporter.model.report import PodView, Reason
from exporter.model.vantage import PodState, Vantage
from exporter.network import place_of
from exporter.resolvconf import parse_resolv_conf

AT_ONCE = 2  # requests under way: one that the broker works on, one whose answers are being parsed
LIBCS = {Libc.GLIBC: "glibc", Libc.MUSL: "musl"}


@dataclass(frozen=True, slots=True)
class PodsSeen:
    """Every pod but those whose namespace vanished meanwhile, how each was read, and the seconds that their files took."""

    views: tuple[PodView, ...]
    readings: tuple[Reading, ...] = ()
    file_seconds: float = 0.0


async def look_at_pods(
    broker: BrokerClient, vantages: Sequence[Vantage], own: ResolvConf | None, clock: Callable[[], float]
) -> PodsSeen:
    """The pods of this node, in the order given: inspected where they may be. `own`: the host's resolv.conf."""
    slots = asyncio.Semaphore(AT_ONCE)
    entries = [(v, place) for v in vantages if (place := _place_to_look_at(v)) is not None]
    looks = await asyncio.gather(*(_look(broker, batch, own, clock, slots) for batch in _batches(entries)))
    looked = iter([view for look in looks for view in look.views])
    views = [next(looked) if _place_to_look_at(v) is not None else PodView(v) for v in vantages]
    return PodsSeen(
        tuple(view for view in views if view is not None),
        tuple(reading for look in looks for reading in look.readings),
        sum(look.file_seconds for look in looks),
    )


def _place_to_look_at(vantage: Vantage) -> Place | None:
    return place_of(vantage) if vantage.state is PodState.ELIGIBLE else None


_Entry = tuple[Vantage, Place]


def _batches(entries: Sequence[_Entry]) -> Iterator[tuple[_Entry, ...]]:
    for start in range(0, len(entries), MAX_PLACES):
        yield tuple(entries[start : start + MAX_PLACES])


@dataclass(frozen=True, slots=True)
class _Look:
    """One batch: a view of each, in order, None where its namespace vanished."""

    views: list[PodView | None]
    readings: list[Reading]
    file_seconds: float


async def _look(
    broker: BrokerClient,
    batch: tuple[_Entry, ...],
    own: ResolvConf | None,
    clock: Callable[[], float],
    slots: asyncio.Semaphore,
) -> _Look:
    places, lsm = tuple(place for _, place in batch), broker.welcome.lsm
    async with slots:
        taken = await read_pods(broker, places, lsm=is_confined(lsm))
        asked = tuple(p for p, (facts, _) in zip(places, taken, strict=True) if facts is not None and p.pid)
        began = clock()
        files = dict(zip(asked, await broker.read_pod_files(asked), strict=True)) if asked else {}
        seconds = max(0.0, clock() - began)
    views: list[PodView | None] = []
    for (vantage, place), (facts, reading) in zip(batch, taken, strict=True):
        if reading.reason == VANISHED:
            views.append(None)
        elif facts is None:
            views.append(PodView(replace(vantage, state=PodState.UNREADABLE), unread=reading.reason))
        else:
            view = _view(vantage, facts)
            views.append(_with_files(view, files[place], lsm) if place.pid else _named(view, place, own))
    return _Look(views, [r for _, r in taken if r.reason != VANISHED], seconds)


def _view(vantage: Vantage, facts: PodFacts) -> PodView:
    return PodView(replace(vantage, state=PodState.INTERCEPTED) if facts.intercepted else vantage, facts)


def _named(view: PodView, place: Place, own: ResolvConf | None) -> PodView:
    conf = read_named_resolv_conf(place.path.rsplit(os.sep, 1)[-1]) or own
    return replace(view, resolv_conf=conf, resolv_conf_unread="" if conf else Reason.READER_FAILED)


def _with_files(view: PodView, files: PodFiles, lsm: str) -> PodView:
    libc = frozenset(LIBCS[c] for c in files.libcs) if not files.libc_errno else None
    if files.resolv_errno:
        return replace(view, resolv_conf_unread=reason_of_file(files.resolv_errno, lsm), libc=libc)
    return replace(view, resolv_conf=parse_resolv_conf(files.resolv_conf), libc=libc)
