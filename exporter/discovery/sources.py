"""Where the inventory comes from: nothing, a file, or the Kubernetes API. First stage of the flow; the parsing is objects.py's.

A source keeps its last inventory whatever happens: an outage makes it stale, never empty, and never stops a round.
"""

from __future__ import annotations

import asyncio
import logging
import os
from dataclasses import replace

from exporter.config.schema import Config
from exporter.config.schema import Source as Kind
from exporter.discovery.file import InventoryError, load_file
from exporter.discovery.source import Source
from exporter.filestamp import stamp_of
from exporter.logs import fields
from exporter.model.inventory import NO_INVENTORY, Inventory
from exporter.model.report import Found

log = logging.getLogger(__name__)

SERVICE_ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount/token"  # where kubelet mounts it
LOOK_EVERY = 2.0  # seconds between looks at an inventory file


class NoSource:
    """A host without Kubernetes: nothing says what should be."""

    def current(self) -> Inventory:
        return NO_INVENTORY

    def elsewhere(self) -> tuple[Found, ...]:
        return ()

    async def first(self, patience: float) -> bool:  # noqa: ARG002 - the protocol says so
        return True

    async def run(self) -> None:
        await asyncio.Event().wait()


class FileSource:
    """`kubectl get ... -o yaml` in a file; read again when it changes. A file that went bad leaves the last inventory, stale."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._seen = stamp_of(path)
        self._inventory = load_file(path)

    def current(self) -> Inventory:
        return self._inventory

    def elsewhere(self) -> tuple[Found, ...]:
        return ()

    async def first(self, patience: float) -> bool:  # noqa: ARG002 - the protocol says so
        return True

    async def run(self) -> None:
        while True:
            await asyncio.sleep(LOOK_EVERY)
            stamp = stamp_of(self._path)
            if stamp != self._seen:
                self._seen = stamp
                self._reload()

    def _reload(self) -> None:
        try:
            self._inventory = load_file(self._path)
        except InventoryError as error:
            self._inventory = replace(self._inventory, stale=True, problem=str(error))
            log.warning("the inventory file went bad, the last one stays in use", extra=fields(problem=str(error)))


def source_kind(config: Config) -> Kind:
    """Kind auto becomes kubernetes where a service account is mounted, else none."""
    if config.inventory.source is not Kind.AUTO:
        return config.inventory.source
    return Kind.KUBERNETES if os.path.exists(SERVICE_ACCOUNT) else Kind.NONE  # noqa: PTH110 - one stat, no Path needed


def open_source(config: Config, *, once: bool = False) -> Source:
    """The configured source. InventoryError where a file cannot be read at the start. `once`: for a command that ends within seconds."""
    kind = source_kind(config)
    if kind is Kind.FILE:
        return FileSource(config.inventory.file)
    if kind is Kind.KUBERNETES:
        from exporter.discovery.kubernetes import open_kubernetes  # noqa: PLC0415 - no other role loads that package

        return open_kubernetes(config, once=once)
    return NoSource()
