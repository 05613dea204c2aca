"""Reports built by hand: one node on a bad day with everything in it, a quiet node with many pods, and empty ones.

The bad day is the one this project comes from: CoreDNS withholds AAAA, no rule masquerades the IPv6 pool, so pods reach
nothing outside over IPv6 and musl programs fail for names that glibc resolves.
"""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address

from exporter.catalogue import ExporterState, FinishedRound
from exporter.catalogue.totals import Totals, add_round
from exporter.model.cause import Cause, Role, Scope, Severity
from exporter.model.cluster.calico import VxlanMode
from exporter.model.cluster.inventory import Inventory, InventoryOrigin, ResourceKind
from exporter.model.cluster.pod import Pod
from exporter.model.cluster.service import Service
from exporter.model.cni.network import PodNetwork
from exporter.model.cni.profile import Cni, CniSign, Place
from exporter.model.dial import dials_of
from exporter.model.dns import BlockKind
from exporter.model.facts import (
    HostFacts,
    Reader,
    ReaderStatus,
    SourceMatch,
    VxlanFacts,
)
from exporter.model.family import FAMILIES
from exporter.model.probe import (
    Layer,
    LookupOutcome,
    Observation,
)
from exporter.model.reason import Reason
from exporter.model.report import CauseReport, FamilyReport, Finding, PodView, Report, Snapshot, Unchecked
from exporter.model.subject import Pair, Subject
from tests.unit.sample_node import (
    HOST_FACTS,
    HOST_NAT,
    INVENTORY,
    NODES,
    PODS,
    POOL_V4,
    POOL_V6,
    READINGS,
    RESOLV_CONF,
    pod_facts,
    tunnel,
)
from tests.unit.sample_probes import (
    ALPINE,
    APISERVER,
    CLUSTER_DNS,
    CLUSTER_SERVER,
    ELIGIBLE,
    HOST,
    HOST_SERVER,
    NODE,
    NOW,
    OLD,
    PEER_B,
    PYPI,
    SERVICE,
    STARTED,
    V4,
    V6,
    ask,
    lookup,
    observe,
    pod,
    seen,
)

CAUSES = (
    CauseReport(
        finding=Finding(
            cause=Cause.DNS_AAAA_BLOCKED,
            severity=Severity.CRITICAL,
            subjects=(Subject("server/cluster_dns"),),
            evidence=(
                ("10.152.183.10 answers AAAA of pypi.org, canary and random with NOERROR, no answer and no SOA; A of "
                "pypi.org with 1 address"),
                "192.0.2.53 (the node's resolver) answers AAAA of pypi.org with 1 address",
            ),
            command="kubectl -n kube-system get configmap coredns -o yaml | grep -n -A6 template",
        ),
        scope=Scope.DNS,
        since=NOW - 7_300,
    ),
    CauseReport(
        finding=Finding(
            cause=Cause.DNS_SEARCH_BREAKS_MUSL,
            severity=Severity.WARNING,
            subjects=(ALPINE.subject,),
            evidence=(("pypi.org.cluster.local: A NXDOMAIN, AAAA NOERROR without answer: musl stops there with "
                "EAI_NODATA"),),
            command="dualstack-exporter resolve pypi.org --pod=tools/alpine-0",
        ),
        scope=Scope.DNS,
        since=NOW - 7_300,
        explained_by=Cause.DNS_AAAA_BLOCKED,
    ),
    CauseReport(
        finding=Finding(
            cause=Cause.IPV6_UNREACHABLE,
            severity=Severity.WARNING,
            subjects=tuple(sorted(v.subject for v in ELIGIBLE)),
            evidence=("TCP to pypi over IPv6 times out from 5 of 6 pods, over IPv4 it connects from 6 of 6",),
            command="dualstack-exporter probe pypi.org:443 --pod=shop/web-6c9f7d5b8-2xkqp",
            pairs=frozenset(Pair(v.subject, Subject("target/pypi"), V6) for v in ELIGIBLE),
        ),
        scope=Scope.PATH,
        since=NOW - 3_600,
        explained_by=Cause.NAT_MASQUERADE_MISSING,
    ),
    CauseReport(
        finding=Finding(
            cause=Cause.NAT_MASQUERADE_MISSING,
            severity=Severity.WARNING,
            subjects=(Subject("pool/default-ipv6-ippool"),),
            evidence=(
                "ip6tables-nft, chain cali-nat-outgoing: 0 rules, reached from POSTROUTING",
                "pool default-ipv6-ippool (fd00:10:1::/48) has natOutgoing: true",
            ),
            command="ip6tables-nft -t nat -S cali-nat-outgoing",
        ),
        scope=Scope.NODE,
        since=NOW - 3_630,
    ),
    CauseReport(
        finding=Finding(
            cause=Cause.POD_IPV6_MISSING,
            severity=Severity.INFO,
            subjects=(OLD.subject,),
            evidence=("eth0 has no global IPv6 address; the pod is 41 days older than IPv6 on this node: restart it",),
            command="kubectl -n tools delete pod before-ipv6-0",
        ),
        scope=Scope.POD,
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
    observations = tuple(observe(ELIGIBLE))
    lookups = tuple(ask())
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
            last=dials_of(observations),
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
        aaaa_blocks={"cluster_dns": BlockKind.BLANKET_NODATA, "host": BlockKind.NONE},
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
        HOST_NAT.backends[0], family=V6, rules=(SourceMatch(set_name="cali60masq-ipam-pools", members=(POOL_V6.cidr,)),)
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
        pods=tuple(
            PodView(vantage=v, facts=pod_facts(v), resolv_conf=RESOLV_CONF, libc=frozenset({"glibc"})) for v in vantages
        ),
        observations=tuple(made),
        last=dials_of(tuple(made)),
        lookups=tuple(lookups),
        lookups_kept=tuple(lookups),
        readings=tuple(
            ReaderStatus(reader=r, success=True, seconds=0.001)
            for r in (*Reader, *(f"api_{kind}" for kind in ResourceKind))
        ),
        families={V4: True, V6: True},
    )
    return replace(
        day,
        snapshot=snapshot,
        families=dict.fromkeys(FAMILIES, FamilyReport(expected=True, ok=True)),
        causes=(),
        checked=frozenset(list(Cause)[: list(Cause).index(Cause.NODE_POD_CIDR_MISSING)]),
        unchecked=(),
        aaaa_blocks={"cluster_dns": BlockKind.NONE, "host": BlockKind.NONE},
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
            inventory=Inventory(source=InventoryOrigin.NONE),
            pods=(),
            observations=host_only,
            last=dials_of(host_only),
            lookups=(),
            lookups_kept=(),
            host_facts=HostFacts(links=HOST_FACTS.links, addresses=HOST_FACTS.addresses, routes=HOST_FACTS.routes),
            readings=tuple(
                ReaderStatus(
                    reader=r.value,
                    success=r not in refused,
                    seconds=0.001,
                    reason=None if r not in refused else Reason.NO_PERMISSION,
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


def routed(day: Report, *, missing: int = 0) -> Report:
    """The same where Calico speaks BGP; so many of the node's peers are missing."""
    bird = CniSign(
        cni=Cni.CALICO, place=Place.AGENT, source="calico-node", settings={"CALICO_NETWORKING_BACKEND": "bird"}
    )
    inventory = replace(
        day.snapshot.inventory,
        pools=(POOL_V4, replace(POOL_V6, vxlan_mode=VxlanMode.NEVER)),
        cni_signs=(bird,),
        bgp=(),
        bgp_peers=(),
    )
    peers = [node.calico_address(V6) for node in NODES if node.name != NODE]
    connected = frozenset(peer.ip for peer in peers[missing:] if peer is not None)
    facts = replace(day.snapshot.kernel, bgp_peers=connected)
    return replace(day, snapshot=replace(day.snapshot, inventory=inventory, host_facts=facts))


def migration_day() -> Report:
    """The cluster role of a cluster half on its way: pods older than IPv6, Services left single-stack."""
    day = bad_day()
    pods = tuple(
        Pod(
            namespace=namespace,
            name=f"app-{n}",
            phase="Running",
            ips=tuple(map(ip_address, ("10.1.17.9", "fd00:10:1:17::9")[: 1 + (n % 3 > 0)])),
        )
        for namespace in ("shop", "tools")
        for n in range(15 if namespace == "shop" else 3)
    )
    both = (ip_address("10.152.183.7"), ip_address("fd00:10:2::7"))
    services = (
        Service(namespace="shop", name="web", cluster_ips=both, families=FAMILIES, family_policy="PreferDualStack"),
        Service(namespace="shop", name="cart", cluster_ips=both[:1], families=(V4,), family_policy="SingleStack"),
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
        readings=tuple(ReaderStatus(reader=f"api_{kind}", success=True, seconds=0.02) for kind in ResourceKind),
        families={V4: True, V6: True},
    )
    overlap = Finding(
        cause=Cause.CIDR_OVERLAP,
        severity=Severity.WARNING,
        subjects=(Subject("pool/default-ipv6-ippool"),),
        evidence=("pool default-ipv6-ippool (fd00:10:1::/48) overlaps the Service range fd00:10:1:ff::/108",),
        command="kubectl get ippools,servicecidrs -o wide",
    )
    return replace(
        day,
        snapshot=snapshot,
        families=dict.fromkeys(FAMILIES, FamilyReport(expected=True, ok=None)),
        causes=(CauseReport(finding=overlap, scope=Scope.CLUSTER, since=NOW - 90),),
        checked=frozenset(list(Cause)[list(Cause).index(Cause.NODE_POD_CIDR_MISSING) :]),
        unchecked=(),
        aaaa_blocks={},
        predictions={},
    )


def round_of(report: Report) -> FinishedRound:
    """The report with the totals of its own round alone."""
    return FinishedRound(report, add_round(Totals(), report))


def own() -> ExporterState:
    return ExporterState(
        node=NODE,
        role="node",
        version="1.0.0",
        revision="0123abc",
        python="3.11.7",
        network=PodNetwork(cni=Cni.FLANNEL, ipam="host-local"),
        last_round=NOW,
        round_seconds=3.2,
        round_complete=True,
        rounds=17,
        rounds_skipped=1,
        errors={"dns": 0, "kernel": 0},
        events={"sent": 3, "failed": 0, "dropped": 0},
        loop_lag=0.002,
        inventory_synced={"nodes": NOW - 12, "pods": NOW - 12},
        reload_successful=True,
        reload_time=NOW - 600,
    )
