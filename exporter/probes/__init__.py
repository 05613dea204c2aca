"""The probes, and the table of the layers that each of them serves. Between the runner and the network.

A probe tries one address. Of a name with several, each is tried in turn until one arrives, as applications do; a peer
is tried at each of the given pods.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import TypeAlias

from exporter.model.probe import NEUTRAL, Check, Layer, Observation, Outcome, Timeouts
from exporter.probes.connection import PHASES, probe_connection
from exporter.probes.engine.driver import Job
from exporter.probes.engine.waits import Probe
from exporter.probes.icmp import probe_icmp
from exporter.probes.tls import TlsContexts

CheckProbe: TypeAlias = Callable[[Check, TlsContexts], Probe[list[Observation]]]

# A group of layers is one dial: its layers share a socket and are phases of it.
PROBES: Mapping[frozenset[Layer], CheckProbe] = {
    frozenset({Layer.ICMP}): lambda check, _: probe_icmp(check),
    frozenset(PHASES): probe_connection,
}


# The address was reached: what failed then is about the target, and no application tries another address for it.
ARRIVED = frozenset({Outcome.OK, Outcome.PROTOCOL, Outcome.STATUS, *(o for o in Outcome if o.value.startswith("tls_"))})
ADDRESSES = 8  # of one family that are tried


def jobs_of(check: Check, contexts: TlsContexts) -> list[Job[list[Observation]]]:
    """One for each group of its layers, in the table's order, each with a socket of its own; they run at once."""
    groups = [(layers & {*check.target.layers}, probe) for layers, probe in PROBES.items()]
    return [
        Job(partial(_try_each, check, probe, contexts), check.start, heavy=Layer.TLS in wanted)
        for wanted, probe in groups
        if wanted
    ]


async def _try_each(check: Check, probe: CheckProbe, contexts: TlsContexts) -> list[Observation]:
    """The result of the first address that arrives, else of the first one. They share the check's time evenly."""
    addresses = (check.address, *check.target.others.get(check.family, ()))[:ADDRESSES]
    if len(addresses) == 1:
        return await probe(check, contexts)
    deadline = time.monotonic() + check.timeouts.whole
    arrived = ARRIVED | {Outcome.REFUSED} if check.target.peer else ARRIVED
    results: list[list[Observation]] = []
    for number, address in enumerate(addresses):
        left, limits = max(0.0, deadline - time.monotonic()), dict(check.timeouts.layers)
        if number + 1 < len(addresses):
            limits |= {layer: min(limits[layer], left / (len(addresses) - number)) for layer in (Layer.ICMP, Layer.TCP)}
        results.append(await probe(replace(check, at=address, timeouts=Timeouts(limits, whole=left)), contexts))
        if results[-1][0].outcome in arrived | NEUTRAL:
            return results[-1]
    return results[0]
