"""A cluster of any size, built as parsed values: for the bench and the linearity test. Faults of every kind are
sprinkled in.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network
from typing import Any

from exporter.inventory.parse.policies.kinds import BOTH as BOTH_FAMILIES
from exporter.inventory.parse.policies.kinds import PolicyDraft
from exporter.inventory.parse.selectors import parse_calico
from exporter.model.cluster.calico import BlockAffinity, Felix, FelixConfiguration, IPAMBlock, IPPool
from exporter.model.cluster.inventory import ResourceKind
from exporter.model.cluster.node import Node
from exporter.model.cluster.pod import Namespace, Pod
from exporter.model.cluster.policy import Gap, Policy, PolicyKind
from exporter.model.cluster.selector import In
from exporter.model.cluster.service import Endpoint, EndpointSlice, Service, ServiceCIDR
from exporter.model.family import FAMILIES, Family

V4, V6 = FAMILIES
POD_BITS = int(IPv6Address("fd01::"))
SERVICE_BITS = int(IPv6Address("fd98::"))
PODS_A_NODE = 30
PODS_A_SERVICE = 15
NAMESPACES = 300


def big_cluster(nodes: int) -> dict[ResourceKind, list[Any]]:
    """Objects of a cluster with that many nodes, 30 pods each and one Service to 15 pods (5,000: 150,000 and
    10,000).
    """
    names = [f"node-{n:05}" for n in range(nodes)]
    pods = [_pod(n, names[n // PODS_A_NODE]) for n in range(nodes * PODS_A_NODE)]
    services = [_service(n) for n in range(len(pods) // PODS_A_SERVICE)]
    slices = [_slice(n, family, pods) for n in range(len(services)) for family in FAMILIES if n % 50 or family is V4]
    return {
        ResourceKind.NODES: [_node(n, name) for n, name in enumerate(names)],
        ResourceKind.PODS: pods,
        ResourceKind.NAMESPACES: [Namespace(name=f"ns-{n:03}", labels={"team": str(n % 7)}) for n in range(NAMESPACES)],
        ResourceKind.SERVICES: services,
        ResourceKind.ENDPOINT_SLICES: slices,
        ResourceKind.SERVICE_CIDRS: [
            ServiceCIDR("kubernetes", (IPv4Network("10.96.0.0/12"), IPv6Network("fd98::/108")))
        ],
        ResourceKind.POLICIES: _policies(),
        ResourceKind.IP_POOLS: _pools(nodes),
        ResourceKind.BLOCK_AFFINITIES: [
            BlockAffinity(cidr=IPv6Network((POD_BITS + (n << 6), 122)), node=name) for n, name in enumerate(names)
        ],
        ResourceKind.IPAM_BLOCKS: [
            IPAMBlock(cidr=IPv6Network((POD_BITS + (n << 6), 122)), node=name, used=64, capacity=64)
            for n, name in enumerate(names)
        ],
        ResourceKind.FELIX: [FelixConfiguration("default", Felix(ipv6_support=True))]
        + [FelixConfiguration(f"node.{name}", Felix(ipv6_support=False)) for name in names[::10]],
        ResourceKind.CONFIG_MAPS: [],
    }


def _node(number: int, name: str) -> Node:
    six = () if number % 100 == 0 else (IPv6Network((POD_BITS + (number << 64), 64)),)
    return Node(
        name=name,
        ready=True,
        internal_ips=(IPv4Address((172 << 24) + (16 << 16) + number), IPv6Address((0x20010DB8 << 96) + number + 1)),
        pod_cidrs=(IPv4Network(((10 << 24) + (number % 65536 << 8), 24)), *six),
        labels={"rack": f"r{number % 40}", "kubernetes.io/hostname": name},
        calico_addresses=(IPv4Interface((172 << 24) + number), IPv6Interface((0x20010DB8 << 96) + number + 1)),
        tunnel_addresses=() if number % 70 == 0 else (IPv6Address(POD_BITS + (number << 6)),),
    )


def _pod(number: int, node: str) -> Pod:
    workload = number // PODS_A_SERVICE
    addresses = (IPv4Address((11 << 24) + number), IPv6Address(POD_BITS + number))
    labels = {
        "app": f"app-{workload}",
        "tier": ("web", "db", "job")[workload % 3],
        "pod-template-hash": f"{workload:x}",
    }
    return Pod(
        namespace=f"ns-{workload % NAMESPACES:03}",
        name=f"app-{workload}-{number:06}",
        uid=str(number),
        node=node,
        phase="Running",
        ready=True,
        ips=addresses[:1] if number % 40 == 0 else addresses,
        labels=labels,
    )


def _service(number: int) -> Service:
    families: tuple[Family, ...] = (V4,) if number % 20 == 0 else (V4, V6)
    addresses = (IPv4Address((10 << 24) + (96 << 16) + number + 1), IPv6Address(SERVICE_BITS + number + 1))
    return Service(
        namespace=f"ns-{number % NAMESPACES:03}",
        name=f"app-{number}",
        type="LoadBalancer" if number % 30 == 0 else "ClusterIP",
        cluster_ips=addresses[: len(families)],
        families=families,
        family_policy="SingleStack" if len(families) == 1 else "PreferDualStack",
        ingress_ips=addresses[:1] if number % 30 == 0 else (),
    )


def _slice(number: int, family: Family, pods: list[Pod]) -> EndpointSlice:
    behind = pods[number * PODS_A_SERVICE : (number + 1) * PODS_A_SERVICE]
    place = 0 if family is V4 else 1
    endpoints = tuple(
        Endpoint(addresses=(p.ips[place],), ready=True, node=p.node, pod=p.key) for p in behind if len(p.ips) > place
    )
    return EndpointSlice(
        namespace=f"ns-{number % NAMESPACES:03}",
        name=f"app-{number}-{family}",
        service=f"app-{number}",
        family=family,
        endpoints=endpoints,
    )


def _policies() -> list[PolicyDraft]:
    """Three in each namespace, and cluster-wide ones that no index helps."""
    gap = (("egress", V6, Gap.DENIED),)
    drafts = []
    for number in range(NAMESPACES):
        for tier in ("web", "db", "job"):
            selector = In("tier", frozenset({tier}))
            drafts.append(
                PolicyDraft(
                    policy=Policy(
                        kind=PolicyKind.KUBERNETES,
                        namespace=f"ns-{number:03}",
                        name=tier,
                        restricts_egress=BOTH_FAMILIES,
                        gaps=gap,
                    ),
                    pods=selector,
                )
            )
    for number in range(20):
        unindexed = parse_calico(f"tier != 'web' && app not in {{'app-{number}'}}")
        drafts.append(
            PolicyDraft(
                policy=Policy(
                    kind=PolicyKind.CALICO_GLOBAL,
                    namespace="",
                    name=f"global-{number}",
                    restricts_egress=frozenset({V6}),
                ),
                pods=unindexed,
            )
        )
    return drafts


def _pools(nodes: int) -> list[IPPool]:
    """One pool of each family for every rack, the IPv6 ones without NAT."""
    racks = range(40 if nodes else 0)
    four = [
        IPPool(
            name=f"v4-{r}",
            cidr=IPv4Network(((11 << 24) + (r << 18), 14)),
            nat_outgoing=True,
            block_size=26,
            node_selector=f"rack == 'r{r}'",
        )
        for r in racks
    ]
    six = [
        IPPool(
            name=f"v6-{r}",
            cidr=IPv6Network((POD_BITS + (r << 80), 48)),
            block_size=122,
            node_selector=f"rack == 'r{r}'",
        )
        for r in racks
    ]
    return [*four, *six]
