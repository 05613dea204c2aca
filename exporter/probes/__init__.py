"""The probes, and the table of the layers that each of them serves. Between the runner and the network."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, TypeAlias

from exporter.model.probe import Check, Layer, Observation
from exporter.probes.connection import PHASES, probe_connection
from exporter.probes.icmp import probe_icmp
from exporter.probes.ports import Network
from exporter.probes.tls import TlsContexts

Probe: TypeAlias = Callable[[Check, Network, TlsContexts], Coroutine[Any, Any, list[Observation]]]

# A group of layers is one dial: its layers share a socket and are phases of it.
PROBES: Mapping[frozenset[Layer], Probe] = {
    frozenset({Layer.ICMP}): lambda check, network, _: probe_icmp(check, network),
    frozenset(PHASES): probe_connection,
}


async def run_check(check: Check, network: Network, contexts: TlsContexts) -> list[Observation]:
    """One observation for each wanted layer, in the table's order; the groups run at once, each on its own socket."""
    wanted = [probe(check, network, contexts) for layers, probe in PROBES.items() if layers & {*check.target.layers}]
    if len(wanted) == 1:
        return await wanted[0]
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(probe) for probe in wanted]
    return [observation for task in tasks for observation in task.result()]
