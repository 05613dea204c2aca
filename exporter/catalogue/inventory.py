"""Metrics of the inventory: its age, and for the whole cluster how far the migration to dual-stack is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from exporter.catalogue.metric import FinishedRound, Metric, Row, by_label, gauge, one
from exporter.diagnosis.census import FamilyCount
from exporter.migration.step import StepState
from exporter.model.cluster.inventory import Came, InventoryOrigin

SEEN = (StepState.DONE, StepState.MISSING)


def inventory_stale(source: FinishedRound) -> bool | None:
    """None where no inventory is configured. One that never arrived is known to be missing."""
    inventory = source.snapshot.inventory
    return None if inventory.source is InventoryOrigin.NONE else inventory.stale or inventory.came is not Came.ALL


def objects_with_family(source: FinishedRound) -> Iterator[Row]:
    for count in source.census.counts:
        if not count.namespace:
            yield (count.resource, count.family), count.having


def _expected(source: FinishedRound) -> Iterable[FamilyCount]:
    """The counts of families that are not known to be unexpected: an object needs no other."""
    families = source.report.families
    return (c for c in source.census.counts if c.family not in families or families[c.family].expected is not False)


def objects_without_family(source: FinishedRound) -> Iterator[Row]:
    for count in _expected(source):
        if not count.namespace:
            yield (count.resource, count.family), count.lacking


def namespace_objects_without_family(source: FinishedRound) -> Iterator[Row]:
    """Only namespaces that lack something: a finished migration leaves no series."""
    for count in _expected(source):
        if count.namespace and count.lacking:
            yield (count.resource, count.namespace, count.family), count.lacking


def migration_phase(source: FinishedRound) -> Iterator[Row]:
    """A phase that cannot be seen, or does not apply, has no row."""
    states = source.migration.states if source.migration is not None else {}
    for phase, state in states.items():
        if state in SEEN:
            yield from (((phase.value, each.value), each is state) for each in SEEN)


# fmt: off
INVENTORY: tuple[Metric[FinishedRound], ...] = (
    gauge("inventory_stale",
          "Whether the inventory is out of date, or never arrived, because its source cannot be reached.", (),
          one(inventory_stale)),
    gauge("inventory_age_seconds", "Age of the inventory at the last finished round.", (),
          one(lambda source: source.report.inventory_age)),
    gauge("objects_with_family",
          "Objects in the cluster that have an address, endpoint or ClusterIP of the family (cluster exporter).",
          ("resource", "ip_family"), objects_with_family),
    gauge("objects_without_family",
          "Objects in the cluster that should have the family but lack it (cluster exporter).",
          ("resource", "ip_family"), objects_without_family),
    gauge("namespace_objects_without_family",
          "Objects that should have the family but lack it, per namespace (largest namespaces only).",
          ("resource", "namespace", "ip_family"), namespace_objects_without_family,
          omitted=lambda source: source.census.namespaces_left_out),
    gauge("migration_ratio", "Ratio of objects that are dual-stack to those that could be (cluster exporter).",
          ("resource",), by_label(lambda source: {p.resource: p.ratio for p in source.census.progress})),
    gauge("migration_phase",
          "State of each phase on the way to dual-stack: 1 for the one that applies; absent where it cannot be seen "
          "(cluster exporter).", ("phase", "state"), migration_phase),
)
# fmt: on
