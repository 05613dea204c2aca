"""What differs between two readings of the host or of a pod, as a set of short paths: for tests that break exactly one
thing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from typing import Any

from exporter.model.facts import HostFacts, PodFacts

COUNTERS = frozenset({"packets", "bytes", "expires"})


def changed(before: HostFacts | PodFacts, after: HostFacts | PodFacts) -> set[str]:
    """Paths such as "vxlan/vxlan-v6.calico/fdb"; a link, backend or device that came or went is its own path."""
    old, new = dict(_flatten(before)), dict(_flatten(after))
    paths = {path for path in old.keys() | new.keys() if old.get(path) != new.get(path)}
    whole = {path: path.rpartition("/")[0] for path in paths}
    gone = {whole[path] for path in old.keys() ^ new.keys()} - {""}
    return {path for path in paths if whole[path] not in gone} | gone


def _flatten(facts: HostFacts | PodFacts) -> Iterator[tuple[str, object]]:
    for link in facts.links or ():
        yield from _fields(f"links/{link.name}", link)
    for name in {link.name for link in facts.links or ()} | {a.link for a in facts.addresses or ()}:
        yield f"addresses {name}", frozenset(a.interface for a in facts.addresses or () if a.link == name)
        yield f"routes {name}", frozenset(_route(r) for r in facts.routes or () if r.link == name)
    if isinstance(facts, PodFacts):
        yield "disable_ipv6", facts.disable_ipv6
        yield "listeners", frozenset(facts.listeners or ())
        yield "intercepted", facts.intercepted
        return
    yield "all_conf", facts.all_conf
    yield "forwarding_v4", facts.forwarding_v4
    for backend in facts.nat.backends if facts.nat else ():
        yield from _fields(f"nat/{backend.family}", backend)
    if facts.kube_proxy is not None:
        yield "kube_proxy mode", facts.kube_proxy.mode
        yield from ((f"kube_proxy {family}", verdict) for family, verdict in facts.kube_proxy.services.items())
    if facts.vxlan is not None:
        yield "bpf", facts.vxlan.bpf
        for name, device in facts.vxlan.devices.items():
            yield from _fields(f"vxlan/{name}", device)


def _fields(path: str, value: Any) -> Iterator[tuple[str, object]]:
    for each in fields(value):
        if each.name in COUNTERS:
            continue
        found = getattr(value, each.name)
        if each.name == "routes":
            found = frozenset(map(_route, found))
        elif each.name == "addresses":
            found = frozenset(a.interface for a in found)
        elif each.name == "neighbours":
            found = frozenset(n for n in found if n.permanent)
        yield f"{path}/{each.name}", found


def _route(route: Any) -> tuple[object, ...]:
    return tuple(getattr(route, each.name) for each in fields(route) if each.name not in COUNTERS)
