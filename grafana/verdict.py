"""Panels about causes that several dashboards have, each for its own selection of series."""

from __future__ import annotations

from grafana.panels import BLUE, COUNT_BAD, COUNT_INFO, COUNT_WARN, GREEN, Column, Look, Panel, Query, stat, table
from grafana.words import RUNBOOK, SAYS, SEVERITY, TO_RUNBOOK, WHY

# One exporter's series, whatever its target labels are called.
EXPORTER = "cluster, job, instance"
SINCE = Look(unit="dateTimeFromNow")
BY_SEVERITY = {"critical": COUNT_BAD, "warning": COUNT_WARN, "info": COUNT_INFO}

NOT_CHECKED = 'reason!~"not_applicable|single_stack"'


def causes_by_severity(title: str, selector: str, *, width: int) -> Panel:
    """How many different causes hold, as three numbers."""
    return stat(
        title,
        [
            Query(
                f'count(count by (cause) (dualstack_cause{{severity="{severity}", {selector}}} == 1)) or 0 * count(dualstack_cause{{{selector}}})',
                severity,
            )
            for severity in BY_SEVERITY
        ],
        says="Causes that hold and that nothing else explains, each counted once however many nodes see it.",
        empty="no exporter that is selected has finished a round",
        look=Look(steps=((None, GREEN), (1, BLUE))),
        by_name=BY_SEVERITY,
        size=(width, 4),
    )


def causes(title: str, selector: str, since: str, *, seen_by: bool = True, height: int = 8) -> Panel:
    """What is broken, since when, what to do. `since` selects alerts: a cause that is info, or one without rules, has none."""
    ranked = " or ".join(
        f'{weight} * (dualstack_cause{{severity="{severity}", {selector}}} == 1)'
        for weight, severity in ((3, "critical"), (2, "warning"), (1, "info"))
    )
    for copy in ("what", "runbook"):
        ranked = f'label_replace({ranked}, "{copy}", "$1", "cause", "(.+)")'
    holds = f"(dualstack_cause{{{selector}}} == 1)"
    alerted = f'label_replace(node:dualstack_fault_since:max{{{since}}}, "cause", "$1", "fault", "(.+)")'
    queries = [
        f"max by (cause, scope, what, runbook) ({ranked})",
        f"count by (cause, scope) {holds}",
        f"sum by (cause, scope) ({holds} * on ({EXPORTER}, cause) group_left () dualstack_cause_subjects)",
        f"1000 * min by (cause, scope) ({alerted} * on (cause) group_left (scope) group by (cause, scope) {holds})",
    ]
    columns = [
        Column("#A", "severity", SEVERITY, 90),
        Column("cause", "cause", width=230),
        Column("scope", "scope", width=75),
        Column("what", "what is wrong", Look(unit="string", words=SAYS)),
        Column("#B", "seen by" if seen_by else "", width=80),
        Column("#C", "subjects", width=80),
        Column("#D", "since", SINCE, 120),
        Column("runbook", "what to do", Look(unit="string", words=RUNBOOK, link=TO_RUNBOOK), 270),
    ]
    return table(
        title,
        queries,
        columns,
        says="Causes that hold and that nothing else explains. seen by: how many exporters; subjects: pods, peers, pools and so on that are "
        "affected; since: when its alert became active (empty for info, and without the rules of alerts/dualstack.yaml); what to do: a click opens the runbook.",
        empty="nothing is wrong, or no exporter has finished a round (see how many report)",
        sort=("severity", True),
        size=(24, height),
        only_bad=True,
    )


def subjects(title: str, selector: str, held: str, *, width: int) -> Panel:
    """Who is affected, by name; `held` selects the causes that are meant."""
    named = f"dualstack_cause_subject_info{{{selector}}} and on ({EXPORTER}, cause) (dualstack_cause{{{held}}} == 1)"
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
        says="Whom each cause that holds affects: at most 20 for a cause and node, 200 in all; `dualstack-exporter check --last` names more.",
        empty="nothing is wrong",
        sort=("cause", False),
        size=(width, 6),
        only_bad=True,
    )


def unchecked(title: str, expr: str, *, width: int) -> Panel:
    """What nobody knows, and why. `expr` selects series of dualstack_cause_unchecked."""
    return table(
        title,
        [f"count by (reason, cause) ({expr})"],
        [
            Column("cause", "cause", width=230),
            Column("reason", "why", Look(unit="string", words=WHY)),
            Column("#A", "exporters", width=90),
        ],
        says="Causes that could not be checked: their absence means nothing. Left out are those that do not apply or belong to a family that is not expected.",
        empty="everything that applies was checked",
        sort=("exporters", True),
        size=(width, 8),
        only_bad=True,
    )
