"""kube-router: bridge and host-local, told by flags of its DaemonSet (docs/user-guide.md): IPv6 is off by default."""

from exporter.model.cni.profile import FALSE, TRUE, Cni, CniProfile, Effect, Place, Switch

PROFILE = CniProfile(
    cni=Cni.KUBE_ROUTER,
    plugins=frozenset({"kube-router"}),
    agents=("kube-router",),
    config_maps=("kube-router-cfg",),
    node_annotations=("kube-router.io/",),
    subnet_annotations=("kube-router.io/pod-cidr", "kube-router.io/pod-cidrs"),
    links=("kube-bridge", "kube-dummy-if", "tun-*", "tun[46]*"),
    switches=(
        Switch(effect=Effect.IPV4, place=Place.AGENT, names=("--enable-ipv4",), default="true"),
        Switch(effect=Effect.IPV6, place=Place.AGENT, names=("--enable-ipv6",), default="false"),
        Switch(effect=Effect.MASQUERADE_IPV6, place=Place.AGENT, names=("--enable-pod-egress",), default="true"),
        Switch(effect=Effect.REPLACES_KUBE_PROXY, place=Place.AGENT, names=("--run-service-proxy",), default="true"),
        # As a firewall beside another CNI it does not route.
        Switch(
            effect=Effect.POLICY_ALONE, place=Place.AGENT, names=("--run-router",), default="true", on=FALSE, off=TRUE
        ),
    ),
)
