"""What to do for each step, by distribution and CNI: data, and the choice among it. Pure.

%TOKENS% are replaced by what the cluster has: see `how`. Sources: the distributions' own documentation and manifests;
where one does not support the change in place, its lines say so.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from ipaddress import IPv6Network
from typing import TypeAlias

from exporter.migration.distribution import Distribution
from exporter.migration.view import MigrationView
from exporter.model.cluster.calico import IPPool
from exporter.model.cni.profile import Cni
from exporter.model.family import Family

_Key: TypeAlias = Distribution | Cni | Family | tuple[Distribution, Cni] | None
_Lines: TypeAlias = tuple[str, ...]

_M, _K, _K3S, _RKE2, _EKS, _OS = (
    Distribution.MICROK8S, Distribution.KUBEADM, Distribution.K3S, Distribution.RKE2, Distribution.EKS,
    Distribution.OPENSHIFT,
)  # fmt: skip
_ARGS = "/var/snap/microk8s/current/args"
_MANIFEST = f"{_ARGS}/cni-network/cni.yaml"
_MICROK8S_RESTART = "on each node: sudo snap restart microk8s.daemon-kubelite"
_APPLY_CALICO = f"kubectl apply -f {_MANIFEST}"
_NEW_K3S = (
    "only a new cluster: in {}/config.yaml of every server before its first start, cluster-cidr: %PODS%,"
    " service-cidr: %SERVICES% and node-ip with both addresses"
)
_NEW: Mapping[_Key, _Lines] = {
    _K3S: (_NEW_K3S.format("/etc/rancher/k3s"),),
    _RKE2: (_NEW_K3S.format("/etc/rancher/rke2"),),
    _EKS: (
        "only a new cluster: kubernetesNetworkConfig.ipFamily ipv6 (eksctl: kubernetesNetworkConfig.ipFamily: IPv6)",
    ),
}
_CONVERT = (
    (
        "oc patch network.config.openshift.io cluster --type=json -p '["
        '{"op":"add","path":"/spec/clusterNetwork/-","value":{"cidr":"%NEW_PODS%","hostPrefix":64}},'
        '{"op":"add","path":"/spec/serviceNetwork/-","value":"%NEW_SERVICES%"}]\''
    ),
)

ADVICE: Mapping[str, Mapping[_Key, _Lines]] = {
    "addresses": {
        Family.V6: ("on each node: ip -6 addr show scope global (router advertisements, DHCPv6 or netplan give one)",),
        None: ("on each node: ip -4 addr show scope global",),
    },
    "internal_ips": {
        _M: (f"on each node, in {_ARGS}/kubelet: --node-ip=%NODE_IP%", _MICROK8S_RESTART),
        _K: (
            ("on each node, in /etc/default/kubelet (RPM: /etc/sysconfig/kubelet):"
            ' KUBELET_EXTRA_ARGS="--node-ip=%NODE_IP%"'),
            "on each node: sudo systemctl restart kubelet",
        ),
        _K3S: ("on each node, in /etc/rancher/k3s/config.yaml: node-ip: %NODE_IP%; restart k3s or k3s-agent",),
        _RKE2: ("on each node, in /etc/rancher/rke2/config.yaml: node-ip: %NODE_IP%; restart rke2-server or -agent",),
        _EKS: _NEW[_EKS],
        _OS: ("the machine network needs %FAMILY% addresses on the nodes; the kubelets' --node-ip follows",),
        None: ("on each node, kubelet: --node-ip=%NODE_IP%; with a cloud provider, its nodes' addresses",),
    },
    "stack_enabled": {None: ("on each node: sysctl net.ipv6.conf.all.disable_ipv6 (0 is right)",)},
    "forwarding": {
        Family.V6: (
            ("on each node: echo 'net.ipv6.conf.all.forwarding = 1' | sudo tee /etc/sysctl.d/90-ipv6.conf"
            " && sudo sysctl --system"),
            "on links that get their default route from router advertisements also net.ipv6.conf.LINK.accept_ra = 2",
        ),
        None: ("on each node: sysctl net.ipv4.ip_forward (1 is right)",),
    },
    "default_route": {
        Family.V6: ("on each node: ip -6 route show default",),
        None: ("on each node: ip -4 route show default",),
    },
    "service_range": {
        _M: (
            (f"on each control plane node, in {_ARGS}/kube-apiserver and {_ARGS}/kube-controller-manager:"
            " --service-cluster-ip-range=%SERVICES%"),
            _MICROK8S_RESTART,
        ),
        _K: (
            ("on each control plane node, in /etc/kubernetes/manifests/kube-apiserver.yaml and"
            " kube-controller-manager.yaml: --service-cluster-ip-range=%SERVICES%"),
            "kubectl -n kube-system edit configmap kubeadm-config: networking.serviceSubnet: %SERVICES%",
        ),
        _OS: _CONVERT,
        **_NEW,
        None: ("kube-apiserver and kube-controller-manager: --service-cluster-ip-range=%SERVICES% on every instance",),
    },
    "control_plane_flags": {
        _M: (
            (f"on each control plane node, in {_ARGS}/kube-controller-manager: --cluster-cidr=%PODS%"
            " --service-cluster-ip-range=%SERVICES%"),
            _MICROK8S_RESTART,
        ),
        _K: (
            ("on each control plane node, in /etc/kubernetes/manifests/kube-controller-manager.yaml:"
            " --cluster-cidr=%PODS% --service-cluster-ip-range=%SERVICES%;"
            " --node-cidr-mask-size becomes --node-cidr-mask-size-ipv4 and -ipv6"),
            ("kubectl -n kube-system edit configmap kubeadm-config: networking.podSubnet: %PODS%,"
            " networking.serviceSubnet: %SERVICES%"),
        ),
        _OS: _CONVERT,
        **_NEW,
        None: (
            ("kube-controller-manager: --cluster-cidr=%PODS% --service-cluster-ip-range=%SERVICES%;"
            " --node-cidr-mask-size becomes --node-cidr-mask-size-ipv4 and -ipv6"),
        ),
    },
    "pod_cidrs": {
        **_NEW,
        None: (
            ("spec.podCIDRs of a Node never change. For one node after the other: kubectl drain NODE"
            " --ignore-daemonsets; kubectl delete node NODE; restart its kubelet, which registers it anew"),
        ),
    },
    "node_ip": {},  # as internal_ips
    "cni_switch": {
        (_M, Cni.CALICO): (
            f'on one node, in {_MANIFEST}: "assign_ipv4": "true" and "assign_ipv6": "true" in cni_network_config',
            _APPLY_CALICO,
        ),
        Cni.CALICO: (
            ("kubectl -n kube-system edit configmap calico-config:"
            ' "assign_ipv4": "true" and "assign_ipv6": "true" in cni_network_config'),
            "kubectl -n kube-system rollout restart daemonset calico-node (with the Tigera operator its pools suffice)",
        ),
        Cni.FLANNEL: (
            ('kubectl -n kube-flannel edit configmap kube-flannel-cfg, net-conf.json: "EnableIPv6": true,'
            ' "IPv6Network": "%NEW_PODS%"; kubectl -n kube-flannel rollout restart daemonset kube-flannel-ds'),
        ),
        Cni.CILIUM: (
            ("helm upgrade cilium cilium/cilium -n kube-system --reuse-values --set ipv6.enabled=true"
            " --set ipv4.enabled=true --set ipam.operator.clusterPoolIPv6PodCIDRList='{%NEW_PODS%}'"),
        ),
        Cni.KUBE_ROUTER: ("kube-router: --enable-ipv4=true --enable-ipv6=true",),
        Cni.ANTREA: ("kubectl -n kube-system edit configmap antrea-config: serviceCIDRv6; pods follow the podCIDRs",),
        Cni.OVN_KUBERNETES: _CONVERT,
        Cni.AWS_VPC_CNI: _NEW[_EKS],
        Cni.KUBE_OVN: ("kubectl edit subnet ovn-default: spec.cidrBlock with both ranges",),
        (_K3S, Cni.FLANNEL): _NEW[_K3S],
        (_RKE2, Cni.FLANNEL): _NEW[_RKE2],
        None: ("the CNI's own switch for %FAMILY%, and a range of it",),
    },
    "pools": {
        None: (
            "echo '%POOL%' | kubectl apply -f -",
            "with the Tigera operator instead: kubectl edit installation default, an ipPool of %NEW_PODS%",
        )
    },
    "encapsulation": {
        None: ("kubectl patch ippool %OBJECT% --type=merge -p '{\"spec\":{\"vxlanMode\":\"%MODE%\"}}'",)
    },
    "felix": {
        (_M, Cni.CALICO): (f'on one node, in {_MANIFEST}: FELIX_IPV6SUPPORT "true"', _APPLY_CALICO),
        None: (
            "kubectl patch felixconfiguration default --type=merge -p '{\"spec\":{\"ipv6Support\":true}}'",
            "kubectl -n kube-system set env daemonset/calico-node FELIX_IPV6SUPPORT=true, which overrides the object",
        ),
    },
    "calico_node_addresses": {
        (_M, Cni.CALICO): (f'on one node, in {_MANIFEST}, environment of calico-node: IP6 "autodetect"', _APPLY_CALICO),
        None: ("kubectl -n kube-system set env daemonset/calico-node IP6=autodetect (Tigera operator: by itself)",),
    },
    "masquerading": {
        Cni.CALICO: ("kubectl patch ippool %OBJECT% --type=merge -p '{\"spec\":{\"natOutgoing\":true}}'",),
        Cni.FLANNEL: ("flanneld: --ip-masq (k3s: --flannel-ipv6-masq)",),
        Cni.CILIUM: ("helm upgrade ... --set enableIPv6Masquerade=true",),
        None: ("the CNI's switch to masquerade IPv6; none where pods' addresses are routed outside",),
    },
    "mtu": {None: ("a tunnel over IPv6 has an MTU 70 below the link's (IPv4: 50); leave the CNI's MTU automatic",)},
    "kube_proxy": {
        _M: (f"on each node, in {_ARGS}/kube-proxy: --cluster-cidr=%PODS%", _MICROK8S_RESTART),
        _K: (
            "kubectl -n kube-system edit configmap kube-proxy: clusterCIDR: %PODS%",
            "kubectl -n kube-system rollout restart daemonset kube-proxy",
        ),
        **_NEW,
        None: ("kube-proxy: --cluster-cidr=%PODS% where it has one; restart it",),
    },
    "dns_service": {
        None: ("clusterDNS of the kubelets needs the new address only for pods of %FAMILY% alone",)
    },
    "dns_aaaa": {
        None: ("remove that directive; more: dualstack-exporter explain coredns_template_blocks_aaaa",)
    },
    "upstream": {None: ("dualstack-exporter resolve NAME on a node; /etc/resolv.conf of the nodes",)},
    "nat64": {None: ("dns64 in the Corefile with the prefix of a NAT64 gateway, such as 64:ff9b::/96",)},
    "pods": {None: ("only when the pod network gives %FAMILY%; then workload by workload:",)},
    "services": {
        None: (
            ("both families for what clients of either may use; SingleStack stays right for what speaks one only."
            " A Service that already prefers both does not get the second by itself:"),
        )
    },
    "endpoints": {None: ("kubectl get endpointslices -A; the pods' status.podIPs must have both",)},
    "load_balancers": {
        None: ("a range of %FAMILY% for the load balancer (MetalLB: IPAddressPool; cloud: subnets)",)
    },
    "ingress": {
        None: ("kubectl get ingress,gateways.gateway.networking.k8s.io -A", "and the AAAA records of their names")
    },
    "network_policies": {None: ("add the %FAMILY% ranges beside those of %OTHER% in each ipBlock or nets",)},
    "applications": {None: ("listen on [::] (which takes both), not on 0.0.0.0; on a node: ss -lnt inside the pod",)},
    "clients": {None: ("compare failures of clients before and after; dualstack-exporter probe HOST:PORT",)},
}  # fmt: skip
ADVICE = {**ADVICE, "node_ip": ADVICE["internal_ips"]}

OBSTACLES: Mapping[Distribution | Cni, str] = {
    _K3S: "k3s: dual-stack must be configured when a cluster is first created; a running one cannot be changed.",
    _RKE2: "RKE2: dual-stack must be configured when a cluster is first created; a running one cannot be changed.",
    _EKS: "EKS gives pods and Services one family, chosen when the cluster is created: never both.",
    Cni.AWS_VPC_CNI: "The VPC CNI gives a pod one family: never both.",
}
WAY_BACK: _Lines = (
    "In reverse order, and before the ranges go: Services first.",
    (
        'kubectl -n NAMESPACE patch service NAME --type=merge -p \'{"spec":{"ipFamilyPolicy":"SingleStack"}}\''
        " releases the %FAMILY% address (%OTHER% stays, for it is the first)."
    ),
    (
        "Then the CNI's switch and pool (disable a pool; delete it only when no pod uses it), restart the pods,"
        " and at last the arguments of kube-proxy, control plane and kubelets."
    ),
)


def how(key: str, view: MigrationView, lacking: str = "") -> tuple[str, ...]:
    """The lines for this cluster: of distribution and CNI, of one of them, of the family, or for any.

    `lacking`: the first object that lacks something.
    """
    table = ADVICE[key]
    keys: tuple[_Key, ...] = (
        (view.distribution, view.network.cni), view.distribution, view.network.cni, view.family, None,
    )  # fmt: skip
    return filled(next((table[each] for each in keys if each in table), ()), view, lacking)


def for_shell(lines: Iterable[str], view: MigrationView) -> tuple[str, ...]:
    """MicroK8s has a kubectl of its own."""
    if view.distribution is not _M:
        return tuple(lines)
    return tuple(re.sub(r"(?<!microk8s )\bkubectl ", "microk8s kubectl ", line) for line in lines)


def filled(lines: _Lines, view: MigrationView, lacking: str = "") -> tuple[str, ...]:
    tokens = {
        "PODS": view.pod_range,
        "SERVICES": view.service_range,
        "NEW_PODS": view.pod_range.split(",")[-1],
        "NEW_SERVICES": view.service_range.split(",")[-1],
        "FAMILY": view.family.value,
        "OTHER": view.family.other.value,
        "NODE_IP": f"{view.family.other.upper()}_ADDRESS,{view.family.upper()}_ADDRESS",
        "POOL": _pool(view),
        "MODE": _like(view).vxlan_mode.value,
        "OBJECT": lacking.rpartition("/")[2] or "NAME",
    }
    return tuple(re.sub(r"%([A-Z_]+)%", lambda found: tokens[found[1]], line) for line in lines)


def _pool(view: MigrationView) -> str:
    """A pool like the one that the other family has."""
    like = _like(view)
    nat, mode = str(like.nat_outgoing).lower(), like.vxlan_mode.value
    name = f"default-{view.family.lower()}-ippool"
    return (
        f'{{"apiVersion":"crd.projectcalico.org/v1","kind":"IPPool","metadata":{{"name":"{name}"}},"spec":'
        f'{{"cidr":"{view.new_pod_range}","blockSize":{122 if view.family is Family.V6 else 26},"vxlanMode":"{mode}",'
        f'"ipipMode":"Never","natOutgoing":{nat},"nodeSelector":"all()","allowedUses":["Workload","Tunnel"]}}}}'
    )


def _like(view: MigrationView) -> IPPool:
    pools = (p for p in view.inventory.enabled_pools(view.family.other) if p.assigns_by_itself)
    return next(pools, IPPool(name="", cidr=IPv6Network("::/0"), nat_outgoing=True))
