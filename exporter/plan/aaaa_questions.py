"""The names that a round asks about, and the fewest questions that show how a nameserver treats AAAA. Pure.

Used by questions.py. Each name is asked for A, AAAA, and MX: the MX answer shows whether this server puts an SOA into
negative answers (RFC 2308). A random sibling is asked for A and AAAA: NXDOMAIN is about a name, not a type, so a
correct server gives it to both. The AAAA of ipv4only.arpa shows DNS64 (RFC 7050), and beside its A whether one zone
alone lacks AAAA. Names inside the cluster's domain need no outside network.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from exporter.config.schema import Config
from exporter.model.cluster.inventory import Inventory, InventoryOrigin
from exporter.model.cluster.service import Service
from exporter.model.cluster.well_known import OWN_SERVICE, dns_services
from exporter.model.dns import ResolvConf
from exporter.model.dns_name import casefold, is_within, zone
from exporter.model.family import family_of, parse_address
from exporter.plan.round_plan import RoundPlan

CANARY, RANDOM = "canary", "random"
DNS64_NAME = "ipv4only.arpa"  # has only A records; an AAAA record is synthesised
HOUR = 3600


class WantedQuestion(NamedTuple):
    """An absolute name, the type to ask for, and the label under which metrics show the name."""

    name: str
    qtype: str
    label: str


@dataclass(frozen=True, slots=True)
class RoundNames:
    """What a round asks about, and whether the operator names anything outside the cluster's domain."""

    wanted: tuple[WantedQuestion, ...]
    domain: str
    outside: bool

    def may_ask(self, name: str) -> bool:
        """Unless the operator wants it, nothing is asked that a cluster's DNS would have to forward."""
        return self.outside or is_within(name, self.domain)


def round_names(confs: Sequence[ResolvConf], plan: RoundPlan) -> RoundNames:
    """Without dns.names no control name is asked, but ipv4only.arpa on a host without Kubernetes."""
    config, inventory = plan.config, plan.context.inventory
    domain = cluster_domain(inventory, confs)
    service = canary(inventory) if domain else None
    names, hosts = control_names(config, inventory), target_names(config)
    return RoundNames(
        wanted=verdict_set(
            canary=service_name(service, domain) if service is not None else "",
            domain=domain,
            names=names,
            random=random_label(inventory, config.node_name, plan.context.now),
        ),
        domain=domain,
        outside=any(not is_within(name, domain) for name in (*names, *hosts)),
    )


def control_names(config: Config, inventory: Inventory) -> tuple[str, ...]:
    if config.dns.names is not None:
        return tuple(n.name for n in config.dns.names)
    return (DNS64_NAME,) if inventory.source is InventoryOrigin.NONE else ()


def target_names(config: Config) -> tuple[str, ...]:
    """The targets' hosts that are names."""
    return tuple(t.host for t in config.targets if t.host and parse_address(t.host) is None)


def service_name(service: Service, domain: str) -> str:
    return f"{service.name}.{service.namespace}.svc.{domain}"


def verdict_set(*, canary: str, domain: str, names: Iterable[str], random: str) -> tuple[WantedQuestion, ...]:
    """`canary`: a Service's absolute name or ""; `names`: control names. Only names outside `domain` lead outside."""
    wanted: list[WantedQuestion] = []
    if domain:
        wanted += _named(canary, CANARY) if canary else []
        wanted += _sibling(random, canary.partition(".")[2] or f"default.svc.{domain}")
    control = tuple(dict.fromkeys(names))
    for name in control:
        wanted += _named(name, name)
    outside = [name for name in control if not is_within(name, domain)]
    if outside:
        wanted += _sibling(random, outside[0])
        label = DNS64_NAME if DNS64_NAME in outside else CANARY
        wanted.append(WantedQuestion(DNS64_NAME, "AAAA", label))
        if len({zone(name) for name in outside}) == 1:  # what is withheld of one zone alone may be that zone's fault
            wanted.append(WantedQuestion(DNS64_NAME, "A", label))
    return tuple(dict.fromkeys(wanted))


def _named(name: str, label: str) -> list[WantedQuestion]:
    return [WantedQuestion(name, qtype, label) for qtype in ("A", "AAAA", "MX")]


def _sibling(random: str, parent: str) -> list[WantedQuestion]:
    return [WantedQuestion(f"{random}.{parent}", qtype, RANDOM) for qtype in ("A", "AAAA")]


def random_label(inventory: Inventory, host_name: str, now: float) -> str:
    """A label that does not exist, the same on all nodes for an hour, so that caches see one such name an hour."""
    seed = inventory.uid or ",".join(sorted(n.name for n in inventory.nodes or ())) or host_name
    return "x" + hashlib.sha256(f"{seed}/{int(now // HOUR)}".encode()).hexdigest()[:12]


def cluster_domain(inventory: Inventory, confs: Iterable[ResolvConf]) -> str:
    """The domain in the Corefile, else the one that most search lists name (`svc.DOMAIN`), else "".

    Most, because a pod controls its own resolv.conf: a single one must not decide which names are asked.
    """
    if inventory.corefile is not None and inventory.corefile.cluster_domains:
        return casefold(inventory.corefile.cluster_domains[0])
    searched = (casefold(domain) for conf in confs for domain in dict.fromkeys(conf.search))
    count = Counter(domain.removeprefix("svc.") for domain in searched if domain.startswith("svc."))
    return min(count, key=lambda domain: (-count[domain], domain), default="")


def canary(inventory: Inventory) -> Service | None:
    """A Service whose records must exist: the exporter's own, else a dual-stack one, else any with a ClusterIP.

    Never default/kubernetes, which is single-stack by design.
    """
    candidates = [
        s for s in inventory.services or () if (s.namespace, s.name) != ("default", "kubernetes") and s.cluster_ips
    ]
    dual = [s for s in candidates if len({family_of(a) for a in s.cluster_ips}) == 2]
    own = [s for s in dual if s.labels.get("app.kubernetes.io/name") == OWN_SERVICE]
    return next(iter([*own, *dual, *dns_services(inventory), *candidates]), None)
