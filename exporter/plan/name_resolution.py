"""Who dials which targets by name, and of whom those names are asked: once per distinct resolv.conf. Pure; before probes/target_resolver.py.

A vantage whose own nameservers may not be asked dials what the host's resolver said: its path is still worth testing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from exporter.config.schema import TargetConfig, VantageKind
from exporter.model.dns import ResolvConf
from exporter.model.pod import Pod
from exporter.model.probe import Nameserver
from exporter.model.report import PodView
from exporter.model.vantage import Vantage
from exporter.plan.servers import KnownServers, servers_of

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Naming:
    """Vantages that share a resolv.conf, the targets they dial by name, and from where and of whom these names are asked."""

    vantages: tuple[Vantage, ...]
    targets: tuple[TargetConfig, ...]
    asker: Vantage
    conf: ResolvConf
    servers: tuple[Nameserver, ...]


def plan_namings(
    host: PodView,
    sample: Sequence[PodView],
    targets: Sequence[TargetConfig],
    *,
    known: KnownServers,
    pods: Mapping[str, Pod],
    turn: int,
) -> tuple[Naming, ...]:
    """The host by itself, and the sampled pods by resolv.conf. The order turns with `turn`, so that a tight budget serves all.

    `host` as a view: the vantage and its file. `pods` by uid, for the nameservers that their spec names.
    """
    groups: dict[ResolvConf | None, list[PodView]] = {}
    for view in sample:
        groups.setdefault(view.resolv_conf, []).append(view)
    found = []
    for group in ((host,), *groups.values()):
        wanted = [t for t in targets if VantageKind(group[0].vantage.kind) in t.vantages]
        if wanted:
            found.append(_naming(tuple(v.vantage for v in group), _turned(wanted, turn), group[0], host, known, pods))
    return _turned(found, turn)


def _naming(  # noqa: PLR0917 - the parts of one value
    vantages: tuple[Vantage, ...],
    targets: tuple[TargetConfig, ...],
    first: PodView,
    host: PodView,
    known: KnownServers,
    pods: Mapping[str, Pod],
) -> Naming:
    for view in (first, host):
        conf = view.resolv_conf or ResolvConf()
        pod = pods.get(view.vantage.uid)
        servers = tuple(server for server, allowed in servers_of(conf, known, pod) if allowed)
        if servers:
            return Naming(vantages=vantages, targets=targets, asker=view.vantage, conf=conf, servers=servers)
    return Naming(
        vantages=vantages, targets=targets, asker=host.vantage, conf=host.resolv_conf or ResolvConf(), servers=()
    )


def _turned(items: Sequence[T], turn: int) -> tuple[T, ...]:
    first = turn % len(items) if items else 0
    return (*items[first:], *items[:first])
