"""Nodes, pods, namespaces, Services and their endpoints: one API object to one frozen value. Pure; for objects.py.

The parsers expect a usable name in the metadata and never raise, whatever the rest of the object is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from sys import intern
from typing import Any

from exporter.inventory.parse.components import component_flags, parse_node_arguments
from exporter.inventory.parse.dns_process import dns_process
from exporter.inventory.parse.fields import (
    addresses,
    families,
    flag,
    interface,
    items,
    json_mapping,
    json_value,
    mapping,
    moment,
    name_of,
    nets,
    number,
    objects,
    string_map,
    text,
)
from exporter.inventory.parse.networks import node_signs, pod_sign, subnets_of
from exporter.model.cluster.component import ComponentFlags
from exporter.model.cluster.node import FlannelNode, Node
from exporter.model.cluster.pod import ContainerPort, Namespace, Pod
from exporter.model.cluster.service import Endpoint, EndpointSlice, Service, ServiceCIDR, ServicePort
from exporter.model.cluster.well_known import SYSTEM
from exporter.model.cni import ADDRESS_ANNOTATIONS, FAMILY_ANNOTATIONS
from exporter.model.family import Address, Family
from exporter.model.subject import Subject, SubjectKind

CALICO = "projectcalico.org/"
FLANNEL = "flannel.alpha.coreos.com/"
FAMILIES_ANNOTATION = "dualstack-exporter/families"
NETWORK_ANNOTATIONS = ("k8s.v1.cni.cncf.io/networks", "v1.multus-cni.io/default-network")
_SWITCH = re.compile(r"net[./]ipv6[./]conf[./](?:all|default|eth0)[./]disable_ipv6")  # eth0: of the pod network (CRI)
_TUNED = re.compile(_SWITCH.pattern + r'"\s{0,8}:\s{0,8}"?1\b')
SERVICE_NAME = "kubernetes.io/service-name"
MAX_ENDPOINTS = 1_000  # the API's own limit of one slice
MAX_PORTS = 100
MAX_NOTE = 1 << 16  # characters of a CNI's annotation


def parse_node(source: Mapping[str, Any]) -> Node:
    """A Node with Calico's annotations."""
    metadata, spec, status = (mapping(source.get(part)) for part in ("metadata", "spec", "status"))
    notes, labels = mapping(metadata.get("annotations")), string_map(metadata.get("labels"))
    ready = _ready_condition(status)
    internal = (each.get("address") for each in objects(status.get("addresses")) if each.get("type") == "InternalIP")
    calico = (interface(notes.get(CALICO + key)) for key in ("IPv4Address", "IPv6Address"))
    info = mapping(status.get("nodeInfo"))
    system = text(info.get("operatingSystem")) or labels.get("kubernetes.io/os", "")
    name = intern(name_of(metadata.get("name")))
    return Node(
        name=name,
        uid=text(metadata.get("uid")),
        created=moment(metadata.get("creationTimestamp")),
        ready=ready is not None,
        ready_since=None if ready is None else moment(ready.get("lastTransitionTime")),
        internal_ips=addresses(internal),
        provided_ips=addresses(text(notes.get("alpha.kubernetes.io/provided-node-ip")).split(",")),
        provider=name_of(text(spec.get("providerID")).partition("://")[0]),
        pod_cidrs=nets(items(spec.get("podCIDRs")) or [spec.get("podCIDR")]),
        labels=labels,
        calico_addresses=tuple(address for address in calico if address is not None),
        tunnel_addresses=addresses(notes.get(CALICO + key) for key in ("IPv4VXLANTunnelAddr", "IPv6VXLANTunnelAddr")),
        tunnel_macs=_tunnel_macs(notes),
        flannel=_flannel(notes),
        route_reflector=bool(text(notes.get(CALICO + "RouteReflectorClusterID"))),
        # Only WireGuard for IPv6 replaces the IPv6 tunnel.
        wireguard=bool(notes.get(CALICO + "WireguardPublicKeyV6") or notes.get(CALICO + "IPv6WireguardInterfaceAddr")),
        wireguard_key=_wireguard_key(text(notes.get(CALICO + "WireguardPublicKeyV6")).strip()),
        windows=system == "windows",
        virtual=labels.get("type") == "virtual-kubelet",
        kubelet_version=intern(name_of(info.get("kubeletVersion"))),
        components=parse_node_arguments(notes, node=name),
        cni_signs=node_signs(notes, Subject.of(SubjectKind.NODE, name)),
        subnets=subnets_of(notes),
    )


_MAC = re.compile(r"(?:[0-9a-f]{2}:){5}[0-9a-f]{2}")
_WIREGUARD_KEY = re.compile(r"[0-9A-Za-z+/]{43}=")  # 32 bytes


def _wireguard_key(given: str) -> str:
    """A public key; none where Felix found no WireGuard, and noted a key of zeroes."""
    return given if _WIREGUARD_KEY.fullmatch(given) and given.strip("A=") else ""


def _tunnel_macs(notes: Mapping[str, Any]) -> Mapping[Family, str]:
    named = {Family.V4: "VXLANTunnelMACAddr", Family.V6: "VXLANTunnelMACAddrV6"}
    given = {family: text(notes.get(CALICO + key)).strip().lower() for family, key in named.items()}
    return {family: mac for family, mac in given.items() if _MAC.fullmatch(mac)}


def _flannel(notes: Mapping[str, Any]) -> FlannelNode | None:
    """The annotations of flannel; backend-data is JSON, null for a family that flannel does not carry."""
    given = {key.removeprefix(FLANNEL): text(value) for key, value in notes.items() if key.startswith(FLANNEL)}
    if not given:
        return None
    named = {Family.V4: "backend-data", Family.V6: "backend-v6-data"}
    data = {family: json_mapping(given.get(key, "")) for family, key in named.items()}
    numbers = {family: number(each.get("VNI")) for family, each in data.items()}
    macs = {family: text(each.get("VtepMAC")).lower() for family, each in data.items()}
    return FlannelNode(
        backend=intern(given.get("backend-type", "")[:32]),
        addresses=addresses(given.get(key) for key in ("public-ip", "public-ipv6")),
        overwritten="public-ipv6-overwrite" in given,
        vnis={family: vni for family, vni in numbers.items() if vni is not None},
        macs={family: mac for family, mac in macs.items() if _MAC.fullmatch(mac)},
    )


def parse_namespace(source: Mapping[str, Any]) -> Namespace:
    metadata = mapping(source.get("metadata"))
    notes = mapping(metadata.get("annotations"))
    return Namespace(
        name=intern(name_of(metadata.get("name"))),
        uid=text(metadata.get("uid")),
        labels=string_map(metadata.get("labels")),
        families=parse_families(notes.get(FAMILIES_ANNOTATION)),
        address_choice=_chooses_addresses(notes),
    )


def parse_pod(source: Mapping[str, Any]) -> Pod:
    """A Pod as far as probing and diagnosis need it; its addresses in the order of status.podIPs."""
    metadata, spec, status = (mapping(source.get(part)) for part in ("metadata", "spec", "status"))
    notes = mapping(metadata.get("annotations"))
    containers = objects(spec.get("containers"))
    namespace, name = intern(name_of(metadata.get("namespace"))), name_of(metadata.get("name"))
    node = intern(name_of(spec.get("nodeName")))
    given = [each.get("ip") for each in objects(status.get("podIPs"))] or [status.get("podIP")]
    ips = addresses(given)
    host_network = flag(spec.get("hostNetwork")) is True
    labels = string_map(metadata.get("labels"), intern)
    return Pod(
        namespace=namespace,
        name=name,
        uid=text(metadata.get("uid")),
        node=node,
        phase=intern(text(status.get("phase"))[:16]),
        ready=_ready_condition(status) is not None,
        host_network=host_network,
        deleting=bool(metadata.get("deletionTimestamp")),
        created=moment(metadata.get("creationTimestamp")),
        started=moment(status.get("startTime")),
        ips=ips,
        annotated_ips=_annotated_addresses(notes, given, ips),
        runtime_class=text(spec.get("runtimeClassName")),
        labels=labels,
        ports=_ports(containers),
        dns_servers=addresses(items(mapping(spec.get("dnsConfig")).get("nameservers"))),
        families=parse_families(notes.get(FAMILIES_ANNOTATION)),
        address_choice=_chooses_addresses(notes),
        disables_ipv6=_disables_ipv6(spec, notes),
        static_uid=text(notes.get("kubernetes.io/config.hash")),
        service_account=intern(name_of(spec.get("serviceAccountName"))),
        owner=_owner(metadata, labels),
        dns=dns_process(spec),
        component=_component(namespace, name, containers, node),
        cni_sign=pod_sign(metadata, containers, Subject.of(SubjectKind.POD, namespace, name)) if host_network else None,
    )


def _owner(metadata: Mapping[str, Any], labels: Mapping[str, str]) -> str:
    """The controller of a pod. A Deployment names its ReplicaSets NAME-HASH, and labels their pods with the hash."""
    for each in objects(metadata.get("ownerReferences")):
        kind, name = name_of(each.get("kind")).lower(), name_of(each.get("name"))
        if kind and name and each.get("controller") is True:
            suffix = "-" + labels.get("pod-template-hash", "")
            made = kind == "replicaset" and len(suffix) > 1 and name.endswith(suffix)
            return intern(f"deployment/{name.removesuffix(suffix)}" if made else f"{kind}/{name}")
    return ""


def _ready_condition(status: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The condition Ready where it is true."""
    ready = (each for each in objects(status.get("conditions")) if each.get("type") == "Ready")
    return next((each for each in ready if each.get("status") == "True"), None)


def _annotated_addresses(notes: Mapping[str, Any], given: list[Any], ips: tuple[Address, ...]) -> tuple[Address, ...]:
    """The addresses that a CNI notes on the pod.

    An annotation that shares none with status.podIPs is left out: it is of a sandbox or of a CNI that has gone. Nearly
    always they are the same, whose values are then shared: there are many pods.
    """
    found: dict[Address, None] = {}
    for note in filter(None, (text(notes.get(key)) for key in ADDRESS_ANNOTATIONS)):
        parts = [text(part).partition("/")[0] for part in _noted_addresses(note)]
        noted = ips if parts == given else addresses(parts)
        found |= dict.fromkeys(noted) if not ips or not set(ips).isdisjoint(noted) else {}
    return ips if tuple(found) == ips else tuple(found)


def _noted_addresses(note: str) -> list[Any]:
    """By commas; or JSON: by network (OVN-Kubernetes), or a list of networks (Multus), of which the default counts."""
    if note.lstrip()[:1] not in ("[", "{"):
        return note.split(",")
    document = json_value(note, MAX_NOTE)
    default = (each for each in objects(document) if each.get("default") is True)
    return items(next(default, {}).get("ips")) or items(mapping(mapping(document).get("default")).get("ip_addresses"))


def _ports(containers: list[Mapping[str, Any]]) -> tuple[ContainerPort, ...]:
    found = []
    for source in (port for container in containers for port in objects(container.get("ports"))):
        port, protocol = number(source.get("containerPort")), intern(text(source.get("protocol"))[:8] or "TCP")
        if port is not None and 0 < port < 65536:
            found.append(ContainerPort(intern(text(source.get("name"))[:63]), port, protocol))
    return tuple(found[:MAX_PORTS])


def _component(namespace: str, name: str, containers: list[Mapping[str, Any]], node: str) -> ComponentFlags | None:
    """The flags of a Kubernetes component, as its (mirror) pod in kube-system shows them."""
    if namespace != SYSTEM:
        return None
    pod = Subject.of(SubjectKind.POD, namespace, name)
    found = (component_flags(container, pod=pod, node=node) for container in containers)
    return next((flags for flags in found if flags is not None), None)


def _chooses_addresses(notes: Mapping[str, Any]) -> bool:
    return not FAMILY_ANNOTATIONS.isdisjoint(notes)


def _disables_ipv6(spec: Mapping[str, Any], notes: Mapping[str, Any]) -> bool:
    """By spec.securityContext.sysctls, or by cni-args of Multus' annotations for the tuning plugin."""
    own = objects(mapping(spec.get("securityContext")).get("sysctls"))
    if any(_SWITCH.fullmatch(text(each.get("name"))) and text(each.get("value")).strip() == "1" for each in own):
        return True
    networks = (text(notes.get(key)) for key in NETWORK_ANNOTATIONS)
    return any(_TUNED.search(value) is not None for value in networks if "disable_ipv6" in value)


def parse_families(value: object) -> tuple[Family, ...] | None:
    """The annotation dualstack-exporter/families: IPv4, IPv6 or both, by commas. None where absent or not valid."""
    return families(part.strip(" \t\"'[]") for part in text(value).split(",")) or None if value else None


def parse_service(source: Mapping[str, Any]) -> Service:
    """A Service; families and policy stay empty where the API server did not set them (ExternalName)."""
    metadata, spec, status = (mapping(source.get(part)) for part in ("metadata", "spec", "status"))
    given = items(spec.get("clusterIPs")) or [spec.get("clusterIP")]
    ingress = objects(mapping(status.get("loadBalancer")).get("ingress"))
    return Service(
        namespace=intern(name_of(metadata.get("namespace"))),
        name=name_of(metadata.get("name")),
        uid=text(metadata.get("uid")),
        created=moment(metadata.get("creationTimestamp")),
        type=intern(text(spec.get("type"))[:32] or "ClusterIP"),
        cluster_ips=addresses(given),
        families=families(items(spec.get("ipFamilies"))),
        family_policy=intern(text(spec.get("ipFamilyPolicy"))[:32]),
        ports=_service_ports(spec),
        selector=string_map(spec.get("selector")),
        labels=string_map(metadata.get("labels")),
        ingress_ips=addresses(each.get("ip") for each in ingress),
        ingress_hostnames=tuple(text(each.get("hostname")) for each in ingress if text(each.get("hostname"))),
        local_only=spec.get("internalTrafficPolicy") == "Local",
    )


def _service_ports(source: Mapping[str, Any]) -> tuple[ServicePort, ...]:
    return tuple(map(_service_port, objects(source.get("ports"))[:MAX_PORTS]))


def _service_port(source: Mapping[str, Any]) -> ServicePort:
    port, target = number(source.get("port")), source.get("targetPort")
    return ServicePort(
        name=intern(text(source.get("name"))[:63]),
        port=port if port is not None and 0 <= port < 65536 else 0,
        target=str(target)[:63] if isinstance(target, str) or (isinstance(target, int) and target is not True) else "",
        protocol=intern(text(source.get("protocol"))[:8] or "TCP"),
    )


def parse_endpoint_slice(source: Mapping[str, Any]) -> EndpointSlice:
    """An EndpointSlice; one with addressType FQDN has no family and no addresses."""
    metadata = mapping(source.get("metadata"))
    labels = mapping(metadata.get("labels"))
    namespace = intern(name_of(metadata.get("namespace")))
    return EndpointSlice(
        namespace=namespace,
        name=name_of(metadata.get("name")),
        service=name_of(labels.get(SERVICE_NAME)),
        family=next(iter(families([source.get("addressType")])), None),
        endpoints=tuple(_endpoint(each, namespace) for each in objects(source.get("endpoints"))[:MAX_ENDPOINTS]),
        ports=_service_ports(source),
    )


def _endpoint(source: Mapping[str, Any], namespace: str) -> Endpoint:
    target = mapping(source.get("targetRef"))
    pod = name_of(target.get("name")) if target.get("kind") == "Pod" else ""
    return Endpoint(
        addresses=addresses(items(source.get("addresses"))),
        # Absent and null count as ready (API reference).
        ready=mapping(source.get("conditions")).get("ready") is not False,
        node=intern(name_of(source.get("nodeName"))),
        pod=f"{name_of(target.get('namespace')) or namespace}/{pod}" if pod else "",
    )


def parse_service_cidr(source: Mapping[str, Any]) -> ServiceCIDR:
    metadata, spec = mapping(source.get("metadata")), mapping(source.get("spec"))
    conditions = objects(mapping(source.get("status")).get("conditions"))
    refused = any(each.get("type") == "Ready" and each.get("status") == "False" for each in conditions)
    return ServiceCIDR(name_of(metadata.get("name")), nets(items(spec.get("cidrs"))), not refused)
