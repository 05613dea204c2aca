"""Builds the parts of a round from a configuration and a broker: what the daemon and the one-shot commands share. No decisions."""

from __future__ import annotations

import time
from collections.abc import Callable

from exporter.broker.client.requests import BrokerClient
from exporter.config import Config
from exporter.daemon.rounds import Rounds
from exporter.plan.pace import Pace
from exporter.probes.ports import BrokerNetwork, LocalNetwork
from exporter.probes.runner import ProbeRunner
from exporter.probes.target_resolver import TargetResolver, question_timeout
from exporter.probes.tls import TlsContexts
from exporter.telemetry.internal_errors import InternalErrors
from exporter.vantage import Inspector


def build_rounds(
    config: Config,
    pace: Pace,
    broker: BrokerClient | None,
    errors: InternalErrors,
    *,
    steady: Callable[[], float] = time.monotonic,
) -> Rounds:
    """Rounds over this broker; without one (role cluster) nothing of this machine is read, and sockets are the process's own.

    `steady` is the clock by which results age.
    """
    network = BrokerNetwork(broker) if broker is not None else LocalNetwork()
    asker = ProbeRunner(network, TlsContexts(), errors, clock=time.time)
    return Rounds(
        config,
        pace,
        inspector=Inspector(config, broker, clock=time.time) if broker is not None else None,
        asker=asker,
        resolution=TargetResolver(asker, timeout=question_timeout(config, pace.whole, pace.timeout)),
        clock=time.time,
        steady=steady,
    )
