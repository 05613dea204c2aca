"""Nodes, pods and namespaces: one API object to one frozen value of the inventory. Pure; called by objects.parse_object.

Each parser takes the object's metadata as already checked (it has a usable name) and never raises, whatever the rest
holds.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from sys import intern
from typing import Any

from exporter.inventory.parse.fields import (
    addresses,
    families,
    flag,
    interface,
    items,
    mapping,
    moment,
    name_of,
    nets,
    number,
    string_map,
    text,
)
from exporter.inventory.parse.flags import component_flags, parse_node_arguments
from exporter.model.component import ComponentFlags
from exporter.model.family import Address, Family
from exporter.model.labels import EMPTY
from exporter.model.node import Node
from exporter.model.pod import ContainerPort, Namespace, Pod

CALICO = "projectcalico.org/"
FAMILIES_ANNOTATION = "dualstack-exporter/families"
ADDRESS_CHOICES = tuple(
    f"cni.projectcalico.org/{key}" for key in ("ipv4pools", "ipv6pools", "ipFamilies", "ipAddrs", "ipAddrsNoIpam")
)
MAX_PORTS = 100


def parse_node(source: Mapping[str, Any], changed: float | None = None) -> Node:
    """A Node with Calico's annotations. `changed` is when the source last saw it change."""
    metadata, spec, status = (mapping(source.get(part)) for part in ("metadata", "spec", "status"))
    notes, labels = mapping(metadata.get("annotations")), string_map(metadata.get("labels"))
    ready = next((c for c in map(mapping, items(status.get("conditions"))) if c.get("type") == "Ready"), EMPTY)
    internal = (a.get("address") for a in map(mapping, items(status.get("addresses"))) if a.get("type") == "InternalIP")
    calico = (interface(notes.get(CALICO + key)) for key in ("IPv4Address", "IPv6Address"))
    info = mapping(status.get("nodeInfo"))
    system = text(info.get("operatingSystem")) or labels.get("kubernetes.io/os", "")
    name = intern(name_of(metadata.get("name")))
    return Node(
        name=name,
        uid=text(metadata.get("uid")),
        created=moment(metadata.get("creationTimestamp")),
        changed=changed,
        ready=ready.get("status") == "True",
        ready_since=moment(ready.get("lastTransitionTime")) if ready.get("status") == "True" else None,
        internal_ips=addresses(internal),
        pod_cidrs=nets(items(spec.get("podCIDRs")) or [spec.get("podCIDR")]),
        labels=labels,
        calico_addresses=tuple(address for address in calico if address is not None),
        tunnel_addresses=addresses(notes.get(CALICO + key) for key in ("IPv4VXLANTunnelAddr", "IPv6VXLANTunnelAddr")),
        tunnel_macs=_tunnel_macs(notes),
        # Only WireGuard for IPv6 replaces the IPv6 tunnel.
        wireguard=bool(notes.get(CALICO + "WireguardPublicKeyV6") or notes.get(CALICO + "IPv6WireguardInterfaceAddr")),
        windows=system == "windows",
        virtual=labels.get("type") == "virtual-kubelet",
        kubelet_version=intern(name_of(info.get("kubeletVersion"))),
        components=parse_node_arguments(notes, node=name),
    )


_MAC = re.compile(r"(?:[0-9a-f]{2}:){5}[0-9a-f]{2}")


def _tunnel_macs(notes: Mapping[str, Any]) -> Mapping[Family, str]:
    named = {Family.V4: "VXLANTunnelMACAddr", Family.V6: "VXLANTunnelMACAddrV6"}
    given = {family: text(notes.get(CALICO + key)).strip().lower() for family, key in named.items()}
    return {family: mac for family, mac in given.items() if _MAC.fullmatch(mac)}


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
    """A Pod as far as probing and diagnosis need it; its addresses in the order of status.podIPs, whichever family is first."""
    metadata, spec, status = (mapping(source.get(part)) for part in ("metadata", "spec", "status"))
    notes = mapping(metadata.get("annotations"))
    containers = [mapping(each) for each in items(spec.get("containers"))]
    namespace, name = intern(name_of(metadata.get("namespace"))), name_of(metadata.get("name"))
    given = [mapping(each).get("ip") for each in items(status.get("podIPs"))] or [status.get("podIP")]
    ips = addresses(given)
    return Pod(
        namespace=namespace,
        name=name,
        uid=text(metadata.get("uid")),
        node=intern(name_of(spec.get("nodeName"))),
        phase=intern(text(status.get("phase"))[:16]),
        ready=_is_ready(status),
        host_network=flag(spec.get("hostNetwork")) is True,
        deleting=bool(metadata.get("deletionTimestamp")),
        created=moment(metadata.get("creationTimestamp")),
        started=moment(status.get("startTime")),
        ips=ips,
        annotated_ips=_annotated_addresses(notes, given, ips),
        runtime_class=text(spec.get("runtimeClassName")),
        labels=string_map(metadata.get("labels"), intern),
        ports=_ports(containers),
        dns_servers=addresses(items(mapping(spec.get("dnsConfig")).get("nameservers"))),
        dns_policy=intern(text(spec.get("dnsPolicy"))[:32]),
        families=parse_families(notes.get(FAMILIES_ANNOTATION)),
        address_choice=_chooses_addresses(notes),
        static_uid=text(notes.get("kubernetes.io/config.hash")),
        service_account=intern(name_of(spec.get("serviceAccountName"))),
        component=_component(namespace, name, containers, intern(name_of(spec.get("nodeName")))),
    )


def _is_ready(status: Mapping[str, Any]) -> bool:
    return any(
        c.get("type") == "Ready" and c.get("status") == "True" for c in map(mapping, items(status.get("conditions")))
    )


def _annotated_addresses(notes: Mapping[str, Any], given: list[Any], ips: tuple[Address, ...]) -> tuple[Address, ...]:
    """Calico's cni.projectcalico.org/podIPs: addresses with prefix length, by commas; emptied when the pod is taken down.

    Nearly always the same text as status.podIPs, whose values are then shared: there are many pods.
    """
    said = text(notes.get("cni.projectcalico.org/podIPs")) or text(notes.get("cni.projectcalico.org/podIP"))
    parts = [part.partition("/")[0] for part in said.split(",")] if said else []
    return ips if parts == given else addresses(parts)


def _ports(containers: list[Mapping[str, Any]]) -> tuple[ContainerPort, ...]:
    found = []
    for source in (mapping(port) for container in containers for port in items(container.get("ports"))):
        port = number(source.get("containerPort"))
        if port is not None and 0 < port < 65536:
            found.append(
                ContainerPort(
                    intern(text(source.get("name"))[:63]), port, intern(text(source.get("protocol"))[:8] or "TCP")
                )
            )
    return tuple(found[:MAX_PORTS])


def _component(namespace: str, name: str, containers: list[Mapping[str, Any]], node: str) -> ComponentFlags | None:
    """The flags of a Kubernetes component, as its (mirror) pod in kube-system shows them."""
    if namespace != "kube-system":
        return None
    found = (component_flags(container, source=f"pod/{namespace}/{name}", node=node) for container in containers)
    return next((flags for flags in found if flags is not None), None)


def _chooses_addresses(notes: Mapping[str, Any]) -> bool:
    return any(key in notes for key in ADDRESS_CHOICES) if notes else False


def parse_families(value: object) -> tuple[Family, ...] | None:
    """The annotation dualstack-exporter/families: IPv4, IPv6 or both by commas. None where absent or not understood."""
    return families(part.strip(" \t\"'[]") for part in text(value).split(",")) or None if value else None
