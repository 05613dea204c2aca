"""What each role reads from the Kubernetes API: resources, selectors, and how much of each object. Data only.

source.py lists and watches these, a test derives from them the rights that the manifests must grant, and the table in
docs/sizing.md counts them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from exporter.model.cause import Role
from exporter.model.cluster.inventory import ResourceKind
from exporter.model.cluster.well_known import DNS_NAMES, OWN_SERVICE, SYSTEM

CRD, AGGREGATED = "crd.projectcalico.org/v1", "projectcalico.org/v3"
CALICO = (CRD, AGGREGATED)
SERVICE_NAME = "kubernetes.io/service-name"


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchedResource:
    """One resource to list and watch. `api_versions` are in the order of preference: the first one served is used.

    `plural` is its name where that is not the kind's.
    `name` limits it to the object of that name, in every namespace where `namespace` is empty; RBAC's resourceNames
    then suffice, because a list with that field selector is authorised by the name.
    """

    kind: ResourceKind
    plural: str = ""
    api_versions: tuple[str, ...] = ("v1",)
    namespace: str = ""
    name: str = ""
    fields: str = ""  # a field selector
    labels: str = ""  # a label selector
    metadata_only: bool = False
    paged: bool = False  # may be long: read in pages, from etcd; others come whole from the API server's cache
    optional: bool = False  # its absence or refusal is ordinary and is not logged

    @property
    def resource(self) -> str:
        return self.plural or str(self.kind)

    @property
    def field_selector(self) -> str:
        return ",".join(part for part in (f"metadata.name={self.name}" if self.name else "", self.fields) if part)

    @property
    def label(self) -> str:
        """The name in the log, as kubectl has it: RESOURCE.GROUP and the object."""
        resource = ".".join(part for part in (self.resource, self.groups[0]) if part)
        where = "/".join(part for part in (self.namespace, self.name) if part)
        return f"{resource} {where}" if where else resource

    @property
    def groups(self) -> tuple[str, ...]:
        """The API groups by name; the core group is empty."""
        return tuple(dict.fromkeys(version.rpartition("/")[0] for version in self.api_versions))

    def path(self, api_version: str) -> str:
        """The resource's path in one of its API versions."""
        root = "/api/v1" if api_version == "v1" else f"/apis/{api_version}"
        return f"{root}/namespaces/{self.namespace}/{self.resource}" if self.namespace else f"{root}/{self.resource}"


def _policies(plural: str, *api_versions: str, paged: bool = True) -> WatchedResource:
    return WatchedResource(kind=ResourceKind.POLICIES, plural=plural, api_versions=api_versions, paged=paged)


def _config_map(name: str, namespace: str = SYSTEM, *, optional: bool = False) -> WatchedResource:
    return WatchedResource(kind=ResourceKind.CONFIG_MAPS, namespace=namespace, name=name, optional=optional)


def mounted_config_map(namespace: str, name: str) -> WatchedResource:
    """A ConfigMap that the cluster's DNS mounts under a name of its own; an operator may have granted that name."""
    return _config_map(name, namespace, optional=True)


# Addresses and Ready are in status, podCIDRs in spec: metadata is not enough.
NODES = WatchedResource(kind=ResourceKind.NODES, paged=True)
PODS = WatchedResource(kind=ResourceKind.PODS, paged=True)
# Only labels, annotations and the uid of kube-system are needed.
NAMESPACES = WatchedResource(kind=ResourceKind.NAMESPACES, metadata_only=True, paged=True)
# Families, addresses, ports and selectors are in spec.
SERVICES = WatchedResource(kind=ResourceKind.SERVICES, paged=True)
ENDPOINT_SLICES = WatchedResource(kind=ResourceKind.ENDPOINT_SLICES, api_versions=("discovery.k8s.io/v1",), paged=True)
SERVICE_CIDRS = WatchedResource(
    kind=ResourceKind.SERVICE_CIDRS,
    api_versions=("networking.k8s.io/v1", "networking.k8s.io/v1beta1"),
)
ENTRY_POINTS = (
    WatchedResource(kind=ResourceKind.INGRESSES, api_versions=("networking.k8s.io/v1",), paged=True),
    WatchedResource(
        kind=ResourceKind.GATEWAYS,
        api_versions=("gateway.networking.k8s.io/v1", "gateway.networking.k8s.io/v1beta1"),
        paged=True,
    ),
)
POLICIES = (
    _policies("networkpolicies", "networking.k8s.io/v1"),
    _policies("networkpolicies", *CALICO),
    _policies("globalnetworkpolicies", *CALICO),
    _policies("ciliumnetworkpolicies", "cilium.io/v2"),
    _policies("ciliumclusterwidenetworkpolicies", "cilium.io/v2"),
    _policies("adminnetworkpolicies", "policy.networking.k8s.io/v1alpha1", paged=False),
    _policies("baselineadminnetworkpolicies", "policy.networking.k8s.io/v1alpha1", paged=False),
    _policies("clusternetworkpolicies", "policy.networking.k8s.io/v1alpha2", paged=False),
)
IP_POOLS = WatchedResource(kind=ResourceKind.IP_POOLS, api_versions=CALICO)
BLOCK_AFFINITIES = WatchedResource(kind=ResourceKind.BLOCK_AFFINITIES, api_versions=CALICO, paged=True)
IPAM_BLOCKS = WatchedResource(kind=ResourceKind.IPAM_BLOCKS, api_versions=CALICO, paged=True)
IPAM_CONFIGS = (  # each group has a name of its own for it
    WatchedResource(kind=ResourceKind.IPAM_CONFIG, api_versions=(CRD,)),
    WatchedResource(kind=ResourceKind.IPAM_CONFIG, plural="ipamconfigurations", api_versions=(AGGREGATED,)),
)
BGP = tuple(
    WatchedResource(kind=kind, api_versions=CALICO)
    for kind in (ResourceKind.BGP_CONFIGURATIONS, ResourceKind.BGP_PEERS)
)
FELIX = WatchedResource(kind=ResourceKind.FELIX, api_versions=CALICO, paged=True)
# In kube-system or calico-system; its literal environment overrides the FelixConfiguration objects.
CALICO_DAEMONSET = WatchedResource(kind=ResourceKind.CALICO_DAEMONSET, api_versions=("apps/v1",), name="calico-node")
INSTALLATION = WatchedResource(kind=ResourceKind.INSTALLATION, api_versions=("operator.tigera.io/v1",), name="default")
CALICO_CONFIG = _config_map("calico-config")
CONFIG_MAPS = (
    *map(_config_map, ("coredns", "coredns-custom", "rke2-coredns-rke2-coredns", "node-local-dns", "nodelocaldns")),
    CALICO_CONFIG,
    *map(_config_map, ("kubeadm-config", "kube-proxy", "kubelet-config")),
    # Switches of other CNIs; flannel's manifest has a namespace of its own.
    *map(_config_map, ("cilium-config", "antrea-config", "canal-config", "rke2-canal-config")),
    _config_map("kube-flannel-cfg", ""),
    _config_map("dns-default", "openshift-dns", optional=True),  # OpenShift's CoreDNS, granted by that overlay only
)

CLUSTER: tuple[WatchedResource, ...] = (
    NODES, PODS, NAMESPACES, SERVICES, ENDPOINT_SLICES, SERVICE_CIDRS, *ENTRY_POINTS, *POLICIES,
    IP_POOLS, BLOCK_AFFINITIES, IPAM_BLOCKS, *IPAM_CONFIGS, *BGP, FELIX, CALICO_DAEMONSET, INSTALLATION, *CONFIG_MAPS,
)  # fmt: skip

# A node without a digest: its own pods, EndpointSlices of the Services that every node needs, no IPAM blocks, no
# Corefile.
_NEEDED = ",".join(sorted({*DNS_NAMES, OWN_SERVICE, "kubernetes"}))
NEEDED_SLICES = replace(ENDPOINT_SLICES, labels=f"{SERVICE_NAME} in ({_NEEDED})", paged=False)
NODE: tuple[WatchedResource, ...] = (
    NODES, NAMESPACES, SERVICES, NEEDED_SLICES, *POLICIES,
    IP_POOLS, BLOCK_AFFINITIES, *BGP, FELIX, CALICO_DAEMONSET, CALICO_CONFIG,
)  # fmt: skip


def own_endpoints(namespace: str, service: str) -> WatchedResource:
    """The endpoints of one Service of the exporter's own namespace: listed if its ClusterIP does not answer."""
    return replace(ENDPOINT_SLICES, namespace=namespace, labels=f"{SERVICE_NAME}={service}", paged=False)


def watched_resources(role: Role, node: str, *, digest: bool = False) -> tuple[WatchedResource, ...]:
    """What an exporter of this role on this node reads. `digest`: the node fetches the rest from the cluster role."""
    if role is not Role.NODE:
        return CLUSTER
    # The API server selects: it has an index of pods by node, and its cache answers without asking etcd.
    own_pods = replace(PODS, fields=f"spec.nodeName={node}", paged=False)
    if digest:
        return own_pods, replace(NODES, name=node, paged=False)
    return own_pods, *NODE
