"""Ordinary life on the real kernel: whatever clusters do all day, or are by choice, is no cause at warning or above
(tests/lab/life.py).
"""

from __future__ import annotations

import pytest

from tests.lab.cluster import Cluster
from tests.lab.life import SCENARIOS, Scenario
from tests.lab.measure import Seen, read

pytestmark = pytest.mark.real

AT_FIRST = 12  # rounds in which links may still come up
GOOD = 3
ROUNDS = 4  # after each step: two probes and their clearing


def settle(cluster: Cluster) -> None:
    """Until three rounds in a row are quiet: a lab's links may come up a second after they are made."""
    good, last = 0, None
    for _ in range(AT_FIRST):
        last = read(cluster.round())
        good = good + 1 if is_quiet(last) and False not in last.families.values() else 0
        if good == GOOD:
            return
    pytest.fail(f"never quiet: {last}")


def is_quiet(seen: Seen) -> bool:
    """Nothing at warning or above: what is explained would be such a cause as well, and so would be what explains
    it.
    """
    return not seen.causes and not seen.explained and not seen.errors


@pytest.mark.parametrize("scenario", SCENARIOS.values(), ids=list(SCENARIOS))
def test_ordinary_life_is_no_cause(scenario: Scenario) -> None:
    with Cluster(lab=scenario.lab(), roles=scenario.roles) as cluster:
        scenario.base(cluster)
        settle(cluster)
        last = None
        for number, step in enumerate(scenario.steps, 1):
            step(cluster)
            for _ in range(ROUNDS):
                last = read(cluster.round())
                assert is_quiet(last), f"after step {number}"
                assert last.infos <= set(scenario.infos), f"after step {number}"
        assert last is not None
        assert last.families == {"IPv4": scenario.ipv4, "IPv6": scenario.ipv6}
