"""Builds the source of inventories and the parts of a round from a configuration and a broker. No decisions.

For the daemon and all other commands; the sources are in inventory/ and digest/.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from exporter.broker.client.requests import BrokerClient
from exporter.config.schema import Config, SourceKind
from exporter.daemon.rounds import Rounds
from exporter.inventory.source import FileSource, InventorySource, NoSource
from exporter.plan.round_plan import Pace
from exporter.probes.engine.driver import EpollDriver
from exporter.probes.ports import BrokerNetwork, LocalNetwork
from exporter.probes.resolution.target_resolver import TargetResolver, question_timeout
from exporter.probes.runner import ProbeRunner
from exporter.probes.tls import TlsContexts
from exporter.telemetry.logs import InternalErrors
from exporter.vantage import Inspector

SERVICE_ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount/token"  # where kubelet mounts it


def open_source(config: Config, *, once: bool = False) -> InventorySource:
    """The configured source; with auto the API where a service account is mounted, else none.

    `once`: for a command that ends within seconds. Raises InventoryError where the source cannot be read.
    """
    kind = config.inventory.source
    if kind is SourceKind.FILE:
        return FileSource(config.inventory.file)
    if kind is SourceKind.KUBERNETES or (kind is SourceKind.AUTO and os.path.exists(SERVICE_ACCOUNT)):  # noqa: PTH110 - one stat, no Path needed
        if os.path.expanduser("~") == "~":  # noqa: PTH111 - Path.home() would raise
            # As container runtimes do for a uid without a passwd entry. The package looks for it when it is imported.
            os.environ["HOME"] = "/"
        from exporter.daemon.api_source import open_kubernetes  # noqa: PLC0415 - no other source loads that package

        return open_kubernetes(config, once=once)
    return NoSource()


def build_runner(broker: BrokerClient | None, errors: InternalErrors) -> ProbeRunner:
    """A runner of probes; without a broker its sockets are the process's own."""
    network = BrokerNetwork(broker) if broker is not None else LocalNetwork()
    return ProbeRunner(EpollDriver(network), TlsContexts(), errors, clock=time.time)


def build_rounds(
    config: Config,
    pace: Pace,
    broker: BrokerClient | None,
    errors: InternalErrors,
    *,
    steady: Callable[[], float] = time.monotonic,
) -> Rounds:
    """Rounds over this broker; without one (role cluster) this machine is not inspected. Results age by `steady`."""
    runner = build_runner(broker, errors)
    return Rounds(
        config=config,
        pace=pace,
        inspector=Inspector(config, broker, clock=time.time) if broker is not None else None,
        runner=runner,
        target_resolver=TargetResolver(runner, timeout=question_timeout(config, pace.whole, pace.timeout)),
        clock=time.time,
        steady=steady,
    )
