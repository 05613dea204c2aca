"""One API object to one frozen value, whatever source it came from: the single entry for foreign JSON and YAML. Pure.

Parsers are grouped by topic (core, calico, policies, configmaps); this module selects one by a table, and turns what
cannot be read into a note instead of an error. inventory_builder.py makes the Inventory of the values.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from exporter.inventory.parse import calico, core, entry_points
from exporter.inventory.parse.calico import DaemonSet
from exporter.inventory.parse.configmaps import ConfigMap, parse_config_map
from exporter.inventory.parse.fields import mapping, name_of, text
from exporter.inventory.parse.policies import kinds
from exporter.inventory.parse.policies.kinds import PolicyDraft
from exporter.inventory.parse.selectors import SelectorError
from exporter.model.cluster.calico import (
    BGPConfiguration,
    BGPPeer,
    BlockAffinity,
    FelixConfiguration,
    Installation,
    IPAMBlock,
    IPAMConfig,
    IPPool,
)
from exporter.model.cluster.inventory import ResourceKind, Unreadable
from exporter.model.cluster.node import Node
from exporter.model.cluster.pod import Namespace, Pod
from exporter.model.cluster.policy import PolicyKind
from exporter.model.cluster.service import EndpointSlice, EntryPoint, Service, ServiceCIDR

_CoreObject: TypeAlias = Node | Pod | Namespace | Service | EndpointSlice | ServiceCIDR | EntryPoint
_CalicoObject: TypeAlias = (
    IPPool
    | BlockAffinity
    | IPAMBlock
    | IPAMConfig
    | BGPConfiguration
    | BGPPeer
    | FelixConfiguration
    | DaemonSet
    | Installation
)
Parsed: TypeAlias = _CoreObject | _CalicoObject | PolicyDraft | ConfigMap
_Parse: TypeAlias = Callable[[Mapping[str, Any]], Parsed | str | None]
MAX_PROBLEM = 200

CORE = "v1"  # apiVersion of the core group, which has no name
CALICO_GROUPS = ("crd.projectcalico.org", "projectcalico.org")
NAMESPACED = frozenset({"Pod", "Service", "EndpointSlice", "DaemonSet", "ConfigMap", "Ingress", "Gateway"})


def _policy(
    parse: Callable[[Mapping[str, Any], PolicyKind], PolicyDraft | None], kind: PolicyKind
) -> tuple[ResourceKind, _Parse]:
    return ResourceKind.POLICIES, lambda source: parse(source, kind)


_CALICO_OBJECTS: Mapping[str, tuple[ResourceKind, _Parse]] = {
    "NetworkPolicy": _policy(kinds.parse_calico_policy, PolicyKind.CALICO),
    "GlobalNetworkPolicy": _policy(kinds.parse_calico_policy, PolicyKind.CALICO_GLOBAL),
    "IPPool": (ResourceKind.IP_POOLS, calico.parse_pool),
    "BlockAffinity": (ResourceKind.BLOCK_AFFINITIES, calico.parse_affinity),
    "IPAMBlock": (ResourceKind.IPAM_BLOCKS, calico.parse_block),
    "IPAMConfig": (ResourceKind.IPAM_CONFIG, calico.parse_ipam_config),
    "IPAMConfiguration": (ResourceKind.IPAM_CONFIG, calico.parse_ipam_config),
    "BGPConfiguration": (ResourceKind.BGP_CONFIGURATIONS, calico.parse_bgp_configuration),
    "BGPPeer": (ResourceKind.BGP_PEERS, calico.parse_bgp_peer),
    "FelixConfiguration": (ResourceKind.FELIX, calico.parse_felix),
}
_OBJECTS: Mapping[tuple[str, str], tuple[ResourceKind, _Parse]] = {
    (CORE, "Node"): (ResourceKind.NODES, core.parse_node),
    (CORE, "Pod"): (ResourceKind.PODS, core.parse_pod),
    (CORE, "Namespace"): (ResourceKind.NAMESPACES, core.parse_namespace),
    (CORE, "Service"): (ResourceKind.SERVICES, core.parse_service),
    (CORE, "ConfigMap"): (ResourceKind.CONFIG_MAPS, parse_config_map),
    ("discovery.k8s.io", "EndpointSlice"): (ResourceKind.ENDPOINT_SLICES, core.parse_endpoint_slice),
    ("networking.k8s.io", "ServiceCIDR"): (ResourceKind.SERVICE_CIDRS, core.parse_service_cidr),
    ("networking.k8s.io", "Ingress"): (ResourceKind.INGRESSES, entry_points.parse_ingress),
    ("gateway.networking.k8s.io", "Gateway"): (ResourceKind.GATEWAYS, entry_points.parse_gateway),
    ("apps", "DaemonSet"): (ResourceKind.CALICO_DAEMONSET, calico.parse_daemonset),
    ("operator.tigera.io", "Installation"): (ResourceKind.INSTALLATION, calico.parse_installation),
    **{(group, kind): row for group in CALICO_GROUPS for kind, row in _CALICO_OBJECTS.items()},
    ("cilium.io", "CiliumNetworkPolicy"): _policy(kinds.parse_cilium_policy, PolicyKind.CILIUM),
    ("cilium.io", "CiliumClusterwideNetworkPolicy"): _policy(kinds.parse_cilium_policy, PolicyKind.CILIUM_CLUSTERWIDE),
    ("policy.networking.k8s.io", "AdminNetworkPolicy"): _policy(kinds.parse_admin_policy, PolicyKind.ADMIN),
    ("policy.networking.k8s.io", "BaselineAdminNetworkPolicy"): _policy(
        kinds.parse_admin_policy, PolicyKind.BASELINE_ADMIN
    ),
    ("policy.networking.k8s.io", "ClusterNetworkPolicy"): _policy(kinds.parse_admin_policy, PolicyKind.CLUSTER),
    ("networking.k8s.io", "NetworkPolicy"): (ResourceKind.POLICIES, kinds.parse_network_policy),
}
# Items of typed lists lack kind and group: the last row of a ResourceKind reads them.
_UNNAMED = dict(_OBJECTS.values())
_NAMESPACED = frozenset(kind for (_, name), (kind, _) in _OBJECTS.items() if name in NAMESPACED)


def identify(source: object) -> ResourceKind | None:
    """The kind of an object that names its own; None for those of no interest here (Knative has a Service as well)."""
    return _row(mapping(source))[0]


def _row(fields: Mapping[str, Any]) -> tuple[ResourceKind | None, _Parse | None]:
    version = text(fields.get("apiVersion"))
    group = CORE if version == CORE else version.rpartition("/")[0]
    return _OBJECTS.get((group, text(fields.get("kind"))), (None, None))


def parse_object(kind: ResourceKind, source: object) -> Parsed | Unreadable | None:
    """The value of an object of that kind. None: of no interest (another DaemonSet). Never raises."""
    fields = mapping(source)
    metadata = mapping(fields.get("metadata"))
    name, namespace = name_of(metadata.get("name")), name_of(metadata.get("namespace"))
    label = f"{namespace}/{name}" if namespace else name
    if not name or (kind in _NAMESPACED and not namespace):
        return Unreadable(kind, label, "metadata.name or metadata.namespace is missing or no name")
    known, parse = _row(fields)
    try:
        parsed = parse(fields) if known is kind and parse is not None else _UNNAMED[kind](fields)
    except SelectorError as error:
        return Unreadable(kind, label, f"selector: {error}"[:MAX_PROBLEM])
    return Unreadable(kind, label, parsed[:MAX_PROBLEM]) if isinstance(parsed, str) else parsed
