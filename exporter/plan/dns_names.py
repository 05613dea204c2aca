"""Names that a round asks besides the configured ones: the random label, the canary, the cluster domain. Pure."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable

from exporter.model.dns import ResolvConf
from exporter.model.family import Family, family_of
from exporter.model.inventory import Inventory
from exporter.model.service import Service
from exporter.model.well_known import OWN_SERVICE, dns_services

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


def cluster_domain(inventory: Inventory, confs: Iterable[ResolvConf]) -> str:
    """The cluster's domain: of the Corefile's kubernetes plugin, else what most search lists say (`svc.DOMAIN`); "" without either.

    Most, since a pod controls its own file: no single one can make names of its choice be asked.
    """
    if inventory.corefile is not None and inventory.corefile.cluster_domains:
        return fold_case(inventory.corefile.cluster_domains[0])
    said = Counter(
        fold_case(domain).removeprefix("svc.")
        for conf in confs
        for domain in dict.fromkeys(conf.search)
        if fold_case(domain).startswith("svc.")
    )
    return min(said, key=lambda domain: (-said[domain], domain), default="")


def is_inside(name: str, domain: str) -> bool:
    """Whether a name lies in the cluster's domain; none does where that is not known."""
    return bool(domain) and (fold_case(name) == domain or fold_case(name).endswith(f".{domain}"))


def fold_case(name: str) -> str:
    """A name as it compares: lower case, without the final dot."""
    return name.lower().removesuffix(".")


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
