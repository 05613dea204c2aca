"""Whether the host's state seems half-written, so that it should be read again before it is reported. Pure.

Felix and kube-proxy write in steps; while they restart, a chain is unhooked or a device is being made again. Gaps
that were not there in the round before are read twice; gaps that stay are real.
"""

from __future__ import annotations

from collections.abc import Iterator

from exporter.kernel.decode.tunnel_peers import incomplete_peers
from exporter.model.facts import HostFacts, NatFacts
from exporter.model.family import FAMILIES

Gap = tuple[str, ...]


def has_new_gaps(facts: HostFacts, before: HostFacts | None) -> bool:
    """Whether something is missing now that was not missing before."""
    if before is None:
        return any(_nat_gaps(facts.nat)) or any(_tunnel_gaps(facts))
    if set(_nat_gaps(facts.nat)) - set(_nat_gaps(before.nat)):
        return True
    if (facts.vxlan, facts.routes) != (before.vxlan, before.routes):  # the same objects where nothing was read again
        gaps = set(_tunnel_gaps(facts))
        if gaps and gaps - set(_tunnel_gaps(before)):
            return True
    return any(_losses(facts, before))


def _nat_gaps(nat: NatFacts | None) -> Iterator[Gap]:
    for backend in nat.backends if nat else ():
        slot = (backend.family.value, backend.backend.value)
        if backend.chain and not backend.hooked:
            yield ("unhooked", *slot)
        if backend.hooked and not backend.rules:
            yield ("no rule", *slot)
        for rule in backend.rules:
            if not (rule.members or rule.mark or rule.everything):
                yield ("no members", *slot, rule.set_name)


def _tunnel_gaps(facts: HostFacts) -> Iterator[Gap]:
    for name, device in facts.vxlan.devices.items() if facts.vxlan else ():
        if not (device.up and device.lower_up):
            yield ("down", name)
        yield from (("peer", name, p.name, p.state.value) for p in incomplete_peers(device, facts.routes or ()))


def _losses(facts: HostFacts, before: HostFacts) -> Iterator[Gap]:
    """What stood before and is gone: backends, devices, peers, Service rules, default routes."""
    if facts.nat is not None and before.nat is not None:
        now_read = {(b.family, b.backend) for b in facts.nat.backends}
        yield from (("backend", b.family.value) for b in before.nat.backends if (b.family, b.backend) not in now_read)
    if facts.vxlan is not None and before.vxlan is not None:
        for name, device in before.vxlan.devices.items():
            now = facts.vxlan.devices.get(name)
            if now is None or len(now.fdb) < len(device.fdb) or len(now.routes) < len(device.routes):
                yield ("device", name)
    if facts.kube_proxy is not None and before.kube_proxy is not None:
        now_served = facts.kube_proxy.services
        yield from (("services", f.value) for f, s in before.kube_proxy.services.items() if s and not now_served.get(f))
    yield from (
        ("default route", f.value) for f in FAMILIES if before.default_routes(f) and not facts.default_routes(f)
    )
