"""Where the inventory comes from: nothing, a file, or the Kubernetes API. First stage of the flow; parse/ parses.

A source keeps its last inventory whatever happens: an outage makes it stale, never empty, and never stops a round.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from typing import Protocol

from exporter.config.files import file_fingerprint
from exporter.inventory.event_writer import EventWriter
from exporter.inventory.file import InventoryError, load_file
from exporter.model.cluster.inventory import NO_INVENTORY, Inventory
from exporter.model.report import Found
from exporter.telemetry.logs import fields

log = logging.getLogger(__name__)

CHECK_EVERY = 2.0  # seconds between two checks of whether an inventory file changed


class InventorySource(Protocol):
    """A source of inventories. `current` never waits; `run` keeps it current until it is cancelled.

    `wait_ready` waits for the first inventory and returns whether it came in time; `remote_findings` are the causes
    that the cluster role found.
    """

    def current(self) -> Inventory: ...

    def remote_findings(self) -> tuple[Found, ...]:
        return ()

    async def wait_ready(self, patience: float) -> bool:  # noqa: ARG002 - for sources that have to wait
        return True

    def event_writer(self) -> EventWriter | None:
        """Writes to the API server that this comes from, while `run` runs; None where it comes from none."""
        return None

    async def run(self) -> None: ...


class NoSource(InventorySource):
    """A host without Kubernetes: nothing is known of what should be."""

    def current(self) -> Inventory:
        return NO_INVENTORY

    async def run(self) -> None:
        await asyncio.Event().wait()


class FileSource(InventorySource):
    """`kubectl get ... -o yaml` in a file; read again when it changes. If that fails, the last inventory is stale."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._seen = file_fingerprint(path)
        self._inventory = load_file(path)

    def current(self) -> Inventory:
        return self._inventory

    async def run(self) -> None:
        while True:
            await asyncio.sleep(CHECK_EVERY)
            stamp = file_fingerprint(self._path)
            if stamp != self._seen:
                self._seen = stamp
                self._reload()

    def _reload(self) -> None:
        try:
            self._inventory = load_file(self._path)
        except InventoryError as error:
            self._inventory = replace(self._inventory, stale=True, problem=str(error))
            log.warning("the inventory file went bad, the last one stays in use", extra=fields(problem=str(error)))
