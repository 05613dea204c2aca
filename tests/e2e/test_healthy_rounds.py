"""A hundred rounds of a healthy cluster on the real kernel: not one cause, not even an info, in none of them."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.lab.cluster import Cluster
from tests.lab.measure import read, settle

pytestmark = pytest.mark.real

ROUNDS = 100


@pytest.mark.parametrize("roles", [("all",), ("node", "cluster")], ids="-".join)
def test_a_hundred_healthy_rounds_find_nothing(roles: tuple[str, ...]) -> None:
    with Cluster(roles=roles) as cluster:
        settle(cluster)
        found: Counter[str] = Counter()
        for _ in range(ROUNDS):
            seen = read(cluster.round())
            found.update((*seen.causes, *seen.explained, *seen.infos, *seen.errors))
        assert found == {}
        settle(cluster)  # a single lost probe of two pods makes a family's verdict, and is no cause
