"""Names that a round asks besides the configured ones: the random label, the canary, the cluster domain. Pure."""

from __future__ import annotations

import hashlib

from exporter.model.dns import ResolvConf
from exporter.model.family import Family, family_of
from exporter.model.inventory import Inventory, Service
from exporter.plan.targets import OWN_SERVICE, dns_services

HOUR = 3600


def random_label(inventory: Inventory, host_name: str, now: float) -> str:
    """A label that exists nowhere, equal on all nodes within the hour: caches are asked one such name an hour (contract section 3)."""
    if inventory.uid:
        seed = inventory.uid
    elif inventory.nodes:
        seed = ",".join(sorted(n.name for n in inventory.nodes))
    else:
        seed = host_name
    return "x" + hashlib.sha256(f"{seed}/{int(now // HOUR)}".encode()).hexdigest()[:12]


def cluster_domain(inventory: Inventory, conf: ResolvConf | None) -> str:
    """The cluster's domain: of the Corefile's kubernetes plugin, else of a pod's search list (`svc.DOMAIN`); "" without either."""
    if inventory.corefile is not None and inventory.corefile.cluster_domains:
        return inventory.corefile.cluster_domains[0].rstrip(".")
    for domain in conf.search if conf is not None else ():
        if domain.startswith("svc."):
            return domain[len("svc.") :].rstrip(".")
    return ""


def canary(inventory: Inventory) -> Service | None:
    """A Service with both families whose records must exist: the exporter's own, else any; never default/kubernetes.

    That one is single-stack by design and has no AAAA (measured: a bad canary).
    """
    candidates = [
        s for s in inventory.services or () if (s.namespace, s.name) != ("default", "kubernetes") and s.cluster_ips
    ]
    dual = [s for s in candidates if len({family_of(a) for a in s.cluster_ips}) == 2]
    own = [s for s in dual if s.labels.get("app.kubernetes.io/name") == OWN_SERVICE]
    return next(iter([*own, *dual, *dns_services(inventory), *candidates]), None)


def service_families(service: Service) -> frozenset[Family]:
    """The families in which a Service has a ClusterIP."""
    return frozenset(family_of(a) for a in service.cluster_ips)
