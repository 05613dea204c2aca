"""Calico's objects of either API group, the calico-node DaemonSet and the operator's Installation. Pure.

One API object to one frozen value. Field names and defaults after api/pkg/apis/projectcalico/v3.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from exporter.inventory.parse.dns_process import dns_process
from exporter.inventory.parse.fields import flag, items, mapping, moment, name_of, nets, number, objects, text, texts
from exporter.inventory.parse.networks import agent_of, agent_sign
from exporter.model.cluster.calico import (
    BGP_PORT,
    BGPConfiguration,
    BGPPeer,
    BlockAffinity,
    CalicoNode,
    Felix,
    FelixConfiguration,
    Installation,
    IPAMBlock,
    IPAMConfig,
    IPPool,
    VxlanMode,
)
from exporter.model.cluster.corefile import DnsProcess
from exporter.model.cni.profile import CniSign
from exporter.model.family import Family, Net, family_of, parse_address, parse_net


@dataclass(frozen=True, slots=True, kw_only=True)
class DaemonSet:
    """A CNI's DaemonSet: what it shows of the CNI, and calico-node's environment. Or that of a DNS cache."""

    namespace: str
    name: str
    sign: CniSign | None = None
    calico: CalicoNode | None = None
    dns: DnsProcess | None = None  # of a node cache


BLOCK_SIZES = {Family.V4: 26, Family.V6: 122}
DEFAULT_USES = frozenset({"Workload", "Tunnel"})
VXLAN_MODES = {mode.value.lower(): mode for mode in VxlanMode}
DAEMONSETS = frozenset({"calico-node", "canal"})
FROM_ELSEWHERE = "*"  # in env_unseen: envFrom may bring any name
MAX_ENV = 500
TUNNEL = "TunnelAddress"  # ipip, vxlan, vxlanV6, wireguard, wireguardV6 (libcalico-go/lib/ipam)
RESERVED = "windows-reserved-ipam-handle"
ADDRESS_PORT = re.compile(r"\[?([0-9a-fA-F.]+|[0-9a-fA-F:.]+(?=\]))\]?:([0-9]{1,5})")


def parse_pool(source: Mapping[str, Any]) -> IPPool | str:
    """An IPPool with Calico's defaults, or what is wrong with it. inventory_builder.py evaluates its selector."""
    metadata, spec = mapping(source.get("metadata")), mapping(source.get("spec"))
    cidr = parse_net(spec.get("cidr"))
    if cidr is None:
        return "spec.cidr is no network"
    legacy = mapping(spec.get("ipip"))  # up to Calico 3.29 CRDs still list the v1 fields
    ipip = text(spec.get("ipipMode")) or (
        text(legacy.get("mode")) or "Always" if flag(legacy.get("enabled")) else "Never"
    )
    nat = flag(spec.get("natOutgoing"))
    return IPPool(
        name=name_of(metadata.get("name")),
        cidr=cidr,
        vxlan_mode=VXLAN_MODES.get(text(spec.get("vxlanMode")).lower(), VxlanMode.NEVER),
        ipip_mode=ipip,
        nat_outgoing=(flag(spec.get("nat-outgoing")) is True) if nat is None else nat,
        disabled=flag(spec.get("disabled")) is True,
        block_size=number(spec.get("blockSize")) or BLOCK_SIZES[family_of(cidr)],
        node_selector=text(spec.get("nodeSelector")).strip() or "all()",
        allowed_uses=frozenset(texts(spec.get("allowedUses"))) or DEFAULT_USES,
        namespace_selector=text(spec.get("namespaceSelector")).strip(),
        automatic=text(spec.get("assignmentMode")) != "Manual",
        exported=flag(spec.get("disableBGPExport")) is not True,
        created=moment(metadata.get("creationTimestamp")),
    )


def parse_affinity(source: Mapping[str, Any]) -> BlockAffinity | str | None:
    """A BlockAffinity of a host; None for other types (load balancers have virtual ones)."""
    metadata, spec = mapping(source.get("metadata")), mapping(source.get("spec"))
    if text(spec.get("type")) not in ("", "host"):
        return None
    cidr, node = parse_net(spec.get("cidr")), name_of(spec.get("node"))
    if cidr is None or not node:
        return "spec.cidr is no network" if cidr is None else "spec.node is missing"
    return BlockAffinity(
        cidr=cidr,
        node=node,
        confirmed=text(spec.get("state")) in ("", "confirmed"),  # written without state before it existed
        deleted=flag(spec.get("deleted")) is True,
        created=moment(metadata.get("creationTimestamp")),
    )


def parse_block(source: Mapping[str, Any]) -> IPAMBlock | str:
    """An IPAMBlock: allocations has one entry per address, null where it is free, else the index of its attributes."""
    spec = mapping(source.get("spec"))
    cidr = parse_net(spec.get("cidr"))
    if cidr is None:
        return "spec.cidr is no network"
    kind, _, node = text(spec.get("affinity")).partition(":")
    allocations = items(spec.get("allocations"))
    if not allocations:
        return "spec.allocations is empty"
    used = [each for each in allocations if each is not None]
    own = frozenset(index for index, each in enumerate(items(spec.get("attributes"))) if _is_calicos_own(mapping(each)))
    pods = sum(1 for each in used if not (isinstance(each, int) and each in own))
    return IPAMBlock(
        cidr=cidr, node=name_of(node) if kind == "host" else "", used=len(used), capacity=len(allocations), pods=pods
    )


def _is_calicos_own(attribute: Mapping[str, Any]) -> bool:
    """Whether the address is a node's tunnel's, or one that Calico reserves."""
    kind = text(mapping(attribute.get("secondary")).get("type"))
    return kind.endswith(TUNNEL) or text(attribute.get("handle_id")) == RESERVED


def parse_ipam_config(source: Mapping[str, Any]) -> IPAMConfig | None:
    """The IPAMConfig (projectcalico.org/v3: IPAMConfiguration) `default`; Calico reads no other."""
    if mapping(source.get("metadata")).get("name") != "default":
        return None
    spec = mapping(source.get("spec"))
    return IPAMConfig(
        strict_affinity=flag(spec.get("strictAffinity")) is True,
        allocates_blocks=flag(spec.get("autoAllocateBlocks")) is not False,
        max_blocks=number(spec.get("maxBlocksPerHost")) or IPAMConfig().max_blocks,
    )


def parse_bgp_configuration(source: Mapping[str, Any]) -> BGPConfiguration:
    spec = mapping(source.get("spec"))
    return BGPConfiguration(
        name=name_of(mapping(source.get("metadata")).get("name")),
        mesh=flag(spec.get("nodeToNodeMeshEnabled")) is not False,
        port=number(spec.get("listenPort")) or BGP_PORT,
    )


def parse_bgp_peer(source: Mapping[str, Any]) -> BGPPeer:
    """A BGPPeer; peerIP is an address, or ADDRESS:PORT with brackets around one of IPv6."""
    spec = mapping(source.get("spec"))
    address, port = text(spec.get("peerIP")), BGP_PORT
    if (found := ADDRESS_PORT.fullmatch(address)) is not None:
        address, port = found[1], int(found[2])
    return BGPPeer(
        name=name_of(mapping(source.get("metadata")).get("name")),
        node=name_of(spec.get("node")),
        node_selector=text(spec.get("nodeSelector")).strip(),
        peer_selector=text(spec.get("peerSelector")).strip(),
        address=parse_address(address),
        port=port,
        filtered=bool(texts(spec.get("filters"))),
        workloads=bool(text(spec.get("localWorkloadSelector"))),
    )


def parse_felix(source: Mapping[str, Any]) -> FelixConfiguration:
    """A FelixConfiguration object; what it does not set stays None."""
    metadata, spec = mapping(source.get("metadata")), mapping(source.get("spec"))
    return FelixConfiguration(
        name_of(metadata.get("name")),
        Felix(
            ipv6_support=flag(spec.get("ipv6Support")),
            vxlan_vni=number(spec.get("vxlanVNI")),
            vxlan_port=number(spec.get("vxlanPort")),
            bpf_enabled=flag(spec.get("bpfEnabled")),
            wireguard_v6=flag(spec.get("wireguardEnabledV6")),
        ),
    )


def parse_daemonset(source: Mapping[str, Any]) -> DaemonSet | None:
    """A CNI's DaemonSet, with the environment of calico-node where it runs that; a DNS cache; None for any other."""
    metadata = mapping(source.get("metadata"))
    namespace, name = name_of(metadata.get("namespace")), name_of(metadata.get("name"))
    profile = agent_of(name)
    spec = mapping(mapping(mapping(source.get("spec")).get("template")).get("spec"))
    if profile is None:
        dns = dns_process(spec)
        return DaemonSet(namespace=namespace, name=name, dns=dns) if dns is not None and dns.node_cache else None
    containers = objects(spec.get("containers"))
    own = [c for c in containers if c.get("name") == "calico-node"]
    return DaemonSet(
        namespace=namespace,
        name=name,
        sign=agent_sign(profile, containers, f"daemonset {namespace}/{name}"),
        calico=_calico_node(namespace, own) if name in DAEMONSETS else None,
    )


def _calico_node(namespace: str, containers: list[Mapping[str, Any]]) -> CalicoNode:
    env: dict[str, str] = {}
    unseen: set[str] = set()
    for container in containers:
        if items(container.get("envFrom")):
            unseen.add(FROM_ELSEWHERE)
        for each in map(mapping, items(container.get("env"))[:MAX_ENV]):
            name = text(each.get("name")).upper()
            if name and each.get("valueFrom"):
                unseen.add(name)
            elif name:
                env[name] = text(each.get("value"))
    return CalicoNode(namespace, env, frozenset(unseen))


def parse_installation(source: Mapping[str, Any]) -> Installation | None:
    """The operator's Installation `default`; others (overlays) are left aside."""
    metadata = mapping(source.get("metadata"))
    if metadata.get("name") != "default":
        return None
    spec = mapping(source.get("spec"))
    network, cni = mapping(spec.get("calicoNetwork")), mapping(spec.get("cni"))
    pools: tuple[Net, ...] = nets(mapping(pool).get("cidr") for pool in items(network.get("ipPools")))
    return Installation(
        pools=pools,
        cni_type=name_of(cni.get("type")),
        ipam=name_of(mapping(cni.get("ipam")).get("type")),
        ebpf=network.get("linuxDataplane") == "BPF",
    )
