"""A healthy node `ra` as its kernel and the cluster have it, for the scenarios of rules: what is not changed is
well.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from ipaddress import ip_address, ip_interface, ip_network
from typing import Any

from exporter.diagnosis.engine.rule_input import RuleInput
from exporter.diagnosis.rules.registry import RULES
from exporter.diagnosis.vxlan_peers import tunnel_mac
from exporter.model.cause import Cause, Role, Severity
from exporter.model.cluster.calico import BlockAffinity
from exporter.model.cluster.inventory import Inventory
from exporter.model.cluster.service import ServicePort
from exporter.model.facts import (
    AddressFact,
    Backend,
    HostFacts,
    Inet6Conf,
    KubeProxyFacts,
    LinkFact,
    ListeningSocket,
    NatBackend,
    NatFacts,
    Neighbour,
    PodFacts,
    RouteFact,
    SourceMatch,
    VxlanDevice,
    VxlanFacts,
)
from exporter.model.family import FAMILIES, Family, parse_address, parse_net
from exporter.model.reason import Reason
from exporter.model.report import Finding, PodView
from exporter.model.vantage import Netns, PodState, Vantage
from tests.unit.cluster_scene import NODES, POOL6, changed, endpoints, pod, service
from tests.unit.scene import view

ME, DEVICE = "ra", "vxlan-v6.calico"
V4, V6 = Family.V4, Family.V6
BORN = 100.0
NUMBER = {"anubis": 11, "babel": 12, "ra": 13}
BLOCKS = {name: ip_network(f"fd01:0:0:{number}::/122") for name, number in NUMBER.items()}
GATEWAY = ip_address("2001:db8:10::1")
DNS, OWN = (ip_address("10.152.183.10"), ip_address("fd98::10")), (ip_address("10.152.183.30"), ip_address("fd98::30"))
SERVICES = (
    service("dualstack-exporter", labels={"app.kubernetes.io/name": "dualstack-exporter"}, cluster_ips=OWN,
        ports=(ServicePort(name="http", port=80),)),
    service("kube-dns", namespace="kube-system", labels={"k8s-app": "kube-dns"}, cluster_ips=DNS,
        ports=(ServicePort(name="dns", port=53),)),
)  # fmt: skip
WEB, DB = (
    pod(name, ME, f"10.1.13.{n}", f"fd01:0:0:13::{n}", uid=f"uid-{name}", created=BORN, labels={"app": name})
    for name, n in (("web", 2), ("db", 3))
)
FAR = tuple(
    pod(name, on, f"10.1.{NUMBER[on]}.5", f"fd01:0:0:{NUMBER[on]}::5", namespace=space, labels={"app": name})
    for name, on, space in (("dualstack-exporter", "babel", "default"), ("kube-dns", "anubis", "kube-system"))
)


def cluster(**changes: Any) -> Inventory:
    """The API's side of it: the exporter's own Service has its endpoint on babel, the cluster's DNS on anubis."""
    healthy: dict[str, Any] = {
        "nodes": tuple(replace(n, created=BORN, ready_since=BORN) for n in NODES),
        "pods": (WEB, DB, *FAR),
        "services": SERVICES,
        "endpoint_slices": tuple(
            endpoints(p.name, str(a), pod=p.name, namespace=p.namespace) for p in FAR for a in p.ips
        ),
        "block_affinities": tuple(BlockAffinity(cidr=net, node=name) for name, net in BLOCKS.items()),
    }
    return changed(**{**healthy, **changes})


def device(**changes: Any) -> VxlanDevice:
    """vxlan-v6.calico as Felix leaves it."""
    nodes = {n.name: n for n in NODES}
    me, peers = nodes.pop(ME), nodes
    ends = {name: n.tunnel_address(V6) for name, n in peers.items()}
    tunnel = me.tunnel_address(V6)
    return replace(
        VxlanDevice(
            name=DEVICE, up=True, lower_up=True, mtu=1430, vni=4096, port=4789, local=parse_address("2001:db8:10::13"),
            parent="eth0",
            parent_mtu=1500, learning=False,
            addresses=(AddressFact(link=DEVICE, interface=ip_interface(f"{tunnel}/128"), scope="global"),),
            routes=tuple(RouteFact(destination=BLOCKS[name], link=DEVICE, gateway=end) for name, end in ends.items()),
            neighbours=tuple(Neighbour(end, tunnel_mac(name, V6), permanent=True) for name, end in ends.items() if end),
            fdb={tunnel_mac(name, V6): ip_address(f"2001:db8:10::{NUMBER[name]}") for name in peers},
        ),
        **changes,
    )  # fmt: skip


def tunnels(**changes: Any) -> VxlanFacts:
    return VxlanFacts({DEVICE: device(**changes)})


def masquerade(*members: str, **changes: Any) -> NatBackend:
    """cali-nat-outgoing with its rule, over the given networks or the pool."""
    nets = tuple(n for n in map(parse_net, members) if n is not None) or (POOL6.cidr,)
    rule = SourceMatch(set_name="cali60masq-ipam-pools", members=nets)
    return replace(
        NatBackend(family=V6, backend=Backend.IPTABLES_NFT, chain=True, hooked=True, rules=(rule,)), **changes
    )


def route(net: str, link: str = "eth0", **changes: Any) -> RouteFact:
    parsed = parse_net(net)
    assert parsed is not None
    return RouteFact(destination=parsed, link=link, **changes)


DEFAULT4, DEFAULT6 = route("0.0.0.0/0"), route("::/0", gateway=GATEWAY)
POD_ROUTES = tuple(route(f"fd01:0:0:13::{n}/128", f"cali{n}") for n in (2, 3))
ADDRESS = AddressFact(link="eth0", interface=ip_interface("2001:db8:10::13/64"), scope="global")
ADDRESSES = (AddressFact(link="eth0", interface=ip_interface("10.0.10.13/24"), scope="global"), ADDRESS)
CONF = Inet6Conf(forwarding=1, accept_ra=0, disable_ipv6=0)
ETH0 = LinkFact(index=2, name="eth0", up=True, lower_up=True, mtu=1500, inet6=CONF)


def host(**changes: Any) -> HostFacts:
    return replace(
        HostFacts(
            links=(ETH0,), addresses=ADDRESSES, routes=(DEFAULT4, DEFAULT6, *POD_ROUTES), all_conf=CONF,
            forwarding_v4=True,
            nat=NatFacts((masquerade(),)), kube_proxy=KubeProxyFacts("iptables", {V4: True, V6: True}), vxlan=tunnels(),
        ),
        **changes,
    )  # fmt: skip


POD_CONF = (route("0.0.0.0/0"), route("::/0"))


def namespace(number: int = 2, **changes: Any) -> PodFacts:
    """What a healthy pod's namespace holds."""
    held = (f"10.1.13.{number}/32", f"fd01:0:0:13::{number}/128")
    return replace(
        PodFacts(
            links=(LinkFact(index=3, name="eth0", up=True, lower_up=True, mtu=1430),),
            addresses=tuple(AddressFact(link="eth0", interface=ip_interface(each), scope="global") for each in held),
            routes=POD_CONF,
            listeners=tuple(
                ListeningSocket(family=f, address=ip_address("::" if f is V6 else "0.0.0.0"), port=8080)
                for f in FAMILIES
            ),
        ),
        **changes,
    )


def inside(name: str = "web", facts: PodFacts | None = None, **changes: Any) -> PodView:
    """A pod of this node; healthy unless told otherwise."""
    known = {p.name: p for p in (WEB, DB)}[name]
    number = int(known.ips[0]) & 0xFF
    vantage = Vantage(
        kind="pod",
        namespace="default",
        name=name,
        netns=Netns(device=4, inode=number),
        state=PodState.ELIGIBLE,
        families=FAMILIES,
        uid=known.uid,
        addresses=known.ips,
    )
    return PodView(vantage=replace(vantage, **changes), facts=namespace(number) if facts is None else facts)


def node_view(
    facts: HostFacts | None = None,
    inventory: Inventory | None = None,
    pods: Sequence[PodView] | None = None,
    **more: Any,
) -> RuleInput:
    return view(
        facts=host() if facts is None else facts,
        inventory=cluster() if inventory is None else inventory,
        pods=(inside(), inside("db")) if pods is None else pods,
        **{"role": Role.NODE, "now": 10_000.0, **more},
    )


def said(cause: Cause, of: RuleInput) -> tuple[Finding, ...] | Reason:
    return RULES[cause](of)


def only(cause: Cause, of: RuleInput) -> Finding:
    """The one finding, which must have evidence and a command."""
    found = said(cause, of)
    assert isinstance(found, tuple), found
    assert len(found) == 1
    assert found[0].evidence
    assert all(found[0].evidence)
    assert found[0].command
    assert found[0].subjects
    return found[0]


def holding(causes: Iterable[Cause], of: RuleInput) -> dict[Cause, Severity]:
    """Those of the causes that hold, with their severity."""
    judged = {cause: said(cause, of) for cause in causes}
    return {cause: found[0].severity for cause, found in judged.items() if isinstance(found, tuple) and found}
