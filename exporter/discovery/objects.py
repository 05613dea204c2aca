"""One API object to one frozen value, whatever source it came from: the single way in from foreign JSON and YAML. Pure.

Parsers stand by topic (core, services, calico, policies, configmaps); this module tells kinds apart and turns what cannot be read into
a note instead of an error. assembly.py makes the Inventory of the values.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from exporter.discovery.calico import (
    parse_affinity,
    parse_block,
    parse_daemonset,
    parse_felix,
    parse_installation,
    parse_pool,
)
from exporter.discovery.calico_policies import parse_calico_policy
from exporter.discovery.configmaps import ConfigMap, parse_config_map
from exporter.discovery.core import parse_namespace, parse_node, parse_pod
from exporter.discovery.fields import mapping, name_of, text
from exporter.discovery.policies import PolicyDraft, parse_admin_policy, parse_cilium_policy, parse_network_policy
from exporter.discovery.selectors import SelectorError
from exporter.discovery.services import parse_endpoint_slice, parse_service, parse_service_cidr
from exporter.model.calico import BlockAffinity, CalicoNode, FelixConfiguration, Installation, IPAMBlock, IPPool
from exporter.model.inventory import Kind, Unreadable
from exporter.model.node import Node
from exporter.model.pod import Namespace, Pod
from exporter.model.policy import PolicyKind
from exporter.model.service import EndpointSlice, Service, ServiceCIDR

Parsed: TypeAlias = (
    Node
    | Pod
    | Namespace
    | Service
    | EndpointSlice
    | ServiceCIDR
    | PolicyDraft
    | IPPool
    | BlockAffinity
    | IPAMBlock
    | FelixConfiguration
    | CalicoNode
    | Installation
    | ConfigMap
)

KINDS: Mapping[str, Kind] = {
    "Node": Kind.NODES,
    "Pod": Kind.PODS,
    "Namespace": Kind.NAMESPACES,
    "Service": Kind.SERVICES,
    "EndpointSlice": Kind.ENDPOINT_SLICES,
    "ServiceCIDR": Kind.SERVICE_CIDRS,
    "NetworkPolicy": Kind.POLICIES,
    "GlobalNetworkPolicy": Kind.POLICIES,
    "CiliumNetworkPolicy": Kind.POLICIES,
    "CiliumClusterwideNetworkPolicy": Kind.POLICIES,
    "AdminNetworkPolicy": Kind.POLICIES,
    "BaselineAdminNetworkPolicy": Kind.POLICIES,
    "IPPool": Kind.IP_POOLS,
    "BlockAffinity": Kind.BLOCK_AFFINITIES,
    "IPAMBlock": Kind.IPAM_BLOCKS,
    "FelixConfiguration": Kind.FELIX,
    "DaemonSet": Kind.CALICO_DAEMONSET,
    "Installation": Kind.INSTALLATION,
    "ConfigMap": Kind.CONFIG_MAPS,
}
CALICO_GROUPS = ("crd.projectcalico.org/", "projectcalico.org/")
GROUPS: Mapping[Kind, tuple[str, ...]] = {
    Kind.NODES: ("v1",),
    Kind.PODS: ("v1",),
    Kind.NAMESPACES: ("v1",),
    Kind.SERVICES: ("v1",),
    Kind.CONFIG_MAPS: ("v1",),
    Kind.ENDPOINT_SLICES: ("discovery.k8s.io/",),
    Kind.SERVICE_CIDRS: ("networking.k8s.io/",),
    Kind.POLICIES: ("networking.k8s.io/", "policy.networking.k8s.io/", "cilium.io/", *CALICO_GROUPS),
    Kind.CALICO_DAEMONSET: ("apps/",),
    Kind.INSTALLATION: ("operator.tigera.io/",),
    **dict.fromkeys((Kind.IP_POOLS, Kind.BLOCK_AFFINITIES, Kind.IPAM_BLOCKS, Kind.FELIX), CALICO_GROUPS),
}
NAMESPACED = frozenset({Kind.PODS, Kind.SERVICES, Kind.ENDPOINT_SLICES, Kind.CALICO_DAEMONSET, Kind.CONFIG_MAPS})
MAX_PROBLEM = 200


def identify(source: object) -> Kind | None:
    """The kind of an object that says it itself; None for those of no interest here (Knative has a Service as well)."""
    fields = mapping(source)
    kind, version = KINDS.get(text(fields.get("kind"))), text(fields.get("apiVersion"))
    if kind is None:
        return None
    return (
        kind
        if any(version == group or (group.endswith("/") and version.startswith(group)) for group in GROUPS[kind])
        else None
    )


def parse_object(kind: Kind, source: object, *, changed: float | None = None) -> Parsed | Unreadable | None:
    """The value of an object of that kind. None: of no interest (another DaemonSet, another ConfigMap). Never raises.

    `changed` (Unix seconds) is when a watch last saw it change, for the kinds that carry it. Items of typed lists lack kind and
    apiVersion; a policy without them is a NetworkPolicy of Kubernetes.
    """
    fields = mapping(source)
    metadata = mapping(fields.get("metadata"))
    name, namespace = name_of(metadata.get("name")), name_of(metadata.get("namespace"))
    label = f"{namespace}/{name}" if namespace else name
    if not name or (kind in NAMESPACED and not namespace):
        return Unreadable(kind, label, "metadata.name or metadata.namespace is missing or no name")
    try:
        parsed = _PARSERS[kind](fields, changed)
    except SelectorError as error:
        return Unreadable(kind, label, f"selector: {error}"[:MAX_PROBLEM])
    return Unreadable(kind, label, parsed[:MAX_PROBLEM]) if isinstance(parsed, str) else parsed


def _parse_policy(source: Mapping[str, Any]) -> PolicyDraft | None:
    kind, version = text(source.get("kind")), text(source.get("apiVersion"))
    match kind:
        case "GlobalNetworkPolicy":
            return parse_calico_policy(source, PolicyKind.CALICO_GLOBAL)
        case "CiliumNetworkPolicy":
            return parse_cilium_policy(source, PolicyKind.CILIUM)
        case "CiliumClusterwideNetworkPolicy":
            return parse_cilium_policy(source, PolicyKind.CILIUM_CLUSTERWIDE)
        case "AdminNetworkPolicy":
            return parse_admin_policy(source, PolicyKind.ADMIN)
        case "BaselineAdminNetworkPolicy":
            return parse_admin_policy(source, PolicyKind.BASELINE_ADMIN)
    return (
        parse_calico_policy(source, PolicyKind.CALICO)
        if version.startswith(CALICO_GROUPS)
        else parse_network_policy(source)
    )


_Parser: TypeAlias = Callable[[Mapping[str, Any], float | None], Parsed | str | None]

_PARSERS: Mapping[Kind, _Parser] = {
    Kind.NODES: parse_node,
    Kind.PODS: lambda source, _: parse_pod(source),
    Kind.NAMESPACES: lambda source, _: parse_namespace(source),
    Kind.SERVICES: lambda source, _: parse_service(source),
    Kind.ENDPOINT_SLICES: lambda source, _: parse_endpoint_slice(source),
    Kind.SERVICE_CIDRS: lambda source, _: parse_service_cidr(source),
    Kind.POLICIES: lambda source, _: _parse_policy(source),
    Kind.IP_POOLS: parse_pool,
    Kind.BLOCK_AFFINITIES: parse_affinity,
    Kind.IPAM_BLOCKS: lambda source, _: parse_block(source),
    Kind.FELIX: lambda source, _: parse_felix(source),
    Kind.CALICO_DAEMONSET: lambda source, _: parse_daemonset(source),
    Kind.INSTALLATION: lambda source, _: parse_installation(source),
    Kind.CONFIG_MAPS: lambda source, _: parse_config_map(source),
}
