"""The fault matrix on the real kernel: each fault is named exactly, explains what follows from it, and leaves nothing
when it is healed.

The rows are tests/lab/faults.py's. Those of NAT run on every backend on which they matter; some of each scope run with
the node and cluster roles as processes of their own as well, the digest between them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import chain

import pytest

from exporter.model.cause import Cause
from tests.lab.cluster import Cluster
from tests.lab.fault import ALL, APART, HERE, LABS, NFT, Fault, Scope
from tests.lab.faults import FAULTS, PAIRS
from tests.lab.measure import ROUNDS, Measured, measure, settle

pytestmark = pytest.mark.real

Clusters = Callable[[str, tuple[str, ...]], Cluster]


@pytest.fixture(scope="module")
def clusters() -> Iterator[Clusters]:
    """One settled cluster at a time, kept while the next row wants the same: a new one for each backend and way of
    running.
    """
    with ExitStack() as stack:
        kept: dict[tuple[str, tuple[str, ...]], Cluster] = {}

        def get(backend: str, roles: tuple[str, ...]) -> Cluster:
            if (backend, roles) not in kept:
                stack.close()
                kept.clear()
                lab = LABS[backend]() if backend in LABS else None
                cluster = Cluster(lab=lab, backend=backend, roles=roles)
                kept[backend, roles] = stack.enter_context(cluster)
                settle(cluster)
            return kept[backend, roles]

        yield get


def held(clusters: Clusters, backend: str, roles: tuple[str, ...], fault: Fault) -> Measured:
    """The measurement of a row; a cluster that is not healthy afterwards affects_destinations no other row."""
    cluster = clusters(backend, roles)
    try:
        measured = measure(cluster, fault)
    except BaseException:
        cluster.heal()
        settle(cluster)
        raise
    if measured.cleared is None:
        settle(cluster)
    return measured


ROWS = [
    *((NFT, ALL, fault) for fault in chain(FAULTS.values(), PAIRS.values()) if NFT in fault.backends),
    *((NFT, APART, fault) for fault in chain(FAULTS.values(), PAIRS.values()) if fault.apart),
    *(
        (backend, ALL, fault)
        for backend in ("iptables-legacy", "nftables", *LABS)
        for fault in FAULTS.values()
        if backend in fault.backends
    ),
]


@pytest.mark.parametrize(
    ("backend", "roles", "fault"), ROWS, ids=["-".join((fault.name, backend, *roles)) for backend, roles, fault in ROWS]
)
def test_a_fault_is_named_exactly_explains_what_follows_and_leaves_nothing(
    clusters: Clusters, backend: str, roles: tuple[str, ...], fault: Fault
) -> None:
    measured = held(clusters, backend, roles, fault)
    assert measured.wrong == ()


def test_the_matrix_is_as_large_as_promised() -> None:
    assert len(FAULTS) >= 40
    assert {fault.scope for fault in FAULTS.values()} == {"dns", "path", "node", "pod", "cluster"}
    assert {c for f in FAULTS.values() for c in (*f.causes, *f.explained, *f.infos)} == {c.value for c in Cause}
    assert len(PAIRS) >= 5
    assert {fault.scope for fault in FAULTS.values() if fault.apart} == set(Scope)
    assert any(fault.apart for fault in PAIRS.values())
    assert all(fault.detected_by <= ROUNDS for fault in (*FAULTS.values(), *PAIRS.values()))
    assert {backend for fault in FAULTS.values() for backend in fault.backends} > set(HERE)
