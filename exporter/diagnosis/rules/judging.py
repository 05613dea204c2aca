"""What rules of several scopes share: what they need, why it is missing, and how a finding is made. Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from functools import wraps
from types import ModuleType

from exporter.diagnosis.engine.preconditions import has_calico_ipam, lacking
from exporter.diagnosis.engine.rule_input import Judgement, Rule, RuleInput
from exporter.model.cause import Cause, Severity
from exporter.model.cluster.calico import BlockAffinity
from exporter.model.cluster.inventory import ResourceKind
from exporter.model.cluster.node import Node
from exporter.model.facts import PodFacts, Reader
from exporter.model.reason import Reason
from exporter.model.report import Finding
from exporter.model.subject import Pair, Subject, SubjectKind
from exporter.model.vantage import PodState, Vantage

SETTLED = 120.0  # seconds since the last change of a peer's objects, before its absence from the kernel is a fault
INSPECTED = frozenset({PodState.ELIGIBLE, PodState.INTERCEPTED})


def needs(*kinds: ResourceKind) -> Callable[[Rule], Rule]:
    """Call the rule only with a current inventory in which these kinds of objects were read; else return the Reason.

    One that needs Calico's pools does not apply where pods have no addresses from them.
    """

    def decorate(rule: Rule) -> Rule:
        @wraps(rule)
        def checked(view: RuleInput) -> Judgement:
            reason = lacking(view.inventory)
            if (
                reason is None
                and ResourceKind.IP_POOLS in kinds
                and has_calico_ipam(view.inventory, view.network) is False
            ):
                reason = Reason.NOT_APPLICABLE  # whatever pools there are, no pod has an address from them
            return reason or lacking(view.inventory, *kinds) or rule(view)

        return checked

    return decorate


def rules_of(*modules: ModuleType) -> dict[Cause, Rule]:
    """The functions of these modules that are named after a cause: its rules."""
    return {
        cause: vars(module)[cause.value]
        for module in modules
        for cause in Cause
        if getattr(vars(module).get(cause.value), "__module__", None) == module.__name__
    }


def found(
    cause: Cause,
    subjects: Iterable[Subject],
    *,
    evidence: Iterable[str],
    command: str,
    severity: Severity | None = None,
    pairs: Iterable[Pair] = (),
    affects_destinations: Iterable[Subject] = (),
    first: Collection[Subject] = (),
) -> tuple[Finding, ...]:
    """One finding, of the cause's usual severity unless another is given; none where no subject or no evidence is.

    `first`: the subjects that a person would fix before the others.
    """
    affected = tuple(sorted(set(subjects), key=lambda subject: (subject not in first, subject)))
    shown = tuple(evidence)
    if not affected or not shown:
        return ()
    return (
        Finding(
            cause=cause,
            severity=severity or cause.spec.severity,
            subjects=affected,
            evidence=shown,
            command=command,
            pairs=frozenset(pairs),
            affects_destinations=frozenset(affects_destinations),
        ),
    )


def only(cause: Cause, judgement: Judgement) -> Judgement:
    """The part of a judgement of several causes that is about this one."""
    return judgement if isinstance(judgement, Reason) else tuple(f for f in judgement if f.cause is cause)


def changed_lately(value: Node | BlockAffinity, now: float) -> bool:
    """Whether a peer's object is so young, or changed so lately, that the node may not have followed yet."""
    return any(at is not None and now - at < SETTLED for at in (value.created, value.changed))


def this_node(view: RuleInput) -> Subject:
    return Subject.of(SubjectKind.NODE, view.node)


def reader_reason(view: RuleInput, reader: Reader) -> Reason:
    """Why a kernel reading is missing, as its reader reported it."""
    reasons = (r.reason for r in view.snapshot.readings if r.reader == reader.value and not r.success)
    return next(reasons, None) or Reason.READER_FAILED


def inspected(view: RuleInput) -> list[tuple[Vantage, PodFacts]]:
    """The pods of the cluster's network whose namespace was read, with what it shows."""
    return [(p.vantage, p.facts) for p in view.snapshot.pods if p.facts is not None and p.vantage.state in INSPECTED]


def reason_of_no_pods(view: RuleInput) -> Reason:
    """Why no pod could be inspected: there is none, or the reader of namespaces could not reach them."""
    hidden = any(p.vantage.state is PodState.UNREADABLE for p in view.snapshot.pods)
    unread = any(r.reader == Reader.NAMESPACES.value and not r.success for r in view.snapshot.readings)
    return reader_reason(view, Reader.NAMESPACES) if hidden and unread else Reason.NO_PODS
