"""Metrics of what should be: the age of the inventory, and in the cluster role how far the cluster is on its way to dual-stack."""

from __future__ import annotations

from collections.abc import Iterator

from exporter.catalogue.metric import FinishedRound, Metric, Row, gauge
from exporter.model.family import FAMILIES, Family
from exporter.model.inventory import Came


def inventory_stale(source: FinishedRound) -> Iterator[Row]:
    """Where no inventory is meant to be, there is nothing to be stale. One that never came is known to be missing."""
    inventory = source.snapshot.inventory
    if inventory.source != "none":
        yield (), float(inventory.stale or inventory.came is not Came.ALL)


def inventory_age(source: FinishedRound) -> Iterator[Row]:
    if source.report.inventory_age is not None:
        yield (), source.report.inventory_age


def _wanted(source: FinishedRound) -> frozenset[Family]:
    """Lacking a family that is not expected is no lack."""
    return frozenset(
        f for f in FAMILIES if f not in source.report.families or source.report.families[f].expected is not False
    )


def objects_with_family(source: FinishedRound) -> Iterator[Row]:
    for count in source.census.counts:
        if not count.namespace:
            yield (count.resource.value, count.family.value), float(count.having)


def objects_without_family(source: FinishedRound) -> Iterator[Row]:
    wanted = _wanted(source)
    for count in source.census.counts:
        if not count.namespace and count.family in wanted:
            yield (count.resource.value, count.family.value), float(count.lacking)


def namespace_objects_without_family(source: FinishedRound) -> Iterator[Row]:
    """Only namespaces that lack something: a finished migration leaves no series."""
    wanted = _wanted(source)
    for count in source.census.counts:
        if count.namespace and count.lacking and count.family in wanted:
            yield (count.resource.value, count.namespace, count.family.value), float(count.lacking)


def migration_ratio(source: FinishedRound) -> Iterator[Row]:
    for progress in source.census.progress:
        if progress.ratio is not None:
            yield (progress.resource.value,), progress.ratio


MIGRATION: tuple[Metric[FinishedRound], ...] = (
    gauge(
        "objects_with_family",
        "Objects of the cluster that have an address, endpoint or ClusterIP of the family (role cluster).",
        ("resource", "ip_family"),
        objects_with_family,
    ),
    gauge(
        "objects_without_family",
        "Objects of the cluster that are meant to have the family and lack it (role cluster).",
        ("resource", "ip_family"),
        objects_without_family,
    ),
    gauge(
        "namespace_objects_without_family",
        "The same by namespace, for the largest namespaces in which some object lacks it.",
        ("resource", "namespace", "ip_family"),
        namespace_objects_without_family,
        omitted=lambda source: source.census.namespaces_left_out,
    ),
    gauge(
        "migration_ratio",
        "Dual-stack objects of the cluster by those that could be (role cluster).",
        ("resource",),
        migration_ratio,
    ),
)

INVENTORY: tuple[Metric[FinishedRound], ...] = (
    gauge(
        "inventory_stale",
        "Whether the inventory is not to be relied on because a source cannot be reached: it is out of date, or never came.",
        (),
        inventory_stale,
    ),
    gauge("inventory_age_seconds", "Age of the inventory at the last finished round.", (), inventory_age),
    *MIGRATION,
)
