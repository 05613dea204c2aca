"""Kube-OVN: addresses come from its Subnet objects, whatever podCIDRs the nodes have.

It notes on each Node the range of its own subnet `join`, which has the families of the cluster
(pkg/controller/node.go), and on each pod the range that the pod's address is from.
"""

from exporter.model.cni.profile import Cni, CniProfile

PROFILE = CniProfile(
    cni=Cni.KUBE_OVN,
    plugins=frozenset({"kube-ovn"}),
    agents=("kube-ovn-cni",),
    node_annotations=("ovn.kubernetes.io/",),
    subnet_annotations=("ovn.kubernetes.io/cidr",),
    address_annotations=("ovn.kubernetes.io/ip_address",),
    links=("ovn0", "br-int", "genev_sys_*", "vxlan_sys_*", "ovs-system", "mirror0", "*_h"),
    ipam="kube-ovn",
    translates_elsewhere=True,
    uses_pod_cidrs=False,
    # logical_switch and ip_address are noted on every pod, chosen or not.
    family_annotations=("ovn.kubernetes.io/ip_pool",),
)
