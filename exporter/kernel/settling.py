"""Tells whether the host's state looks half-written, so that a second look should come before it is reported. Pure.

Felix and kube-proxy write in steps; while they restart, a chain stands unhooked or a device is being made anew. Gaps that were not there
in the round before are looked at twice; gaps that stay are the truth.
"""

from __future__ import annotations

from collections.abc import Iterator

from exporter.kernel.peers import peer_states
from exporter.model.facts import HostFacts, NatFacts, PeerState, VxlanFacts
from exporter.model.family import FAMILIES

Gap = tuple[str, ...]


def has_new_gaps(facts: HostFacts, before: HostFacts | None) -> bool:
    """Whether something is missing now that nobody missed before (or was there before)."""
    gaps = set(_gaps(facts))
    if before is None:
        return bool(gaps)
    return bool(gaps - set(_gaps(before))) or any(_losses(facts, before))


def _gaps(facts: HostFacts) -> Iterator[Gap]:
    yield from _nat_gaps(facts.nat)
    if facts.vxlan is not None:
        yield from _vxlan_gaps(facts.vxlan, facts)


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


def _vxlan_gaps(vxlan: VxlanFacts, facts: HostFacts) -> Iterator[Gap]:
    for name, device in vxlan.devices.items():
        if not (device.up and device.lower_up):
            yield ("down", name)
        for peer in peer_states(device, None, facts.routes or ()):
            if peer.state is not PeerState.COMPLETE:
                yield ("peer", name, peer.name, peer.state.value)


def _losses(facts: HostFacts, before: HostFacts) -> Iterator[Gap]:
    """What stood before and is gone: backends, devices, peers, Service rules, default routes."""
    if facts.nat is not None and before.nat is not None:
        held = {(b.family, b.backend) for b in facts.nat.backends}
        yield from (("backend", b.family.value) for b in before.nat.backends if (b.family, b.backend) not in held)
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
