"""Lookups as the DNS rules want them: per nameserver, this round's and those of the round before it, with what is known of names. Pure.

Between snapshot and dns.py, searchlist.py. Two rounds of a nameserver are two rounds in which it was asked, whichever
place asked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeAlias

from exporter.diagnosis.engine.rule_input import RuleInput
from exporter.diagnosis.rules.dns.answer_signs import DNS64_NAME, OTHER, RANDOM, KnownRecords
from exporter.diagnosis.rules.dns.steadiness import Steadiness
from exporter.model.dns_name import casefold
from exporter.model.family import FAMILIES, Address, Family, family_of
from exporter.model.probe import Lookup, LookupOutcome, Nameserver, Purpose
from exporter.model.reason import Reason
from exporter.model.service import Service
from exporter.model.vantage import Vantage
from exporter.plan.answer_history import by_question
from exporter.plan.family_support import unsupported_families

UNSENT = frozenset({LookupOutcome.NOT_ALLOWED, LookupOutcome.NOT_ASKED})
Questions: TypeAlias = dict[tuple[str, str], list[Lookup]]  # by name and type
RECORD = {Family.V4: "A", Family.V6: "AAAA"}


@dataclass(frozen=True, slots=True)
class Samples:
    """What one nameserver said for one purpose: now, and in the round before (empty where there was none)."""

    server: Nameserver
    now: tuple[Lookup, ...]
    before: tuple[Lookup, ...]


def samples(view: RuleInput, purpose: Purpose) -> tuple[Samples, ...]:
    """Per nameserver that was asked for this purpose, its last two rounds."""
    asked: dict[Address, Nameserver] = {}
    for lookup in (*view.snapshot.lookups, *view.snapshot.lookups_kept):
        if lookup.question.purpose is purpose and lookup.outcome not in UNSENT:
            asked.setdefault(lookup.question.server.address, lookup.question.server)
    return tuple(_of(view, server, purpose) for server in asked.values())


def _of(view: RuleInput, server: Nameserver, purpose: Purpose) -> Samples:
    """Question by question, since the budget may spread a server's set over several rounds: its last answer, and the one before."""

    def chosen(lookups: Iterable[Lookup]) -> Questions:
        found: Questions = {}
        for one in lookups:
            if one.question.server.address == server.address and _counts(one, purpose):
                found.setdefault((one.question.name, one.question.qtype), []).append(one)
        return found

    now = {**chosen(view.snapshot.lookups_kept), **chosen(view.snapshot.lookups)}
    rounds = [chosen(view.snapshot.lookups_before)]
    if view.previous is not None:
        rounds += [chosen(view.previous.lookups), chosen(view.previous.lookups_kept)]
    seen = {id(one) for answers in now.values() for one in answers}  # an answer that is only kept is not a second one
    before: Questions = {}
    for earlier in rounds:
        for question, answers in earlier.items():
            fresh = [one for one in answers if id(one) not in seen]
            if fresh:
                before.setdefault(question, fresh)
    return Samples(
        server, tuple(o for made in now.values() for o in made), tuple(o for made in before.values() for o in made)
    )


def steadiness(view: RuleInput, address: Address) -> Steadiness:
    """What one nameserver said in the last minutes."""
    return Steadiness(address, by_question(o for o in view.snapshot.told if o.server.address == address), view.now)


def _counts(lookup: Lookup, purpose: Purpose) -> bool:
    return lookup.question.purpose is purpose and lookup.outcome not in UNSENT


def meant_to_reach(view: RuleInput) -> Callable[[Vantage, Family], bool]:
    """Which places are meant to reach a nameserver over a family."""
    cut_off, silent = isolated(view), unsupported_families(view.inventory, view.node)

    def meant(vantage: Vantage, family: Family) -> bool:
        if view.expected(family) is False or family not in vantage.families:
            return False
        return vantage.subject not in cut_off and (vantage.subject, family) not in silent

    return meant


def isolated(view: RuleInput) -> frozenset[str]:
    """Namespaces without a default route, where no inventory says that they are pods: nobody meant them to reach a nameserver."""
    if view.inventory.pods is not None:
        return frozenset()
    return frozenset(
        pod.vantage.subject
        for pod in view.snapshot.pods
        if pod.facts is not None and not any(pod.facts.has_default_route(family) for family in FAMILIES)
    )


def called(server: Nameserver) -> str:
    """A nameserver in evidence: its label and the address that was asked."""
    return f"{server.subject} ({server.address})"


def nothing_asked(view: RuleInput) -> Reason:
    """Why there are no answers: no place to ask from, or no nameserver that may be asked."""
    return Reason.NO_VANTAGE if view.snapshot.host is None and not view.snapshot.pods else Reason.NO_TARGET


def cluster_domain(lookups: Iterable[Lookup]) -> str:
    """The cluster's domain, from the names asked inside it (SERVICE.NAMESPACE.svc.DOMAIN); empty where none was."""
    for lookup in lookups:
        labels = casefold(lookup.question.name).split(".")
        if lookup.question.label in {"canary", RANDOM} and len(labels) > 3 and labels[2] == "svc":
            return ".".join(labels[3:])
    return ""


def truth(view: RuleInput, asked: tuple[Lookup, ...]) -> KnownRecords:
    """What is known of the names asked: Services from the API, names from a reference that agrees, and the operator's word."""
    domain = cluster_domain(asked)
    stated = {
        name: frozenset(RECORD[family_of(a)] for a in service.cluster_ips)
        for name, service in services(view, domain).items()
    }
    for name, types in _referenced(view, asked).items():
        stated[name] = stated.get(name, frozenset()) | types
    expected = {casefold(name): frozenset(types) for name, types in view.expect.control_names}
    return KnownRecords(domain=domain, stated=stated, expected=expected or {DNS64_NAME: frozenset({"A"})})


def services(view: RuleInput, domain: str) -> dict[str, Service]:
    """Services with a ClusterIP by absolute name; empty without a domain."""
    if not domain:
        return {}
    found = (service for service in view.inventory.services or () if service.cluster_ips)
    return {f"{service.name}.{service.namespace}.svc.{domain}": service for service in found}


def _referenced(view: RuleInput, asked: Iterable[Lookup]) -> dict[str, frozenset[str]]:
    """Types that a reference resolver has for a name, where it and the server asked share an address of the other type.

    Without that the server has data of its own (a hosts entry, split horizon, another region): then the reference
    proves nothing.
    """
    said = _addresses(
        one
        for one in (*view.snapshot.lookups_kept, *view.snapshot.lookups)
        if one.question.purpose is Purpose.REFERENCE
    )
    own = _addresses(asked)
    found: dict[str, frozenset[str]] = {}
    for name, qtype in said:
        if said.get((name, OTHER[qtype]), frozenset()) & own.get((name, OTHER[qtype]), frozenset()):
            found[name] = found.get(name, frozenset()) | {qtype}
    return found


def _addresses(lookups: Iterable[Lookup]) -> dict[tuple[str, str], frozenset[Address]]:
    found: dict[tuple[str, str], frozenset[Address]] = {}
    for lookup in lookups:
        if lookup.reply is not None and lookup.reply.addresses and lookup.question.qtype in OTHER:
            key = (casefold(lookup.question.name), lookup.question.qtype)
            found[key] = found.get(key, frozenset()) | frozenset(lookup.reply.addresses)
    return found
