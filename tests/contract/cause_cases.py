"""The rule tests for every cause, made from the table of causes: a new cause needs no line here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from exporter.model.cause import Cause, Role, Scope, Severity
from exporter.report.document import alert_name
from tests.contract.alert_rules import ALERTING, ALERTS, GROUPS

NODES = tuple(f"n{i}" for i in range(10))
WATCHDOG = {"labels": '{alertname="DualstackWatchdog", severity="none"}', "value": 1}
FIRING = 'sum by (alertname, severity, node) (ALERTS{alertstate="firing"})'
ALERTED = tuple(each for each in Cause if alert_name(each) in {rule.name for rule in ALERTING})
FROM_MINUTE_1 = "0x1 1x80"
# Minutes after which a cause of the scope is alerted, one of them for the series to begin.
WAIT: Mapping[Scope, int] = {Scope.DNS: 4, Scope.PATH: 6, Scope.NODE: 6, Scope.POD: 16, Scope.CLUSTER: 16}
JUST_BEFORE = {minutes: f"{minutes - 1}m30s" for minutes in (2, 4, 5, 6, 16)}


def labels(**given: str) -> str:
    return "{" + ", ".join(f'{name}="{value}"' for name, value in given.items()) + "}"


def place(each: Cause) -> dict[str, str]:
    """The node's label where nodes check the cause."""
    return {"node": "n0"} if Role.NODE in each.spec.roles else {}


def cause(each: Cause, severity: Severity, values: str) -> dict[str, str]:
    labelled = labels(cause=each, scope=each.spec.scope, severity=severity, **place(each))
    return {"series": f"dualstack_cause{labelled}", "values": values}


def exporters() -> Iterator[dict[str, str]]:
    for node in NODES:
        yield {
            "series": f"dualstack_exporter_info{labels(node=node, role='node', instance=node)}", "values": "1x80",
        }  # fmt: skip
    for node in NODES:
        labelled = labels(metric="dualstack_pod_failing", node=node, instance=node)
        yield {"series": f"dualstack_series_truncated{labelled}", "values": "0x80"}


def fires(at: str, severity: Severity, causes: Iterable[Cause]) -> dict[str, Any]:
    """All that fires at that moment."""
    alerts = [labels(alertname=alert_name(s), severity=severity, **place(s)) for s in causes]
    samples = [WATCHDOG, *({"labels": alert, "value": 1} for alert in alerts)]
    return {"expr": FIRING, "eval_time": at, "exp_samples": samples}


def case(name: str, series: Iterable[dict[str, str]], checks: Iterable[dict[str, Any]]) -> dict[str, Any]:
    return {
        "name": name,
        "interval": "30s",
        "input_series": [*exporters(), *series],
        "promql_expr_test": list(checks),
    }


CRITICAL_BY_ITSELF = (
    Cause.DNS_AAAA_BLOCKED, Cause.DNS_A_BLOCKED, Cause.DNS_UNREACHABLE, Cause.DNS_SERVICE_NO_ENDPOINTS,
    Cause.COREDNS_TEMPLATE_BLOCKS_AAAA,
)  # fmt: skip


def cases() -> dict[str, Any]:
    """A file of `promtool test rules`: alerted in its time where it holds and is a warning, silent otherwise."""
    warning = Severity.WARNING
    early = {minutes: [s for s in ALERTED if WAIT[s.spec.scope] <= minutes] for minutes in (4, 6, 16)}
    before = {4: [], 6: early[4], 16: early[6]}
    critical = list(CRITICAL_BY_ITSELF)
    everywhere = [each for each in critical if Role.NODE not in each.spec.roles]
    others = [each for each in ALERTED if each.spec.scope is not Scope.DNS and each not in critical]
    silent = [fires("30m", warning, ())]
    explained = (
        {
            "series": f"dualstack_cause_explained{labels(cause=s, by=Cause.TARGET_DOWN, node='n0')}",
            "values": "1x80",
        }
        for s in ALERTED
    )
    unchecked = (
        {
            "series": f"dualstack_cause_unchecked{labels(cause=s, reason='single_stack', node='n1')}",
            "values": "1x80",
        }
        for s in ALERTED
    )
    return {
        "rule_files": [str(ALERTS / "dualstack.yaml")],
        "evaluation_interval": "30s",
        "group_eval_order": GROUPS,
        "tests": [
            case(
                "each as a warning on one node of ten or in the cluster, from minute 1 on",
                (cause(each, warning, FROM_MINUTE_1) for each in ALERTED),
                (
                    fires(at, warning, causes)
                    for minutes in early
                    for at, causes in ((JUST_BEFORE[minutes], before[minutes]), (f"{minutes}m", early[minutes]))
                ),
            ),
            case("none holds", (cause(each, warning, "0x80") for each in ALERTED), silent),
            case("all hold as info", (cause(each, Severity.INFO, "1x80") for each in Cause), silent),
            case(
                "all are explained by something else, or unchecked for want of a family",
                (*(cause(each, warning, "0x80") for each in ALERTED), *explained, *unchecked),
                silent,
            ),
            case(
                "what is critical by itself pages within 3 minutes, and in the whole cluster within 1.5",
                (cause(each, Severity.CRITICAL, FROM_MINUTE_1) for each in critical),
                (
                    fires(JUST_BEFORE[2], warning, ()),
                    fires("2m", Severity.CRITICAL, (Cause.COREDNS_TEMPLATE_BLOCKS_AAAA,)),
                    fires("2m30s", Severity.CRITICAL, everywhere),
                    fires(JUST_BEFORE[4], Severity.CRITICAL, everywhere),
                    fires("4m", Severity.CRITICAL, critical),
                ),
            ),
            case(
                "what became critical by what follows from it pages within 4 minutes",
                (cause(each, Severity.CRITICAL, FROM_MINUTE_1) for each in others),
                (fires(JUST_BEFORE[5], warning, ()), fires("5m", Severity.CRITICAL, others)),
            ),
        ],
    }
