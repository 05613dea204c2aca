"""Whether IPv6 alone fails a destination, or whether what fails does so by chance, over either family. Pure.

One dead endpoint of several fails a part of all dials, over either family alike. A dial that is lost over IPv6 and
passes over IPv4 is then as likely as the contrary, and at most one dial in four is such a one. So IPv6 is accused only
by what chance would hardly show. Used by verdict.py, which keeps what was seen, and by the path rules.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import product, takewhile, zip_longest

from exporter.diagnosis.endpoints import services_on
from exporter.diagnosis.engine.rule_input import Chance, RuleInput
from exporter.diagnosis.samples import LOST, probes_of
from exporter.model.dial import Dial, Dials
from exporter.model.family import Family
from exporter.model.grouping import grouped
from exporter.model.probe import Group, Layer
from exporter.model.subject import Subject

V4, V6 = Family.V4, Family.V6
WEIGHED = (Layer.TCP, Layer.TLS)  # what may fail by chance: the dial, or the certificate behind it
REMEMBERED = 900.0  # seconds
MOST = 60  # losses kept of a destination
# Of the losses that show one family, chance has IPv6 alone first in at most every second: six in a row are 1 in 64, and
# at a loss of one half, where both families fail together as well, 1 in 729.
LOSSES = 6
FOR_EACH_IPV4 = 4  # more of them for each loss over IPv4
FEWEST = 4  # dials in a row that all were lost over IPv6 alone: by chance 1 in 256
ROUNDS = 2


def chance_of(view: RuleInput, before: Chance, *, since: float) -> Chance:
    """What is known after this round; `since` is when the round before was judged."""
    dialled = (d for d in view.snapshot.dials if d.now.time > since and d.now.is_meant_to_arrive)
    new = [d for d in dialled if not d.now.is_restricted]
    doubtful = services_on(view.inventory, _lost_nodes(d.now for d in new))
    over = view.now - REMEMBERED
    doubted = {**{d: at for d, at in before.doubted.items() if at > over}, **dict.fromkeys(doubtful, view.now)}
    losses = {key: tuple(one for one in kept if one[0] > over) for key, kept in before.losses.items()}
    for dials, layer in product(new, WEIGHED):
        family, key = _lost_over(dials.now, layer), (dials.now.destination, layer)
        # What never arrives over IPv4 from a vantage does not fail by chance.
        if family is V6 or (family is V4 and any(dial.arrives(V4, layer) for dial in dials.made)):
            losses[key] = (*losses.get(key, ()), (dials.now.time, family))[-MOST:]
    return Chance(doubted, {key: kept for key, kept in losses.items() if kept and key[0] not in doubtful})


def _lost_nodes(new: Iterable[Dial]) -> frozenset[str]:
    """Nodes that the host reaches over no family."""
    return frozenset(
        s.destination.name
        for s in new
        if s.group is Group.PEERS and s.vantage.kind == "host" and not (s.arrives(V4) or s.arrives(V6))
    )


def _lost_over(dial: Dial, layer: Layer) -> Family | None:
    return V4 if dial.is_lost(V4, layer) else V6 if dial.is_lost_over_ipv6_alone(layer) else None


@lru_cache(maxsize=2)
def unequal(view: RuleInput, layer: Layer = Layer.TCP) -> frozenset[tuple[str, Subject]]:
    """The pairs (vantage's key, destination) of which chance does not explain that they fail over IPv6 alone.

    Either the destination, from all vantages, was lost over IPv6 alone so often and over IPv4 so rarely; or all newest
    dials were lost so: to the destination from all vantages or from those of a kind, or from the vantage to wherever it
    dials. A peer is one place, which chance does not choose.
    """
    made = [t for t in probes_of(view).pairs if t.now.has_ipv4]
    if not (lost := {t for t in made if t.times(LOST[V6, layer])}):
        return frozenset()
    pairs = [t for t in made if t.now.arrives(V6, layer) or t.now.is_lost(V6, layer)]
    found = [
        t for t in pairs if t in lost and (t.now.group is Group.PEERS or _lost_often(view, t.now.destination, layer))
    ]
    for key in (_vantage, _destination, _kind):
        for pool in grouped(pairs, key).values():
            if all(t.now.is_lost_over_ipv6_alone(layer) for t in pool):
                over_ipv4 = min(_times(view, t.now.destination, layer, V4) for t in pool)
                found += pool if _all_lost(pool, layer, FEWEST + FOR_EACH_IPV4 * over_ipv4) else ()
    return frozenset((t.now.vantage.key, t.now.destination) for t in found)


def _vantage(recent: Dials) -> tuple[str, str]:
    return "", recent.now.vantage.key


def _destination(recent: Dials) -> tuple[str, str]:
    return "", recent.now.destination


def _kind(recent: Dials) -> tuple[str, str]:
    return recent.now.vantage.kind, recent.now.destination


def _lost_often(view: RuleInput, destination: Subject, layer: Layer) -> bool:
    over_ipv6, over_ipv4 = (_times(view, destination, layer, family) for family in (V6, V4))
    return over_ipv6 >= LOSSES + FOR_EACH_IPV4 * over_ipv4


def _times(view: RuleInput, destination: Subject, layer: Layer, family: Family) -> int:
    return sum(one is family for _, one in view.chance.losses.get((destination, layer), ()))


def _all_lost(pool: Sequence[Dials], layer: Layer, fewest: int) -> bool:
    """Whether the last two dials of each pair, and so many dials at least, were lost over IPv6 alone.

    Where no more dials are known and IPv4 was never lost, two are enough: nothing speaks against it.
    """
    rows = [[d for d in row if d is not None] for row in zip_longest(*(t.made for t in pool))]
    lost = list(takewhile(lambda row: all(d.is_lost_over_ipv6_alone(layer) for d in row), rows))
    return len(lost) >= ROUNDS and (sum(map(len, lost)) >= fewest or (lost == rows and fewest == FEWEST))
