"""Calico, with its own IPAM unless shown otherwise. Where another CNI gives addresses, Calico is there for policy.

The switches of its IPAM (assign_ipv4, assign_ipv6) are in the CNI configuration: model/cluster/component.py.
"""

from exporter.model.cni.profile import Cni, CniProfile, Effect, Place, Switch

BACKENDS = frozenset({"none", "bird", "vxlan"})
WIREGUARD_V6 = "wg-v6.cali"  # the default of Felix's WireguardInterfaceNameV6 (felix/config/config_params.go)

PROFILE = CniProfile(
    cni=Cni.CALICO,
    plugins=frozenset({"calico"}),
    agents=("calico-node",),
    config_maps=("calico-config",),
    node_annotations=("projectcalico.org/IPv",),
    links=("cali*", "tunl0", "vxlan.calico", "vxlan-v6.calico", "wireguard.cali", WIREGUARD_V6, "bpf*.cali"),
    tunnel_v6="vxlan-v6.calico",
    ipam="calico-ipam",
    uses_pod_cidrs=False,
    family_annotations=tuple(
        f"cni.projectcalico.org/{key}" for key in ("ipv4pools", "ipv6pools", "ipFamilies", "ipAddrs", "ipAddrsNoIpam")
    ),
    # Emptied when the pod ends.
    address_annotations=("cni.projectcalico.org/podIPs", "cni.projectcalico.org/podIP"),
    switches=(
        # calico-node's own: with backend none it routes nothing (Canal, GKE, VPC CNI), with bird it speaks BGP.
        *(
            Switch(effect=effect, place=place, names=(name,), on=frozenset({on}), off=BACKENDS - {on})
            for effect, on in ((Effect.POLICY_ALONE, "none"), (Effect.BGP, "bird"))
            for place, name in (
                (Place.AGENT, "CALICO_NETWORKING_BACKEND"),
                (Place.CONFIG_MAP, "calico_backend"),
            )
        ),
    ),
)
