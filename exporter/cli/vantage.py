"""Finds the place that --pod or --netns names, with the resolv.conf that is read there. For probe and resolve."""

from __future__ import annotations

import os
from dataclasses import replace

from exporter.config import Config
from exporter.daemon.command_error import CommandError
from exporter.model.inventory import Inventory
from exporter.model.report import PodView
from exporter.model.vantage import Netns, Vantage
from exporter.vantage import Inspection, Inspector, read_named_resolv_conf
from exporter.vantage.pod_namespaces import NAMED


async def find(
    inspector: Inspector, inventory: Inventory, config: Config, *, pod: str, netns: str
) -> tuple[PodView, Inspection]:
    """The asked vantage, the host without either flag. Refusal in one line when there is no such place."""
    inspection = await inspector.inspect(inventory)
    if netns:
        return _named(netns, config, inspection), inspection
    if pod:
        return _pod(pod, inspection), inspection
    return PodView(vantage=inspection.host, resolv_conf=inspection.host_resolv_conf), inspection


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
    place = Netns(device=status.st_dev, inode=status.st_ino, path=path)
    known = next((p for p in inspection.pods if p.vantage.netns is not None and p.vantage.netns.key == place.key), None)
    if known is not None:
        return known
    name = path.rsplit(os.sep, 1)[-1]
    conf = read_named_resolv_conf(name) or inspection.host_resolv_conf
    return replace(PodView(vantage=Vantage(kind="pod", namespace=NAMED, name=name, netns=place)), resolv_conf=conf)
