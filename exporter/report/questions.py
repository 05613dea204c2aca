"""Which DNS questions the exporter sends on a host without Kubernetes, in words: planned, and sent in a round. Pure.

Nobody configured them there, so the log tells them at the start and `check` after its report.
"""

from __future__ import annotations

from collections.abc import Iterable

from exporter.config.schema import Config
from exporter.model.cause import Role
from exporter.model.cluster.inventory import Inventory, InventoryOrigin
from exporter.model.grouping import grouped
from exporter.model.probe import LookupOutcome
from exporter.model.report import Report
from exporter.plan.aaaa_questions import control_names, target_names, verdict_set
from exporter.report.document import few

NAMES = 10
NOT_SENT = {LookupOutcome.NOT_ALLOWED, LookupOutcome.NOT_ASKED}


def planned_questions(config: Config, inventory: Inventory) -> str:
    """What rounds send to the host's resolver; empty where the inventory decides it instead."""
    if inventory.source is not InventoryOrigin.NONE or config.role is Role.CLUSTER:
        return ""
    asked: list[tuple[str, str]] = []
    if config.dns.servers:
        wanted = verdict_set(canary="", domain="", names=control_names(config, inventory), random="RANDOM")
        asked = [(each.name, each.qtype) for each in wanted]
    searched = "; names also with each search domain of resolv.conf" if asked else ""
    by_address = {target.host for target in config.targets if target.addresses}
    asked += [(name, qtype) for name in target_names(config) if name not in by_address for qtype in ("A", "AAAA")]
    return _listed(asked) + searched if asked else "none"


def sent_questions(report: Report) -> str:
    """What the last round sent, one clause for each nameserver; empty where an inventory decides it."""
    if report.snapshot.inventory.source is not InventoryOrigin.NONE or report.snapshot.role is Role.CLUSTER:
        return ""
    sent = [look.question for look in report.snapshot.lookups if look.outcome not in NOT_SENT]
    servers = grouped(sent, lambda question: question.server.address)
    clauses = [f"{address} for {_listed((q.name, q.qtype) for q in made)}" for address, made in servers.items()]
    return few(clauses, NAMES) if clauses else "no nameserver"


def _listed(questions: Iterable[tuple[str, str]]) -> str:
    names = grouped(dict.fromkeys(questions), lambda question: question[0])
    return few([f"{name} ({', '.join(sorted(qtype for _, qtype in made))})" for name, made in names.items()], NAMES)
