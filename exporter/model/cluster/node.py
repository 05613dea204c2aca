"""The nodes of the cluster, with Calico's annotations. Values of the inventory; no I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from exporter.model import EMPTY
from exporter.model.cluster.component import ComponentFlags
from exporter.model.cni.profile import CniSign
from exporter.model.family import Address, Family, Interface, Net, family_of, first_of
from exporter.model.subject import Subject, SubjectKind


@dataclass(frozen=True, slots=True, kw_only=True)
class FlannelNode:
    """flannel's annotations of a node: where the other nodes' tunnels to it end (flannel, pkg/subnet/kube)."""

    backend: str = ""  # backend-type: vxlan | host-gw | wireguard | ...
    addresses: tuple[Address, ...] = ()  # public-ip and public-ipv6
    overwritten: bool = False  # public-ipv6-overwrite: another address than the device's own
    vnis: Mapping[Family, int] = field(default_factory=dict)  # of backend-data and backend-v6-data
    macs: Mapping[Family, str] = field(default_factory=dict)

    def address(self, family: Family) -> Address | None:
        return first_of(family, self.addresses)


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    name: str
    uid: str = ""
    created: float | None = None
    changed: float | None = None  # last watch event after the first list
    ready: bool = False
    ready_since: float | None = None
    internal_ips: tuple[Address, ...] = ()
    provided_ips: tuple[Address, ...] = ()  # the kubelet's --node-ip, which it notes for an external cloud provider
    provider: str = ""  # scheme of spec.providerID: aws, gce, azure, ...
    pod_cidrs: tuple[Net, ...] = ()
    labels: Mapping[str, str] = field(default_factory=lambda: EMPTY)
    calico_addresses: tuple[Interface, ...] = ()  # IPv4Address and IPv6Address, with prefix length
    tunnel_addresses: tuple[Address, ...] = ()  # IPv4VXLANTunnelAddr and IPv6VXLANTunnelAddr
    tunnel_macs: Mapping[Family, str] = field(default_factory=dict)  # VXLANTunnelMACAddr(V6) where annotated
    flannel: FlannelNode | None = None
    route_reflector: bool = False  # of Calico's BGP: annotation RouteReflectorClusterID
    wireguard: bool = False  # of Calico, for IPv6
    wireguard_key: str = ""  # WireguardPublicKeyV6
    windows: bool = False
    virtual: bool = False  # label type=virtual-kubelet: no exporter runs there
    kubelet_version: str = ""  # as reported: v1.36.2, v1.30.4+k3s1
    pod_addresses: tuple[Address, ...] = ()  # of a few of its pods, where only the digest knows
    components: tuple[ComponentFlags, ...] = ()  # arguments that k3s and RKE2 write into its annotations
    cni_signs: tuple[CniSign, ...] = ()
    subnets: tuple[Net, ...] = ()  # of its pods, as its CNI notes them where that is not podCIDRs

    @property
    def subject(self) -> Subject:
        return Subject.of(SubjectKind.NODE, self.name)

    @property
    def tunnel_annotations(self) -> Mapping[str, Address | Interface | None]:
        """The annotations that Felix needs for the IPv6 tunnel."""
        return {
            "projectcalico.org/IPv6Address": self.calico_address(Family.V6),
            "projectcalico.org/IPv6VXLANTunnelAddr": self.tunnel_address(Family.V6),
        }

    def internal_ip(self, family: Family) -> Address | None:
        """The first InternalIP of the family, as the API gives it (it may be link-local)."""
        return first_of(family, self.internal_ips)

    def tunnel_address(self, family: Family) -> Address | None:
        """Calico's VXLAN tunnel address of the family, if the node has one."""
        return first_of(family, self.tunnel_addresses)

    def pod_cidr(self, family: Family) -> Net | None:
        """The first podCIDR of the family."""
        return next((net for net in self.pod_cidrs if family_of(net) is family), None)

    def calico_address(self, family: Family) -> Interface | None:
        """Calico's own address of the node (annotation IPv4Address or IPv6Address)."""
        return first_of(family, self.calico_addresses)
