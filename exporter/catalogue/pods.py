"""Metrics of this node's pods as vantages: their states, their addresses, their C library."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from exporter.catalogue.metric import FinishedRound, Metric, Row, gauge
from exporter.model.family import FAMILIES
from exporter.model.report import Role
from exporter.model.vantage import PodState

LIBCS = ("glibc", "musl")


def pods(source: FinishedRound) -> Iterator[Row]:
    """Every state, 0 included, unless this role has no node or its namespaces could not be listed."""
    snapshot = source.snapshot
    blind = any(r.reader in {"namespaces", "pods"} and not r.success for r in snapshot.readings)
    if snapshot.role is Role.CLUSTER or (blind and not snapshot.pods):
        return
    states = Counter(pod.vantage.state for pod in snapshot.pods)
    for state in PodState:
        yield (state.value,), float(states[state])


def pods_with_address(source: FinishedRound) -> Iterator[Row]:
    """Of the pods whose namespace was read, those with a usable global address."""
    read = [pod.facts for pod in source.snapshot.pods if pod.facts is not None]
    if read:
        for family in FAMILIES:
            yield (family.value,), float(sum(any(a.usable for a in f.global_addresses(family)) for f in read))


def pods_libc(source: FinishedRound) -> Iterator[Row]:
    """Of the pods whose containers' roots were read, those that hold this C library; a pod may hold both or neither."""
    read = [pod.libc for pod in source.snapshot.pods if pod.libc is not None]
    if read:
        for libc in LIBCS:
            yield (libc,), float(sum(libc in found for found in read))
        yield ("none",), float(sum(not found for found in read))


PODS: tuple[Metric[FinishedRound], ...] = (
    gauge(
        "pods",
        "Pods of this node, by whether they are looked from (eligible) or why they are not.",
        ("state",),
        pods,
    ),
    gauge(
        "pods_with_address",
        "Pods of this node with a usable global address of the family in their own namespace.",
        ("ip_family",),
        pods_with_address,
    ),
    gauge(
        "pods_libc",
        "Pods of this node of which a container's root holds this C library (none: neither).",
        ("libc",),
        pods_libc,
    ),
)
