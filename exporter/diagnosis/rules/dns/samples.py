"""Lookups as the DNS rules need them: this round's and the round before's per nameserver, and what is known of names.

Between snapshot and the rules; nothing is decided here. Two rounds of a nameserver are two rounds in which it was
asked, by any vantage. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

from exporter.diagnosis.engine.rule_input import RuleInput
from exporter.diagnosis.rules.dns.answer_signs import KnownRecords
from exporter.diagnosis.rules.dns.steadiness import Steadiness
from exporter.model.cluster.service import Service
from exporter.model.dns_name import casefold
from exporter.model.family import FAMILIES, Address, Family, family_of
from exporter.model.grouping import grouped
from exporter.model.probe import Lookup, LookupOutcome, Nameserver, Outcome, Purpose, Told
from exporter.model.reason import Reason
from exporter.model.subject import Subject
from exporter.model.vantage import Vantage
from exporter.plan.aaaa_questions import CANARY, DNS64_NAME, RANDOM
from exporter.plan.answer_history import UNSENT, Key, by_question
from exporter.plan.family_support import under_policy, unsupported_families
from exporter.plan.repeats import OTHER

Questions: TypeAlias = dict[tuple[str, str], list[Lookup]]  # by name and type
RECORD = {Family.V4: "A", Family.V6: "AAAA"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Samples:
    """One nameserver's answers for one purpose: now, in the round before (empty without one), and over minutes."""

    server: Nameserver
    now: tuple[Lookup, ...]
    before: tuple[Lookup, ...]
    steadiness: Steadiness


# All rules of a round ask for the same view: what they share is computed once.
@lru_cache(maxsize=2)
def samples(view: RuleInput, purpose: Purpose) -> tuple[Samples, ...]:
    """The last two rounds of each nameserver that was asked for this purpose."""
    asked: dict[Address, Nameserver] = {}
    for lookup in (*view.snapshot.lookups, *view.snapshot.lookups_kept):
        if lookup.question.purpose is purpose and is_sent(lookup):
            asked.setdefault(lookup.question.server.address, lookup.question.server)
    return tuple(_of(view, server, purpose) for server in asked.values())


def _of(view: RuleInput, server: Nameserver, purpose: Purpose) -> Samples:
    """By question, since the budget may spread a server's set over rounds: the last answer, and the one before."""

    def chosen(lookups: Iterable[Lookup]) -> Questions:
        asked = (one for one in lookups if one.question.server.address == server.address and is_sent(one))
        wanted = (one for one in asked if one.question.purpose is purpose)
        return grouped(wanted, lambda one: (one.question.name, one.question.qtype))

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
    history = Steadiness(server.address, _history(view), view.now)
    return Samples(server=server, now=_flat(now), before=_flat(before), steadiness=history)


def _flat(questions: Questions) -> tuple[Lookup, ...]:
    return tuple(one for answers in questions.values() for one in answers)


@lru_cache(maxsize=1)
def _history(view: RuleInput) -> Mapping[Key, tuple[Told, ...]]:
    return by_question(view.snapshot.told)


def latest(view: RuleInput) -> tuple[Lookup, ...]:
    """The last answer to each question; this round's come last."""
    return (*view.snapshot.lookups_kept, *view.snapshot.lookups)


def is_sent(lookup: Lookup) -> bool:
    return lookup.outcome not in UNSENT


@lru_cache(maxsize=1)
def meant_to_reach(view: RuleInput) -> Callable[[Vantage, Family], bool]:
    """Which vantages are meant to reach a nameserver over a family.

    Not those of namespaces without a default route, where no inventory shows that they are pods.
    """
    unsupported = unsupported_families(view.inventory, view.node)
    isolated = {
        pod.vantage.subject
        for pod in (view.snapshot.pods if view.inventory.pods is None else ())
        if pod.facts is not None and not any(pod.facts.has_default_route(family) for family in FAMILIES)
    }

    def meant(vantage: Vantage, family: Family) -> bool:
        if view.expected(family) is False or family not in vantage.families:
            return False
        return vantage.subject not in isolated and (vantage.subject, family) not in unsupported

    return meant


@lru_cache(maxsize=1)
def restricted(view: RuleInput) -> frozenset[tuple[str, Family]]:
    """(subject of the pod, family) where an egress policy may stop questions by design."""
    return under_policy(view.inventory)


def called(server: Nameserver) -> str:
    """A nameserver in evidence: its label and the address that was asked."""
    return f"{server.subject} ({server.address})"


def resolve_command(vantage: Vantage, name: str) -> str:
    place = f" --pod={vantage.namespace}/{vantage.name}" if vantage.kind == "pod" and vantage.namespace else ""
    return f"dualstack-exporter resolve {name}{place}"


def unresolved(view: RuleInput, servers: Iterable[Nameserver], *, silent: bool) -> frozenset[Subject]:
    """Targets that fail for lack of an address alone, and whose names these nameservers were asked for.

    `silent`: only those whose names no nameserver answered anything to.
    """
    places = {server.address for server in servers}
    lookups = (*view.snapshot.lookups, *view.snapshot.lookups_kept)
    asked = grouped((o for o in lookups if o.question.purpose is Purpose.TARGET), lambda one: one.question.label)
    names = {
        name
        for name, made in asked.items()
        if any(o.question.server.address in places for o in made) and not (silent and any(o.reply for o in made))
    }
    dialled = grouped((o for o in view.snapshot.kept if o.counted), lambda o: o.target.subject)
    return frozenset(
        subject
        for subject, made in dialled.items()
        if made[0].target.host in names and all(o.outcome is Outcome.NO_ADDRESS for o in made)
    )


def nothing_asked(view: RuleInput) -> Reason:
    """Why there are no answers: no vantage to ask from, or no nameserver that may be asked."""
    if any(one.outcome is LookupOutcome.NOT_ALLOWED for one in latest(view)):
        return Reason.NOT_ALLOWED
    return Reason.NO_VANTAGE if view.snapshot.host is None and not view.snapshot.pods else Reason.NO_TARGET


def cluster_domain(lookups: Iterable[Lookup]) -> str:
    """The cluster's domain, from the names asked inside it (SERVICE.NAMESPACE.svc.DOMAIN); empty where none was."""
    for lookup in lookups:
        labels = casefold(lookup.question.name).split(".")
        if lookup.question.label in {CANARY, RANDOM} and len(labels) > 3 and labels[2] == "svc":
            return ".".join(labels[3:])
    return ""


def known_records(view: RuleInput, asked: tuple[Lookup, ...]) -> KnownRecords:
    """What is known of the names asked: by the API, by a reference that agrees, and as the operator configured."""
    domain = cluster_domain(asked)
    stated = {
        name: frozenset(RECORD[family_of(a)] for a in service.cluster_ips)
        for name, service in services(view, domain).items()
    }
    for name, types in _referenced(view, asked).items():
        stated[name] = stated.get(name, frozenset()) | types
    expected = {casefold(name.name): frozenset[str](name.expect) for name in view.expect.control_names}
    return KnownRecords(domain=domain, stated=stated, expected={DNS64_NAME: frozenset({"A"}), **expected})


@lru_cache(maxsize=2)
def services(view: RuleInput, domain: str) -> dict[str, Service]:
    """Services with a ClusterIP by absolute name; empty without a domain."""
    if not domain:
        return {}
    found = (service for service in view.inventory.services or () if service.cluster_ips)
    return {f"{service.name}.{service.namespace}.svc.{domain}": service for service in found}


def _referenced(view: RuleInput, asked: Iterable[Lookup]) -> dict[str, frozenset[str]]:
    """Types that a reference resolver has for a name, where both it and the server have an address of the other type.

    Without one in common the server has data of its own (a hosts entry, split horizon, another region): then the
    reference proves nothing.
    """
    said = _addresses(one for one in latest(view) if one.question.purpose is Purpose.REFERENCE)
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
