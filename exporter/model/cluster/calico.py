"""Calico's objects: pools, blocks, Felix's settings. Values of the inventory, Calico's defaults applied; no I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from exporter.model import EMPTY
from exporter.model.family import Address, Family, Net, family_of
from exporter.model.subject import Subject, SubjectKind

BGP_PORT = 179  # RFC 4271


class VxlanMode(StrEnum):
    """IPPool.spec.vxlanMode; empty means Never."""

    NEVER = "Never"
    ALWAYS = "Always"
    CROSS_SUBNET = "CrossSubnet"


@dataclass(frozen=True, slots=True, kw_only=True)
class IPPool:
    name: str
    cidr: Net
    vxlan_mode: VxlanMode = VxlanMode.NEVER
    ipip_mode: str = "Never"
    nat_outgoing: bool = False
    disabled: bool = False
    block_size: int = 0
    node_selector: str = "all()"  # as text
    nodes: frozenset[str] | None = None  # names of the nodes it selects; None: every node (selector all())
    allowed_uses: frozenset[str] = frozenset({"Workload", "Tunnel"})
    automatic: bool = True  # assignmentMode: whether it gives addresses to pods that do not name it
    namespace_selector: str = ""  # as text; without one it gives addresses to the pods of every namespace
    exported: bool = True  # its blocks are announced by BGP (disableBGPExport)
    created: float | None = None
    changed: float | None = None

    @property
    def family(self) -> Family:
        return family_of(self.cidr)

    @property
    def subject(self) -> Subject:
        return Subject.of(SubjectKind.POOL, self.name)

    @property
    def is_for_workloads(self) -> bool:
        return "Workload" in self.allowed_uses

    @property
    def assigns_by_itself(self) -> bool:
        """Whether any workload that names no pool may get an address of it."""
        every = self.namespace_selector in ("", "all()")
        return not self.disabled and self.automatic and every and self.is_for_workloads

    def selects(self, node: str) -> bool:
        """Whether the pool's nodeSelector takes this node."""
        return self.nodes is None or node in self.nodes


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockAffinity:
    cidr: Net
    node: str
    confirmed: bool = True
    deleted: bool = False
    created: float | None = None
    changed: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class IPAMBlock:
    cidr: Net
    node: str  # of affinity host:NODE, "" without one
    used: int = 0
    capacity: int = 0
    pods: int = 0  # of the used ones, those of pods, not of tunnels


@dataclass(frozen=True, slots=True, kw_only=True)
class IPAMConfig:
    """How Calico gives nodes their blocks; the values are those without such an object (libcalico-go/lib/ipam)."""

    strict_affinity: bool = False  # addresses of other nodes' blocks are not borrowed
    allocates_blocks: bool = True
    max_blocks: int = 20  # of a node and family


@dataclass(frozen=True, slots=True, kw_only=True)
class BGPConfiguration:
    """A BGPConfiguration object: `default`, or `node.NAME`, which has no mesh of its own."""

    name: str
    mesh: bool = True  # nodeToNodeMeshEnabled
    port: int = BGP_PORT


@dataclass(frozen=True, slots=True, kw_only=True)
class BGPPeer:
    """A BGPPeer object: `nodes` have a session with `address`, or with each of the nodes `peers`."""

    name: str
    node: str = ""  # as spec has it, as are the two selectors
    node_selector: str = ""
    peer_selector: str = ""
    address: Address | None = None
    port: int = BGP_PORT
    filtered: bool = False  # BGPFilters decide about its routes
    workloads: bool = False  # localWorkloadSelector: pods of the node, over their own links
    nodes: frozenset[str] | None = None  # names; None: every node
    peers: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Felix:
    """Felix's settings, each None where no object sets it. `diagnosis.felix.effective` merges env, node and default."""

    ipv6_support: bool | None = None
    vxlan_vni: int | None = None
    vxlan_port: int | None = None
    bpf_enabled: bool | None = None
    wireguard_v6: bool | None = None


@dataclass(frozen=True, slots=True)
class FelixConfiguration:
    """A FelixConfiguration object: `default` or `node.NAME`."""

    name: str
    felix: Felix


@dataclass(frozen=True, slots=True)
class CalicoNode:
    """The calico-node DaemonSet: its namespace, its literal env, and the names of other env."""

    namespace: str
    env: Mapping[str, str] = field(default_factory=lambda: EMPTY)
    env_unseen: frozenset[str] = frozenset()  # valueFrom or envFrom: cannot be seen


@dataclass(frozen=True, slots=True, kw_only=True)
class Installation:
    """tigera Installation `default`: an operator-installed Calico."""

    pools: tuple[Net, ...] = ()
    cni_type: str = ""  # spec.cni.type: Calico | GKE | AmazonVPC | AzureVNET, "" where it is left to the operator
    ipam: str = ""  # spec.cni.ipam.type: Calico | HostLocal | AmazonVPC | AzureVNET
    ebpf: bool = False  # linuxDataplane: BPF
