"""What is known of a pod network (CNI) in general: its objects, links, switches. Values; one file beside this per CNI.

A profile says by which objects a CNI is recognised and what its settings mean; diagnosis/network.py decides by it.
Nothing here is about one cluster.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from exporter.model import EMPTY
from exporter.model.subject import Subject

TRUE = frozenset({"true", "strict", "1", "yes"})
FALSE = frozenset({"false", "0", "no"})


class Cni(StrEnum):
    """What gives pods their network; also the label `cni`."""

    CALICO = "calico"
    FLANNEL = "flannel"
    CILIUM = "cilium"
    OVN_KUBERNETES = "ovn-kubernetes"
    KUBE_OVN = "kube-ovn"
    ANTREA = "antrea"
    KUBE_ROUTER = "kube-router"
    AWS_VPC_CNI = "aws-vpc-cni"
    KINDNET = "kindnet"
    UNKNOWN = "unknown"


class Effect(StrEnum):
    """What a switch of a CNI decides."""

    IPV4 = "pods get IPv4"
    IPV6 = "pods get IPv6"
    MASQUERADE_IPV6 = "pods' IPv6 is masqueraded"
    MASQUERADE_EBPF = "masquerading is done in eBPF"
    IPAM = "where addresses come from"
    REPLACES_KUBE_PROXY = "Services work without kube-proxy"
    CHAINED_TO = "the CNI that it is chained to"
    POLICY_ALONE = "it does not route"
    BGP = "nodes announce their pods' ranges by BGP"


class Place(StrEnum):
    """Where a sign of a CNI stands."""

    AGENT = "agent"  # its DaemonSet, or a pod of that
    CONFIG_MAP = "configmap"
    NODE_ARGUMENTS = "node arguments"  # how k3s or RKE2 was started, as noted on its Nodes
    ANNOTATION = "annotation"  # of a Node; it stays when the CNI is replaced


@dataclass(frozen=True, slots=True, kw_only=True)
class Switch:
    """One setting and where it is written: an entry of a ConfigMap, an environment variable or --argument of an agent.

    `names`: the first that is set counts. Of a document in a ConfigMap: `ENTRY: KEY`, with dots for what is nested.
    `default`: what holds where none is set; None: nothing is known then. `on`: the values that turn it on.
    """

    effect: Effect
    place: Place
    names: tuple[str, ...]
    default: str | None = None
    on: frozenset[str] = TRUE
    off: frozenset[str] = FALSE


@dataclass(frozen=True, slots=True, kw_only=True)
class CniProfile:
    """How a CNI is recognised, and what is its own. Names of objects and links are fnmatch patterns."""

    cni: Cni
    plugins: frozenset[str]  # `type` of its main plugin in CNI configuration
    agents: tuple[str, ...]  # names of its DaemonSets
    config_maps: tuple[str, ...] = ()
    namespaces: tuple[str, ...] = ()  # where its ConfigMaps count; none: wherever they are read
    node_annotations: tuple[str, ...] = ()  # prefixes
    subnet_annotations: tuple[str, ...] = ()  # of a Node: the ranges of its pods, in any notation
    links: tuple[str, ...] = ()  # its own links: addresses on them are none of the host
    tunnel_v6: str = ""  # its VXLAN device for IPv6, where its objects tell what that should be
    ipam: str = "host-local"  # unless something shows another
    uses_pod_cidrs: bool = True  # with that IPAM
    family_annotations: tuple[str, ...] = ()  # of a pod or namespace: it chose its pools, subnets or families
    address_annotations: tuple[str, ...] = ()  # of a pod: its addresses on the cluster's network
    replaces_kube_proxy: bool = False
    translates_elsewhere: bool = False  # in Open vSwitch, or in eBPF unless MASQUERADE_EBPF is off: no rule shows it
    switches: tuple[Switch, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CniSign:
    """What one object of the cluster shows of a CNI: whose it is, and those settings of the profile that it has."""

    cni: Cni
    place: Place
    source: str  # for people: the object
    subject: Subject | None = None
    settings: Mapping[str, str] = field(default_factory=lambda: EMPTY)
    unseen: frozenset[str] = frozenset()  # settings whose value comes from elsewhere, or could not be read
