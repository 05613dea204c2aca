"""The probes, and the table of which of them serves which layers. Between rounds, which calls run_check, and the network."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeAlias

from exporter.model.probe import Check, Layer, Observation
from exporter.probes.connection import probe_connection
from exporter.probes.dns import ask
from exporter.probes.icmp import probe_icmp
from exporter.probes.ports import Network
from exporter.probes.tls import TlsContexts

__all__ = ["PROBES", "Probe", "ask", "run_check"]

Probe: TypeAlias = Callable[[Check, Network, TlsContexts], Awaitable[list[Observation]]]

# A group of layers is one dial: its layers share a socket and are phases of it.
PROBES: Mapping[frozenset[Layer], Probe] = {
    frozenset({Layer.ICMP}): lambda check, network, _: probe_icmp(check, network),
    frozenset({Layer.TCP, Layer.TLS, Layer.HTTP}): probe_connection,
}


async def run_check(check: Check, network: Network, contexts: TlsContexts) -> list[Observation]:
    """One observation for each wanted layer, in the table's order; the groups run at once, each on its own socket.

    Returns for whatever the world does. An exception (of one probe as it is, else in a group) is a bug of ours.
    """
    wanted = [probe for layers, probe in PROBES.items() if not layers.isdisjoint(check.target.layers)]
    if len(wanted) == 1:
        return list(await wanted[0](check, network, contexts))
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(_run(probe, check, network, contexts)) for probe in wanted]
    return [observation for task in tasks for observation in task.result()]


async def _run(probe: Probe, check: Check, network: Network, contexts: TlsContexts) -> list[Observation]:
    return list(await probe(check, network, contexts))
