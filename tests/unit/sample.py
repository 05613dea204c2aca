"""Reports built by hand: one node on a bad day with everything in it, a quiet node with many pods, and empty ones.

The bad day is the one this project comes from: CoreDNS withholds AAAA, no rule masquerades the IPv6 pool, so pods reach nothing
outside over IPv6 and musl programs fail for names that glibc resolves.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_address, ip_interface, ip_network

from exporter.catalogue import Own, Round
from exporter.kernel.peers import tunnel_mac
from exporter.model.dns import ResolvConf
from exporter.model.facts import (
    AddressFact,
    Backend,
    HostFacts,
    Inet6Conf,
    KubeProxyFacts,
    Limits,
    LinkFact,
    NatBackend,
    NatFacts,
    Neighbour,
    PodFacts,
    Reader,
    Reading,
    RouteFact,
    SourceMatch,
    VxlanDevice,
    VxlanFacts,
)
from exporter.model.family import FAMILIES, Family
from exporter.model.inventory import Inventory, IPPool, Kind, Node, Pod, Service, VxlanMode
from exporter.model.probe import (
    Group,
    Layer,
    Lookup,
    LookupOutcome,
    Observation,
    Outcome,
    Purpose,
    Question,
    Server,
    Target,
)
from exporter.model.report import (
    Cause,
    CauseReport,
    FamilyReport,
    Finding,
    Pair,
    PodView,
    Reason,
    Report,
    Role,
    Scope,
    Severity,
    Snapshot,
    Unchecked,
)
from exporter.model.vantage import Netns, PodState, Vantage
from exporter.totals import Totals, fold

V4, V6 = Family.V4, Family.V6
NODE = "node-a"
NOW = 1_795_169_430.0  # 2026-11-20 10:10:30 UTC
STARTED = NOW - 3.2

HOST = Vantage("host", "", NODE, Netns(4, 4026531840))


def pod(number: int, namespace: str, name: str, state: PodState = PodState.ELIGIBLE) -> Vantage:
    return Vantage(
        "pod",
        namespace,
        name,
        Netns(4, 4026540000 + number, pid=20_000 + number, started=number),
        state=state,
        uid=f"00000000-0000-4000-8000-{number:012d}",
        addresses=(ip_address(f"10.1.17.{number % 250 + 2}"), ip_address(f"fd00:10:1:17::{number + 2:x}")),
    )


WEB, CART, DB = pod(1, "shop", "web-6c9f7d5b8-2xkqp"), pod(2, "shop", "cart-7d4b9c-9mzlw"), pod(3, "shop", "db-0")
COREDNS, ALPINE, OLD = (
    pod(4, "kube-system", "coredns-864597b5fd-x2x7m"),
    pod(5, "tools", "alpine-0"),
    pod(6, "tools", "before-ipv6-0"),
)
ELIGIBLE = (WEB, CART, DB, COREDNS, ALPINE, OLD)
SKIPPED = (
    pod(7, "kube-system", "calico-node-h8r5t", PodState.HOST_NETWORK),
    pod(8, "shop", "web-6c9f7d5b8-going", PodState.TERMINATING),
    pod(9, "mesh", "payments-0", PodState.INTERCEPTED),
)

PYPI = Target(
    "pypi",
    Group.OUTSIDE,
    {V4: ip_address("198.51.100.80"), V6: ip_address("2001:db8:ffff::80")},
    443,
    layers=(Layer.ICMP, Layer.TCP, Layer.TLS, Layer.HTTP),
    host="pypi.org",
)
SERVICE = Target("service", Group.SERVICE, {V4: ip_address("10.152.183.40"), V6: ip_address("fd00:10:2::40")}, 10046)
CLUSTER_DNS = Target("cluster_dns", Group.CLUSTER_DNS, {V4: ip_address("10.152.183.10")}, 53)
APISERVER = Target("apiserver", Group.APISERVER, {V4: ip_address("10.152.183.1")}, 443)
PEER_B, PEER_C = (
    Target(
        "peers",
        Group.PEERS,
        {V4: ip_address(f"10.1.{number}.0"), V6: ip_address(f"fd00:10:1:{number}::1")},
        10046,
        layers=(Layer.ICMP, Layer.TCP),
        peer=name,
    )
    for number, name in ((18, "node-b"), (19, "node-c"))
)
BLOCKED = Target("metadata", Group.OUTSIDE, {V4: ip_address("169.254.169.254")}, 80, expect_reachable=False)


def seen(
    vantage: Vantage,
    target: Target,
    layer: Layer,
    family: Family,
    outcome: Outcome = Outcome.OK,
    *,
    seconds: float | None = 0.004,
    detail: str = "",
    expires: float | None = None,
) -> Observation:
    return Observation(
        vantage,
        target,
        layer,
        family,
        outcome,
        seconds=seconds if outcome is Outcome.OK or seconds != 0.004 else None,
        detail=detail,
        time=STARTED + 1.5,
        address=target.addresses.get(family),
        expires=expires,
    )


def _to_pypi(vantage: Vantage, family: Family) -> Iterator[Observation]:
    broken = family is V6 and vantage.kind == "pod"
    if broken:
        unreachable = vantage is OLD
        outcome = Outcome.UNREACHABLE if unreachable else Outcome.TIMEOUT
        detail = "connect: network is unreachable" if unreachable else "no answer to SYN within 3 s"
        yield seen(vantage, PYPI, Layer.ICMP, family, outcome, detail="no echo reply within 1 s")
        yield seen(vantage, PYPI, Layer.TCP, family, outcome, detail=detail)
        yield seen(vantage, PYPI, Layer.TLS, family, Outcome.NOT_REACHED)
        yield seen(vantage, PYPI, Layer.HTTP, family, Outcome.NOT_REACHED)
        return
    yield seen(vantage, PYPI, Layer.ICMP, family, seconds=0.0123)
    yield seen(vantage, PYPI, Layer.TCP, family, seconds=0.0126)
    yield seen(vantage, PYPI, Layer.TLS, family, seconds=0.0301, expires=NOW + 40 * 86_400)
    if vantage is CART:
        yield seen(vantage, PYPI, Layer.HTTP, family, Outcome.STATUS, detail="503 Service Unavailable")
    else:
        yield seen(vantage, PYPI, Layer.HTTP, family, seconds=0.0450)


def _observations(pods: tuple[Vantage, ...]) -> Iterator[Observation]:
    for number, vantage in enumerate((HOST, *pods)):
        for family in FAMILIES:
            yield from _to_pypi(vantage, family)
            yield seen(vantage, SERVICE, Layer.TCP, family, seconds=0.0004)
            for peer in (PEER_B, PEER_C) if vantage is HOST else ((PEER_B, PEER_C)[number % 2],):
                down = peer is PEER_C and vantage is HOST and family is V6
                yield seen(vantage, peer, Layer.ICMP, family, seconds=0.0007)
                yield seen(
                    vantage,
                    peer,
                    Layer.TCP,
                    family,
                    Outcome.TIMEOUT if down else Outcome.REFUSED,
                    seconds=None if down else 0.0008,
                    detail="no answer to SYN within 3 s" if down else "connection refused",
                )
        yield seen(vantage, CLUSTER_DNS, Layer.TCP, V4, seconds=0.0005)
    yield seen(HOST, APISERVER, Layer.TCP, V4, seconds=0.0009)
    yield seen(HOST, BLOCKED, Layer.TCP, V4, Outcome.TIMEOUT, detail="no answer to SYN within 3 s")
    yield replace(seen(DB, PYPI, Layer.TCP, V6, Outcome.PROHIBITED, detail="administratively prohibited"), policy=True)


CLUSTER_SERVER = Server(ip_address("10.152.183.10"), "cluster_dns")
HOST_SERVER = Server(ip_address("192.0.2.53"), "host")


def lookup(vantage: Vantage, server: Server, label: str, qtype: str, outcome: LookupOutcome) -> Lookup:
    question = Question(vantage, server, f"{label}.test", qtype, label, Purpose.VERDICT)
    return Lookup(question, outcome, seconds=None if outcome is LookupOutcome.TIMEOUT else 0.002, time=STARTED + 0.4)


def _lookups() -> Iterator[Lookup]:
    for vantage in (WEB, ALPINE):
        yield lookup(vantage, CLUSTER_SERVER, "pypi.org", "A", LookupOutcome.ANSWER)
        yield lookup(vantage, CLUSTER_SERVER, "pypi.org", "AAAA", LookupOutcome.NODATA)
    yield lookup(WEB, CLUSTER_SERVER, "canary", "A", LookupOutcome.ANSWER)
    yield lookup(WEB, CLUSTER_SERVER, "canary", "AAAA", LookupOutcome.NODATA)
    yield lookup(WEB, CLUSTER_SERVER, "random", "AAAA", LookupOutcome.NODATA)
    yield lookup(WEB, CLUSTER_SERVER, "random", "MX", LookupOutcome.NXDOMAIN)
    yield lookup(HOST, HOST_SERVER, "pypi.org", "A", LookupOutcome.ANSWER)
    yield lookup(HOST, HOST_SERVER, "pypi.org", "AAAA", LookupOutcome.ANSWER)
    yield lookup(HOST, HOST_SERVER, "random", "AAAA", LookupOutcome.TIMEOUT)


POOL_V4 = IPPool("default-ipv4-ippool", ip_network("10.1.0.0/16"), VxlanMode.ALWAYS, nat_outgoing=True, block_size=26)
POOL_V6 = IPPool(
    "default-ipv6-ippool", ip_network("fd00:10:1::/48"), VxlanMode.ALWAYS, nat_outgoing=True, block_size=122
)

NUMBERS = {NODE: 10, "node-b": 11, "node-c": 12}
NODES = tuple(
    Node(
        name,
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
        "vxlan-v6.calico" if family is V6 else "vxlan.calico",
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
            V4,
            Backend.IPTABLES_NFT,
            chain=True,
            hooked=True,
            rules=(SourceMatch("cali40masq-ipam-pools", (ip_network("10.1.0.0/16"),)),),
            packets=81_234,
            bytes=6_400_112,
        ),
        NatBackend(V6, Backend.IPTABLES_NFT, chain=True, hooked=True),
    ),
    read=frozenset(
        {(V4, Backend.IPTABLES_NFT), (V6, Backend.IPTABLES_NFT), (V4, Backend.NFTABLES), (V6, Backend.NFTABLES)}
    ),
)

HOST_FACTS = HostFacts(
    links=(
        LinkFact(1, "lo", up=True, lower_up=True, mtu=65536, loopback=True),
        LinkFact(2, "ens3", up=True, lower_up=True, mtu=1500, mac="52:54:00:00:00:0a", inet6=Inet6Conf(1, 2, 0)),
        LinkFact(7, "cali0a1b2c3d4e5", up=True, lower_up=True, mtu=1430, inet6=Inet6Conf(1, 1, 0)),
    ),
    addresses=(
        AddressFact("ens3", ip_interface("192.0.2.10/24"), "global"),
        AddressFact("ens3", ip_interface("2001:db8:0:1::10/64"), "global", permanent=False, valid_seconds=86_000),
        AddressFact("ens3", ip_interface("2001:db8:0:1::dad/64"), "global", dadfailed=True, tentative=True),
        AddressFact("ens3", ip_interface("fe80::10/64"), "link"),
    ),
    routes=(
        RouteFact(ip_network("0.0.0.0/0"), "ens3", ip_address("192.0.2.1"), protocol=4),
        RouteFact(ip_network("::/0"), "ens3", ip_address("fe80::1"), protocol=9, from_ra=True, expires=1500.0),
    ),
    all_conf=Inet6Conf(forwarding=1, accept_ra=1, disable_ipv6=0),
    forwarding_v4=True,
    nat=HOST_NAT,
    kube_proxy=KubeProxyFacts("iptables", {V4: True, V6: True}),
    vxlan=VxlanFacts(devices={device.name: device for device in (tunnel(V4), tunnel(V6, broken="node-c"))}),
    limits=Limits(
        conntrack_count=4_812, conntrack_max=262_144, udp6_checksum_errors=0, kernel_release="6.1.0-42-amd64"
    ),
)


def pod_facts(vantage: Vantage, *, ipv6: bool = True) -> PodFacts:
    interfaces = [ip_interface(f"{a}/{a.max_prefixlen}") for a in vantage.addresses if ipv6 or a.version == 4]
    return PodFacts(
        links=(LinkFact(3, "eth0", up=True, lower_up=True, mtu=1430),),
        addresses=tuple(AddressFact("eth0", i, "global") for i in interfaces),
        routes=tuple(RouteFact(ip_network(text), "eth0") for text in ("0.0.0.0/0", "::/0")[: 2 if ipv6 else 1]),
    )


RESOLV_CONF = ResolvConf(
    (ip_address("10.152.183.10"),), ("shop.svc.cluster.local", "svc.cluster.local", "cluster.local"), ndots=5
)

PODS = (
    *(
        PodView(
            v,
            pod_facts(v, ipv6=v is not OLD),
            resolv_conf=RESOLV_CONF,
            libc=frozenset({"musl" if v is ALPINE else "glibc"}),
        )
        for v in ELIGIBLE
    ),
    *(PodView(v) for v in SKIPPED),
)

READINGS = (
    *(Reading(reader.value, success=True, seconds=0.0021) for reader in Reader if reader is not Reader.CONNTRACK),
    Reading(
        Reader.CONNTRACK.value,
        success=False,
        seconds=0.0001,
        reason=Reason.NO_PERMISSION.value,
        detail="EPERM: NET_ADMIN is missing",
    ),
    Reading(Kind.IP_POOLS.value, success=True, seconds=0.05),
)

INVENTORY = Inventory(
    source="kubernetes",
    synced=NOW - 12,
    nodes=NODES,
    pools=(POOL_V4, POOL_V6),
)

CAUSES = (
    CauseReport(
        Finding(
            Cause.DNS_AAAA_BLOCKED,
            Severity.CRITICAL,
            ("server/cluster_dns",),
            (
                "10.152.183.10 answers AAAA of pypi.org, canary and random with NOERROR, no answer and no SOA; A of pypi.org with 1 address",
                "192.0.2.53 (the node's resolver) answers AAAA of pypi.org with 1 address",
            ),
            "kubectl -n kube-system get configmap coredns -o yaml | grep -n -A6 template",
            kind="blanket_nodata",
        ),
        Scope.DNS,
        since=NOW - 7_300,
    ),
    CauseReport(
        Finding(
            Cause.DNS_SEARCH_BREAKS_MUSL,
            Severity.WARNING,
            (ALPINE.subject,),
            ("pypi.org.cluster.local: A NXDOMAIN, AAAA NOERROR without answer: musl stops there with EAI_NODATA",),
            "dualstack-exporter resolve pypi.org --pod=tools/alpine-0",
        ),
        Scope.DNS,
        since=NOW - 7_300,
        explained_by=Cause.DNS_AAAA_BLOCKED,
    ),
    CauseReport(
        Finding(
            Cause.IPV6_UNREACHABLE,
            Severity.WARNING,
            tuple(sorted(v.subject for v in ELIGIBLE)),
            ("TCP to pypi over IPv6 times out from 5 of 6 pods, over IPv4 it connects from 6 of 6",),
            "dualstack-exporter probe pypi.org:443 --pod=shop/web-6c9f7d5b8-2xkqp",
            pairs=frozenset(Pair(v.subject, "target/pypi") for v in ELIGIBLE),
        ),
        Scope.PATH,
        since=NOW - 3_600,
        explained_by=Cause.NAT_MASQUERADE_MISSING,
    ),
    CauseReport(
        Finding(
            Cause.NAT_MASQUERADE_MISSING,
            Severity.WARNING,
            ("pool/default-ipv6-ippool",),
            (
                "ip6tables-nft, chain cali-nat-outgoing: 0 rules, reached from POSTROUTING",
                "pool default-ipv6-ippool (fd00:10:1::/48) has natOutgoing: true",
            ),
            "ip6tables-nft -t nat -S cali-nat-outgoing",
        ),
        Scope.NODE,
        since=NOW - 3_630,
    ),
    CauseReport(
        Finding(
            Cause.POD_IPV6_MISSING,
            Severity.INFO,
            (OLD.subject,),
            ("eth0 has no global IPv6 address; the pod is 41 days older than IPv6 on this node: restart it",),
            "kubectl -n tools delete pod before-ipv6-0",
        ),
        Scope.POD,
        since=NOW - 86_400,
    ),
)  # fmt: skip

UNCHECKED = (
    Unchecked(Cause.IPV6_MTU_BLACKHOLE, Reason.TOO_FEW_SAMPLES),
    Unchecked(Cause.NAT_KUBE_PROXY_MISSING, Reason.NO_INVENTORY),
    Unchecked(Cause.CONTROL_PLANE_FLAGS, Reason.NO_INVENTORY),
    Unchecked(Cause.CNI_NOT_ASSIGNING_IPV6, Reason.NO_PERMISSION),
)

NODE_CAUSES = (
    frozenset(Cause)
    - {u.cause for u in UNCHECKED}
    - frozenset(list(Cause)[list(Cause).index(Cause.NODE_POD_CIDR_MISSING) :])
)


def bad_day() -> Report:
    """One node with everything in it."""
    observations = tuple(_observations(ELIGIBLE))
    lookups = tuple(_lookups())
    return Report(
        snapshot=Snapshot(
            node=NODE,
            role=Role.NODE,
            started=STARTED,
            finished=NOW,
            complete=True,
            inventory=INVENTORY,
            host=HOST,
            pods=PODS,
            observations=observations,
            kept=observations,
            lookups=lookups,
            lookups_kept=lookups,
            host_facts=HOST_FACTS,
            readings=READINGS,
            families={V4: True, V6: True},
        ),
        families={V4: FamilyReport(expected=True, ok=True), V6: FamilyReport(expected=True, ok=False)},
        causes=CAUSES,
        checked=NODE_CAUSES,
        unchecked=UNCHECKED,
        aaaa_blocks={"cluster_dns": "blanket_nodata", "host": "none"},
        predictions={
            ("glibc", "pypi.org", "any", "OK"): 6,
            ("musl", "pypi.org", "any", "EAI_NODATA"): 6,
            ("musl_1_2_3", "pypi.org", "any", "EAI_NONAME"): 6,
        },
        inventory_age=12.0,
    )


def quiet_day(pods: int = 110) -> Report:
    """A node in the default configuration (no targets, no dns.names of the operator's) with nothing wrong."""
    vantages = tuple(pod(n, f"ns-{n % 12}", f"app-{n}") for n in range(pods))
    made: list[Observation] = []
    for vantage in (HOST, *vantages[:20]):
        for family in FAMILIES:
            made.append(seen(vantage, SERVICE, Layer.TCP, family))
            made.append(seen(vantage, replace(CLUSTER_DNS, addresses=SERVICE.addresses), Layer.TCP, family))
            made.extend(seen(vantage, PEER_B, layer, family) for layer in PEER_B.layers)
            if vantage is HOST:
                made.append(seen(vantage, APISERVER, Layer.TCP, family))
    lookups = [
        lookup(vantage, server, label, qtype, LookupOutcome.ANSWER if label == "canary" else LookupOutcome.NXDOMAIN)
        for vantage, server in ((vantages[0] if vantages else HOST, CLUSTER_SERVER), (HOST, HOST_SERVER))
        for label, qtypes in (("canary", ("A", "AAAA", "PTR")), ("random", ("A", "AAAA", "MX")))
        for qtype in qtypes
    ]
    day = bad_day()
    masquerade = replace(
        HOST_NAT.backends[0], family=V6, rules=(SourceMatch("cali60masq-ipam-pools", (POOL_V6.cidr,)),)
    )
    facts = replace(
        HOST_FACTS,
        vxlan=VxlanFacts(devices={device.name: device for device in (tunnel(V4), tunnel(V6))}),
        addresses=tuple(a for a in HOST_FACTS.addresses or () if a.usable),
        nat=replace(HOST_NAT, backends=(HOST_NAT.backends[0], masquerade)),
    )
    snapshot = replace(
        day.snapshot,
        host_facts=facts,
        pods=tuple(PodView(v, pod_facts(v), resolv_conf=RESOLV_CONF, libc=frozenset({"glibc"})) for v in vantages),
        observations=tuple(made),
        kept=tuple(made),
        lookups=tuple(lookups),
        lookups_kept=tuple(lookups),
        readings=tuple(Reading(r, success=True, seconds=0.001) for r in (*Reader, *Kind)),
        families={V4: True, V6: True},
    )
    return replace(
        day,
        snapshot=snapshot,
        families=dict.fromkeys(FAMILIES, FamilyReport(expected=True, ok=True)),
        causes=(),
        checked=frozenset(list(Cause)[: list(Cause).index(Cause.NODE_POD_CIDR_MISSING)]),
        unchecked=(),
        aaaa_blocks={"cluster_dns": "none", "host": "none"},
        predictions={
            (libc, "canary", request, "OK"): pods
            for libc in ("glibc", "musl", "musl_1_2_3")
            for request in ("any", "4", "6")
        },
    )


def blind() -> Report:
    """The same exporter without root and without Kubernetes: it watches the host alone."""
    day = bad_day()
    refused = (Reader.NAMESPACES, Reader.NAT, Reader.CONNTRACK, Reader.RESOLV_CONF)
    host_only = tuple(o for o in day.snapshot.observations if o.vantage is HOST and o.target is PYPI and o.family is V4)
    return replace(
        day,
        snapshot=replace(
            day.snapshot,
            inventory=Inventory(source="none"),
            pods=(),
            observations=host_only,
            kept=host_only,
            lookups=(),
            lookups_kept=(),
            host_facts=HostFacts(links=HOST_FACTS.links, addresses=HOST_FACTS.addresses, routes=HOST_FACTS.routes),
            readings=tuple(
                Reading(
                    r.value,
                    success=r not in refused,
                    seconds=0.001,
                    reason="" if r not in refused else Reason.NO_PERMISSION.value,
                )
                for r in Reader
                if r is not Reader.PODS
            ),
            families={V4: None, V6: None},
        ),
        families={V4: FamilyReport(expected=None, ok=True), V6: FamilyReport(expected=None, ok=None)},
        causes=(),
        checked=frozenset({Cause.NODE_IPV6_DISABLED, Cause.NODE_NO_IPV6_ADDRESS}),
        unchecked=(
            *(Unchecked(c, Reason.NO_INVENTORY) for c in list(Cause)[30:]),
            Unchecked(Cause.NAT_CHAIN_UNHOOKED, Reason.NO_PERMISSION),
        ),
        aaaa_blocks={},
        predictions={},
        inventory_age=None,
    )


def migration_day() -> Report:
    """The cluster role of a cluster half on its way: pods older than IPv6, Services left single-stack."""
    day = bad_day()
    pods = tuple(
        Pod(
            namespace,
            f"app-{n}",
            phase="Running",
            ips=tuple(map(ip_address, ("10.1.17.9", "fd00:10:1:17::9")[: 1 + (n % 3 > 0)])),
        )
        for namespace in ("shop", "tools")
        for n in range(15 if namespace == "shop" else 3)
    )
    both = (ip_address("10.152.183.7"), ip_address("fd00:10:2::7"))
    services = (
        Service("shop", "web", cluster_ips=both, families=FAMILIES, family_policy="PreferDualStack"),
        Service("shop", "cart", cluster_ips=both[:1], families=(V4,), family_policy="SingleStack"),
    )
    inventory = replace(
        INVENTORY,
        pods=pods,
        services=services,
        nodes=tuple(replace(n, internal_ips=tuple(a.ip for a in n.calico_addresses)) for n in NODES),
    )
    snapshot = Snapshot(
        node="dualstack-exporter-cluster-0",
        role=Role.CLUSTER,
        started=STARTED,
        finished=NOW,
        complete=True,
        inventory=inventory,
        host=None,
        readings=tuple(Reading(kind.value, success=True, seconds=0.02) for kind in Kind),
        families={V4: True, V6: True},
    )
    overlap = Finding(
        Cause.CIDR_OVERLAP,
        Severity.WARNING,
        ("pool/default-ipv6-ippool",),
        ("pool default-ipv6-ippool (fd00:10:1::/48) overlaps the Service range fd00:10:1:ff::/108",),
        "kubectl get ippools,servicecidrs -o wide",
    )
    return replace(
        day,
        snapshot=snapshot,
        families=dict.fromkeys(FAMILIES, FamilyReport(expected=True, ok=None)),
        causes=(CauseReport(overlap, Scope.CLUSTER, since=NOW - 90),),
        checked=frozenset(list(Cause)[list(Cause).index(Cause.NODE_POD_CIDR_MISSING) :]),
        unchecked=(),
        aaaa_blocks={},
        predictions={},
    )


def round_of(report: Report) -> Round:
    """The report with the totals of its own round alone."""
    return Round(report, fold(Totals(), report))


def own() -> Own:
    return Own(
        node=NODE,
        role="node",
        version="1.0.0",
        revision="0123abc",
        python="3.11.7",
        last_round=NOW,
        round_seconds=3.2,
        rounds=17,
        rounds_skipped=1,
        errors={"dns": 0, "kernel": 0},
        inventory_synced={"nodes": NOW - 12, "pods": NOW - 12},
        reload_successful=True,
        reload_time=NOW - 600,
    )
