"""Tunnel causes: vxlan-v6.calico against what Calico should have made of it (Felix: vxlan_mgr.go, vxlan_fdb.go). Pure rules.

First match: missing, down, misconfigured, then single peers. Under eBPF there is no vxlan-v6.calico, and that is right.
"""

from __future__ import annotations

from collections.abc import Iterator

from exporter.diagnosis.endpoints import services_on
from exporter.diagnosis.engine.preconditions import unread
from exporter.diagnosis.engine.rule_input import Judgement, Rule, RuleInput, finding
from exporter.diagnosis.felix import effective
from exporter.diagnosis.rules.node.node import reader_reason
from exporter.diagnosis.vxlan_peers import expect_peers, peer_states
from exporter.kernel.decode.tunnel_peers import PeerFinding
from exporter.model.calico import BlockAffinity, VxlanMode
from exporter.model.facts import PeerState, Reader, VxlanDevice, VxlanFacts
from exporter.model.family import Family, family_of
from exporter.model.inventory import ResourceKind
from exporter.model.node import Node
from exporter.model.reason import Reason
from exporter.model.report import Cause
from exporter.model.subject import Subject, SubjectKind

DEVICE = "vxlan-v6.calico"
OVERHEAD_V6 = 70  # outer IPv6 40, UDP 8, VXLAN 8, inner Ethernet 14: the kernel refuses a larger MTU
DEFAULT_VNI, DEFAULT_PORT = 4096, 4789
SETTLED = 120.0  # seconds since the last change of a peer's objects, before its absence from the kernel is a fault


def vxlan_device_missing(view: RuleInput) -> Judgement:
    """A v6 pool with VXLAN selects this node and the device does not exist."""
    device = _device(view)
    if isinstance(device, Reason):
        return device
    if device is not None:
        return ()
    pools = ", ".join(_vxlan_pools(view))
    return (
        finding(
            Cause.VXLAN_DEVICE_MISSING,
            [_me(view)],
            evidence=[f"pool {pools} asks for VXLAN on this node and there is no link {DEVICE}", *_annotations(view)],
            command=f"ip -d link show {DEVICE}; kubectl -n calico-system logs -l k8s-app=calico-node | grep -i vtep",
        ),
    )


def vxlan_device_down(view: RuleInput) -> Judgement:
    """IFF_UP or IFF_LOWER_UP clear; operstate says nothing (it is UNKNOWN when healthy)."""
    device = _device(view)
    if not isinstance(device, VxlanDevice):
        return device if isinstance(device, Reason) else ()
    if device.up and device.lower_up:
        return ()
    return (
        finding(
            Cause.VXLAN_DEVICE_DOWN,
            [_me(view)],
            evidence=[
                f"{DEVICE}: IFF_UP {'set' if device.up else 'clear'}, IFF_LOWER_UP {'set' if device.lower_up else 'clear'}"
            ],
            command=f"ip link show {DEVICE}",
        ),
    )


def vxlan_misconfigured(view: RuleInput) -> Judgement:
    """VNI, port, local, parent, address, learning or MTU differ from what Calico should have made."""
    device = _device(view)
    if not isinstance(device, VxlanDevice):
        return device if isinstance(device, Reason) else ()
    if not (device.up and device.lower_up):
        return ()
    wrong = list(_differences(device, view))
    if not wrong:
        return ()
    return (
        finding(
            Cause.VXLAN_MISCONFIGURED,
            [_me(view)],
            evidence=wrong,
            command=f"ip -d link show {DEVICE}; ip -6 address show {DEVICE}",
        ),
    )


def vxlan_peer_incomplete(view: RuleInput) -> Judgement:
    """Route, neighbour and forwarding entry of a peer disagree."""
    device = _device(view)
    if not isinstance(device, VxlanDevice):
        return device if isinstance(device, Reason) else ()
    if not (device.up and device.lower_up) or any(_differences(device, view)):
        return ()
    if any(n.wireguard for n in view.inventory.nodes or ()):
        return Reason.NOT_APPLICABLE
    for kind, read in (
        (ResourceKind.NODES, view.inventory.nodes),
        (ResourceKind.BLOCK_AFFINITIES, view.inventory.block_affinities),
    ):
        if read is None:
            return unread(view.inventory, kind)
    found = _incomplete(device, view)
    if not found:
        return ()
    return (
        finding(
            Cause.VXLAN_PEER_INCOMPLETE,
            [Subject.of(SubjectKind.PEER, p.name) for p in found],
            evidence=[f"peer/{p.name}: {p.state.value.replace('_', ' ')}: {p.detail}" for p in found[:10]],
            command=f"ip -6 route show dev {DEVICE}; ip -6 neigh show dev {DEVICE}; bridge fdb show dev {DEVICE}",
            affects_destinations=services_on(view.inventory, {p.name for p in found}),
        ),
    )


def _incomplete(device: VxlanDevice, view: RuleInput) -> list[PeerFinding]:
    """Peers that are Ready and whose objects have been at rest for two minutes, and whose state is not complete."""
    nodes = {n.name: n for n in view.inventory.nodes or ()}
    restless = {b.node for b in view.inventory.block_affinities or () if _moved(b, view.now)}
    settled = {name for name, n in nodes.items() if n.ready and not _moved(n, view.now) and name not in restless}
    expected = [e for e in expect_peers(view.inventory, view.node, Family.V6) or () if e.name in settled]
    host = view.snapshot.host_facts
    states = peer_states(device, expected, (host.routes if host is not None else None) or ())
    return [p for p in states if p.state is not PeerState.COMPLETE]


def _moved(value: Node | BlockAffinity, now: float) -> bool:
    return any(at is not None and now - at < SETTLED for at in (value.created, value.changed))


def _device(view: RuleInput) -> VxlanDevice | Reason | None:
    """The device; None when it should exist and does not; a Reason when nothing can or need be said."""
    inventory = view.inventory
    if inventory.pools is None:
        return unread(inventory, ResourceKind.IP_POOLS)
    if not _vxlan_pools(view):
        return Reason.NOT_APPLICABLE
    facts: VxlanFacts | None = view.snapshot.host_facts.vxlan if view.snapshot.host_facts is not None else None
    if facts is None:
        return reader_reason(view, Reader.VXLAN)
    if facts.bpf or any(d.flow_based for d in facts.devices.values()):
        return Reason.NOT_APPLICABLE
    return facts.devices.get(DEVICE)


def _vxlan_pools(view: RuleInput) -> list[str]:
    return [
        p.name
        for p in view.inventory.pools or ()
        if family_of(p.cidr) is Family.V6
        and not p.disabled
        and p.vxlan_mode is not VxlanMode.NEVER
        and p.selects(view.node)
    ]


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
    held = {a.interface.ip for a in device.addresses if a.family is Family.V6 and a.is_global}
    if tunnel is not None and tunnel not in held:
        yield f"address {tunnel} is not on it" + (
            f" (it has {', '.join(map(str, sorted(held, key=str)))})" if held else ""
        )


def _wrong_mtu(device: VxlanDevice, view: RuleInput) -> Iterator[str]:
    if device.parent_mtu is not None and device.mtu > device.parent_mtu - OVERHEAD_V6:
        yield f"MTU {device.mtu} is above that of {device.parent} ({device.parent_mtu}) - {OVERHEAD_V6}"
    sizes = [(p.facts.mtu or 0, p.vantage.subject) for p in view.snapshot.pods if p.facts is not None and p.facts.mtu]
    largest = max(sizes, default=None)
    if largest is not None and device.mtu < largest[0]:
        yield f"MTU {device.mtu} is below that of {largest[1]} ({largest[0]})"


def _annotations(view: RuleInput) -> Iterator[str]:
    node = view.inventory.node(view.node)
    if node is None:
        return
    for name, value in (
        ("IPv6Address", node.calico_address(Family.V6)),
        ("IPv6VXLANTunnelAddr", node.tunnel_address(Family.V6)),
    ):
        yield f"annotation projectcalico.org/{name}: {value if value is not None else 'missing'}"


def _me(view: RuleInput) -> Subject:
    return Subject.of(SubjectKind.NODE, view.node)


TUNNEL_RULES: dict[Cause, Rule] = {
    Cause.VXLAN_DEVICE_MISSING: vxlan_device_missing,
    Cause.VXLAN_DEVICE_DOWN: vxlan_device_down,
    Cause.VXLAN_MISCONFIGURED: vxlan_misconfigured,
    Cause.VXLAN_PEER_INCOMPLETE: vxlan_peer_incomplete,
}
