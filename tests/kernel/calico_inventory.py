"""The lab's cluster as an Inventory: what should be, beside what the kernel has."""

from __future__ import annotations

from ipaddress import ip_address, ip_interface, ip_network

from exporter.model.calico import BlockAffinity, IPPool, VxlanMode
from exporter.model.inventory import Inventory
from exporter.model.node import Node
from exporter.model.pod import Pod
from exporter.model.service import Service, ServicePort
from tests.kernel.calico import Lab
from tests.kernel.calico_nodes import POOL4, POOL6, SERVICE4, SERVICE6, LabNode


def lab_inventory(lab: Lab) -> Inventory:
    """Nodes with Calico's annotations, pods, pools, confirmed blocks and the one Service."""
    mode = VxlanMode.CROSS_SUBNET if lab.cross_subnet else VxlanMode.ALWAYS
    return Inventory(
        source="file",
        nodes=tuple(_node(node) for node in lab.nodes),
        pods=tuple(
            Pod(
                "default",
                pod.name,
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
                "default",
                "web",
                cluster_ips=(ip_address(SERVICE4), ip_address(SERVICE6)),
                family_policy="RequireDualStack",
                ports=(ServicePort("http", 80, "8080"),),
            ),
        ),
        pools=(
            IPPool("default-ipv4-ippool", ip_network(POOL4), mode, nat_outgoing=True),
            IPPool("default-ipv6-ippool", ip_network(POOL6), mode, nat_outgoing=bool(lab.nat_pools6)),
        ),
        block_affinities=tuple(
            BlockAffinity(ip_network(block), node.name) for node in lab.nodes for block in (node.block4, node.block6)
        ),
    )


def _node(node: LabNode) -> Node:
    return Node(
        node.name,
        ready=True,
        internal_ips=(ip_address(node.address4), ip_address(node.address6)),
        calico_addresses=(ip_interface(f"{node.address4}/24"), ip_interface(f"{node.address6}/64")),
        tunnel_addresses=(ip_address(node.tunnel4), ip_address(node.tunnel6)),
    )
