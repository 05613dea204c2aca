"""What each role reads from the Kubernetes API, declared once: resources, selectors, and how much of each object. Data only.

kubernetes.py lists and watches these, access.py derives from them the rights that the manifests must grant, and the
table in docs/sizing.md counts them. A resource that stands in several API groups or versions names them in the order of
preference.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from exporter.model.inventory import ResourceKind
from exporter.model.report import Role
from exporter.model.well_known import DNS_NAMES

CRD, AGGREGATED = "crd.projectcalico.org/v1", "projectcalico.org/v3"
CALICO = (CRD, AGGREGATED)
SYSTEM = "kube-system"
SERVICE_NAME = "kubernetes.io/service-name"


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchedResource:
    """One resource to list and watch. `places` are GROUP/VERSION (v1: the core group), the first one served is used.

    `name` limits it to the object of that name, in every namespace where `namespace` is empty; RBAC's resourceNames
    then suffice, because a list with that field selector is authorised by the name.
    """

    kind: ResourceKind
    resource: str
    places: tuple[str, ...] = ("v1",)
    namespace: str = ""
    name: str = ""
    fields: str = ""  # a field selector
    labels: str = ""  # a label selector
    metadata_only: bool = False
    paged: bool = False  # may be long: read in pages, from etcd; others come whole from the API server's cache
    optional: bool = False  # its absence or refusal is ordinary and is not said

    @property
    def field_selector(self) -> str:
        return ",".join(part for part in (f"metadata.name={self.name}" if self.name else "", self.fields) if part)

    @property
    def label(self) -> str:
        """What the log calls it, as kubectl would: RESOURCE.GROUP and the name."""
        resource = ".".join(part for part in (self.resource, self.groups[0]) if part)
        where = "/".join(part for part in (self.namespace, self.name) if part)
        return f"{resource} {where}" if where else resource

    @property
    def groups(self) -> tuple[str, ...]:
        """The API groups by name; the core group is empty."""
        return tuple(dict.fromkeys(group_of(place) for place in self.places))

    def path(self, place: str) -> str:
        """The resource's path at one of its places."""
        root = "/api/v1" if place == "v1" else f"/apis/{place}"
        return f"{root}/namespaces/{self.namespace}/{self.resource}" if self.namespace else f"{root}/{self.resource}"


def group_of(place: str) -> str:
    """The group of GROUP/VERSION; empty for the core group."""
    return place.rpartition("/")[0]


def _config_map(name: str, namespace: str = SYSTEM, *, optional: bool = False) -> WatchedResource:
    return WatchedResource(
        kind=ResourceKind.CONFIG_MAPS, resource="configmaps", namespace=namespace, name=name, optional=optional
    )


# Addresses and Ready stand in status, podCIDRs in spec: metadata is not enough.
NODES = WatchedResource(kind=ResourceKind.NODES, resource="nodes", paged=True)
PODS = WatchedResource(kind=ResourceKind.PODS, resource="pods", paged=True)
# Labels, annotations and the uid of kube-system: metadata is all there is to know.
NAMESPACES = WatchedResource(kind=ResourceKind.NAMESPACES, resource="namespaces", metadata_only=True, paged=True)
# Families, addresses, ports and selectors stand in spec.
SERVICES = WatchedResource(kind=ResourceKind.SERVICES, resource="services", paged=True)
ENDPOINT_SLICES = WatchedResource(
    kind=ResourceKind.ENDPOINT_SLICES, resource="endpointslices", places=("discovery.k8s.io/v1",), paged=True
)
SERVICE_CIDRS = WatchedResource(
    kind=ResourceKind.SERVICE_CIDRS,
    resource="servicecidrs",
    places=("networking.k8s.io/v1", "networking.k8s.io/v1beta1"),
)
POLICIES = (
    WatchedResource(
        kind=ResourceKind.POLICIES, resource="networkpolicies", places=("networking.k8s.io/v1",), paged=True
    ),
    WatchedResource(kind=ResourceKind.POLICIES, resource="networkpolicies", places=CALICO, paged=True),
    WatchedResource(kind=ResourceKind.POLICIES, resource="globalnetworkpolicies", places=CALICO, paged=True),
    WatchedResource(kind=ResourceKind.POLICIES, resource="ciliumnetworkpolicies", places=("cilium.io/v2",), paged=True),
    WatchedResource(
        kind=ResourceKind.POLICIES, resource="ciliumclusterwidenetworkpolicies", places=("cilium.io/v2",), paged=True
    ),
    WatchedResource(
        kind=ResourceKind.POLICIES, resource="adminnetworkpolicies", places=("policy.networking.k8s.io/v1alpha1",)
    ),
    WatchedResource(
        kind=ResourceKind.POLICIES,
        resource="baselineadminnetworkpolicies",
        places=("policy.networking.k8s.io/v1alpha1",),
    ),
)
IP_POOLS = WatchedResource(kind=ResourceKind.IP_POOLS, resource="ippools", places=CALICO)
BLOCK_AFFINITIES = WatchedResource(
    kind=ResourceKind.BLOCK_AFFINITIES, resource="blockaffinities", places=CALICO, paged=True
)
IPAM_BLOCKS = WatchedResource(kind=ResourceKind.IPAM_BLOCKS, resource="ipamblocks", places=CALICO, paged=True)
FELIX = WatchedResource(kind=ResourceKind.FELIX, resource="felixconfigurations", places=CALICO, paged=True)
# In kube-system or calico-system; its literal environment beats the FelixConfiguration objects.
CALICO_DAEMONSET = WatchedResource(
    kind=ResourceKind.CALICO_DAEMONSET, resource="daemonsets", places=("apps/v1",), name="calico-node"
)
INSTALLATION = WatchedResource(
    kind=ResourceKind.INSTALLATION, resource="installations", places=("operator.tigera.io/v1",), name="default"
)
CALICO_CONFIG = _config_map("calico-config")
CONFIG_MAPS = (
    _config_map("coredns"),
    _config_map("coredns-custom"),
    _config_map("rke2-coredns-rke2-coredns"),
    _config_map("node-local-dns"),
    CALICO_CONFIG,
    _config_map("kubeadm-config"),
    _config_map("kube-proxy"),
    _config_map("dns-default", "openshift-dns", optional=True),  # OpenShift's CoreDNS, granted by that overlay alone
)

CLUSTER: tuple[WatchedResource, ...] = (
    NODES, PODS, NAMESPACES, SERVICES, ENDPOINT_SLICES, SERVICE_CIDRS, *POLICIES,
    IP_POOLS, BLOCK_AFFINITIES, IPAM_BLOCKS, FELIX, CALICO_DAEMONSET, INSTALLATION, *CONFIG_MAPS,
)  # fmt: skip

# A node by itself: of pods and EndpointSlices only its own and the cluster DNS's, no IPAM blocks, no Corefile.
DNS_SLICES = replace(ENDPOINT_SLICES, labels=f"{SERVICE_NAME} in ({','.join(sorted(DNS_NAMES))})", paged=False)
NODE: tuple[WatchedResource, ...] = (
    NODES, NAMESPACES, SERVICES, DNS_SLICES, *POLICIES,
    IP_POOLS, BLOCK_AFFINITIES, FELIX, CALICO_DAEMONSET, CALICO_CONFIG,
)  # fmt: skip


def own_endpoints(namespace: str, service: str) -> WatchedResource:
    """The endpoints of one Service of the exporter's own namespace: listed when its ClusterIP leads nowhere, never watched."""
    return replace(ENDPOINT_SLICES, namespace=namespace, labels=f"{SERVICE_NAME}={service}", paged=False)


def watched_resources(role: Role, node: str, *, digest: bool = False) -> tuple[WatchedResource, ...]:
    """What an exporter of this role on this node reads. `digest`: a node that learns the rest from the cluster role."""
    if role is not Role.NODE:
        return CLUSTER
    # The API server selects: it has an index of pods by node, and its cache answers without asking etcd.
    own_pods = replace(PODS, fields=f"spec.nodeName={node}", paged=False)
    if digest:
        return own_pods, replace(NODES, name=node, paged=False)
    return own_pods, *NODE
