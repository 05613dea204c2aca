"""Which nameservers may be asked, and their bounded labels (docs/specification.md section 4, nameserver policy). Pure.

A pod controls its resolv.conf: a nameserver that only this file names is not asked, so that no pod can make the
exporter send packets anywhere else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address

from exporter.config.schema import Config
from exporter.model.cluster.inventory import Inventory
from exporter.model.cluster.pod import Pod
from exporter.model.cluster.well_known import SYSTEM, dns_endpoints, dns_services
from exporter.model.dns import ResolvConf
from exporter.model.family import Address, Net
from exporter.model.probe import Nameserver

NODE_LOCAL = ip_address("169.254.20.10")
MAX_CACHES = 20
CLUSTER_DNS, NODE_LOCAL_LABEL, HOST, OTHER = "cluster_dns", "node_local", "host", "other"


@dataclass(frozen=True, slots=True)
class KnownServers:
    """Labels of the addresses that may be asked, and further ranges that the operator allows."""

    labels: Mapping[Address, str]
    allowed: tuple[Net, ...] = ()

    def allow(self, address: Address, pod: Pod | None) -> bool:
        """Whether a nameserver may be asked from that pod; None is the host."""
        named = address in self.labels or (pod is not None and address in pod.dns_servers)
        return named or any(address in net for net in self.allowed)


def known_servers(inventory: Inventory, config: Config, host: ResolvConf | None) -> KnownServers:
    """The last label wins, so they come in this order: host, Services, NodeLocal, cluster DNS, configured names."""
    labels: dict[Address, str] = dict.fromkeys(host.nameservers if host else (), HOST)
    services = dns_services(inventory)
    for service in inventory.services or ():
        if any(p.port == 53 for p in service.ports):
            labels.update(dict.fromkeys(service.cluster_ips, service.key))
    labels.update(dict.fromkeys(dns_endpoints(inventory, services), CLUSTER_DNS))
    labels.update({a: CLUSTER_DNS for s in services for a in s.cluster_ips})
    if inventory.pods is not None or inventory.services is not None:
        caches = dict.fromkeys((NODE_LOCAL, *_node_caches(inventory)), NODE_LOCAL_LABEL)
        labels.update({a: label for a, label in caches.items() if labels.get(a) != CLUSTER_DNS})
    labels.update({s.address: s.name for s in config.dns.servers if s.address is not None})
    return KnownServers(labels, tuple(config.dns.allow))


def _node_caches(inventory: Inventory) -> tuple[Address, ...]:
    """The addresses of NodeLocal DNSCache: -localip of its pods where the cluster's DNS is, and its `bind` lines."""
    trusted = {SYSTEM, *(service.namespace for service in dns_services(inventory))}
    shown = (a for p in inventory.pods or () if p.dns is not None and p.namespace in trusted for a in p.dns.local_ips)
    bound = inventory.node_local.binds if inventory.node_local is not None else ()
    return tuple(dict.fromkeys((*shown, *bound)))[:MAX_CACHES]


def servers_of(conf: ResolvConf, known: KnownServers, pod: Pod | None = None) -> tuple[tuple[Nameserver, bool], ...]:
    """The nameservers of a resolv.conf (of each libc the first three), each with whether it may be asked."""
    listed = dict.fromkeys((*conf.nameservers[:3], *conf.for_musl.nameservers[:3]))
    return tuple((Nameserver(a, known.labels.get(a, OTHER)), known.allow(a, pod)) for a in listed)
