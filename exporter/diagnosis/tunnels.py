"""The IPv6 tunnel device that a node should have, by the objects of its CNI: Calico's or flannel's. Pure.

Calico: felix/dataplane/linux/vxlan_mgr.go, by pools, annotations and Felix's settings. flannel: pkg/backend/vxlan, by
the annotations and the podCIDR of the Node; its net-conf.json is a file of the node or a ConfigMap, so that its port is
taken for the usual one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from exporter.diagnosis.engine.preconditions import listed, unread
from exporter.diagnosis.felix import effective
from exporter.diagnosis.vxlan_peers import tunnel_mac
from exporter.model.cluster.calico import VxlanMode
from exporter.model.cluster.inventory import Inventory, ResourceKind
from exporter.model.cluster.node import FlannelNode, Node
from exporter.model.cni import PROFILES
from exporter.model.cni.network import PodNetwork
from exporter.model.cni.profile import Cni
from exporter.model.family import Address, Family
from exporter.model.reason import Reason

CALICO = PROFILES[Cni.CALICO].tunnel_v6
FELIX_VNI, FELIX_PORT = 4096, 4789
KERNEL_PORT = 8472  # of flannel, unless it serves Windows nodes, which need VNI 4096 and port 4789
OVERHEAD_V6 = 70  # outer IPv6 40, UDP 8, VXLAN 8, inner Ethernet 14: the kernel refuses a larger MTU
OVERHEAD_V4 = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectedTunnel:
    """What the device should be. None: not known, so not compared."""

    name: str
    because: str  # what asks for it
    vni: int
    ports: tuple[int, ...]
    local: Address | None = None
    address: Address | None = None
    mac: str | None = None
    pods_above: int = 0  # bytes by which the MTU of pods is larger by design
    annotations: Mapping[str, object] = field(default_factory=dict)
    logs: str = ""  # the command that prints what its CNI says of it

    @property
    def is_calico(self) -> bool:
        return self.name == CALICO


def expected_tunnel(inventory: Inventory, network: PodNetwork, name: str) -> ExpectedTunnel | Reason:
    """The device that this node should have; a Reason where that is unknown, or it should have none.

    Annotations and pools of a CNI that runs the pod network no more, or is there for policy alone, ask for none.
    """
    node = inventory.node(name)
    may_be = {network.cni} if network.cni is not Cni.UNKNOWN else {Cni.CALICO, Cni.FLANNEL}
    pools = [
        pool.name
        for pool in inventory.enabled_pools(Family.V6)
        if pool.vxlan_mode is not VxlanMode.NEVER and pool.selects(name)
    ]
    if pools and Cni.CALICO in may_be:
        return _calico(inventory, name, node, pools)
    if node is not None and node.flannel is not None and Cni.FLANNEL in may_be:
        return _flannel(node, node.flannel)
    unknown = Cni.CALICO in may_be and inventory.pools is None
    return unread(inventory, ResourceKind.IP_POOLS) if unknown else Reason.NOT_APPLICABLE


def _calico(inventory: Inventory, name: str, node: Node | None, pools: list[str]) -> ExpectedTunnel:
    felix = effective(inventory, name)
    own = node.calico_address(Family.V6) if node is not None else None
    namespace = inventory.calico_node.namespace if inventory.calico_node is not None else "calico-system"
    return ExpectedTunnel(
        name=CALICO,
        because=f"pool {listed(pools)} asks for VXLAN on this node",
        vni=felix.vxlan_vni or FELIX_VNI,
        ports=(felix.vxlan_port or FELIX_PORT,),
        local=own.ip if own is not None else None,
        address=node.tunnel_address(Family.V6) if node is not None else None,
        mac=(node.tunnel_macs.get(Family.V6) if node is not None else None) or tunnel_mac(name, Family.V6),
        annotations=node.tunnel_annotations if node is not None else {},
        logs=f"kubectl -n {namespace} logs -l k8s-app=calico-node | grep -i vtep",
    )


def _flannel(node: Node, flannel: FlannelNode) -> ExpectedTunnel | Reason:
    vni, cidr = flannel.vnis.get(Family.V6), node.pod_cidr(Family.V6)
    if flannel.backend != "vxlan" or vni is None or cidr is None:
        return Reason.NOT_APPLICABLE
    return ExpectedTunnel(
        name=PROFILES[Cni.FLANNEL].tunnel_v6.format(vni=vni),
        because=f"annotation flannel.alpha.coreos.com/backend-v6-data of the Node has VNI {vni}",
        vni=vni,
        ports=(KERNEL_PORT, FELIX_PORT) if vni == FELIX_VNI else (KERNEL_PORT,),
        local=None if flannel.overwritten else flannel.address(Family.V6),
        address=cidr.network_address,
        mac=flannel.macs.get(Family.V6),
        pods_above=OVERHEAD_V6 - OVERHEAD_V4,
        annotations={"flannel.alpha.coreos.com/public-ipv6": flannel.address(Family.V6)},
        logs="kubectl -n kube-flannel logs -l app=flannel",
    )
