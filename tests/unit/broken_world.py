"""A simulated cluster in which any faults can be put together: what the kernel and the API say, and which dials fail
because of it.

The facts are those of node_scene.py; a fault changes them and breaks what it breaks on real nodes (measured by the
fault matrix). One process may look (role all), or a node and a cluster role of which the first reads the second's
digest, written and read as it is served.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from exporter.diagnosis.engine.rule_input import RuleInput
from exporter.diagnosis.engine.verdict import Memory, judge
from exporter.diagnosis.rules.registry import RULES
from exporter.diagnosis.vxlan_peers import tunnel_mac
from exporter.digest.format import merge, read_digest, write_digest
from exporter.model.cause import Cause, Role, Severity
from exporter.model.cluster.calico import Felix, FelixConfiguration, IPPool, VxlanMode
from exporter.model.cluster.inventory import Inventory, InventoryOrigin, ResourceKind
from exporter.model.facts import HostFacts, KubeProxyFacts, NatFacts, PodFacts, VxlanFacts
from exporter.model.probe import Group, Layer, Observation, Target
from exporter.model.reason import Reason
from exporter.model.report import CauseReport, Found, PodView
from exporter.model.vantage import Vantage
from tests.unit import node_scene as healthy
from tests.unit.scene import HOST, seen, target

V4, V6 = healthy.V4, healthy.V6
OUTSIDE = (target("pypi"), target("crates"))
SERVICE = target("service", Group.SERVICE, layers=(Layer.TCP,))
DNS = target("cluster_dns", Group.CLUSTER_DNS, layers=(Layer.TCP,))
PEERS = tuple(target("peers", Group.PEERS, peer=name) for name in ("anubis", "babel"))
BEHIND = {"service": "babel", "cluster_dns": "anubis"}  # where the endpoint stands
FINE, SILENT = "icmp6=ok tcp6=ok tcp4=ok", "icmp6=timeout tcp6=timeout tcp4=ok"
BLOCKED = "icmp6=ok tcp6=timeout tcp4=ok"
DEAD = "icmp6=timeout tcp6=timeout icmp4=timeout tcp4=timeout"
Fails = Callable[[Vantage, Target], bool]


@dataclass(frozen=True)
class World:
    """The whole state: change it with a Fault. `fails`: which pairs get no answer over IPv6."""

    host: HostFacts
    pods: Mapping[str, PodFacts]
    inventory: Inventory
    fails: tuple[Fails, ...] = ()
    blocked: tuple[Fails, ...] = ()  # pairs between which TCP over IPv6 alone gets no answer
    down: str = ""  # another node that answers over neither family; what stands on it answers over IPv4 by chance


@dataclass(frozen=True)
class Fault:
    """`cause` is what must be found, `group` says which faults would hide each other (first match)."""

    cause: Cause
    group: str
    change: Callable[[World], World]
    hides: frozenset[str] = frozenset()  # groups in which nothing can be told beside it


def world(pods: Sequence[str] = ("web", "db")) -> World:
    numbers = {p.name: int(p.ips[0]) & 0xFF for p in (healthy.WEB, healthy.DB)}
    return World(healthy.host(), {name: healthy.namespace(numbers[name]) for name in pods}, healthy.cluster())


# what fails


def from_pods(of: Fails) -> Fails:
    return lambda place, to: place.kind == "pod" and of(place, to)


def from_host(of: Fails) -> Fails:
    return lambda place, to: place.kind == "host" and of(place, to)


def anything(_: Vantage, __: Target) -> bool:
    return True


def outside(_: Vantage, to: Target) -> bool:
    return to.group is Group.OUTSIDE


def services(_: Vantage, to: Target) -> bool:
    return to.group in {Group.SERVICE, Group.CLUSTER_DNS}


def node(*names: str) -> Fails:
    """Everything that stands on these nodes."""
    return lambda _, to: (to.peer or BEHIND.get(to.name)) in names


OTHERS = node("anubis", "babel")


def pod(name: str) -> Fails:
    return lambda place, _: place.name == name


# what is changed


def on_host(*fails: Fails, **changes: Any) -> Callable[[World], World]:
    return lambda w: replace(w, host=replace(w.host, **changes), fails=(*w.fails, *fails))


def blocked(*pairs: Fails) -> Callable[[World], World]:
    return lambda w: replace(w, blocked=(*w.blocked, *pairs))


def in_pod(name: str, **changes: Any) -> Callable[[World], World]:
    return lambda w: replace(
        w, pods={**w.pods, name: replace(w.pods[name], **changes)} if name in w.pods else w.pods,
        fails=(*w.fails, pod(name))
    )  # fmt: skip


def in_cluster(*fails: Fails, **changes: Any) -> Callable[[World], World]:
    return lambda w: replace(w, inventory=replace(w.inventory, **changes), fails=(*w.fails, *fails))


def _without_address(w: World) -> World:
    kept = tuple(a for a in w.host.addresses or () if a.family is V4)
    fails = (outside, from_host(services), OTHERS)
    return replace(w, host=replace(w.host, addresses=kept), fails=(*w.fails, *fails))


def _without_default_route(w: World) -> World:
    kept = tuple(r for r in w.host.routes or () if not (r.is_default and r.family is V6))
    return replace(w, host=replace(w.host, routes=kept), fails=(*w.fails, outside, from_host(services)))


def _without_pod_route(w: World) -> World:
    kept = tuple(r for r in w.host.routes or () if str(r.destination) != "fd01:0:0:13::2/128")
    return replace(w, host=replace(w.host, routes=kept), fails=(*w.fails, pod("web")))


def _without_peer(name: str) -> Callable[[World], World]:
    def change(w: World) -> World:
        device = w.host.vxlan.devices[healthy.DEVICE] if w.host.vxlan is not None else healthy.device()
        fdb = {m: a for m, a in device.fdb.items() if m != tunnel_mac(name, V6)}
        vxlan = VxlanFacts({healthy.DEVICE: replace(device, fdb=fdb)})
        return replace(w, host=replace(w.host, vxlan=vxlan), fails=(*w.fails, node(name)))

    return change


def _node_without_tunnel_address(name: str) -> Callable[[World], World]:
    def change(w: World) -> World:
        nodes = tuple(
            replace(n, tunnel_addresses=n.tunnel_addresses[:1]) if n.name == name else n
            for n in w.inventory.nodes or ()
        )
        lost = OTHERS if name == healthy.ME else node(name)
        host = w.host
        if name == healthy.ME:
            host = replace(host, vxlan=VxlanFacts({}))
        return replace(w, host=host, inventory=replace(w.inventory, nodes=nodes), fails=(*w.fails, lost))

    return change


def _without_slice(w: World) -> World:
    own = f"dualstack-exporter-{V6}"
    slices = tuple(
        replace(s, endpoints=()) if s.name == own else s for s in w.inventory.endpoint_slices or ()
    )  # fmt: skip
    return replace(
        w, inventory=replace(w.inventory, endpoint_slices=slices), fails=(*w.fails, lambda _, to: to is SERVICE)
    )


def _with_pool6(w: World, **changes: Any) -> tuple[IPPool, ...]:
    return tuple(replace(p, **changes) if p.cidr.version == 6 else p for p in w.inventory.pools or ())


def _no_nat_asked(w: World) -> World:
    pools = _with_pool6(w, nat_outgoing=False)
    host = replace(w.host, nat=NatFacts((healthy.masquerade(rules=()),)))
    return replace(w, host=host, inventory=replace(w.inventory, pools=pools), fails=(*w.fails, from_pods(outside)))


def _no_tunnel_asked(w: World) -> World:
    pools = _with_pool6(w, vxlan_mode=VxlanMode.NEVER)
    host = replace(w.host, vxlan=VxlanFacts({}))
    return replace(w, host=host, inventory=replace(w.inventory, pools=pools), fails=(*w.fails, OTHERS))


def _felix_off(w: World) -> World:
    felix = (FelixConfiguration("default", Felix(ipv6_support=False)),)
    host = replace(w.host, vxlan=VxlanFacts({}), nat=NatFacts(()))
    return replace(
        w, host=host, inventory=replace(w.inventory, felix=felix), fails=(*w.fails, OTHERS, from_pods(outside))
    )


def _felix_off_and_nothing_lost(w: World) -> World:
    """Felix keeps what it had written."""
    felix = (FelixConfiguration("default", Felix(ipv6_support=False)),)
    return replace(w, inventory=replace(w.inventory, felix=felix))


NO_IPV6 = healthy.namespace(addresses=healthy.namespace().addresses[:1], routes=healthy.POD_CONF[:1])
FAULTS: dict[str, Fault] = {
    "no address": Fault(Cause.NODE_NO_IPV6_ADDRESS, "node", _without_address, frozenset({"NAT asked"})),
    "no default route": Fault(Cause.NODE_NO_IPV6_DEFAULT_ROUTE, "node", _without_default_route,
        frozenset({"NAT asked"})),
    "no forwarding": Fault(
        Cause.NODE_FORWARDING_OFF, "forwarding",
        on_host(from_pods(anything), all_conf=replace(healthy.CONF, forwarding=0))
    ),
    "no rule": Fault(Cause.NAT_MASQUERADE_MISSING, "nat",
        on_host(from_pods(outside), nat=NatFacts((healthy.masquerade(rules=()),)))),
    "no hook": Fault(Cause.NAT_CHAIN_UNHOOKED, "nat",
        on_host(from_pods(outside), nat=NatFacts((healthy.masquerade(hooked=False),)))),
    "not in set": Fault(Cause.NAT_POOL_NOT_IN_SET, "nat",
        on_host(from_pods(outside), nat=NatFacts((healthy.masquerade("fd09::/48"),)))),
    "no kube-proxy": Fault(
        Cause.NAT_KUBE_PROXY_MISSING, "services",
        on_host(services, kube_proxy=KubeProxyFacts("iptables", {V4: True, V6: False}))
    ),
    "no device": Fault(Cause.VXLAN_DEVICE_MISSING, "tunnel", on_host(OTHERS, vxlan=VxlanFacts({}))),
    "device down": Fault(Cause.VXLAN_DEVICE_DOWN, "tunnel", on_host(OTHERS, vxlan=healthy.tunnels(up=False))),
    "wrong VNI": Fault(Cause.VXLAN_MISCONFIGURED, "tunnel", on_host(OTHERS, vxlan=healthy.tunnels(vni=1))),
    "peer with the DNS": Fault(Cause.VXLAN_PEER_INCOMPLETE, "tunnel", _without_peer("anubis")),
    "peer with the Service": Fault(Cause.VXLAN_PEER_INCOMPLETE, "tunnel", _without_peer("babel"),
        frozenset({"annotations"})),
    "no pod route": Fault(Cause.POD_ROUTE_MISSING, "pod route", _without_pod_route),
    "pod: off": Fault(Cause.POD_IPV6_DISABLED, "web", in_pod("web", disable_ipv6=True)),
    "pod: no route": Fault(Cause.POD_NO_IPV6_DEFAULT_ROUTE, "web", in_pod("web", routes=healthy.POD_CONF[:1])),
    "other pod: no address": Fault(
        Cause.POD_IPV6_MISSING, "db",
        in_pod("db", addresses=healthy.namespace(3).addresses[:1], routes=healthy.POD_CONF[:1])
    ),
    "own tunnel address": Fault(Cause.CALICO_NODE_ADDRESS_MISSING, "tunnel", _node_without_tunnel_address("ra")),
    "peer's tunnel address": Fault(Cause.CALICO_NODE_ADDRESS_MISSING, "annotations",
        _node_without_tunnel_address("babel")),
    "no endpoints": Fault(Cause.ENDPOINTSLICE_IPV6_MISSING, "slices", _without_slice),
    "NAT not asked": Fault(Cause.IPPOOL_NAT_OUTGOING_OFF, "NAT asked", _no_nat_asked, frozenset({"nat"})),
    "VXLAN not asked": Fault(Cause.IPPOOL_VXLAN_MODE_MISMATCH, "tunnel", _no_tunnel_asked, frozenset({"annotations"})),
    "Felix off, nothing lost": Fault(Cause.FELIX_IPV6_OFF, "Felix", _felix_off_and_nothing_lost,
        frozenset({"tunnel", "nat", "pod route"})),
    "TCP dropped in the tunnel": Fault(Cause.IPV6_TCP_BLOCKED, "tunnel TCP", blocked(OTHERS),
        frozenset({"tunnel", "node"})),
    "TCP dropped outside": Fault(Cause.IPV6_TCP_BLOCKED, "outside TCP", blocked(outside),
        frozenset({"NAT asked", "node"})),
    "Felix off": Fault(Cause.FELIX_IPV6_OFF, "tunnel", _felix_off, frozenset({"nat", "pod route"})),
}  # fmt: skip


# who looks


def dialled(w: World) -> list[Observation]:
    places = [HOST, *(view.vantage for view in inspected(w))]
    return [
        o for place in places for to in (*OUTSIDE, SERVICE, DNS, *PEERS) for o in seen(place, to,
            _words(to, _said(w, place, to)))
    ]  # fmt: skip


def _said(w: World, place: Vantage, to: Target) -> str:
    if w.down and w.down == to.peer:
        return DEAD
    lost = w.down and w.down == BEHIND.get(to.name)
    if lost or any(fails(place, to) for fails in w.fails):
        return SILENT
    return BLOCKED if any(blocked(place, to) for blocked in w.blocked) else FINE


def _words(to: Target, said: str) -> str:
    words = [word for word in said.split() if Layer.ICMP in to.layers or not word.startswith("icmp")]
    return " ".join(words)


def inspected(w: World) -> list[PodView]:
    return [healthy.inside(name, facts) for name, facts in w.pods.items()]


def rounds(w: World, role: Role, inventory: Inventory | None = None) -> RuleInput:
    """What that role sees; the round before showed the same."""
    kept = dialled(w) if role is not Role.CLUSTER else []
    pods = inspected(w) if role is not Role.CLUSTER else []
    facts = w.host if role is not Role.CLUSTER else HostFacts()
    return healthy.node_view(facts, w.inventory if inventory is None else inventory, pods, kept=kept, role=role)


def all_in_one(w: World) -> tuple[CauseReport, ...]:
    return twice(rounds(w, Role.ALL))


def twice(seen_by: RuleInput, elsewhere: tuple[Found, ...] = ()) -> tuple[CauseReport, ...]:
    """What stands after two rounds that showed the same: what compares kernel and inventory is not found in one."""
    _, memory = judge(seen_by, Memory(), rules=RULES, elsewhere=elsewhere)
    return judge(seen_by, memory, rules=RULES, elsewhere=elsewhere)[0].causes


def apart(w: World) -> tuple[CauseReport, ...]:
    """The cluster role's causes, and the node's, which knows of the cluster what the digest says."""
    cluster = twice(rounds(w, Role.CLUSTER))
    digest = read_digest(write_digest(w.inventory, cluster, 10_000.0))
    own = Inventory(
        source=InventoryOrigin.KUBERNETES,
        nodes=tuple(n for n in w.inventory.nodes or () if n.name == healthy.ME),
        pods=w.inventory.local_pods(healthy.ME),
        unread={ResourceKind.IP_POOLS: Reason.NO_INVENTORY},
    )
    seen_by = rounds(w, Role.NODE, merge(own, digest))
    return (*cluster, *twice(seen_by, digest.found))


def unexplained(causes: Iterable[CauseReport]) -> set[Cause]:
    """Those that a person is to fix."""
    return {c.finding.cause for c in causes if c.explained_by is None and c.finding.severity is not Severity.INFO}
