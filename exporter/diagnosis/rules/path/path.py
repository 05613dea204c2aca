"""Path causes: what dials over the two families say together. Pure rules over the kept results and the probe before each.

Each layer tells one thing: ICMP passes and TCP does not; small passes and full-size does not; TCP passes and TLS does
not. Behind a destination may stand several endpoints of which one is dead, so a pair (vantage, destination) is judged
by its last dials: two of six must show it. A pair that was found stays until six dials in a row do not. Nothing is
decided on one dial.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

from exporter.diagnosis.endpoints import services_on
from exporter.diagnosis.engine.rule_input import Judgement, Rule, RuleInput, finding
from exporter.diagnosis.rules.path.samples import (
    ARRIVED,
    PathSample,
    Probes,
    RepeatedSample,
    at,
    probe_command,
    probes_of,
    say,
)
from exporter.model.family import FAMILIES, Family
from exporter.model.probe import Group, Layer, Observation, Outcome
from exporter.model.reason import Reason
from exporter.model.report import Cause, Finding, Pair
from exporter.model.subject import Subject
from exporter.model.vantage import PodState

SILENCED = frozenset({Outcome.TIMEOUT, Outcome.PROHIBITED})
SHOWN = 5  # pairs spelt out in the evidence
SPARED = 3  # IPv4 is spared where it fails at most once while IPv6 does so three times
ALWAYS = 6  # dials over IPv6 that must all fail where IPv4 fails as well from other vantages


def ipv6_tcp_blocked(view: RuleInput) -> Judgement:
    """ICMPv6 passes, TCP over IPv6 does not, TCP over IPv4 arrives: at least half of a group's destinations, or all of one vantage."""
    return _judge(view, Cause.IPV6_TCP_BLOCKED, _blocked, "TCP over IPv6 {tcp6}, ICMPv6 {icmp6}, TCP over IPv4 {tcp4}")


def ipv6_unreachable(view: RuleInput) -> Judgement:
    """Neither ICMPv6 nor TCP over IPv6 arrives, TCP over IPv4 does."""
    return _judge(
        view, Cause.IPV6_UNREACHABLE, _unreachable, "ICMPv6 {icmp6}, TCP over IPv6 {tcp6}, TCP over IPv4 {tcp4}"
    )


def ipv6_mtu_blackhole(view: RuleInput) -> Judgement:
    """A small echo passes and a full-size one vanishes in silence: to a peer, or to at least two destinations."""
    return _judge(
        view, Cause.IPV6_MTU_BLACKHOLE, _blackhole, "small echo ok, echo of {size} bytes unanswered, no Packet Too Big"
    )


def ipv6_tls_failed(view: RuleInput) -> Judgement:
    """TCP over IPv6 connects and TLS by name fails; over IPv4 it works."""
    return _judge(view, Cause.IPV6_TLS_FAILED, _tls_failed, "TLS over IPv6 {tls6}, over IPv4 {tls4}")


def target_down(view: RuleInput) -> Judgement:
    """A target that fails over every family it has, from every vantage: it is the target (or the peer), not a family."""
    if not view.snapshot.kept:
        return Reason.NO_TARGET
    if not view.snapshot.kept_before:
        return Reason.TOO_FEW_SAMPLES
    down = _down(view.snapshot.kept) & _down(view.snapshot.kept_before)
    if not down:
        return ()
    return (
        finding(
            Cause.TARGET_DOWN,
            down,
            evidence=[
                f"{subject} failed over every family, from every vantage, in two probes"
                for subject in sorted(down)[:SHOWN]
            ],
            command=probe_command(next((o for o in view.snapshot.kept if o.target.subject in down), None)),
        ),
    )


Standing = Mapping[Cause, Collection[Pair]]  # the pairs that each cause was found of in the round before


@dataclass(frozen=True, slots=True)
class _Shown:
    """A pair of which a cause holds, and what of its dials shows it."""

    recent: RepeatedSample
    holds: Callable[[PathSample], bool]

    @property
    def pair(self) -> Pair:
        return self.recent.pair

    @property
    def dial(self) -> PathSample:
        """The newest dial that shows it."""
        return self.recent.last(self.holds)


Sieve = Callable[[Probes, Standing], Iterable[_Shown]]


def _judge(view: RuleInput, cause: Cause, sieve: Sieve, template: str) -> Judgement:
    reason = _unknown(view, cause)
    if reason is not None:
        return reason
    probes = probes_of(view)
    doubtful = services_on(view.inventory, _lost_nodes(probes.now) & _lost_nodes(probes.before))
    shown = sieve(probes, view.standing)
    held = {s.pair: s for s in shown if s.pair.destination not in doubtful}
    return (_finding(cause, list(held.values()), template),) if held else ()


def _lost_nodes(found: tuple[PathSample, ...]) -> frozenset[str]:
    """Nodes that the host reaches over no family: a Service with endpoints there fails by chance, over either family."""
    return frozenset(
        d.destination.removeprefix("peer/")
        for d in found
        if d.group is Group.PEERS and d.vantage.kind == "host" and not (d.arrives(Family.V4) or d.arrives(Family.V6))
    )


def _unknown(view: RuleInput, cause: Cause) -> Reason | None:
    """Why the cause could not be told from these observations, if so."""
    layers = {
        Cause.IPV6_TLS_FAILED: (Layer.TLS,),
        Cause.IPV6_MTU_BLACKHOLE: (Layer.ICMP,),
        Cause.IPV6_TCP_BLOCKED: (Layer.TCP,),
    }.get(cause, (Layer.TCP, Layer.ICMP))
    tried = (o for o in view.snapshot.kept if o.target.expect_reachable)
    made = [o for o in tried if o.family is Family.V6 and o.layer in layers]
    if not made:
        return Reason.NO_TARGET
    if all(o.policy for o in made):
        return Reason.POLICY
    return None if view.snapshot.kept_before else Reason.TOO_FEW_SAMPLES


def _blocked(probes: Probes, standing: Standing) -> list[_Shown]:
    """Destinations with all three answers decide, each group of targets for itself; those dialled by TCP alone follow their vantage."""
    spared, stood = _spared(probes), standing.get(Cause.IPV6_TCP_BLOCKED, ())
    shown = [t for t in spared if t.shows(_is_blocked, stood)]
    full = [t for t in probes.pairs if t.shows(_answers_in_full) or t in shown]
    blocked = {d.pair for d in _enough([t.now for t in full], [t.now for t in shown])}
    vantages = _blocked_vantages(probes.now) & _blocked_vantages(probes.before)
    vantages |= {t.now.vantage.key for t in shown if t.pair in blocked}
    followers = [t for t in spared if t.now.vantage.key in vantages and t.shows(_follows, stood)]
    return [*(_Shown(t, _is_blocked) for t in shown if t.pair in blocked), *(_Shown(t, _follows) for t in followers)]


def _blocked_vantages(found: Iterable[PathSample]) -> set[str]:
    """Those from which one round shows it, to whatever destination."""
    full = [d for d in found if _answers_in_full(d)]
    return {d.vantage.key for d in _enough(full, [d for d in full if _is_blocked(d)])}


def _answers_in_full(dial: PathSample) -> bool:
    return (
        dial.outcome(Family.V6, Layer.ICMP) is Outcome.OK
        and dial.outcome(Family.V4, Layer.TCP) in ARRIVED
        and dial.outcome(Family.V6, Layer.TCP) is not None
    )


def _is_blocked(dial: PathSample) -> bool:
    return _answers_in_full(dial) and dial.outcome(Family.V6, Layer.TCP) in SILENCED


def _enough(full: list[PathSample], blocked: list[PathSample]) -> list[PathSample]:
    """At least half of a group's dials, or all of one vantage: a firewall towards the outside leaves the way to peers alone."""
    chosen = []
    for group in {d.group for d in blocked}:
        made, lost = Counter(_vantages(full, group)), Counter(_vantages(blocked, group))
        half = 2 * lost.total() >= made.total()
        chosen += [d for d in blocked if d.group is group and (half or lost[d.vantage.key] == made[d.vantage.key])]
    return chosen


def _vantages(found: Iterable[PathSample], group: Group) -> Iterator[str]:
    return (d.vantage.key for d in found if d.group is group)


def _follows(dial: PathSample) -> bool:
    """Dialled by TCP alone, in vain over IPv6 and not over IPv4."""
    return (
        (Family.V6, Layer.ICMP) not in dial.seen
        and dial.outcome(Family.V6, Layer.TCP) in SILENCED
        and dial.outcome(Family.V4, Layer.TCP) in ARRIVED
    )


def _spared(probes: Probes) -> list[RepeatedSample]:
    """The pairs that IPv4 does not fail as well: one of several endpoints that is dead fails either family by chance.

    What other vantages of this node saw of the destination counts. Where IPv4 fails there, only a pair that IPv6 always
    fails is spared.
    """
    lost: dict[Family, Counter[str]] = {family: Counter() for family in FAMILIES}
    for t in probes.pairs:
        for family in FAMILIES:
            lost[family][t.now.destination] += t.times(partial(_lost, family))

    def spared(t: RepeatedSample) -> bool:
        ipv4, ipv6 = (t.times(partial(_lost, family)) for family in FAMILIES)
        if SPARED * ipv4 > ipv6:
            return False
        everywhere = SPARED * lost[Family.V4][t.now.destination] <= lost[Family.V6][t.now.destination]
        return everywhere or (not ipv4 and len(t.dials) == ipv6 >= ALWAYS)

    return [t for t in probes.pairs if spared(t)]


def _lost(family: Family, dial: PathSample) -> bool:
    """Whether it was dialled over the family and did not arrive."""
    told = [dial.outcome(family, layer) for layer in (Layer.TCP, Layer.ICMP)]
    return any(told) and not dial.arrives(family)


def _unreachable(probes: Probes, standing: Standing) -> list[_Shown]:
    blocked = {shown.pair for shown in _blocked(probes, standing)}
    stood = standing.get(Cause.IPV6_UNREACHABLE, ())
    open_ = [t for t in probes.pairs if t.pair not in blocked]
    proved = [t for t in _spared(probes) if t.pair not in blocked and t.shows(_silent_over_ipv6_alone, stood)]
    alone = [t for t in open_ if not t.now.has_ipv4 and t.shows(_silent_over_ipv6, stood)]
    companions: dict[tuple[str, Group], set[str]] = {}
    for t in (*proved, *alone):
        companions.setdefault(_place(t), set()).add(t.now.destination)
    joined = [t for t in alone if len(companions[_place(t)]) > 1]
    # Where IPv4 is not meant to be, nothing can prove a target well: it must at least be no exception in its group.
    arrived = {_place(t) for t in probes.pairs if not t.both(lambda d: not d.arrives(Family.V6))}
    sole = [t for t in alone if not t.now.wants_ipv4 and _place(t) not in arrived]
    return [
        *(_Shown(t, _silent_over_ipv6_alone) for t in proved),
        *(_Shown(t, _silent_over_ipv6) for t in (*joined, *sole)),
    ]


def _place(recent: RepeatedSample) -> tuple[str, Group]:
    return recent.now.vantage.key, recent.now.group


def _silent_over_ipv6_alone(dial: PathSample) -> bool:
    return _silent_over_ipv6(dial) and dial.arrives(Family.V4)


def _silent_over_ipv6(dial: PathSample) -> bool:
    tcp, icmp = dial.outcome(Family.V6, Layer.TCP), dial.outcome(Family.V6, Layer.ICMP)
    if tcp is None and (dial.group is not Group.PEERS or (Family.V6, Layer.TCP) in dial.seen):
        return False  # many networks drop echo: outside, ICMP alone proves nothing
    unresolved = Outcome.NO_ADDRESS in {tcp, icmp}
    return not unresolved and (tcp is not None or icmp is not None) and tcp not in ARRIVED and icmp is not Outcome.OK


def _blackhole(probes: Probes, standing: Standing) -> list[_Shown]:
    """A peer, or two destinations, of the same vantage or not."""
    lost = [t for t in probes.pairs if t.shows(_loses_full_size, standing.get(Cause.IPV6_MTU_BLACKHOLE, ()))]
    enough = any(t.now.group is Group.PEERS for t in lost) or len({t.now.destination for t in lost}) > 1
    return [_Shown(t, _loses_full_size) for t in lost] if enough else []


def _loses_full_size(dial: PathSample) -> bool:
    echo = dial.seen.get((Family.V6, Layer.ICMP))
    return echo is not None and echo.counted and echo.outcome is Outcome.OK and echo.full_size is Outcome.TIMEOUT


def _tls_failed(probes: Probes, standing: Standing) -> list[_Shown]:
    stood = standing.get(Cause.IPV6_TLS_FAILED, ())
    return [_Shown(t, _fails_in_tls) for t in probes.pairs if t.shows(_fails_in_tls, stood)]


def _fails_in_tls(dial: PathSample) -> bool:
    return (
        dial.vantage.state is not PodState.INTERCEPTED
        and dial.outcome(Family.V6, Layer.TCP) is Outcome.OK
        and dial.outcome(Family.V6, Layer.TLS) not in {None, Outcome.OK}
        and dial.outcome(Family.V4, Layer.TLS) is Outcome.OK
    )


def _down(observations: Iterable[Observation]) -> set[Subject]:
    """Subjects that failed over every family they were asked over, at the deepest configured layer or before, and passed nowhere."""
    asked: dict[Subject, set[Family]] = {}
    failed: dict[Subject, set[Family]] = {}
    passed: set[Subject] = set()
    for o in observations:
        if not o.target.expect_reachable or (o.layer is Layer.ICMP and o.target.deepest is not Layer.ICMP):
            continue
        asked.setdefault(o.target.subject, set()).add(o.family)
        if o.counted and not o.passed:
            failed.setdefault(o.target.subject, set()).add(o.family)
        elif o.counted and o.layer is o.target.deepest:
            passed.add(o.target.subject)
    return {subject for subject, families in failed.items() if families == asked[subject]} - passed


def _finding(cause: Cause, failing: list[_Shown], template: str) -> Finding:
    failing = sorted(failing, key=lambda s: s.pair)
    evidence = [_line(s, template) for s in failing[:SHOWN]]
    if len(failing) > SHOWN:
        evidence.append(f"and {len(failing) - SHOWN} more")
    observation = next((o for (family, _), o in failing[0].dial.seen.items() if family is Family.V6), None)
    return finding(
        cause,
        [subject for s in failing for subject in (s.pair.vantage, s.pair.destination)],
        evidence=evidence,
        command=probe_command(observation),
        pairs=[s.pair for s in failing],
    )


def _line(shown: _Shown, template: str) -> str:
    """What one pair shows; where it is not so in each of the last dials, in how many."""
    dial, times, made = shown.dial, shown.recent.times(shown.holds), len(shown.recent.dials)
    often = f", in {times} of the last {made} dials" if times < made else ""
    return f"{dial.vantage.subject} to {dial.destination}{at(dial)}: {say(dial, template)}{often}"


PATH_RULES: dict[Cause, Rule] = {
    Cause.IPV6_TCP_BLOCKED: ipv6_tcp_blocked,
    Cause.IPV6_UNREACHABLE: ipv6_unreachable,
    Cause.IPV6_MTU_BLACKHOLE: ipv6_mtu_blackhole,
    Cause.IPV6_TLS_FAILED: ipv6_tls_failed,
    Cause.TARGET_DOWN: target_down,
}
