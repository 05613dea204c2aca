"""Antrea: every family of the node's podCIDRs (build/charts/antrea/conf/antrea-agent.conf).

Its settings are in documents of ConfigMap antrea-config; the manifests of older versions add a hash to that name.
"""

from exporter.model.cni.profile import FALSE, TRUE, Cni, CniProfile, Effect, Place, Switch

PROFILE = CniProfile(
    cni=Cni.ANTREA,
    plugins=frozenset({"antrea"}),
    agents=("antrea-agent",),
    config_maps=("antrea-config*",),
    node_annotations=("node.antrea.io/",),
    links=("antrea-*", "genev_sys_*", "vxlan_sys_*", "ovs-system"),
    translates_elsewhere=True,
    family_annotations=("ipam.antrea.io/ippools",),
    switches=(
        # noSNAT: true turns masquerading off.
        Switch(
            effect=Effect.MASQUERADE_IPV6,
            place=Place.CONFIG_MAP,
            names=("antrea-agent.conf: noSNAT",),
            default="false",
            on=FALSE,
            off=TRUE,
        ),
        Switch(
            effect=Effect.REPLACES_KUBE_PROXY,
            place=Place.CONFIG_MAP,
            names=("antrea-agent.conf: antreaProxy.proxyAll",),
            default="false",
        ),
    ),
)
