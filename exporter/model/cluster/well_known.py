"""Services of the inventory that several parts need to recognise: the cluster's DNS and the exporter's own. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from exporter.model.cluster.component import ComponentFlags
from exporter.model.cluster.inventory import Inventory
from exporter.model.cluster.service import Service
from exporter.model.family import Address, parse_address

OWN_SERVICE = "dualstack-exporter"
SYSTEM = "kube-system"
DNS_NAMESPACES = frozenset({SYSTEM, "openshift-dns"})  # what has a DNS's name elsewhere is a user's own
DNS_NAMES = frozenset({"kube-dns", "coredns", "rke2-coredns-rke2-coredns", "dns-default"})


def dns_services(inventory: Inventory) -> tuple[Service, ...]:
    """The Services of the cluster's DNS."""
    return select_dns_services(inventory.services or (), kubelet_dns(inventory.components or ()))


def kubelet_dns(components: Iterable[ComponentFlags]) -> frozenset[Address]:
    """ClusterDNS of the kubelets, as far as it is seen: the nameservers of pods with dnsPolicy ClusterFirst."""
    lists = (each.arguments.get("cluster-dns", "") for each in components if each.component == "kubelet")
    found = (parse_address(part) for text in lists for part in text.split(","))
    return frozenset(address for address in found if address is not None)


def select_dns_services(services: Iterable[Service], given: frozenset[Address] = frozenset()) -> tuple[Service, ...]:
    """Those of the cluster's DNS among these: which kubelets give to pods, else by their label or well-known name."""
    asked = [s for s in services if not s.ports or any(p.port == 53 for p in s.ports)]
    named = (s for s in asked if s.labels.get("k8s-app") in {"kube-dns", "coredns"} or s.name in DNS_NAMES)
    return tuple(s for s in asked if not given.isdisjoint(s.cluster_ips)) or tuple(named)


def dns_endpoints(inventory: Inventory, services: tuple[Service, ...]) -> tuple[Address, ...]:
    """The ready endpoints behind these Services: asked over a family that the Services lack."""
    keys = {(s.namespace, s.name) for s in services}
    slices = [e for e in inventory.endpoint_slices or () if (e.namespace, e.service) in keys]
    ready = [a for s in slices for e in s.endpoints if e.ready for a in e.addresses]
    if inventory.endpoint_slices is None:
        selected = [s.selector for s in services if s.selector]
        pods = (p for p in inventory.pods or () if p.ready and any(w.items() <= p.labels.items() for w in selected))
        ready = [a for p in pods for a in p.ips]
    return tuple(dict.fromkeys(ready))
