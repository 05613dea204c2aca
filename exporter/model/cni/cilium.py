"""Cilium. Its settings are the entries of ConfigMap cilium-config (Documentation/cmdref/cilium-agent.md)."""

from exporter.model.cni.profile import FALSE, Cni, CniProfile, Effect, Place, Switch

PROFILE = CniProfile(
    cni=Cni.CILIUM,
    plugins=frozenset({"cilium-cni"}),
    agents=("cilium",),
    config_maps=("cilium-config",),
    node_annotations=("network.cilium.io/", "io.cilium.network."),
    subnet_annotations=(
        "network.cilium.io/ipv4-pod-cidr",
        "network.cilium.io/ipv6-pod-cidr",
        "io.cilium.network.ipv4-pod-cidr",
        "io.cilium.network.ipv6-pod-cidr",
    ),
    links=("cilium_*", "lxc*"),
    ipam="cluster-pool",
    uses_pod_cidrs=False,
    translates_elsewhere=True,
    family_annotations=("ipam.cilium.io/ip-pool", "ipam.cilium.io/ipv4-pool", "ipam.cilium.io/ipv6-pool"),
    switches=(
        Switch(effect=Effect.IPV4, place=Place.CONFIG_MAP, names=("enable-ipv4",), default="true"),
        Switch(effect=Effect.IPV6, place=Place.CONFIG_MAP, names=("enable-ipv6",), default="false"),
        Switch(
            effect=Effect.MASQUERADE_IPV6,
            place=Place.CONFIG_MAP,
            names=("enable-ipv6-masquerade", "masquerade"),
            default="true",
        ),
        Switch(
            effect=Effect.MASQUERADE_EBPF, place=Place.CONFIG_MAP, names=("enable-bpf-masquerade",), default="false"
        ),
        Switch(effect=Effect.IPAM, place=Place.CONFIG_MAP, names=("ipam",), default="cluster-pool"),
        Switch(
            effect=Effect.REPLACES_KUBE_PROXY,
            place=Place.CONFIG_MAP,
            names=("kube-proxy-replacement",),
            default="false",
            off=FALSE | {"disabled", "partial", "probe"},
        ),
        Switch(effect=Effect.CHAINED_TO, place=Place.CONFIG_MAP, names=("cni-chaining-mode",), default="none"),
    ),
)
