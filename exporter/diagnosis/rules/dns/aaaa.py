"""Whether a nameserver withholds AAAA (or A), and how: the verdict over two rounds of its answers (dualstack_dns_aaaa_block). Pure.

Between lookups and the rules of dns.py; what single answers show stands in aaaa_signs.py. Nothing is decided on one
sample: a sign counts if both rounds show it for the same name, and what was asked again in them and said in the minutes
before does not speak against it (dns_steady.py). An honest resolver must never be called a blocker, so a foreign zone's
own faults (a server that forgets an SOA, one that denies names by type, one that fails or is silent for a type) need
two names or zones, or knowledge from elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from exporter.diagnosis.rules.dns.answer_signs import (
    DNS64_NAME,
    AnswerSign,
    Evidence,
    KnownRecords,
    read_signs,
)
from exporter.diagnosis.rules.dns.steadiness import Steadiness
from exporter.model.dns_name import is_within, zone
from exporter.model.probe import Lookup

SHOWN = 4  # lines of evidence


class BlockKind(StrEnum):
    """The kinds of dualstack_dns_aaaa_block, in the contract's order."""

    NONE = "none"
    BLANKET_NODATA = "blanket_nodata"
    BLANKET_NXDOMAIN = "blanket_nxdomain"
    FILTERED = "filtered"
    REFUSED = "refused"
    SERVFAIL = "servfail"
    DROPPED = "dropped"
    SINKHOLE = "sinkhole"
    DNS64 = "dns64"
    UNDECIDED = "undecided"


# Of several servers under one label the worst is shown: in the order listed, and none only if all say so.
WORST_FIRST = (*tuple(BlockKind)[1:], BlockKind.NONE)
CRITICAL = frozenset(
    {BlockKind.BLANKET_NODATA, BlockKind.BLANKET_NXDOMAIN, BlockKind.REFUSED, BlockKind.SERVFAIL, BlockKind.DROPPED}
)
ORDER = (
    AnswerSign.BLANKET_NODATA, AnswerSign.BLANKET_NXDOMAIN, AnswerSign.REFUSED, AnswerSign.SERVFAIL, AnswerSign.DROPPED, AnswerSign.SINKHOLE, AnswerSign.FILTERED,
)  # fmt: skip
SUSPICIONS = frozenset({*ORDER, AnswerSign.MARKED})
ERRORS = frozenset({AnswerSign.REFUSED, AnswerSign.SERVFAIL, AnswerSign.DROPPED})
# What the servers of a foreign zone may do by themselves to a type that their names lack.
FOREIGN_FAULTS = ERRORS | {AnswerSign.BLANKET_NXDOMAIN}


@dataclass(frozen=True, slots=True)
class AaaaVerdict:
    """The kind, whether it is a cause (`withholds`; kind filtered on one name alone is none), and the answers that show it."""

    kind: BlockKind
    withholds: bool = False
    evidence: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Case:
    """The signs that both rounds show, by sign and name, and what is known from elsewhere."""

    qtype: str
    truth: KnownRecords
    signs: Mapping[AnswerSign, Mapping[str, Evidence]]
    doubted: Mapping[str, Evidence] = field(default_factory=dict)  # by name, signs that the last minutes speak against

    def of(self, sign: AnswerSign) -> Mapping[str, Evidence]:
        return self.signs.get(sign, {})


def aaaa_verdict(
    now: Iterable[Lookup],
    before: Iterable[Lookup],
    truth: KnownRecords,
    *,
    qtype: str = "AAAA",
    steadiness: Steadiness | None = None,
) -> AaaaVerdict:
    """The verdict on one nameserver from the verdict sets of this round and the one before, whichever places asked.

    Answers of one place are compared with each other only; without a round before, everything is undecided.
    `steadiness`: what the server said in the last minutes (None: only what the two sets themselves show is judged).
    """
    first, second = _signs(now, qtype), _signs(before, qtype)
    signs: dict[AnswerSign, dict[str, Evidence]] = {}
    doubted: dict[str, Evidence] = {}
    for sign, names in first.items():
        for name, seen in names.items():
            if name not in second.get(sign, {}):
                continue
            if sign in SUSPICIONS and steadiness is not None and not steadiness.confirms(sign, seen, qtype):
                doubted[name] = seen
            else:
                signs.setdefault(sign, {})[name] = seen
    case = _Case(qtype=qtype, truth=truth, signs=signs, doubted=doubted)
    return _withheld(case) or _open(case)


def worst(verdicts: Iterable[AaaaVerdict]) -> AaaaVerdict | None:
    """The worst of several servers under one label; a cause before what is none."""
    return min(verdicts, key=lambda verdict: (not verdict.withholds, WORST_FIRST.index(verdict.kind)), default=None)


def _signs(lookups: Iterable[Lookup], qtype: str) -> dict[AnswerSign, dict[str, Evidence]]:
    """The signs of a round over all places that asked; each place is read by itself, as a server may treat them differently."""
    places: dict[str, list[Lookup]] = {}
    for lookup in lookups:
        places.setdefault(lookup.question.vantage.key, []).append(lookup)
    found: dict[AnswerSign, dict[str, Evidence]] = {}
    for asked in places.values():
        for seen in read_signs(asked, qtype):
            found.setdefault(seen.sign, {}).setdefault(seen.name, seen)
    return found


def _withheld(case: _Case) -> AaaaVerdict | None:
    """The first kind, in the order of decisions, whose signs suffice."""
    for sign in ORDER:
        seen = _with_marks(case) if sign is AnswerSign.FILTERED else case.of(sign)
        if sign in FOREIGN_FAULTS:
            seen = _of_the_resolver(case, seen)
        if seen and _suffices(case, sign, seen):
            return AaaaVerdict(BlockKind(sign.value), withholds=True, evidence=_texts(seen))
    return None


def _of_the_resolver(case: _Case, seen: Mapping[str, Evidence]) -> Mapping[str, Evidence]:
    """What a resolver is answerable for: the servers of a foreign zone may answer badly for a type that its names lack.

    Such names, and any of one foreign zone alone, show nothing of the resolver while it answers that type for another
    zone.
    """
    foreign = [name for name in seen if not _trusted(case, name)]
    proven = [name for name in foreign if not _lacks(case, name)]
    if not _answers_elsewhere(case, foreign):
        return seen
    counted = proven if _zones(case, proven) > 1 else []
    return {name: one for name, one in seen.items() if name not in foreign or name in counted}


def _lacks(case: _Case, name: str) -> bool:
    """Whether the name is known not to have such a record: by the operator's word, or by a reference that has the other type alone."""
    stated = case.truth.stated.get(name)
    return _denied(case, name) or (stated is not None and case.qtype not in stated)


def _answers_elsewhere(case: _Case, names: Iterable[str]) -> bool:
    """Whether the server answers the type, with a record or properly without, for a name outside the zones of these."""
    answered = (*case.of(AnswerSign.SERVED), *case.of(AnswerSign.ABSENT))
    wrong = list(names)
    return any(not any(_same_zone(one, name) for name in wrong) for one in answered)


def _with_marks(case: _Case) -> Mapping[str, Evidence]:
    """Names whose records were removed, and those with an extended error, once two names show something."""
    seen = {**case.of(AnswerSign.MARKED), **case.of(AnswerSign.FILTERED)}
    return seen if len(seen) > 1 else case.of(AnswerSign.FILTERED)


def _suffices(case: _Case, sign: AnswerSign, seen: Mapping[str, Evidence]) -> bool:
    names = list(seen)
    if (
        sign in ERRORS
    ):  # one lost or failed answer may be chance or a foreign server's: two names, and not of one foreign zone
        inside = sum(case.truth.inside(name) for name in names)
        return inside > 1 or _zones(case, names) > 1
    if sign is AnswerSign.BLANKET_NODATA:
        return _zones(case, names) > 1 or any(_undoubted(case, name) for name in names)
    if sign is AnswerSign.BLANKET_NXDOMAIN:
        return _zones(case, names) > 1 or any(_trusted(case, n) or _known(case, n, expected=True) for n in names)
    if sign is AnswerSign.SINKHOLE:
        certain = (one.contradicts or _trusted(case, n) or _known(case, n, expected=True) for n, one in seen.items())
        return _zones(case, names) > 1 or any(certain)
    return len([name for name in names if not _denied(case, name)]) > 1 or any(_known(case, name) for name in names)


def _trusted(case: _Case, name: str) -> bool:
    """Whether no foreign server can be at fault for what is said of this name."""
    return case.truth.inside(name) or is_within(name, DNS64_NAME)


def _known(case: _Case, name: str, *, expected: bool = False) -> bool:
    """Whether the name is known to have such a record."""
    has = case.truth.stated.get(name, frozenset())
    return case.qtype in (has | case.truth.expected.get(name, frozenset()) if expected else has)


def _denied(case: _Case, name: str) -> bool:
    """Whether the operator says that the name has no such record: then nothing was removed, whatever it looks like."""
    return case.qtype not in case.truth.expected.get(name, frozenset({case.qtype}))


def _undoubted(case: _Case, random: str) -> bool:
    """A random name missing for one type only: in a foreign zone, some name of it must be known to have what is not served."""
    if _trusted(case, random):
        return True
    served = case.of(AnswerSign.SERVED)
    related = {*case.truth.expected, *case.truth.stated}
    return any(
        _same_zone(random, name) and _known(case, name, expected=True) and name not in served for name in related
    )


def _zones(case: _Case, names: Iterable[str]) -> int:
    """How many zones the names lie in, as far as names tell: the cluster's domain is one."""
    zones: list[str] = []
    for name in names:
        place = case.truth.domain if case.truth.inside(name) else name
        if not any(_same_zone(place, known) for known in zones):
            zones.append(place)
    return len(zones)


def _same_zone(one: str, other: str) -> bool:
    a, b = (zone(name.removeprefix("random.")) for name in (one, other))
    return is_within(a, b) or is_within(b, a)


def _open(case: _Case) -> AaaaVerdict:
    """No kind is proven: filtered on one name is told, an open sign leaves it undecided, DNS64 and honest answers are named."""
    filtered = case.of(AnswerSign.FILTERED)
    if filtered:
        return AaaaVerdict(BlockKind.FILTERED, evidence=_texts(filtered))
    shown = {name: seen for sign in (*ORDER, AnswerSign.MARKED) for name, seen in case.of(sign).items()}
    doubtful = {**shown, **case.doubted}
    if doubtful:
        return AaaaVerdict(BlockKind.UNDECIDED, evidence=_texts(doubtful))
    if case.of(AnswerSign.DNS64):
        return AaaaVerdict(BlockKind.DNS64, evidence=_texts(case.of(AnswerSign.DNS64)))
    honest = {**case.of(AnswerSign.ABSENT), **case.of(AnswerSign.SERVED)}
    if honest:
        return AaaaVerdict(BlockKind.NONE, evidence=_texts(honest))
    return AaaaVerdict(BlockKind.UNDECIDED, evidence=_texts(case.of(AnswerSign.UNCLEAR)))


def _texts(seen: Mapping[str, Evidence]) -> tuple[str, ...]:
    return tuple(one.text for one in sorted(seen.values(), key=lambda one: one.name)[:SHOWN])
