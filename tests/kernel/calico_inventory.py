"""The lab's cluster as an Inventory: what should be, beside what the kernel has."""

from __future__ import annotations

from ipaddress import ip_address, ip_interface, ip_network

from exporter.model.cluster.calico import BlockAffinity, IPPool, VxlanMode
from exporter.model.cluster.inventory import Inventory, InventoryOrigin
from exporter.model.cluster.node import Node
from exporter.model.cluster.pod import Pod
from exporter.model.cluster.service import Service, ServicePort
from tests.kernel.calico import Lab
from tests.kernel.calico_nodes import POOL4, POOL6, SERVICE4, SERVICE6, LabNode


def lab_inventory(lab: Lab) -> Inventory:
    """Nodes with Calico's annotations, pods, pools, confirmed blocks and the one Service."""
    mode = VxlanMode.CROSS_SUBNET if lab.cross_subnet else VxlanMode.ALWAYS
    return Inventory(
        source=InventoryOrigin.FILE,
        nodes=tuple(_node(node) for node in lab.nodes),
        pods=tuple(
            Pod(
                namespace="default",
                name=pod.name,
                node=node.name,
                phase="Running",
                ready=True,
                ips=(ip_address(pod.address4), ip_address(pod.address6)),
            )
            for node in lab.nodes
            for pod in node.pods
        ),
        services=(
            Service(
                namespace="default",
                name="web",
                cluster_ips=(ip_address(SERVICE4), ip_address(SERVICE6)),
                family_policy="RequireDualStack",
                ports=(ServicePort(name="http", port=80, target="8080"),),
            ),
        ),
        pools=(
            IPPool(name="default-ipv4-ippool", cidr=ip_network(POOL4), vxlan_mode=mode, nat_outgoing=True),
            IPPool(
                name="default-ipv6-ippool", cidr=ip_network(POOL6), vxlan_mode=mode, nat_outgoing=bool(lab.nat_pools6)
            ),
        ),
        block_affinities=tuple(
            BlockAffinity(cidr=ip_network(block), node=node.name)
            for node in lab.nodes
            for block in (node.block4, node.block6)
        ),
    )


def _node(node: LabNode) -> Node:
    return Node(
        name=node.name,
        ready=True,
        internal_ips=(ip_address(node.address4), ip_address(node.address6)),
        calico_addresses=(ip_interface(f"{node.address4}/24"), ip_interface(f"{node.address6}/64")),
        tunnel_addresses=(ip_address(node.tunnel4), ip_address(node.tunnel6)),
    )
