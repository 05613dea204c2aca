"""One API object to one frozen value, whatever source it came from: the single way in from foreign JSON and YAML. Pure.

Parsers stand by topic (core, services, calico, policies, configmaps); this module tells kinds apart and turns what
cannot be read into a note instead of an error. daemon/wiring.py makes the Inventory of the values.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from exporter.inventory.parse.calico import (
    parse_affinity,
    parse_block,
    parse_daemonset,
    parse_felix,
    parse_installation,
    parse_pool,
)
from exporter.inventory.parse.calico_policies import parse_calico_policy
from exporter.inventory.parse.configmaps import ConfigMap, parse_config_map
from exporter.inventory.parse.core import parse_namespace, parse_node, parse_pod
from exporter.inventory.parse.fields import mapping, name_of, text
from exporter.inventory.parse.policies import PolicyDraft, parse_admin_policy, parse_cilium_policy, parse_network_policy
from exporter.inventory.parse.selectors import SelectorError
from exporter.inventory.parse.services import parse_endpoint_slice, parse_service, parse_service_cidr
from exporter.model.calico import BlockAffinity, CalicoNode, FelixConfiguration, Installation, IPAMBlock, IPPool
from exporter.model.inventory import ResourceKind, Unreadable
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

KINDS: Mapping[str, ResourceKind] = {
    "Node": ResourceKind.NODES,
    "Pod": ResourceKind.PODS,
    "Namespace": ResourceKind.NAMESPACES,
    "Service": ResourceKind.SERVICES,
    "EndpointSlice": ResourceKind.ENDPOINT_SLICES,
    "ServiceCIDR": ResourceKind.SERVICE_CIDRS,
    "NetworkPolicy": ResourceKind.POLICIES,
    "GlobalNetworkPolicy": ResourceKind.POLICIES,
    "CiliumNetworkPolicy": ResourceKind.POLICIES,
    "CiliumClusterwideNetworkPolicy": ResourceKind.POLICIES,
    "AdminNetworkPolicy": ResourceKind.POLICIES,
    "BaselineAdminNetworkPolicy": ResourceKind.POLICIES,
    "IPPool": ResourceKind.IP_POOLS,
    "BlockAffinity": ResourceKind.BLOCK_AFFINITIES,
    "IPAMBlock": ResourceKind.IPAM_BLOCKS,
    "FelixConfiguration": ResourceKind.FELIX,
    "DaemonSet": ResourceKind.CALICO_DAEMONSET,
    "Installation": ResourceKind.INSTALLATION,
    "ConfigMap": ResourceKind.CONFIG_MAPS,
}
CALICO_GROUPS = ("crd.projectcalico.org/", "projectcalico.org/")
GROUPS: Mapping[ResourceKind, tuple[str, ...]] = {
    ResourceKind.NODES: ("v1",),
    ResourceKind.PODS: ("v1",),
    ResourceKind.NAMESPACES: ("v1",),
    ResourceKind.SERVICES: ("v1",),
    ResourceKind.CONFIG_MAPS: ("v1",),
    ResourceKind.ENDPOINT_SLICES: ("discovery.k8s.io/",),
    ResourceKind.SERVICE_CIDRS: ("networking.k8s.io/",),
    ResourceKind.POLICIES: ("networking.k8s.io/", "policy.networking.k8s.io/", "cilium.io/", *CALICO_GROUPS),
    ResourceKind.CALICO_DAEMONSET: ("apps/",),
    ResourceKind.INSTALLATION: ("operator.tigera.io/",),
    **dict.fromkeys(
        (ResourceKind.IP_POOLS, ResourceKind.BLOCK_AFFINITIES, ResourceKind.IPAM_BLOCKS, ResourceKind.FELIX),
        CALICO_GROUPS,
    ),
}
NAMESPACED = frozenset(
    {
        ResourceKind.PODS,
        ResourceKind.SERVICES,
        ResourceKind.ENDPOINT_SLICES,
        ResourceKind.CALICO_DAEMONSET,
        ResourceKind.CONFIG_MAPS,
    }
)
MAX_PROBLEM = 200


def identify(source: object) -> ResourceKind | None:
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


def parse_object(kind: ResourceKind, source: object, *, changed: float | None = None) -> Parsed | Unreadable | None:
    """The value of an object of that kind. None: of no interest (another DaemonSet, another ConfigMap). Never raises.

    `changed` (Unix seconds) is when a watch last saw it change, for the kinds that carry it. Items of typed lists lack
    kind and apiVersion; a policy without them is a NetworkPolicy of Kubernetes.
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

_PARSERS: Mapping[ResourceKind, _Parser] = {
    ResourceKind.NODES: parse_node,
    ResourceKind.PODS: lambda source, _: parse_pod(source),
    ResourceKind.NAMESPACES: lambda source, _: parse_namespace(source),
    ResourceKind.SERVICES: lambda source, _: parse_service(source),
    ResourceKind.ENDPOINT_SLICES: lambda source, _: parse_endpoint_slice(source),
    ResourceKind.SERVICE_CIDRS: lambda source, _: parse_service_cidr(source),
    ResourceKind.POLICIES: lambda source, _: _parse_policy(source),
    ResourceKind.IP_POOLS: parse_pool,
    ResourceKind.BLOCK_AFFINITIES: parse_affinity,
    ResourceKind.IPAM_BLOCKS: lambda source, _: parse_block(source),
    ResourceKind.FELIX: lambda source, _: parse_felix(source),
    ResourceKind.CALICO_DAEMONSET: lambda source, _: parse_daemonset(source),
    ResourceKind.INSTALLATION: lambda source, _: parse_installation(source),
    ResourceKind.CONFIG_MAPS: lambda source, _: parse_config_map(source),
}
