"""What the sample days read of the node and the cluster: pools, nodes, kernel facts, readings, inventory."""

from __future__ import annotations

from dataclasses import fields
from ipaddress import ip_address, ip_interface, ip_network
from typing import Any

from exporter.diagnosis.vxlan_peers import tunnel_mac
from exporter.model.cluster.calico import IPPool, VxlanMode
from exporter.model.cluster.inventory import Inventory, InventoryOrigin, ResourceKind
from exporter.model.cluster.node import Node
from exporter.model.dns import ResolvConf
from exporter.model.facts import (
    AddressFact,
    Backend,
    HostFacts,
    Inet6Conf,
    KernelCounters,
    KubeProxyFacts,
    LinkFact,
    NatBackend,
    NatFacts,
    Neighbour,
    PodFacts,
    Reader,
    ReaderStatus,
    RouteFact,
    SourceMatch,
    VxlanDevice,
    VxlanFacts,
)
from exporter.model.family import Family
from exporter.model.reason import Reason
from exporter.model.report import PodView
from exporter.model.vantage import Vantage
from tests.unit.sample_probes import ALPINE, ELIGIBLE, NODE, NOW, OLD, SKIPPED, V4, V6

POOL_V4 = IPPool(
    name="default-ipv4-ippool",
    cidr=ip_network("10.1.0.0/16"),
    vxlan_mode=VxlanMode.ALWAYS,
    nat_outgoing=True,
    block_size=26,
)
POOL_V6 = IPPool(
    name="default-ipv6-ippool",
    cidr=ip_network("fd00:10:1::/48"),
    vxlan_mode=VxlanMode.ALWAYS,
    nat_outgoing=True,
    block_size=122,
)

NUMBERS = {NODE: 10, "node-b": 11, "node-c": 12}
NODES = tuple(
    Node(
        name=name,
        ready=True,
        ready_since=NOW - 86_400,
        calico_addresses=(ip_interface(f"192.0.2.{number}/24"), ip_interface(f"2001:db8:0:1::{number}/64")),
        tunnel_addresses=(ip_address(f"10.1.{number}.0"), ip_address(f"fd00:10:1:{number}::")),
    )
    for name, number in NUMBERS.items()
)


def tunnel(family: Family, broken: str = "") -> VxlanDevice:
    """The device as Felix leaves it, but for one peer whose neighbour entry has a foreign MAC."""
    peers = [n for n in NODES if n.name != NODE]
    macs = {n.name: tunnel_mac(n.name, family) for n in peers}
    ends = {n.name: (n.tunnel_address(family), n.calico_address(family)) for n in peers}
    return VxlanDevice(
        name="vxlan-v6.calico" if family is V6 else "vxlan.calico",
        up=True,
        lower_up=True,
        mtu=1430 if family is V6 else 1450,
        vni=4097 if family is V6 else 4096,
        port=4789,
        parent="ens3",
        parent_mtu=1500,
        neighbours=tuple(
            Neighbour(end, "02:00:00:00:00:99" if name == broken else macs[name], permanent=True)
            for name, (end, _) in ends.items()
            if end is not None
        ),
        fdb={macs[name]: address.ip for name, (_, address) in ends.items() if address is not None},
    )


HOST_NAT = NatFacts(
    backends=(
        NatBackend(
            family=V4,
            backend=Backend.IPTABLES_NFT,
            chain=True,
            hooked=True,
            rules=(SourceMatch(set_name="cali40masq-ipam-pools", members=(ip_network("10.1.0.0/16"),)),),
            packets=81_234,
            bytes=6_400_112,
        ),
        NatBackend(family=V6, backend=Backend.IPTABLES_NFT, chain=True, hooked=True),
    ),
    read=frozenset(
        {(V4, Backend.IPTABLES_NFT), (V6, Backend.IPTABLES_NFT), (V4, Backend.NFTABLES), (V6, Backend.NFTABLES)}
    ),
)

COUNTERS: dict[str, Any] = {
    **{field.name: 0 for field in fields(KernelCounters)},  # a new one has a row at once
    "conntrack_count": 4_812,
    "conntrack_max": 262_144,
    "kernel_release": "6.1.0-42-amd64",
}
HOST_FACTS = HostFacts(
    links=(
        LinkFact(index=1, name="lo", up=True, lower_up=True, mtu=65536, loopback=True),
        LinkFact(
            index=2,
            name="ens3",
            up=True,
            lower_up=True,
            mtu=1500,
            mac="52:54:00:00:00:0a",
            inet6=Inet6Conf(forwarding=1, accept_ra=2, disable_ipv6=0),
        ),
        LinkFact(
            index=7,
            name="cali0a1b2c3d4e5",
            up=True,
            lower_up=True,
            mtu=1430,
            inet6=Inet6Conf(forwarding=1, accept_ra=1, disable_ipv6=0),
        ),
    ),
    addresses=(
        AddressFact(link="ens3", interface=ip_interface("192.0.2.10/24"), scope="global"),
        AddressFact(
            link="ens3",
            interface=ip_interface("2001:db8:0:1::10/64"),
            scope="global",
            permanent=False,
        ),
        AddressFact(
            link="ens3", interface=ip_interface("2001:db8:0:1::dad/64"), scope="global", dadfailed=True, tentative=True
        ),
        AddressFact(link="ens3", interface=ip_interface("fe80::10/64"), scope="link"),
    ),
    routes=(
        RouteFact(destination=ip_network("0.0.0.0/0"), link="ens3", gateway=ip_address("192.0.2.1"), protocol=4),
        RouteFact(
            destination=ip_network("::/0"),
            link="ens3",
            gateway=ip_address("fe80::1"),
            protocol=9,
            from_ra=True,
            expires=1500.0,
        ),
    ),
    all_conf=Inet6Conf(forwarding=1, accept_ra=1, disable_ipv6=0),
    forwarding_v4=True,
    nat=HOST_NAT,
    kube_proxy=KubeProxyFacts("iptables", {V4: True, V6: True}),
    vxlan=VxlanFacts(devices={device.name: device for device in (tunnel(V4), tunnel(V6, broken="node-c"))}),
    limits=KernelCounters(**COUNTERS),
)


def pod_facts(vantage: Vantage, *, ipv6: bool = True) -> PodFacts:
    interfaces = [ip_interface(f"{a}/{a.max_prefixlen}") for a in vantage.addresses if ipv6 or a.version == 4]
    return PodFacts(
        links=(LinkFact(index=3, name="eth0", up=True, lower_up=True, mtu=1430),),
        addresses=tuple(AddressFact(link="eth0", interface=i, scope="global") for i in interfaces),
        routes=tuple(
            RouteFact(destination=ip_network(text), link="eth0") for text in ("0.0.0.0/0", "::/0")[: 2 if ipv6 else 1]
        ),
    )


RESOLV_CONF = ResolvConf(
    nameservers=(ip_address("10.152.183.10"),),
    search=("shop.svc.cluster.local", "svc.cluster.local", "cluster.local"),
    ndots=5,
)

PODS = (
    *(
        PodView(
            vantage=v,
            facts=pod_facts(v, ipv6=v is not OLD),
            resolv_conf=RESOLV_CONF,
            libc=frozenset({"musl" if v is ALPINE else "glibc"}),
        )
        for v in ELIGIBLE
    ),
    *(PodView(vantage=v) for v in SKIPPED),
)

READINGS = (
    *(
        ReaderStatus(reader=reader.value, success=True, seconds=0.0021)
        for reader in Reader
        if reader is not Reader.CONNTRACK
    ),
    ReaderStatus(
        reader=Reader.CONNTRACK.value,
        success=False,
        seconds=0.0001,
        reason=Reason.NO_PERMISSION,
        detail="EPERM: NET_ADMIN is missing",
    ),
    ReaderStatus(reader=f"api_{ResourceKind.IP_POOLS}", success=True, seconds=0.05),
)

INVENTORY = Inventory(
    source=InventoryOrigin.KUBERNETES,
    synced=NOW - 12,
    nodes=NODES,
    pools=(POOL_V4, POOL_V6),
)
