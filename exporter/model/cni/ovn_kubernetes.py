"""OVN-Kubernetes, as OpenShift deploys it and upstream: subnets of nodes are in annotations, it needs no kube-proxy.

go-controller/pkg/util/node_annotations.go. br-ex is not its own: it carries the node's address.
"""

from exporter.model.cni.profile import Cni, CniProfile

PROFILE = CniProfile(
    cni=Cni.OVN_KUBERNETES,
    plugins=frozenset({"ovn-k8s-cni-overlay"}),
    agents=("ovnkube-node*",),
    config_maps=("ovnkube-config", "ovn-config"),
    node_annotations=("k8s.ovn.org/",),
    subnet_annotations=("k8s.ovn.org/node-subnets",),
    address_annotations=("k8s.ovn.org/pod-networks",),
    links=("ovn-k8s-*", "br-int", "br-local", "genev_sys_*", "ovs-system"),
    ipam="ovn-kubernetes",
    uses_pod_cidrs=False,
    translates_elsewhere=True,
    replaces_kube_proxy=True,
)
