"""Amazon's VPC CNI: addresses of the VPC, one family, told by the environment of DaemonSet aws-node (README.md)."""

from exporter.model.cni.profile import Cni, CniProfile, Effect, Place, Switch

PROFILE = CniProfile(
    cni=Cni.AWS_VPC_CNI,
    plugins=frozenset({"aws-cni"}),
    agents=("aws-node",),
    config_maps=("amazon-vpc-cni",),
    links=("eni*", "vlan.eni*"),
    ipam="aws-vpc-cni",
    uses_pod_cidrs=False,
    switches=(
        Switch(effect=Effect.IPV4, place=Place.AGENT, names=("ENABLE_IPv4",), default="true"),
        Switch(effect=Effect.IPV6, place=Place.AGENT, names=("ENABLE_IPv6",), default="false"),
    ),
)
