"""What is configured: the cluster as plain frozen values, whatever the source.

First stage of the flow (inventory -> plan -> ...): made by inventory/ and digest/, read by plan, diagnosis and
catalogue. A field that is None was not read (no permission, no such kind in the file, no source), which is not the same
as empty. No I/O, no type of the Kubernetes client. Times are Unix seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from exporter.model.cluster.calico import (
    BGPConfiguration,
    BGPPeer,
    BlockAffinity,
    CalicoNode,
    FelixConfiguration,
    Installation,
    IPAMBlock,
    IPAMConfig,
    IPPool,
)
from exporter.model.cluster.component import CniConfig, ComponentFlags
from exporter.model.cluster.corefile import Corefile
from exporter.model.cluster.node import Node
from exporter.model.cluster.pod import Namespace, Pod
from exporter.model.cluster.policy import Policy
from exporter.model.cluster.service import EndpointSlice, EntryPoint, Service, ServiceCIDR
from exporter.model.cni.profile import CniSign
from exporter.model.family import Family, Net
from exporter.model.reason import Reason


class ResourceKind(StrEnum):
    """The kinds of object in an inventory; also the label `resource`."""

    NODES = "nodes"
    PODS = "pods"
    NAMESPACES = "namespaces"
    SERVICES = "services"
    ENDPOINT_SLICES = "endpointslices"
    SERVICE_CIDRS = "servicecidrs"
    INGRESSES = "ingresses"
    GATEWAYS = "gateways"
    POLICIES = "networkpolicies"
    IP_POOLS = "ippools"
    BLOCK_AFFINITIES = "blockaffinities"
    IPAM_BLOCKS = "ipamblocks"
    IPAM_CONFIG = "ipamconfigs"
    BGP_CONFIGURATIONS = "bgpconfigurations"
    BGP_PEERS = "bgppeers"
    FELIX = "felixconfigurations"
    CALICO_DAEMONSET = "daemonsets"
    INSTALLATION = "installations"
    CONFIG_MAPS = "configmaps"


class InventoryOrigin(StrEnum):
    """What an inventory was read from."""

    KUBERNETES = "kubernetes"
    FILE = "file"
    DIGEST = "digest"
    NONE = "none"


class Came(StrEnum):
    """Whether what an inventory comes from has ever given anything."""

    ALL = "all"
    PART = "part"  # of a node that has a digest: either its own objects or the digest never came
    NOTHING = "nothing"


@dataclass(frozen=True, slots=True)
class Unreadable:
    """An object of the source, or a part of it, that could not be read and was left out."""

    kind: ResourceKind
    name: str  # namespace/name as far as it is known
    problem: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Inventory:
    """The cluster at one moment. Each tuple is None where that kind was not read; `unread` has the reason."""

    source: InventoryOrigin
    synced: float | None = None  # when last known to be current
    current_at: float | None = None  # the moment that it shows the cluster of; None: of no moment, as a file
    stale: bool = False
    nodes: tuple[Node, ...] | None = None
    pods: tuple[Pod, ...] | None = None
    namespaces: tuple[Namespace, ...] | None = None
    services: tuple[Service, ...] | None = None
    endpoint_slices: tuple[EndpointSlice, ...] | None = None
    service_cidrs: tuple[ServiceCIDR, ...] | None = None
    ingresses: tuple[EntryPoint, ...] | None = None
    gateways: tuple[EntryPoint, ...] | None = None
    policies: tuple[Policy, ...] | None = None
    pools: tuple[IPPool, ...] | None = None
    block_affinities: tuple[BlockAffinity, ...] | None = None
    ipam_blocks: tuple[IPAMBlock, ...] | None = None
    ipam_config: IPAMConfig | None = None  # with defaults where it was read and no object is there
    bgp: tuple[BGPConfiguration, ...] | None = None
    bgp_peers: tuple[BGPPeer, ...] | None = None
    felix: tuple[FelixConfiguration, ...] | None = None
    calico_node: CalicoNode | None = None
    installation: Installation | None = None
    corefile: Corefile | None = None
    cni: tuple[CniConfig, ...] | None = None
    components: tuple[ComponentFlags, ...] | None = None
    cni_signs: tuple[CniSign, ...] | None = None  # of all objects, those alike once
    cluster_pod_cidrs: tuple[Net, ...] = ()  # kubeadm-config podSubnet
    cluster_service_cidrs: tuple[Net, ...] = ()  # kubeadm-config serviceSubnet
    unread: Mapping[ResourceKind, Reason] = field(default_factory=dict)
    service_count_v6: int | None = None  # Services with an IPv6 ClusterIP, where only the digest knows
    pod_families: frozenset[Family] | None = None  # of addresses of the cluster's pods, where only the digest knows
    uid: str = ""  # of the Namespace kube-system
    node_local: Corefile | None = None  # NodeLocal DNSCache's own Corefile
    corefiles_mounted: tuple[tuple[str, str], ...] = ()  # (namespace, ConfigMap) that DNS pods and node caches mount
    corefiles_unread: bool = False  # a ConfigMap that DNS pods or a node cache mount is not among those read
    unreadable: tuple[Unreadable, ...] = ()  # the first of them, bounded
    unreadable_count: int = 0
    read_at: Mapping[ResourceKind, float] = field(default_factory=dict)  # when each kind was last known to be current
    read_seconds: Mapping[ResourceKind, float] = field(default_factory=dict)  # how long its last whole list took
    came: Came = Came.ALL
    problem: str = ""  # what keeps a source from being read now, in one line for a person

    def node(self, name: str) -> Node | None:
        """The Node of that name, if nodes were read and it exists."""
        return next((n for n in self.nodes or () if n.name == name), None)

    def enabled_pools(self, family: Family) -> tuple[IPPool, ...]:
        """The Calico pools of the family that are not disabled; empty where pools were not read."""
        return tuple(p for p in self.pools or () if p.family is family and not p.disabled)

    def local_pods(self, node: str) -> tuple[Pod, ...]:
        """The pods bound to that node; empty where pods were not read."""
        return tuple(p for p in self.pods or () if p.node == node)


NO_INVENTORY = Inventory(source=InventoryOrigin.NONE)
