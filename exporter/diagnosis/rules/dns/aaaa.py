"""Whether a nameserver withholds AAAA (or A), and how: the verdict over two rounds (dualstack_dns_aaaa_block).

Between answer_signs.py, which reads single answers, and the rules of servers.py. Nothing is decided on one sample: a
sign counts if both rounds show it for the same name, and the answers of the last minutes do not contradict it
(steadiness.py). An honest resolver must never be called a blocker, so a foreign zone's own faults (a server that omits
an SOA, one that denies names by type, one that fails or is silent for a type) need two names or zones, or knowledge
from other sources. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from exporter.diagnosis.rules.dns.answer_signs import AnswerSign, Evidence, KnownRecords, Sign, read_signs
from exporter.diagnosis.rules.dns.steadiness import ERROR_SIGNS, Steadiness
from exporter.model.dns import BlockKind
from exporter.model.dns_name import is_within, zone
from exporter.model.grouping import grouped
from exporter.model.probe import Lookup
from exporter.plan.aaaa_questions import DNS64_NAME, RANDOM

SHOWN = 4  # lines of evidence
# Of several servers under one label the worst is shown: in the order of the kinds, NONE only if all are.
WORST_FIRST = (*tuple(BlockKind)[1:], BlockKind.NONE)
ORDER = (
    BlockKind.BLANKET_NODATA,
    BlockKind.BLANKET_NXDOMAIN,
    BlockKind.REFUSED,
    BlockKind.SERVFAIL,
    BlockKind.DROPPED,
    BlockKind.SINKHOLE,
    BlockKind.FILTERED,
)
CRITICAL = frozenset(ORDER[:5])
SUSPICIONS = frozenset({*ORDER, AnswerSign.MARKED})
# What the servers of a foreign zone may do to a type that their names lack.
FOREIGN_FAULTS = ERROR_SIGNS | {BlockKind.BLANKET_NXDOMAIN}


@dataclass(frozen=True, slots=True)
class AaaaVerdict:
    """The kind, whether it is a cause (`withholds`; filtered for one name is none), and the answers that show it."""

    kind: BlockKind
    withholds: bool = False
    evidence: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Case:
    """The signs that both rounds show, by sign and name, and what is known from other sources."""

    qtype: str
    truth: KnownRecords
    signs: Mapping[Sign, Mapping[str, Evidence]]
    doubted: Mapping[str, Evidence] = field(default_factory=dict)  # by name, signs that the last minutes contradict

    def of(self, *signs: Sign) -> dict[str, Evidence]:
        return {name: seen for sign in signs for name, seen in self.signs.get(sign, {}).items()}

    def is_trusted(self, name: str) -> bool:
        """Whether no foreign server can be at fault for the answers about this name."""
        return self.truth.inside(name) or is_within(name, DNS64_NAME)

    def is_stated(self, name: str) -> bool:
        """Whether the name certainly has such a record."""
        return self.qtype in self.truth.stated.get(name, ())

    def is_known(self, name: str) -> bool:
        """Whether the name has such a record, certainly or as the operator configured."""
        return self.is_stated(name) or self.qtype in self.truth.expected.get(name, ())

    def is_denied(self, name: str) -> bool:
        """Whether the operator configured that the name has no such record: then nothing was removed."""
        return self.qtype not in self.truth.expected.get(name, (self.qtype,))

    def lacks(self, name: str) -> bool:
        """Whether the name has no such record, as the operator configured or by a reference that has only the other."""
        return self.is_denied(name) or self.qtype not in self.truth.stated.get(name, (self.qtype,))

    def zones(self, names: Iterable[str]) -> int:
        """How many zones the names are in, as far as names show; the cluster's domain is one."""
        zones: list[str] = []
        for name in names:
            place = self.truth.domain if self.truth.inside(name) else name
            if not any(_same_zone(place, known) for known in zones):
                zones.append(place)
        return len(zones)


def aaaa_verdict(
    now: Iterable[Lookup],
    before: Iterable[Lookup],
    truth: KnownRecords,
    *,
    qtype: str = "AAAA",
    steadiness: Steadiness | None = None,
) -> AaaaVerdict:
    """The verdict on one nameserver from the verdict sets of this round and the one before, from all vantages.

    Answers are compared only with others to the same vantage; without a round before, everything is undecided.
    `steadiness`: the server's answers of the last minutes (None: only the two sets count).
    """
    first, second = _signs(now, qtype), _signs(before, qtype)
    signs: dict[Sign, dict[str, Evidence]] = {}
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


def _signs(lookups: Iterable[Lookup], qtype: str) -> dict[Sign, dict[str, Evidence]]:
    """The signs of a round over all vantages; each is read by itself, as a server may treat them differently."""
    found: dict[Sign, dict[str, Evidence]] = {}
    for asked in grouped(lookups, lambda lookup: lookup.question.vantage.key).values():
        for seen in read_signs(asked, qtype):
            found.setdefault(seen.sign, {}).setdefault(seen.name, seen)
    return found


def _withheld(case: _Case) -> AaaaVerdict | None:
    """The first kind, in the order of decisions, whose signs suffice."""
    for kind in ORDER:
        seen = case.of(kind)
        if kind is BlockKind.FILTERED and len(case.of(AnswerSign.MARKED, kind)) > 1:
            seen = case.of(AnswerSign.MARKED, kind)  # an extended error counts once two names show something
        if kind in FOREIGN_FAULTS:
            seen = _of_the_resolver(case, seen)
        if seen and _suffices(case, kind, seen):
            return AaaaVerdict(kind, withholds=True, evidence=_texts(seen))
    return None


def _of_the_resolver(case: _Case, seen: dict[str, Evidence]) -> dict[str, Evidence]:
    """What the resolver itself answers for: a foreign zone's servers may answer badly for a type that their names lack.

    Such names, and any of one foreign zone only, show nothing about the resolver while it answers that type, with a
    record or properly without, for a name outside their zones.
    """
    foreign = [name for name in seen if not case.truth.inside(name)]
    answered = case.of(AnswerSign.SERVED, AnswerSign.ABSENT)
    if all(any(_same_zone(one, name) for name in foreign) for one in answered):
        return seen
    proven = [name for name in foreign if not case.lacks(name)]
    counted = proven if case.zones(proven) > 1 else []
    return {name: one for name, one in seen.items() if name not in foreign or name in counted}


def _suffices(case: _Case, kind: BlockKind, seen: Mapping[str, Evidence]) -> bool:
    if kind is BlockKind.FILTERED:
        return sum(not case.is_denied(name) for name in seen) > 1 or any(map(case.is_stated, seen))
    if case.zones(seen) > 1:
        return True
    if (
        kind in ERROR_SIGNS
    ):  # one lost or failed answer may be chance or a foreign server's, and so may be those of its zone
        return sum(map(case.truth.inside, seen)) > 1
    if kind is BlockKind.BLANKET_NODATA:
        return any(_is_undoubted(case, name) for name in seen)
    certain = (name for name in seen if case.is_trusted(name) or case.is_known(name))
    return any(certain) or (kind is BlockKind.SINKHOLE and any(one.contradicts for one in seen.values()))


def _is_undoubted(case: _Case, random: str) -> bool:
    """A random name missing for one type: in a foreign zone, a name known to have such a record must not be served."""
    served = case.of(AnswerSign.SERVED)
    return case.is_trusted(random) or any(
        _same_zone(random, name) and case.is_known(name) and name not in served
        for name in {*case.truth.expected, *case.truth.stated}
    )


def _same_zone(one: str, other: str) -> bool:
    a, b = (zone(name.removeprefix(f"{RANDOM}.")) for name in (one, other))
    return is_within(a, b) or is_within(b, a)


def _open(case: _Case) -> AaaaVerdict:
    """Nothing is proven: filtered for one name comes first, then open signs, DNS64 and honest answers."""
    for kind, seen in (
        (BlockKind.FILTERED, case.of(BlockKind.FILTERED)),
        (BlockKind.UNDECIDED, {**case.of(*ORDER, AnswerSign.MARKED), **case.doubted}),
        (BlockKind.DNS64, case.of(BlockKind.DNS64)),
        (BlockKind.NONE, case.of(AnswerSign.ABSENT, AnswerSign.SERVED)),
    ):
        if seen:
            return AaaaVerdict(kind, evidence=_texts(seen))
    return AaaaVerdict(BlockKind.UNDECIDED, evidence=_texts(case.of(AnswerSign.UNCLEAR)))


def _texts(seen: Mapping[str, Evidence]) -> tuple[str, ...]:
    return tuple(one.text for one in sorted(seen.values(), key=lambda one: one.name)[:SHOWN])
