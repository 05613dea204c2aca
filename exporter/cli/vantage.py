"""The place that --pod or --netns names, its resolv.conf, and a runner to probe from it. For probe and resolve."""

from __future__ import annotations

import os
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from exporter.cli.context import CommandContext, run_in_context
from exporter.config.schema import Config
from exporter.daemon.options import CommandError, Options
from exporter.daemon.wiring import build_runner
from exporter.model.cluster.inventory import Inventory
from exporter.model.dns import ResolvConf
from exporter.model.report import PodView
from exporter.model.vantage import Netns, Vantage
from exporter.probes.runner import Deadline, ProbeRunner
from exporter.telemetry.logs import InternalErrors
from exporter.vantage import Inspection, Inspector, read_named_resolv_conf
from exporter.vantage.pod_namespaces import NAMED

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class VantageContext:
    """The named place and the means to probe from it."""

    config: Config
    vantage: Vantage
    inventory: Inventory
    own_conf: ResolvConf | None
    runner: ProbeRunner
    deadline: Deadline

    @property
    def conf(self) -> ResolvConf:
        """The place's own; for a pod never the host's, with which its programs resolve nothing."""
        if self.own_conf is None:
            pod = self.vantage.subject.removeprefix("pod/")
            raise CommandError(f"--pod={pod}: its resolv.conf was not read ({self.vantage.state.value})")
        return self.own_conf


def run_at_vantage(options: Options, config: Config, work: Callable[[VantageContext], Awaitable[T]]) -> T:
    """The result of `work` at the named place; CommandError, in one line, where there is no such place or no broker."""

    async def at_vantage(context: CommandContext) -> T:
        broker, inventory = context.broker, context.source.current()
        assert broker is not None
        inspection = await Inspector(config, broker, clock=time.time).inspect(inventory)
        view = _find(options, config, inspection)
        found = VantageContext(
            config=config,
            vantage=view.vantage,
            inventory=inventory,
            own_conf=view.resolv_conf
            if options.pod
            else view.resolv_conf or inspection.host_resolv_conf or ResolvConf(),
            runner=build_runner(broker, InternalErrors()),
            deadline=Deadline.after(config.round.timeout),
        )
        return await work(found)

    return run_in_context(options, config, at_vantage)


def _find(options: Options, config: Config, inspection: Inspection) -> PodView:
    if options.netns:
        return _named(options.netns, config, inspection)
    if options.pod:
        return _pod(options.pod, inspection)
    return PodView(vantage=inspection.host, resolv_conf=inspection.host_resolv_conf)


def _pod(wanted: str, inspection: Inspection) -> PodView:
    found = next((p for p in inspection.pods if p.vantage.subject in {f"pod/{wanted}", wanted}), None)
    if found is None:
        here = ", ".join(p.vantage.subject.removeprefix("pod/") for p in inspection.pods[:5]) or "none"
        raise CommandError(f"--pod={wanted}: no such pod on this node (here: {here})")
    if found.vantage.netns is None:
        raise CommandError(
            f"--pod={wanted}: its network namespace was not found ({found.vantage.state.value.replace('_', ' ')})"
        )
    return found


def _named(wanted: str, config: Config, inspection: Inspection) -> PodView:
    path = wanted if os.sep in wanted else f"{config.netns.directory}/{wanted}"
    try:
        status = os.stat(path)  # noqa: PTH116 - a namespace's own file, followed
    except OSError as error:
        raise CommandError(f"--netns={wanted}: {error.strerror}") from error
    if status.st_dev != os.stat("/proc/self/ns/net").st_dev:  # noqa: PTH116 - the kernel has one file system of namespaces
        raise CommandError(f"--netns={wanted}: not a network namespace")
    netns = Netns(device=status.st_dev, inode=status.st_ino, path=path)
    known = next((p for p in inspection.pods if p.vantage.netns is not None and p.vantage.netns.key == netns.key), None)
    if known is not None:
        return known
    name = path.rsplit(os.sep, 1)[-1]
    conf = read_named_resolv_conf(name) or inspection.host_resolv_conf
    return PodView(vantage=Vantage(kind="pod", namespace=NAMED, name=name, netns=netns), resolv_conf=conf)
