"""What should be: the cluster as plain frozen values, whatever source it came from.

First stage of the flow (inventory -> plan -> ...). discovery/ fills it; plan, diagnosis and catalogue read it. A field that is
None was not read (no permission, no such kind in the file, no source): absence of knowledge, never emptiness. This file does no
I/O and knows no Kubernetes client type. Times are Unix seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType

from exporter.model.family import Address, Family, Interface, Net

EMPTY: Mapping[str, str] = MappingProxyType({})


class Kind(StrEnum):
    """The kinds of object that an inventory may hold; also the label `resource`."""

    NODES = "nodes"
    PODS = "pods"
    NAMESPACES = "namespaces"
    SERVICES = "services"
    ENDPOINT_SLICES = "endpointslices"
    SERVICE_CIDRS = "servicecidrs"
    POLICIES = "networkpolicies"
    IP_POOLS = "ippools"
    BLOCK_AFFINITIES = "blockaffinities"
    IPAM_BLOCKS = "ipamblocks"
    FELIX = "felixconfigurations"
    CALICO_DAEMONSET = "daemonsets"
    INSTALLATION = "installations"
    CONFIG_MAPS = "configmaps"


class VxlanMode(StrEnum):
    """IPPool.spec.vxlanMode; empty means Never."""

    NEVER = "Never"
    ALWAYS = "Always"
    CROSS_SUBNET = "CrossSubnet"


@dataclass(frozen=True, slots=True)
class Node:
    """A Node, with Calico's annotations (calico-kernel-state: projectcalico.org/...) already parsed."""

    name: str
    uid: str = ""
    created: float | None = None
    changed: float | None = None  # last watch event after the first list
    ready: bool = False
    ready_since: float | None = None
    internal_ips: tuple[Address, ...] = ()
    pod_cidrs: tuple[Net, ...] = ()
    labels: Mapping[str, str] = field(default_factory=lambda: EMPTY)
    calico_addresses: tuple[Interface, ...] = ()  # IPv4Address and IPv6Address, with prefix length
    tunnel_addresses: tuple[Address, ...] = ()  # IPv4VXLANTunnelAddr and IPv6VXLANTunnelAddr
    tunnel_macs: Mapping[Family, str] = field(default_factory=dict)  # VXLANTunnelMACAddr(V6) where annotated
    wireguard: bool = False
    windows: bool = False
    virtual: bool = False  # label type=virtual-kubelet: no exporter runs there

    def internal_ip(self, family: Family) -> Address | None:
        """The first InternalIP of the family, as the API gives it (it may be link-local)."""
        return next((a for a in self.internal_ips if a.version == (6 if family is Family.V6 else 4)), None)

    def tunnel_address(self, family: Family) -> Address | None:
        """Calico's VXLAN tunnel address of the family, if the node has one."""
        return next((a for a in self.tunnel_addresses if a.version == (6 if family is Family.V6 else 4)), None)

    def calico_address(self, family: Family) -> Interface | None:
        """Calico's own address of the node (annotation IPv4Address or IPv6Address)."""
        return next((a for a in self.calico_addresses if a.version == (6 if family is Family.V6 else 4)), None)


@dataclass(frozen=True, slots=True)
class ContainerPort:
    name: str
    port: int
    protocol: str = "TCP"


@dataclass(frozen=True, slots=True)
class Pod:
    """A Pod. `ips` is status.podIPs (else podIP) unmapped; `annotated_ips` is Calico's cni.projectcalico.org/podIPs."""

    namespace: str
    name: str
    uid: str = ""
    node: str = ""
    phase: str = ""
    ready: bool = False
    host_network: bool = False
    deleting: bool = False
    created: float | None = None
    started: float | None = None
    ips: tuple[Address, ...] = ()
    annotated_ips: tuple[Address, ...] = ()
    runtime_class: str = ""
    labels: Mapping[str, str] = field(default_factory=lambda: EMPTY)
    ports: tuple[ContainerPort, ...] = ()
    dns_servers: tuple[Address, ...] = ()  # spec.dnsConfig.nameservers
    dns_policy: str = ""
    families: tuple[Family, ...] | None = None  # annotation dualstack-exporter/families
    address_choice: bool = False  # pools or ipFamilies chosen by annotation on the pod
    static_uid: str = ""  # annotation kubernetes.io/config.hash: the uid in a static pod's cgroup
    service_account: str = ""
    component: ComponentFlags | None = None  # the flags it shows, where it runs a Kubernetes component

    @property
    def key(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class Namespace:
    name: str
    uid: str = ""
    labels: Mapping[str, str] = field(default_factory=lambda: EMPTY)
    families: tuple[Family, ...] | None = None
    address_choice: bool = False


@dataclass(frozen=True, slots=True)
class ServicePort:
    name: str
    port: int
    target: str = ""  # targetPort: a number or a container port's name, as text
    protocol: str = "TCP"


@dataclass(frozen=True, slots=True)
class Service:
    """A Service. `cluster_ips` is empty for a headless one (`headless` says so) and for ExternalName."""

    namespace: str
    name: str
    uid: str = ""
    created: float | None = None
    type: str = "ClusterIP"
    headless: bool = False
    cluster_ips: tuple[Address, ...] = ()
    families: tuple[Family, ...] = ()
    family_policy: str = ""  # SingleStack | PreferDualStack | RequireDualStack | "" (ExternalName)
    ports: tuple[ServicePort, ...] = ()
    selector: Mapping[str, str] = field(default_factory=lambda: EMPTY)
    labels: Mapping[str, str] = field(default_factory=lambda: EMPTY)
    ingress_ips: tuple[Address, ...] = ()  # status.loadBalancer
    ingress_hostnames: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class Endpoint:
    addresses: tuple[Address, ...]
    ready: bool  # conditions.ready, None counts as ready
    node: str = ""
    pod: str = ""  # namespace/name of targetRef, if it is a Pod


@dataclass(frozen=True, slots=True)
class EndpointSlice:
    namespace: str
    name: str
    service: str  # label kubernetes.io/service-name
    family: Family | None  # None: addressType FQDN
    endpoints: tuple[Endpoint, ...] = ()
    ports: tuple[ServicePort, ...] = ()
    managed_by: str = ""


@dataclass(frozen=True, slots=True)
class ServiceCIDR:
    name: str
    cidrs: tuple[Net, ...]


class PolicyKind(StrEnum):
    KUBERNETES = "NetworkPolicy"
    CALICO = "CalicoNetworkPolicy"
    CALICO_GLOBAL = "GlobalNetworkPolicy"
    CILIUM = "CiliumNetworkPolicy"
    CILIUM_CLUSTERWIDE = "CiliumClusterwideNetworkPolicy"
    ADMIN = "AdminNetworkPolicy"
    BASELINE_ADMIN = "BaselineAdminNetworkPolicy"


class Gap(StrEnum):
    """What happens to the family that a policy's ipBlocks leave out."""

    DENIED = "denied"  # an allow list names one family: the other is not allowed
    OPEN = "open"  # an except list names one family: the other is not excepted


@dataclass(frozen=True, slots=True)
class Policy:
    """A policy, reduced to what the diagnosis needs: whom it selects, and whether and how it restricts egress by family."""

    kind: PolicyKind
    namespace: str  # "" for cluster-wide kinds
    name: str
    selects_all: bool = False  # every pod of its namespace; of the cluster where that is empty
    selected: frozenset[str] = frozenset()  # namespace/name of the pods; evaluated only where it restricts egress
    restricts_egress: frozenset[Family] = frozenset()  # families in which it does not allow everything outwards
    gaps: tuple[
        tuple[str, Family, Gap], ...
    ] = ()  # (direction ingress|egress, the family left out, what becomes of it)

    @property
    def key(self) -> str:
        return f"{self.namespace}/{self.name}" if self.namespace else self.name

    def selects(self, pod: Pod) -> bool:
        """Whether an egress-restricting policy takes this pod; never one in the host's network, which policies do not reach."""
        if pod.host_network:
            return False
        if self.selects_all:
            return not self.namespace or self.namespace == pod.namespace
        return pod.key in self.selected


@dataclass(frozen=True, slots=True)
class IPPool:
    """A Calico IPPool with Calico's defaults applied. `node_selector` is kept as text; `nodes` are those it selects."""

    name: str
    cidr: Net
    vxlan_mode: VxlanMode = VxlanMode.NEVER
    ipip_mode: str = "Never"
    nat_outgoing: bool = False
    disabled: bool = False
    block_size: int = 0
    node_selector: str = "all()"
    nodes: frozenset[str] | None = None  # names of the nodes it selects; None: every node (selector all())
    allowed_uses: frozenset[str] = frozenset({"Workload", "Tunnel"})
    created: float | None = None
    changed: float | None = None

    def selects(self, node: str) -> bool:
        """Whether the pool's nodeSelector takes this node."""
        return self.nodes is None or node in self.nodes


@dataclass(frozen=True, slots=True)
class BlockAffinity:
    cidr: Net
    node: str
    confirmed: bool = True
    deleted: bool = False
    created: float | None = None
    changed: float | None = None


@dataclass(frozen=True, slots=True)
class IPAMBlock:
    cidr: Net
    node: str  # of affinity host:NODE, "" without one
    used: int = 0
    capacity: int = 0


@dataclass(frozen=True, slots=True)
class Felix:
    """Felix's settings, each None where no object sets it. `diagnosis.felix.effective` merges env, node and default."""

    ipv6_support: bool | None = None
    vxlan_vni: int | None = None
    vxlan_port: int | None = None
    vxlan_mtu_v6: int | None = None
    vxlan_mtu: int | None = None
    bpf_enabled: bool | None = None
    nftables_mode: str | None = None
    iptables_backend: str | None = None
    wireguard_v6: bool | None = None
    interface_prefix: str | None = None
    nat_outgoing_address: str | None = None


@dataclass(frozen=True, slots=True)
class FelixConfiguration:
    """A FelixConfiguration object: `default` or `node.NAME`."""

    name: str
    felix: Felix


@dataclass(frozen=True, slots=True)
class CalicoNode:
    """The calico-node DaemonSet as far as it matters: where it is, its literal env, and which names it takes from elsewhere."""

    namespace: str
    env: Mapping[str, str] = field(default_factory=lambda: EMPTY)
    env_unseen: frozenset[str] = frozenset()  # valueFrom or envFrom: cannot be seen


@dataclass(frozen=True, slots=True)
class Installation:
    """tigera Installation `default`: an operator-installed Calico."""

    linux_dataplane: str = ""
    pools: tuple[Net, ...] = ()


class AaaaFate(StrEnum):
    """What a Corefile makes of AAAA in a zone."""

    NODATA = "nodata"
    NXDOMAIN = "nxdomain"
    REFUSED = "refused"
    SERVFAIL = "servfail"
    DROPPED = "dropped"
    REWRITTEN = "rewritten"
    FILTERED = "filtered"


@dataclass(frozen=True, slots=True)
class AaaaBlock:
    """One directive of a Corefile that withholds AAAA, as CoreDNS would run it."""

    zone: str  # "." for all names
    plugin: str  # template | rewrite | acl | hosts
    fate: AaaaFate
    line: int  # 1-based, in `file`
    text: str  # the directive as written, shortened
    file: str = "Corefile"
    all_names: bool = True  # False: limited by a regex, a subzone or the client's address
    except_zones: tuple[str, ...] = ()  # subzones that another server block serves without withholding
    ipv4_clients_only: bool = False  # dns64 answers those that ask over IPv6


@dataclass(frozen=True, slots=True)
class Corefile:
    """A CoreDNS ConfigMap, read as CoreDNS reads it."""

    namespace: str
    name: str
    cluster_domains: tuple[str, ...] = ()  # zones of the kubernetes plugin, without the reverse ones
    blocks: tuple[AaaaBlock, ...] = ()
    dns64: bool = False
    forwards: tuple[str, ...] = ()
    errors: tuple[str, ...] = ()  # what could not be read, said as it is


@dataclass(frozen=True, slots=True)
class CniConfig:
    """A CNI configuration: the ConfigMap's cni_network_config or the node's conflist. `source` says which, for evidence."""

    source: str
    main_plugin: str = ""
    assign_ipv4: bool = True  # on unless exactly the string "false"
    assign_ipv6: bool = False  # off unless exactly the string "true"
    assign_ipv6_text: str | None = None  # as written, None when absent
    mtu: int | None = None
    error: str = ""
    ipam: str = ""  # ipam.type of the main plugin: calico-ipam | host-local | ...


@dataclass(frozen=True, slots=True)
class ComponentFlags:
    """The visible arguments of one Kubernetes component: mirror pod, kubeadm-config or a MicroK8s args file."""

    component: str  # kube-apiserver | kube-controller-manager | kube-proxy | kubelet
    source: str
    arguments: Mapping[str, str] = field(default_factory=lambda: EMPTY)  # name without dashes -> value
    node: str = ""


@dataclass(frozen=True, slots=True)
class Unreadable:
    """An object of the source, or a part of it, that could not be read and was left out."""

    kind: Kind
    name: str  # namespace/name as far as it is known
    problem: str


@dataclass(frozen=True, slots=True)
class Inventory:
    """The cluster at one moment. Each tuple is None where that kind was not read; `unread` says why."""

    source: str  # kubernetes | file | digest | none
    synced: float | None = None  # when last known to be current
    stale: bool = False
    nodes: tuple[Node, ...] | None = None
    pods: tuple[Pod, ...] | None = None
    namespaces: tuple[Namespace, ...] | None = None
    services: tuple[Service, ...] | None = None
    endpoint_slices: tuple[EndpointSlice, ...] | None = None
    service_cidrs: tuple[ServiceCIDR, ...] | None = None
    policies: tuple[Policy, ...] | None = None
    pools: tuple[IPPool, ...] | None = None
    block_affinities: tuple[BlockAffinity, ...] | None = None
    ipam_blocks: tuple[IPAMBlock, ...] | None = None
    felix: tuple[FelixConfiguration, ...] | None = None
    calico_node: CalicoNode | None = None
    installation: Installation | None = None
    corefile: Corefile | None = None
    cni: tuple[CniConfig, ...] | None = None
    components: tuple[ComponentFlags, ...] | None = None
    cluster_pod_cidrs: tuple[Net, ...] = ()  # kubeadm-config podSubnet
    cluster_service_cidrs: tuple[Net, ...] = ()  # kubeadm-config serviceSubnet
    unread: Mapping[Kind, str] = field(default_factory=dict)  # kind -> reason (model.report.Reason value)
    service_count_v6: int | None = None  # Services with an IPv6 ClusterIP, where only the digest knows
    uid: str = ""  # of the Namespace kube-system
    node_local: Corefile | None = None  # NodeLocal DNSCache's own Corefile
    unreadable: tuple[Unreadable, ...] = ()  # the first of them, bounded
    unreadable_count: int = 0
    read_at: Mapping[Kind, float] = field(default_factory=dict)  # when each kind was last known to be current
    read_seconds: Mapping[Kind, float] = field(default_factory=dict)  # how long its last whole list took

    def node(self, name: str) -> Node | None:
        """The Node of that name, if nodes were read and it exists."""
        return next((n for n in self.nodes or () if n.name == name), None)

    def local_pods(self, node: str) -> tuple[Pod, ...]:
        """The pods bound to that node; empty where pods were not read."""
        return tuple(p for p in self.pods or () if p.node == node)


NO_INVENTORY = Inventory(source="none")
