"""Causes of the IPv6 tunnel device: the kernel's against what the CNI should have made (diagnosis/tunnels.py). Pure.

The first that applies is reported: missing, down, misconfigured, then single peers. eBPF has no vxlan-v6.calico.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

from exporter.diagnosis.endpoints import services_on
from exporter.diagnosis.engine.preconditions import unread
from exporter.diagnosis.engine.rule_input import Judgement, RuleInput
from exporter.diagnosis.rules.judging import changed_lately, found, only, reader_reason, this_node
from exporter.diagnosis.tunnels import OVERHEAD_V6, ExpectedTunnel, expected_tunnel
from exporter.diagnosis.vxlan_peers import expect_peers, peer_states
from exporter.kernel.decode.tunnel_peers import PeerFinding
from exporter.model.cause import Cause
from exporter.model.cluster.inventory import ResourceKind
from exporter.model.facts import PeerState, Reader, VxlanDevice
from exporter.model.family import Family
from exporter.model.reason import Reason
from exporter.model.subject import Subject, SubjectKind


def vxlan_device_missing(view: RuleInput) -> Judgement:
    """The CNI should have made a tunnel device for IPv6 and it does not exist."""
    return only(Cause.VXLAN_DEVICE_MISSING, _check_device(view))


def vxlan_device_down(view: RuleInput) -> Judgement:
    """IFF_UP or IFF_LOWER_UP clear; operstate is UNKNOWN on a healthy device and is not used."""
    return only(Cause.VXLAN_DEVICE_DOWN, _check_device(view))


def vxlan_misconfigured(view: RuleInput) -> Judgement:
    """VNI, port, local, parent, address, MAC, learning or MTU differ from what the CNI should have made."""
    return only(Cause.VXLAN_MISCONFIGURED, _check_device(view))


def vxlan_peer_incomplete(view: RuleInput) -> Judgement:
    """Route, neighbour and forwarding entry of a peer disagree."""
    checked, wanted = _check_device(view), _wanted(view)
    if checked or isinstance(wanted, Reason):
        return checked if isinstance(checked, Reason) else ()
    if wanted.is_calico and any(n.wireguard for n in view.inventory.nodes or ()):
        return Reason.NOT_APPLICABLE
    if view.inventory.nodes is None:
        return unread(view.inventory, ResourceKind.NODES)
    if wanted.is_calico and view.inventory.block_affinities is None:
        return unread(view.inventory, ResourceKind.BLOCK_AFFINITIES)
    peers, name = _incomplete_peers(view, wanted.name), wanted.name
    return found(
        Cause.VXLAN_PEER_INCOMPLETE,
        (Subject.of(SubjectKind.PEER, p.name) for p in peers),
        evidence=[f"peer/{p.name}: {p.state.value.replace('_', ' ')}: {p.detail}" for p in peers[:10]],
        command=f"ip -6 route show dev {name}; ip -6 neigh show dev {name}; bridge fdb show dev {name}",
        affects_destinations=services_on(view.inventory, {p.name for p in peers}),
    )


@lru_cache(maxsize=1)
def _wanted(view: RuleInput) -> ExpectedTunnel | Reason:
    return expected_tunnel(view.inventory, view.network, view.node)


@lru_cache(maxsize=1)
def _check_device(view: RuleInput) -> Judgement:
    """What is wrong with the device; a Reason where that is unknown, or no such device is wanted."""
    wanted = _wanted(view)
    if isinstance(wanted, Reason):
        return wanted
    facts = view.snapshot.kernel.vxlan
    if facts is None:
        return reader_reason(view, Reader.VXLAN)
    if wanted.is_calico and (facts.bpf or any(d.flow_based for d in facts.devices.values())):
        return Reason.NOT_APPLICABLE
    device, name = facts.devices.get(wanted.name), wanted.name
    if device is None:
        return found(
            Cause.VXLAN_DEVICE_MISSING,
            [this_node(view)],
            evidence=[
                f"{wanted.because} and there is no link {name}",
                *(f"annotation {key}: {value or 'missing'}" for key, value in wanted.annotations.items()),
            ],
            command=f"ip -d link show {name}; {wanted.logs}",
        )
    if not (device.up and device.lower_up):
        up, lower_up = ("set" if flag else "clear" for flag in (device.up, device.lower_up))
        return found(
            Cause.VXLAN_DEVICE_DOWN,
            [this_node(view)],
            evidence=[f"{name}: IFF_UP {up}, IFF_LOWER_UP {lower_up}"],
            command=f"ip link show {name}",
        )
    return found(
        Cause.VXLAN_MISCONFIGURED,
        [this_node(view)],
        evidence=[*_differences(device, wanted), *_wrong_mtu(device, wanted, view)],
        command=f"ip -d link show {name}; ip -6 address show {name}",
    )


def _incomplete_peers(view: RuleInput, name: str) -> list[PeerFinding]:
    """Peers that are Ready, whose objects have not changed for two minutes, and whose state is not complete."""
    facts = view.snapshot.kernel
    changing = {b.node for b in view.inventory.block_affinities or () if changed_lately(b, view.now)}
    ready = {n.name for n in view.inventory.nodes or () if n.ready and not changed_lately(n, view.now)} - changing
    expected = [e for e in expect_peers(view.inventory, view.node, name) or () if e.name in ready]
    device = facts.vxlan.devices.get(name) if facts.vxlan is not None else None
    states = peer_states(device, expected, facts.routes or ()) if device is not None else ()
    return [p for p in states if p.state is not PeerState.COMPLETE]


def _differences(device: VxlanDevice, wanted: ExpectedTunnel) -> Iterator[str]:
    if device.vni is not None and device.vni != wanted.vni:
        yield f"VNI {device.vni}, should be {wanted.vni}"
    if device.port is not None and device.port not in wanted.ports:
        yield f"port {device.port}, should be {wanted.ports[0]}"
    if device.learning:
        yield "learning is on, should be off"
    if wanted.local is not None and device.local is not None and device.local != wanted.local:
        yield f"local {device.local}, should be {wanted.local}"
    if not device.parent:
        yield "no parent link"
    if wanted.mac and device.mac and device.mac != wanted.mac:
        yield f"MAC {device.mac}, should be {wanted.mac}: other nodes send to that"
    present = sorted({str(a.interface.ip) for a in device.addresses if a.family is Family.V6 and a.is_global})
    if wanted.address is not None and str(wanted.address) not in present:
        yield f"address {wanted.address} is not on it" + (f" (it has {', '.join(present)})" if present else "")


def _wrong_mtu(device: VxlanDevice, wanted: ExpectedTunnel, view: RuleInput) -> Iterator[str]:
    """Above what the parent leaves; or below it and below the pods': a device that is right for its parent is not."""
    if device.parent_mtu is None:
        return
    largest = device.parent_mtu - OVERHEAD_V6
    if device.mtu > largest:
        yield f"MTU {device.mtu} is above that of {device.parent} ({device.parent_mtu}) - {OVERHEAD_V6}"
    sizes = [(p.facts.mtu or 0, p.vantage.subject) for p in view.snapshot.pods if p.facts is not None]
    mtu, pod = max(sizes, default=(0, ""))
    if device.mtu < largest and device.mtu + wanted.pods_above < mtu:
        yield f"MTU {device.mtu} is below that of {pod} ({mtu}), and {device.parent} leaves {largest}"
