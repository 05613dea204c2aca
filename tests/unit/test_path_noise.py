"""Whatever outcomes two rounds of dials have: no path rule fails, and none blames IPv6 where it shows nothing that IPv4
does not.
"""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.diagnosis.rules.path import PATH_RULES
from exporter.model.cause import Cause
from exporter.model.probe import Layer, Observation, Outcome
from tests.unit.broken_world import DNS, OUTSIDE, PEERS, SERVICE
from tests.unit.scene import HOST, pod, seen, view

PLACES = (HOST, pod("web"), pod("db"))
TARGETS = (*OUTSIDE, SERVICE, DNS, *PEERS)
WORDS = tuple(outcome.value for outcome in Outcome)
outcomes = st.sampled_from(WORDS)
full_sizes = st.sampled_from((None, Outcome.OK, Outcome.TIMEOUT, Outcome.TOO_BIG))


@st.composite
def rounds(draw: st.DrawFn) -> list[Observation]:
    """One round: every place dials every target, each layer and family ending as it likes."""
    made: list[Observation] = []
    for place in PLACES:
        for to in TARGETS:
            said = " ".join(
                f"{layer}{family}={draw(outcomes)}" for layer in (*to.layers, Layer.TLS) for family in (4, 6)
            )
            made += seen(place, to, said, full_size=draw(full_sizes), policy=draw(st.booleans()))
    return made


@settings(max_examples=60)
@given(rounds(), rounds())
def test_any_outcomes_are_judged(kept: list[Observation], before: list[Observation]) -> None:
    for cause, rule in PATH_RULES.items():
        said = rule(view(kept=kept, before=before))
        for finding in said if isinstance(said, tuple) else ():
            assert finding.cause is cause
            assert finding.evidence
            assert finding.command
            pairs = {(o.vantage.subject, o.target.subject) for o in kept if not o.policy}
            assert {(p.vantage, p.destination) for p in finding.pairs} <= pairs


@settings(max_examples=60)
@given(rounds())
def test_what_befalls_both_families_alike_is_no_cause_of_ipv6(one: list[Observation]) -> None:
    """Only a large packet that vanishes is one: whether or not IPv4 suffers."""
    twins = {(o.vantage.key, o.target.subject, o.layer): o.outcome for o in one if o.family.value == "IPv4"}
    same = [
        o
        if o.family.value == "IPv4"
        else Observation(
            vantage=o.vantage,
            target=o.target,
            layer=o.layer,
            family=o.family,
            outcome=twins[o.vantage.key, o.target.subject, o.layer],
            seconds=0.001,
            address=o.address,
            time=o.time,
        )
        for o in one
    ]  # fmt: skip
    seen_by = view(kept=same)
    for cause in (Cause.IPV6_TCP_BLOCKED, Cause.IPV6_UNREACHABLE, Cause.IPV6_MTU_BLACKHOLE, Cause.IPV6_TLS_FAILED):
        said = PATH_RULES[cause](seen_by)
        assert not isinstance(said, tuple) or not said, (cause, said)
