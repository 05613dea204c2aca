"""Panels about causes that several dashboards use, each with its own selection of series."""

from __future__ import annotations

from exporter.diagnosis.engine.verdict import INAPPLICABLE
from grafana.panels import COUNT_BAD, COUNT_INFO, COUNT_WARN, Column, Panel, Query, Style, stat, table
from grafana.words import CAUSE_SUMMARIES, RUNBOOK, SEVERITY, TO_RUNBOOK, WHY

# One exporter's series, whatever its target labels are called.
EXPORTER = "cluster, job, instance"
SINCE = Style(unit="dateTimeFromNow")
BY_SEVERITY = {"critical": COUNT_BAD, "warning": COUNT_WARN, "info": COUNT_INFO}
RANKS = {"critical": 3, "warning": 2, "info": 1}  # as grafana/words.py shows them

NOT_CHECKED = f'reason!~"{"|".join(sorted(INAPPLICABLE))}"'


# Faults that the rules alert as critical: also causes of less severity to which a family that is down is attributed.
PAGED = 'label_replace(node:dualstack_fault:subjects{severity="critical"}, "cause", "$1", "fault", "(.+)")'


def ranked(selector: str) -> str:
    """The active causes, with the rank of their severity as value: that of the alert, if the rules are loaded."""
    own = [f'{rank} * (dualstack_cause{{severity="{severity}", {selector}}} == 1)' for severity, rank in RANKS.items()]
    raised = f"3 * (dualstack_cause{{{selector}}} == 1 and on (cluster, node, cause) {PAGED})"
    return " or ".join((raised, *own))


def causes_by_severity(title: str, selector: str, *, width: int) -> Panel:
    """The number of different active causes by severity."""
    return stat(
        title,
        [
            Query(
                f"count(max by (cause) ({ranked(selector)}) == {RANKS[severity]}) "
                f"or 0 * count(dualstack_cause{{{selector}}})",
                severity,
            )
            for severity in BY_SEVERITY
        ],
        description="Active causes that no other cause explains. Each is counted once, by its highest severity, "
        "however many nodes report it. A cause because of which a family is down is critical.",
        empty="no selected exporter has completed a round",
        none="no report",
        by_name=BY_SEVERITY,
        size=(width, 4),
    )


def causes(title: str, selector: str, since: str, *, seen_by: bool = True, height: int = 8) -> Panel:
    """Active causes with start and runbook. `since` selects faults, which info causes do not have."""
    active = ranked(selector)
    for copy in ("what", "runbook"):
        active = f'label_replace({active}, "{copy}", "$1", "cause", "(.+)")'
    holds = f"(dualstack_cause{{{selector}}} == 1)"
    alerted = f'label_replace(node:dualstack_fault_since:max{{{since}}}, "cause", "$1", "fault", "(.+)")'
    queries = [
        f"max by (cause, scope, what, runbook) ({active})",
        f"count by (cause, scope) {holds}",
        f"sum by (cause, scope) ({holds} * on ({EXPORTER}, cause) group_left () dualstack_cause_subjects)",
        f"1000 * min by (cause, scope) ({alerted} * on (cause) group_left (scope) group by (cause, scope) {holds})",
    ]
    columns = [
        Column("#A", "severity", SEVERITY, 90),
        Column("cause", "cause", width=230),
        Column("scope", "scope", width=75),
        Column("what", "what is wrong", Style(unit="string", words=CAUSE_SUMMARIES)),
        Column("#B", "seen by" if seen_by else "", width=80),
        Column("#C", "subjects", width=80),
        Column("#D", "since", SINCE, 120),
        Column("runbook", "what to do", Style(unit="string", words=RUNBOOK, link=TO_RUNBOOK), 270),
    ]
    return table(
        title,
        queries,
        columns,
        description="Active causes that no other cause explains. seen by: number of exporters; subjects: number of "
        "affected pods, peers, pools and so on; since: start of the fault (empty for info, and without the rules of "
        "alerts/dualstack.yaml); what to do: a click opens the runbook.",
        empty="there are no active causes, or no exporter has completed a round",
        sort=("severity", True),
        size=(24, height),
        only_bad=True,
    )


def subjects(title: str, selector: str, active: str, *, width: int) -> Panel:
    """Affected objects by name; `active` selects the causes."""
    named = f"dualstack_cause_subject_info{{{selector}}} and on ({EXPORTER}, cause) (dualstack_cause{{{active}}} == 1)"
    return table(
        title,
        [f"topk(200, count by (cause, kind, namespace, name) ({named}))"],
        [
            Column("cause", "cause", width=230),
            Column("kind", "kind", width=90),
            Column("namespace", "namespace", width=140),
            Column("name", "name"),
            Column("#A", "seen by", width=80),
        ],
        description="Objects that each active cause affects: at most 20 per cause and node, and 200 in total. "
        "`dualstack-exporter check --last` lists more.",
        empty="there are no active causes",
        sort=("cause", False),
        size=(width, 6),
        only_bad=True,
    )


def unchecked(title: str, expr: str, *, width: int) -> Panel:
    """Unchecked causes with the reason. `expr` selects series of dualstack_cause_unchecked."""
    return table(
        title,
        [f"count by (reason, cause) ({expr})"],
        [
            Column("cause", "cause", width=230),
            Column("reason", "reason", Style(unit="string", words=WHY)),
            Column("#A", "exporters", width=90),
        ],
        description="Causes that could not be checked, so their absence means nothing. Causes that do not apply are "
        "not listed: without a target, pods or peers to probe, or of a family that is not expected.",
        empty="every cause that applies was checked",
        sort=("exporters", True),
        size=(width, 8),
        only_bad=True,
    )
