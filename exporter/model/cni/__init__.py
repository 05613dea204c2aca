"""The pod networks (CNIs) that are known, and what is theirs on a node. Pure; a CNI is a file here and a line below."""

from exporter.model.cni import (
    antrea,
    aws_vpc_cni,
    calico,
    cilium,
    flannel,
    kindnet,
    kube_ovn,
    kube_router,
    ovn_kubernetes,
)
from exporter.model.cni.profile import Cni, CniProfile

MODULES = (calico, flannel, cilium, ovn_kubernetes, kube_ovn, antrea, kube_router, aws_vpc_cni, kindnet)
PROFILES: dict[Cni, CniProfile] = {module.PROFILE.cni: module.PROFILE for module in MODULES}

# Links of container runtimes and of Kubernetes itself. Docker names a bridge br- and 12 digits of its network's id;
# br-ex, br-lan and the like are the administrator's and may have the host's address.
RUNTIME_LINKS = (
    "lo", "docker0", "docker_gwbridge", "br-" + "[0-9a-f]" * 12, "podman*", "cni[0-9]*", "cni-podman*", "virbr*",
    "lxcbr*", "lxdbr*", "veth*", "kube-ipvs0", "nodelocaldns", "kube-dummy-if",
)  # fmt: skip
OWN_LINKS: tuple[str, ...] = tuple(
    dict.fromkeys((*RUNTIME_LINKS, *(link for profile in PROFILES.values() for link in profile.links)))
)
# Multus: the pod's own default network.
FAMILY_ANNOTATIONS = frozenset(
    {"v1.multus-cni.io/default-network", *(key for p in PROFILES.values() for key in p.family_annotations)}
)
ADDRESS_ANNOTATIONS = (
    *(key for profile in PROFILES.values() for key in profile.address_annotations),
    "k8s.v1.cni.cncf.io/network-status",  # Multus
)
