"""The probes, and the table of the layers that each of them serves. Between the runner and the network.

A probe tries one address. Of a name with several, each is tried in turn until one arrives, as applications do; a peer
is tried at each of the given pods.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import replace
from typing import Any, TypeAlias

from exporter.model.probe import NEUTRAL, Check, Layer, Observation, Outcome, Timeouts
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


# The address was reached: what failed then is about the target, and no application tries another address for it.
ARRIVED = frozenset({Outcome.OK, Outcome.PROTOCOL, Outcome.STATUS, *(o for o in Outcome if o.value.startswith("tls_"))})
ADDRESSES = 8  # of one family that are tried


async def run_check(check: Check, network: Network, contexts: TlsContexts) -> list[Observation]:
    """One observation for each wanted layer, in the table's order; the groups run at once, each on its own socket."""
    probes = [probe for layers, probe in PROBES.items() if layers & {*check.target.layers}]
    wanted = [_try_each(check, probe, network, contexts) for probe in probes]
    if len(wanted) == 1:
        return await wanted[0]
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(probe) for probe in wanted]
    return [observation for task in tasks for observation in task.result()]


async def _try_each(check: Check, probe: Probe, network: Network, contexts: TlsContexts) -> list[Observation]:
    """The result of the first address that arrives, else of the first one. They share the check's time evenly."""
    addresses = (check.address, *check.target.others.get(check.family, ()))[:ADDRESSES]
    deadline = time.monotonic() + check.timeouts.whole
    arrived = ARRIVED | {Outcome.REFUSED} if check.target.peer else ARRIVED
    results: list[list[Observation]] = []
    for number, address in enumerate(addresses):
        left, limits = max(0.0, deadline - time.monotonic()), dict(check.timeouts.layers)
        if number + 1 < len(addresses):
            limits |= {layer: min(limits[layer], left / (len(addresses) - number)) for layer in (Layer.ICMP, Layer.TCP)}
        results.append(
            await probe(replace(check, at=address, timeouts=Timeouts(limits, whole=left)), network, contexts)
        )
        if results[-1][0].outcome in arrived | NEUTRAL:
            return results[-1]
    return results[0]
