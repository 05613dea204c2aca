"""Causes of the tunnel: vxlan-v6.calico against what Felix should have made (vxlan_mgr.go, vxlan_fdb.go). Pure rules.

The first that applies is reported: missing, down, misconfigured, then single peers. eBPF has no vxlan-v6.calico.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

from exporter.diagnosis.endpoints import services_on
from exporter.diagnosis.engine.preconditions import unread
from exporter.diagnosis.engine.rule_input import Judgement, RuleInput
from exporter.diagnosis.felix import effective
from exporter.diagnosis.rules.judging import found, only, reader_reason, this_node
from exporter.diagnosis.vxlan_peers import expect_peers, peer_states
from exporter.kernel.decode.tunnel_peers import PeerFinding
from exporter.model.cause import Cause
from exporter.model.cluster.calico import BlockAffinity, VxlanMode
from exporter.model.cluster.inventory import ResourceKind
from exporter.model.cluster.node import Node
from exporter.model.facts import PeerState, Reader, VxlanDevice
from exporter.model.family import Family
from exporter.model.reason import Reason
from exporter.model.subject import Subject, SubjectKind

DEVICE = "vxlan-v6.calico"
OVERHEAD_V6 = 70  # outer IPv6 40, UDP 8, VXLAN 8, inner Ethernet 14: the kernel refuses a larger MTU
DEFAULT_VNI, DEFAULT_PORT = 4096, 4789
SETTLED = 120.0  # seconds since the last change of a peer's objects, before its absence from the kernel is a fault


def vxlan_device_missing(view: RuleInput) -> Judgement:
    """A v6 pool with VXLAN selects this node and the device does not exist."""
    return only(Cause.VXLAN_DEVICE_MISSING, _check_device(view))


def vxlan_device_down(view: RuleInput) -> Judgement:
    """IFF_UP or IFF_LOWER_UP clear; operstate is UNKNOWN on a healthy device and is not used."""
    return only(Cause.VXLAN_DEVICE_DOWN, _check_device(view))


def vxlan_misconfigured(view: RuleInput) -> Judgement:
    """VNI, port, local, parent, address, learning or MTU differ from what Calico should have made."""
    return only(Cause.VXLAN_MISCONFIGURED, _check_device(view))


def vxlan_peer_incomplete(view: RuleInput) -> Judgement:
    """Route, neighbour and forwarding entry of a peer disagree."""
    checked = _check_device(view)
    if checked:
        return checked if isinstance(checked, Reason) else ()
    if any(n.wireguard for n in view.inventory.nodes or ()):
        return Reason.NOT_APPLICABLE
    if view.inventory.nodes is None:
        return unread(view.inventory, ResourceKind.NODES)
    if view.inventory.block_affinities is None:
        return unread(view.inventory, ResourceKind.BLOCK_AFFINITIES)
    peers = _incomplete_peers(view)
    return found(
        Cause.VXLAN_PEER_INCOMPLETE,
        (Subject.of(SubjectKind.PEER, p.name) for p in peers),
        evidence=[f"peer/{p.name}: {p.state.value.replace('_', ' ')}: {p.detail}" for p in peers[:10]],
        command=f"ip -6 route show dev {DEVICE}; ip -6 neigh show dev {DEVICE}; bridge fdb show dev {DEVICE}",
        affects_destinations=services_on(view.inventory, {p.name for p in peers}),
    )


@lru_cache(maxsize=1)
def _check_device(view: RuleInput) -> Judgement:
    """What is wrong with the device; a Reason where that is unknown, or no such device is wanted."""
    if view.inventory.pools is None:
        return unread(view.inventory, ResourceKind.IP_POOLS)
    pools = [
        pool.name
        for pool in view.inventory.enabled_pools(Family.V6)
        if pool.vxlan_mode is not VxlanMode.NEVER and pool.selects(view.node)
    ]
    if not pools:
        return Reason.NOT_APPLICABLE
    facts = view.snapshot.kernel.vxlan
    if facts is None:
        return reader_reason(view, Reader.VXLAN)
    if facts.bpf or any(d.flow_based for d in facts.devices.values()):
        return Reason.NOT_APPLICABLE
    device = facts.devices.get(DEVICE)
    if device is None:
        node = view.inventory.node(view.node)
        annotations = node.tunnel_annotations.items() if node is not None else ()
        return found(
            Cause.VXLAN_DEVICE_MISSING,
            [this_node(view)],
            evidence=[
                f"pool {', '.join(pools)} asks for VXLAN on this node and there is no link {DEVICE}",
                *(f"annotation {name}: {value or 'missing'}" for name, value in annotations),
            ],
            command=f"ip -d link show {DEVICE}; kubectl -n calico-system logs -l k8s-app=calico-node | grep -i vtep",
        )
    if not (device.up and device.lower_up):
        up, lower_up = ("set" if flag else "clear" for flag in (device.up, device.lower_up))
        return found(
            Cause.VXLAN_DEVICE_DOWN,
            [this_node(view)],
            evidence=[f"{DEVICE}: IFF_UP {up}, IFF_LOWER_UP {lower_up}"],
            command=f"ip link show {DEVICE}",
        )
    return found(
        Cause.VXLAN_MISCONFIGURED,
        [this_node(view)],
        evidence=_differences(device, view),
        command=f"ip -d link show {DEVICE}; ip -6 address show {DEVICE}",
    )


def _incomplete_peers(view: RuleInput) -> list[PeerFinding]:
    """Peers that are Ready, whose objects have not changed for two minutes, and whose state is not complete."""
    facts = view.snapshot.kernel
    changing = {b.node for b in view.inventory.block_affinities or () if _changed(b, view.now)}
    ready = {n.name for n in view.inventory.nodes or () if n.ready and not _changed(n, view.now)} - changing
    expected = [e for e in expect_peers(view.inventory, view.node, Family.V6) or () if e.name in ready]
    device = facts.vxlan.devices.get(DEVICE) if facts.vxlan is not None else None
    states = peer_states(device, expected, facts.routes or ()) if device is not None else ()
    return [p for p in states if p.state is not PeerState.COMPLETE]


def _changed(value: Node | BlockAffinity, now: float) -> bool:
    return any(at is not None and now - at < SETTLED for at in (value.created, value.changed))


def _differences(device: VxlanDevice, view: RuleInput) -> Iterator[str]:
    felix = effective(view.inventory, view.node)
    node = view.inventory.node(view.node)
    vni, port = felix.vxlan_vni or DEFAULT_VNI, felix.vxlan_port or DEFAULT_PORT
    if device.vni is not None and device.vni != vni:
        yield f"VNI {device.vni}, should be {vni}"
    if device.port is not None and device.port != port:
        yield f"port {device.port}, should be {port}"
    if device.learning:
        yield "learning is on, should be off"
    if node is not None:
        yield from _wrong_addresses(device, node)
    yield from _wrong_mtu(device, view)


def _wrong_addresses(device: VxlanDevice, node: Node) -> Iterator[str]:
    own, tunnel = node.calico_address(Family.V6), node.tunnel_address(Family.V6)
    if own is not None and device.local is not None and device.local != own.ip:
        yield f"local {device.local}, should be {own.ip}"
    if not device.parent:
        yield "no parent link"
    present = sorted({str(a.interface.ip) for a in device.addresses if a.family is Family.V6 and a.is_global})
    if tunnel is not None and str(tunnel) not in present:
        yield f"address {tunnel} is not on it" + (f" (it has {', '.join(present)})" if present else "")


def _wrong_mtu(device: VxlanDevice, view: RuleInput) -> Iterator[str]:
    if device.parent_mtu is not None and device.mtu > device.parent_mtu - OVERHEAD_V6:
        yield f"MTU {device.mtu} is above that of {device.parent} ({device.parent_mtu}) - {OVERHEAD_V6}"
    sizes = [(p.facts.mtu or 0, p.vantage.subject) for p in view.snapshot.pods if p.facts is not None]
    mtu, pod = max(sizes, default=(0, ""))
    if device.mtu < mtu:
        yield f"MTU {device.mtu} is below that of {pod} ({mtu})"
