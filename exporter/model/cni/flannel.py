"""Flannel, also as k3s embeds it and as Canal (RKE2's default) deploys it with Calico for policy.

Documentation/configuration.md and pkg/subnet/config.go of flannel: EnableIPv4 is on and EnableIPv6 off unless
net-conf.json says otherwise; --ip-masq masquerades both families. k3s: pkg/agent/flannel, `--flannel-ipv6-masq`
(off by default); it gives every family of cluster-cidr.
"""

from exporter.model.cni.profile import Cni, CniProfile, Effect, Place, Switch

PROFILE = CniProfile(
    cni=Cni.FLANNEL,
    plugins=frozenset({"flannel"}),
    agents=("kube-flannel*", "canal", "rke2-canal"),
    config_maps=("kube-flannel-cfg", "canal-config", "rke2-canal-config"),
    namespaces=("kube-flannel", "kube-system"),  # not a tenant's: kube-flannel-cfg is read in every namespace
    node_annotations=("flannel.alpha.coreos.com/",),
    links=("flannel*", "cni0", "cbr0"),
    tunnel_v6="flannel-v6.{vni}",
    switches=(
        Switch(effect=Effect.IPV4, place=Place.CONFIG_MAP, names=("net-conf.json: EnableIPv4",), default="true"),
        Switch(effect=Effect.IPV6, place=Place.CONFIG_MAP, names=("net-conf.json: EnableIPv6",), default="false"),
        Switch(
            effect=Effect.MASQUERADE_IPV6,
            place=Place.AGENT,
            names=("--ip-masq", "FLANNELD_IP_MASQ"),
            default="false",
        ),
        Switch(effect=Effect.MASQUERADE_IPV6, place=Place.CONFIG_MAP, names=("masquerade",)),
        Switch(
            effect=Effect.MASQUERADE_IPV6, place=Place.NODE_ARGUMENTS, names=("--flannel-ipv6-masq",), default="false"
        ),
    ),
)
