"""What the cluster's DNS says of Services: no AAAA for an IPv6 ClusterIP, or another one. Rules over two rounds; pure.

Role cluster asks for it (plan/questions.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TypeAlias

from exporter.config.schema import AaaaPolicy
from exporter.diagnosis.engine.preconditions import bounded, lacking
from exporter.diagnosis.engine.rule_input import Judgement, RuleInput
from exporter.diagnosis.rules.dns.answer_signs import describe
from exporter.diagnosis.rules.dns.samples import called, cluster_domain, is_sent, latest, nothing_asked, services
from exporter.diagnosis.rules.judging import found
from exporter.model.cause import Cause, Severity
from exporter.model.cluster.inventory import ResourceKind
from exporter.model.cluster.service import Service
from exporter.model.family import Family, family_of
from exporter.model.grouping import grouped
from exporter.model.probe import Lookup, LookupOutcome
from exporter.model.reason import Reason
from exporter.model.subject import Subject, SubjectKind

FRESH = 120.0  # seconds that a new Service may be missing from DNS
CLUSTER_LABELS = frozenset({"cluster_dns", "node_local"})
NEGATIVE = frozenset({LookupOutcome.NODATA, LookupOutcome.NXDOMAIN})


def service_aaaa_missing(view: RuleInput) -> Judgement:
    """A Service has an IPv6 ClusterIP and the cluster DNS, which knows it, no AAAA; info where on purpose."""
    on_purpose = view.expect.aaaa is AaaaPolicy.BLOCKED
    return _lasting(view, Cause.SERVICE_AAAA_MISSING, _denied, Severity.INFO if on_purpose else None)


def service_aaaa_wrong(view: RuleInput) -> Judgement:
    """The cluster DNS gives an AAAA for a Service that is not its ClusterIP."""
    return _lasting(view, Cause.SERVICE_AAAA_WRONG, _wrong, None)


Chosen: TypeAlias = Callable[[list[Lookup], Mapping[str, Service]], dict[str, list[Lookup]]]


def _lasting(view: RuleInput, cause: Cause, chosen: Chosen, severity: Severity | None) -> Judgement:
    """The Services whose AAAA answers are among the chosen ones, in two rounds."""
    reason = lacking(view.inventory, ResourceKind.SERVICES)
    if reason is not None:
        return reason
    now, earlier = _of_cluster(latest(view)), _of_cluster(view.snapshot.lookups_before)
    if view.previous is not None:
        earlier += _of_cluster((*view.previous.lookups_kept, *view.previous.lookups))
    wanted = {name: one for name, one in services(view, cluster_domain(now)).items() if _is_due(one, view.now)}
    if not any(one.question.name in wanted and one.question.qtype == "AAAA" for one in now):
        return nothing_asked(view)
    if not earlier:
        return Reason.TOO_FEW_SAMPLES
    before = chosen(earlier, wanted)
    lasting = {
        name: asked[-1]
        for name, asked in chosen(now, wanted).items()
        if any(one is not asked[-1] for one in before.get(name, ()))
    }
    if not lasting:
        return ()
    first = lasting[min(lasting)].question
    return found(
        cause,
        [Subject.of(SubjectKind.SERVICE, wanted[name].key) for name in lasting],
        evidence=bounded(_shown(one, wanted[name], now) for name, one in sorted(lasting.items())),
        command=f"dig @{first.server.address} {first.name} A {first.name} AAAA",
        severity=severity,
    )


def _of_cluster(lookups: Iterable[Lookup]) -> list[Lookup]:
    return [one for one in lookups if is_sent(one) and one.question.server.label in CLUSTER_LABELS]


def _is_due(service: Service, now: float) -> bool:
    """Whether it has an IPv6 ClusterIP and is no longer new to DNS."""
    old = service.created is None or now - service.created > FRESH
    return old and any(family_of(address) is Family.V6 for address in service.cluster_ips)


def _denied(lookups: list[Lookup], wanted: Mapping[str, Service]) -> dict[str, list[Lookup]]:
    """The answers that deny the AAAA of a Service whose A the same DNS has, or that has no IPv4 ClusterIP."""
    known = {one.question.name for one in lookups if one.question.qtype == "A" and one.outcome is LookupOutcome.ANSWER}
    bound = known | {n for n, s in wanted.items() if all(family_of(a) is Family.V6 for a in s.cluster_ips)}
    asked = (one for one in lookups if one.question.name in bound & wanted.keys())
    denied = (one for one in asked if one.question.qtype == "AAAA" and one.outcome in NEGATIVE)
    return grouped(denied, lambda one: one.question.name)


def _wrong(lookups: list[Lookup], wanted: Mapping[str, Service]) -> dict[str, list[Lookup]]:
    """The last AAAA of each Service if it has an address that is not the Service's; :: is no address at all."""
    last = {one.question.name: one for one in lookups if one.question.qtype == "AAAA" and one.reply is not None}
    return {
        name: [one]
        for name, one in last.items()
        if name in wanted
        and one.reply is not None
        and any(a not in wanted[name].cluster_ips and not a.is_unspecified for a in one.reply.addresses)
    }


def _shown(one: Lookup, service: Service, lookups: Iterable[Lookup]) -> str:
    address = next(a for a in service.cluster_ips if family_of(a) is Family.V6)
    question = one.question
    text = f"{question.name} has ClusterIP {address}, {called(question.server)} says AAAA {describe(one)}"
    within = {int(a) for a in service.cluster_ips if family_of(a) is Family.V4}
    if one.reply is not None and any(int(a) & 0xFFFFFFFF in within for a in one.reply.addresses):
        text += ", made of its IPv4 ClusterIP (dns64)"
    for pointer in lookups:
        if pointer.question.qtype == "PTR" and pointer.question.name == address.reverse_pointer:
            names = ", ".join(pointer.reply.names[:2]) if pointer.reply is not None else ""
            return f"{text}; PTR of {address}: {names or describe(pointer)}"
    return text
