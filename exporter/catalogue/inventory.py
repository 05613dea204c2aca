"""Metrics of what should be: the age of the inventory, and in the cluster role how far the cluster is on its way to dual-stack."""

from __future__ import annotations

from collections.abc import Iterator

from exporter.catalogue.metric import Metric, Round, Row, gauge


def inventory_stale(source: Round) -> Iterator[Row]:
    """Without an inventory there is nothing to be stale."""
    if source.snapshot.inventory.source != "none":
        yield (), float(source.snapshot.inventory.stale)


def inventory_age(source: Round) -> Iterator[Row]:
    if source.report.inventory_age is not None:
        yield (), source.report.inventory_age


INVENTORY: tuple[Metric[Round], ...] = (
    gauge(
        "inventory_stale",
        "Whether the last inventory is in use beyond its time because its source cannot be reached.",
        (),
        inventory_stale,
    ),
    gauge("inventory_age_seconds", "Age of the inventory at the last finished round.", (), inventory_age),
)
