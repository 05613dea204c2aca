"""What a stopped or starved exporter makes of its own lateness: nothing that is said of the network."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address

import pytest

from exporter.model.probe import (
    Layer,
    Lookup,
    LookupOutcome,
    Nameserver,
    Observation,
    Outcome,
    Purpose,
    Question,
    Timeouts,
)
from exporter.probes.runner import discount_event_loop_stall, discount_lookup_stall
from tests.unit.scene import HOST, V6, target

TIMEOUTS = Timeouts(whole=10.0)
QUESTION = Question(
    vantage=HOST,
    server=Nameserver(ip_address("192.0.2.53"), "host"),
    name="a.test",
    qtype="A",
    label="a.test",
    purpose=Purpose.VERDICT,
    timeout=2.0,
)


@pytest.mark.parametrize(
    ("layer", "outcome", "seconds", "told", "timed"),
    [
        (Layer.TCP, Outcome.TIMEOUT, 3.02, Outcome.TIMEOUT, 3.02),
        (Layer.TCP, Outcome.TIMEOUT, 63.0, Outcome.LOCAL, None),
        (Layer.TCP, Outcome.OK, 0.01, Outcome.OK, 0.01),
        (Layer.TCP, Outcome.OK, 63.0, Outcome.OK, None),
        (Layer.TCP, Outcome.REFUSED, 63.0, Outcome.REFUSED, None),
        (Layer.ICMP, Outcome.TIMEOUT, 1.6, Outcome.LOCAL, None),
        (Layer.TLS, Outcome.TIMEOUT, 5.2, Outcome.TIMEOUT, 5.2),
        (Layer.TLS, Outcome.NOT_REACHED, None, Outcome.NOT_REACHED, None),
    ],
)
def test_a_probe_that_waited_longer_than_it_was_allowed_says_nothing_of_time(
    layer: Layer, outcome: Outcome, seconds: float | None, told: Outcome, timed: float | None
) -> None:
    made = discount_event_loop_stall(
        Observation(vantage=HOST, target=target("web"), layer=layer, family=V6, outcome=outcome, seconds=seconds),
        TIMEOUTS,
    )
    assert (made.outcome, made.seconds) == (told, timed)


def test_a_short_deadline_of_the_whole_counts() -> None:
    late = Observation(
        vantage=HOST, target=target("web"), layer=Layer.TLS, family=V6, outcome=Outcome.TIMEOUT, seconds=2.0
    )
    assert discount_event_loop_stall(late, TIMEOUTS).outcome is Outcome.TIMEOUT
    assert discount_event_loop_stall(late, replace(TIMEOUTS, whole=1.0)).outcome is Outcome.LOCAL


@pytest.mark.parametrize(
    ("outcome", "seconds", "told", "timed"),
    [
        (LookupOutcome.TIMEOUT, 2.01, LookupOutcome.TIMEOUT, 2.01),
        (LookupOutcome.TIMEOUT, 9.0, LookupOutcome.NOT_ASKED, None),
        (LookupOutcome.ANSWER, 9.0, LookupOutcome.ANSWER, None),
        (LookupOutcome.NOT_ALLOWED, None, LookupOutcome.NOT_ALLOWED, None),
    ],
)
def test_the_same_of_a_lookup(
    outcome: LookupOutcome, seconds: float | None, told: LookupOutcome, timed: float | None
) -> None:
    made = discount_lookup_stall(Lookup(question=QUESTION, outcome=outcome, seconds=seconds))
    assert (made.outcome, made.seconds) == (told, timed)
