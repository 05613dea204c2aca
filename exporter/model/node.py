"""The nodes of the cluster, with what Calico notes on them. Values of the inventory; decides nothing, does no I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from exporter.model.component import ComponentFlags
from exporter.model.family import Address, Family, Interface, Net
from exporter.model.labels import EMPTY


@dataclass(frozen=True, slots=True, kw_only=True)
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
    kubelet_version: str = ""  # as the kubelet says it: v1.36.2, v1.30.4+k3s1
    components: tuple[ComponentFlags, ...] = ()  # the arguments that k3s and RKE2 note on it

    def internal_ip(self, family: Family) -> Address | None:
        """The first InternalIP of the family, as the API gives it (it may be link-local)."""
        return next((a for a in self.internal_ips if a.version == (6 if family is Family.V6 else 4)), None)

    def tunnel_address(self, family: Family) -> Address | None:
        """Calico's VXLAN tunnel address of the family, if the node has one."""
        return next((a for a in self.tunnel_addresses if a.version == (6 if family is Family.V6 else 4)), None)

    def calico_address(self, family: Family) -> Interface | None:
        """Calico's own address of the node (annotation IPv4Address or IPv6Address)."""
        return next((a for a in self.calico_addresses if a.version == (6 if family is Family.V6 else 4)), None)
