"""Path causes: what dials over the two families show together. Rules over the kept results and the probe before; pure.

Each layer shows one thing: ICMP passes and TCP does not; small passes and full-size does not; TCP passes and TLS does
not. A destination may have several endpoints of which one is dead, so a pair (vantage, destination) is judged by its
last dials: two of six must show the fault, and none is decided on one dial. A pair that was found stays until six dials
in a row do not show it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Container, Iterable
from dataclasses import dataclass
from functools import lru_cache

from exporter.diagnosis.chance import LOSSES, unequal
from exporter.diagnosis.engine.rule_input import Judgement, RuleInput
from exporter.diagnosis.rules.judging import found
from exporter.diagnosis.samples import (
    LOST,
    describe,
    dialled,
    probe_command,
    probes_of,
)
from exporter.model.cause import Cause
from exporter.model.dial import ARRIVED, Dial, Dials
from exporter.model.family import FAMILIES
from exporter.model.grouping import grouped
from exporter.model.probe import Group, Layer, Outcome
from exporter.model.reason import Reason
from exporter.model.subject import Pair, Subject
from exporter.model.vantage import PodState

SILENCED = frozenset({Outcome.TIMEOUT, Outcome.PROHIBITED})
SHOWN = 5  # pairs listed in the evidence
SPARED = 3  # IPv4 is spared where it fails at most once while IPv6 does so three times
V4, V6 = FAMILIES


@dataclass(frozen=True, slots=True)
class _Shown:
    """A pair for which a cause holds, and which of its dials show it."""

    recent: Dials
    holds: Callable[[Dial], bool]

    @property
    def pair(self) -> Pair:
        return self.recent.pair


def ipv6_tcp_blocked(view: RuleInput) -> Judgement:
    """ICMPv6 and TCP over IPv4 pass, TCP over IPv6 does not: to half of a group's destinations, or all of a vantage."""
    template = "TCP over IPv6 {tcp6}, ICMPv6 {icmp6}, TCP over IPv4 {tcp4}"
    return _judge(view, Cause.IPV6_TCP_BLOCKED, _blocked, template)


def ipv6_unreachable(view: RuleInput) -> Judgement:
    """Neither ICMPv6 nor TCP over IPv6 arrives, TCP over IPv4 does."""
    template = "ICMPv6 {icmp6}, TCP over IPv6 {tcp6}, TCP over IPv4 {tcp4}"
    return _judge(view, Cause.IPV6_UNREACHABLE, _unreachable, template)


def ipv6_mtu_blackhole(view: RuleInput) -> Judgement:
    """A small echo passes and a full-size one vanishes silently: to a peer, or to at least two destinations."""
    template = "small echo ok, echo of {size} bytes unanswered, no Packet Too Big"
    return _judge(view, Cause.IPV6_MTU_BLACKHOLE, _blackhole, template)


def ipv6_tls_failed(view: RuleInput) -> Judgement:
    """TCP over IPv6 connects and TLS by name fails; over IPv4 it works."""
    return _judge(view, Cause.IPV6_TLS_FAILED, _tls_failed, "TLS over IPv6 {tls6}, over IPv4 {tls4}")


def target_refuses_ipv6(view: RuleInput) -> Judgement:
    """TCP over IPv6 is refused where it connects over IPv4, to a target that is no peer: it does not listen on IPv6."""
    return _judge(view, Cause.TARGET_REFUSES_IPV6, _refusing, "TCP over IPv6 {tcp6}, over IPv4 {tcp4}")


def target_down(view: RuleInput) -> Judgement:
    """A target fails over every family it has, from every vantage: it is the target (or the peer), not a family."""
    if not view.snapshot.last:
        return Reason.NO_TARGET
    if all(o.family in d.unasked for d in view.snapshot.last for o in d.observations):
        return Reason.NOT_ALLOWED
    if not view.snapshot.before_last:
        return Reason.TOO_FEW_SAMPLES
    probes = probes_of(view)
    down = _down(probes.now) & _down(probes.before)
    if not down:
        return ()
    shown = sorted(down)[:SHOWN]
    failed = [o for o in view.snapshot.kept if o.target.subject in down and o.counted]
    return found(
        Cause.TARGET_DOWN,
        down,
        evidence=[f"{subject} failed over every family, from every vantage, in two probes" for subject in shown],
        command=probe_command(next(iter(failed), None)),
        pairs=[Pair(o.vantage.subject, o.target.subject, o.family) for o in failed],
    )


def _judge(view: RuleInput, cause: Cause, select: Callable[[RuleInput], Iterable[_Shown]], template: str) -> Judgement:
    reason = _unknown(view, cause)
    if reason is not None:
        return reason
    held = {s.pair: s for s in select(view)}
    return _found(cause, sorted(held.values(), key=lambda s: s.pair), template) if held else ()


def _unknown(view: RuleInput, cause: Cause) -> Reason | None:
    """Why these observations cannot show the cause; None where they can."""
    layers = {
        Cause.IPV6_TLS_FAILED: (Layer.TLS,),
        Cause.IPV6_MTU_BLACKHOLE: (Layer.ICMP,),
        Cause.IPV6_TCP_BLOCKED: (Layer.TCP,),
        Cause.TARGET_REFUSES_IPV6: (Layer.TCP,),
    }.get(cause, (Layer.TCP, Layer.ICMP))
    reason = Reason.NO_TARGET
    for dial in probes_of(view).now:
        if V6 in dial.unasked:
            reason = Reason.NOT_ALLOWED if reason is Reason.NO_TARGET else reason
        elif made := [o for o in dial.observations if o.family is V6 and o.layer in layers]:
            if not all(o.policy for o in made):
                return None if view.snapshot.before_last else Reason.TOO_FEW_SAMPLES
            reason = Reason.POLICY
    return reason


def _standing(view: RuleInput, cause: Cause) -> Container[Pair]:
    return view.standing.get(cause, frozenset())


@lru_cache(maxsize=1)
def _blocked(view: RuleInput) -> tuple[_Shown, ...]:
    """Destinations with all three answers decide, each group of targets separately; those dialled by TCP only follow.

    A destination that is dialled by TCP only counts where its vantage is known to be blocked.
    """
    probes, standing = probes_of(view), _standing(view, Cause.IPV6_TCP_BLOCKED)
    shown = {t: None for t in _spared(view) if t.shows(_is_blocked, standing)}
    full = [t for t in probes.pairs if t.shows(_answers_in_full) or t in shown] if shown else []
    blocked = {d.pair for d in _enough([t.now for t in full], [t.now for t in shown])}
    vantages = _blocked_vantages(probes.now) & _blocked_vantages(probes.before)
    vantages |= {t.now.vantage.key for t in shown if t.pair in blocked}
    followers = [t for t in _spared(view) if t.now.vantage.key in vantages and t.shows(_follows, standing)]
    return (*(_Shown(t, _is_blocked) for t in shown if t.pair in blocked), *(_Shown(t, _follows) for t in followers))


def _blocked_vantages(found: Iterable[Dial]) -> set[str]:
    """Those from which one round shows it, to any destination."""
    if not (blocked := [d for d in found if _is_blocked(d)]):
        return set()
    return {d.vantage.key for d in _enough([d for d in found if _answers_in_full(d)], blocked)}


def _answers_in_full(dial: Dial) -> bool:
    icmp, tcp6, tcp4 = dial.outcome(V6, Layer.ICMP), dial.outcome(V6, Layer.TCP), dial.outcome(V4, Layer.TCP)
    return icmp is Outcome.OK and tcp6 is not None and tcp4 in ARRIVED


def _is_blocked(dial: Dial) -> bool:
    return dial.outcome(V6, Layer.TCP) in SILENCED and _answers_in_full(dial)


def _enough(full: list[Dial], blocked: list[Dial]) -> list[Dial]:
    """At least half of a group's dials, or all of one vantage: a firewall to the outside does not affect peers."""
    made, lost = Counter((d.group, d.vantage.key) for d in full), Counter((d.group, d.vantage.key) for d in blocked)
    made_of, lost_of = Counter(d.group for d in full), Counter(d.group for d in blocked)
    return [
        d
        for d in blocked
        if 2 * lost_of[d.group] >= made_of[d.group] or lost[d.group, d.vantage.key] == made[d.group, d.vantage.key]
    ]


def _follows(dial: Dial) -> bool:
    """Dialled by TCP only, in vain over IPv6 and successfully over IPv4."""
    tcp6, tcp4 = dial.outcome(V6, Layer.TCP), dial.outcome(V4, Layer.TCP)
    return (V6, Layer.ICMP) not in dial.seen and tcp6 in SILENCED and tcp4 in ARRIVED


@lru_cache(maxsize=2)
def _spared(view: RuleInput, layer: Layer = Layer.TCP) -> tuple[Dials, ...]:
    """The pairs that IPv6 alone fails, not chance; those that were found stay while IPv4 fails rarely."""
    standing = frozenset[Pair]().union(*view.standing.values())
    return tuple(
        t
        for t in probes_of(view).pairs
        if t.times(LOST[V6, layer]) >= max(1, SPARED * t.times(LOST[V4, layer]))
        and (t.pair in standing or (t.now.vantage.key, t.now.destination) in unequal(view, layer))
    )


def _unreachable(view: RuleInput) -> list[_Shown]:
    blocked, standing = {shown.pair for shown in _blocked(view)}, _standing(view, Cause.IPV6_UNREACHABLE)
    pairs = probes_of(view).pairs
    proved = [t for t in _spared(view) if t.pair not in blocked and t.shows(_is_silent_over_v6_only, standing)]
    lone = [t for t in pairs if t.pair not in blocked and not t.now.has_ipv4 and t.shows(_is_silent_over_v6, standing)]
    alive = [t for t in lone if not _may_be_down(view, t, [*proved, *lone])]
    return [*(_Shown(t, _is_silent_over_v6_only) for t in proved), *(_Shown(t, _is_silent_over_v6) for t in alive)]


def _may_be_down(view: RuleInput, t: Dials, failing: Iterable[Dials]) -> bool:
    """Whether the destination itself may be down; no IPv4 proves that it is up.

    It is the path where others of its group fail as well (of peers, all), where nothing at all arrives from the
    vantage, and where the destination answers all other vantages. The last two are asked where IPv4 is not meant to be.
    """
    probes = probes_of(view)
    arrived = {_origin(d) for d in (*probes.now, *probes.before) if d.arrives(V6)}
    failing_there = {o.now.destination: o.now.group for o in failing if o.now.vantage.key == t.now.vantage.key}
    if sum(group is t.now.group for group in failing_there.values()) > 1:
        return t.now.group is Group.PEERS and _origin(t.now) in arrived
    if (view.expected(V4) is not False and V4 in t.now.vantage.families) or not all(map(_is_silent_over_v6, t.made)):
        return True
    others = [o for o in probes.pairs if o.now.destination == t.now.destination and o is not t]
    answered = bool(others) and all(d.arrives(V6) for o in others for d in o.made)
    isolated = len(failing_there) > 1 and t.now.vantage.key not in {key for key, _ in arrived}
    return not answered and not isolated


def _origin(dial: Dial) -> tuple[str, Group]:
    return dial.vantage.key, dial.group


def _is_silent_over_v6_only(dial: Dial) -> bool:
    return _is_silent_over_v6(dial) and dial.arrives(V4)


def _is_silent_over_v6(dial: Dial) -> bool:
    tcp, icmp = dial.outcome(V6, Layer.TCP), dial.outcome(V6, Layer.ICMP)
    if tcp is None and (dial.group is not Group.PEERS or (V6, Layer.TCP) in dial.seen):
        return False  # many networks drop echo: outside, ICMP by itself proves nothing
    unresolved = Outcome.NO_ADDRESS in {tcp, icmp}
    return not unresolved and (tcp is not None or icmp is not None) and tcp not in ARRIVED and icmp is not Outcome.OK


def _blackhole(view: RuleInput) -> list[_Shown]:
    """A peer, or two destinations, from the same vantage or not."""
    standing = _standing(view, Cause.IPV6_MTU_BLACKHOLE)
    lost = [t for t in probes_of(view).pairs if t.shows(loses_full_size, standing)]
    enough = any(t.now.group is Group.PEERS for t in lost) or len({t.now.destination for t in lost}) > 1
    return [_Shown(t, loses_full_size) for t in lost] if enough else []


def loses_full_size(dial: Dial) -> bool:
    """A small echo came back and a full-size one got no answer, not even Packet Too Big."""
    echo = dial.seen.get((V6, Layer.ICMP))
    return echo is not None and echo.counted and echo.outcome is Outcome.OK and echo.full_size is Outcome.TIMEOUT


def _tls_failed(view: RuleInput) -> list[_Shown]:
    standing = _standing(view, Cause.IPV6_TLS_FAILED)
    return [_Shown(t, _fails_in_tls) for t in _spared(view, Layer.TLS) if t.shows(_fails_in_tls, standing)]


def _fails_in_tls(dial: Dial) -> bool:
    if dial.vantage.state is PodState.INTERCEPTED or dial.outcome(V6, Layer.TCP) is not Outcome.OK:
        return False
    return dial.outcome(V6, Layer.TLS) not in {None, Outcome.OK} and dial.outcome(V4, Layer.TLS) is Outcome.OK


def _refusing(view: RuleInput) -> list[_Shown]:
    """By destination: a process that ends refuses now and then, over either family."""
    standing = _standing(view, Cause.TARGET_REFUSES_IPV6)
    shown: list[_Shown] = []
    refusing = {t.now.destination for t in probes_of(view).pairs if t.times(_refuses_ipv6)}
    pairs = (t for t in probes_of(view).pairs if t.now.destination in refusing)
    for pool in grouped(pairs, lambda t: t.now.destination).values():
        alone, over_ipv4 = (sum(t.times(holds) for t in pool) for holds in (_refuses_ipv6, _refuses_ipv4))
        always = all(map(_refuses_ipv6, (d for t in pool for d in t.made[:2])))
        if SPARED * over_ipv4 <= alone and (always or alone >= LOSSES or any(t.pair in standing for t in pool)):
            shown += [_Shown(t, _refuses_ipv6) for t in pool if t.shows(_refuses_ipv6, standing)]
    return shown


def _refuses_ipv6(dial: Dial) -> bool:
    return (
        dial.group is not Group.PEERS
        and dial.outcome(V6, Layer.TCP) is Outcome.REFUSED
        and dial.outcome(V4, Layer.TCP) is Outcome.OK
    )


def _refuses_ipv4(dial: Dial) -> bool:
    return dial.outcome(V4, Layer.TCP) is Outcome.REFUSED


def _down(dials: Iterable[Dial]) -> set[Subject]:
    """Subjects that failed over every family asked, at the deepest configured layer or before, and passed nowhere.

    Not those that only lack an address where another vantage's nameservers, which may have one, were not asked.
    """
    up = {d.destination for d in dials if any(d.passed.values())}
    observations = (o for d in dials if d.destination not in up for o in d.observations)
    decisive = [o for o in observations if o.layer is not Layer.ICMP or o.target.deepest is Layer.ICMP]
    asked = {(o.target.subject, o.family) for o in decisive}
    failed = {(o.target.subject, o.family) for o in decisive if o.counted and not o.passed}
    unasked = {o.target.subject for o in decisive if o.outcome is Outcome.NOT_ALLOWED}
    reached = {o.target.subject for o in decisive if o.counted and o.outcome is not Outcome.NO_ADDRESS}
    return {s for s, _ in failed} - {s for s, _ in asked - failed} - (unasked - reached)


def _found(cause: Cause, failing: list[_Shown], template: str) -> Judgement:
    evidence = [_line(s, template) for s in failing[:SHOWN]]
    if len(failing) > SHOWN:
        evidence.append(f"and {len(failing) - SHOWN} more")
    seen = failing[0].recent.last(failing[0].holds).seen
    return found(
        cause,
        [subject for s in failing for subject in (s.pair.vantage, s.pair.destination)],
        evidence=evidence,
        command=probe_command(next((o for (family, _), o in seen.items() if family is V6), None)),
        pairs=[s.pair for s in failing],
    )


def _line(shown: _Shown, template: str) -> str:
    """What the newest dial of a pair that shows it shows; and in how many dials, where not in all."""
    dial, times, made = shown.recent.last(shown.holds), shown.recent.times(shown.holds), len(shown.recent.made)
    often = f", in {times} of the last {made} dials" if times < made else ""
    return f"{dial.vantage.subject} to {dial.destination}{dialled(dial)}: {describe(dial, template)}{often}"
