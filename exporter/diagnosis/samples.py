"""Dials as path rules need them: which of the kept ones count in a round, and the words for them. Pure.

Between the kept results of a snapshot and the path rules; nothing is decided here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial

from exporter.diagnosis.engine.rule_input import RuleInput
from exporter.model.dial import SHOWN_TWICE, Dial, Dials
from exporter.model.family import FAMILIES, Family
from exporter.model.probe import Layer, Observation
from exporter.model.subject import Pair

WORDS = {
    "icmp6": (Family.V6, Layer.ICMP),
    "tcp6": (Family.V6, Layer.TCP),
    "tcp4": (Family.V4, Layer.TCP),
    "tls6": (Family.V6, Layer.TLS),
    "tls4": (Family.V4, Layer.TLS),
}
NEVER = float("-inf")
LOST: Mapping[tuple[Family, Layer], Callable[[Dial], bool]] = {
    (family, layer): partial(Dial.is_lost, family=family, layer=layer)
    for family in FAMILIES
    for layer in (Layer.TCP, Layer.TLS)
}


@dataclass(frozen=True, slots=True)
class Probes:
    """The last two probes of every vantage, and the last dials of every pair that was dialled twice at least.

    A pod dials another peer each time, so that its last two probes need not be of the same pairs.
    """

    now: tuple[Dial, ...]
    before: tuple[Dial, ...]
    pairs: tuple[Dials, ...]


@lru_cache(maxsize=2)  # path causes and the others are judged with two views of one snapshot
def probes_of(view: RuleInput) -> Probes:
    """The probes of a view, without destinations that are meant to be unreachable; all rules of a round ask for them.

    Dials whose failures are accounted for, or came by chance (chance.py), show nothing, nor do those of a vantage that
    an egress policy selects.
    """
    standing = frozenset[Pair]().union(*view.standing.values())

    def void_until(pair: Pair) -> float:
        doubted = NEVER if pair in standing else view.chance.doubted.get(pair.destination, NEVER)
        return max(doubted, view.accounted.get(pair, NEVER))

    counting = (_after(void_until(each.pair), each) for each in view.snapshot.dials)
    pairs = tuple(d for d in counting if d and len(d.made) >= SHOWN_TWICE and not d.now.is_restricted)
    last = (view.snapshot.last, view.snapshot.before_last)
    now, before = (tuple(d for d in made if d.is_meant_to_arrive) for made in last)
    return Probes(now, before, pairs)


def _after(time: float, dials: Dials) -> Dials | None:
    """Those made later than this, of what is meant to be reachable."""
    if dials.are_meant_to_arrive and (time == NEVER or all(dial.time > time for dial in dials.made)):
        return dials
    made = tuple(dial for dial in dials.made if dial.is_meant_to_arrive and dial.time > time)
    return Dials(made) if made else None


def describe(dial: Dial, template: str) -> str:
    """The template with the outcomes that it names (WORDS) and the size of the full-size echo."""
    seen = dial.seen
    words = {word: seen[key].outcome.value if key in seen else "not asked" for word, key in WORDS.items()}
    echo = seen.get((Family.V6, Layer.ICMP))
    return template.format(**words, size=echo.full_size_bytes if echo is not None else 0)


def dialled(dial: Dial) -> str:
    """The address that was dialled over IPv6, in brackets; empty without one."""
    address = next((o.address for (f, _), o in dial.seen.items() if f is Family.V6 and o.address is not None), None)
    return f" ({address})" if address is not None else ""


def probe_command(observation: Observation | None) -> str:
    """The command that repeats the dial step by step."""
    if observation is None or observation.address is None:
        return "dualstack-exporter check"
    address = f"[{observation.address}]" if observation.family is Family.V6 else str(observation.address)
    place = observation.vantage
    flag = ""
    if place.kind == "pod":
        flag = f" --netns={place.name}" if place.namespace == "netns" else f" --pod={place.namespace}/{place.name}"
    return f"dualstack-exporter probe {address}:{observation.target.port}{flag}"
