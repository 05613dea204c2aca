"""What every source of inventories offers. First stage of the flow; sources.py opens the configured one."""

from __future__ import annotations

from typing import Protocol

from exporter.model.inventory import Inventory
from exporter.model.report import Found


class Source(Protocol):
    """A source of inventories. `current` never waits; `run` keeps it current until it is cancelled.

    `first` waits for the first inventory and says whether it came; `elsewhere` has the cluster role's found causes, where it told any.
    """

    def current(self) -> Inventory: ...

    def elsewhere(self) -> tuple[Found, ...]: ...

    async def first(self, patience: float) -> bool: ...

    async def run(self) -> None: ...
