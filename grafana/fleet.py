"""The dashboard of the fleet: the state of all nodes and families, active causes and alerts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from exporter.model.probe import Layer
from grafana.panels import (
    COUNT_BAD,
    COUNT_WARN,
    GREEN,
    RATIO,
    RED,
    TEXT,
    WORKS,
    Column,
    Panel,
    Query,
    Style,
    graph,
    row,
    scale,
    stat,
    table,
)
from grafana.verdict import EXPORTER, NOT_CHECKED, RANKS, SINCE, causes, causes_by_severity, ranked, subjects, unchecked
from grafana.words import POD_STATES, SEVERITY, TO_CLUSTER, TO_NODE, TO_RUNBOOK

S = 'cluster=~"$cluster", node=~"$node"'
ON_NODES = f'node!="", {S}'
C = 'cluster=~"$cluster"'
JOB = 'job=~".*dualstack-exporter.*"'
# An exporter whose report is too old has only its own metrics.
STALLED = f"dualstack_exporter_info{{%s}} unless on ({EXPORTER}) dualstack_series_truncated"
NODES_FAILING = Style(unit="nodes fail", words={"-1": "not expected", "0": "works"}, steps=scale((0, GREEN), (1, RED)))


def panels() -> Iterator[Panel]:
    """In reading order: the clusters, the current state, what to do, the history, and what is not checked."""
    yield row("Clusters")
    yield _clusters()
    yield row("Current state")
    yield from _now()
    yield row("Active causes and alerts")
    yield causes("Active causes", S, 'cluster=~"$cluster", node=~"$node|"')
    yield _nodes()
    yield subjects("Affected objects", S, S, width=12)
    yield _alerts()
    yield _explained()
    yield row("History")
    yield from _over_time()
    yield row("Coverage and exporter health")
    yield unchecked("Causes not checked", f"dualstack_cause_unchecked{{{NOT_CHECKED}, {S}}} == 1", width=12)
    yield from _exporters()


def _clusters() -> Panel:
    exporters, targets = f"dualstack_exporter_build_info{{{C}}}", f"up{{{JOB}, {C}}}"
    everything = f"0 * count by (cluster) ({exporters} or {targets})"
    verdicts = [
        f"count by (cluster) (dualstack_family_ok{{{one}}}) - sum by (cluster) (dualstack_family_ok{{{one}}}) "
        f"or -1 * group by (cluster) (max by (cluster) (dualstack_family_expected{{{one}}}) == 0)"
        for one in (f'ip_family="IPv6", {C}', f'ip_family="IPv4", {C}')
    ]
    found = [
        f"count by (cluster) (max by (cluster, cause) ({ranked(C)}) == {RANKS[severity]}) "
        f"or 0 * count by (cluster) (dualstack_cause{{{C}}})"
        for severity in ("critical", "warning")
    ]
    return table(
        "Status by cluster",
        [
            f"count by (cluster) ({exporters}) or {everything}",
            *verdicts,
            *found,
            f"sum by (cluster) (1 - {targets})",
            f"count by (cluster) ({STALLED % C}) or 0 * count by (cluster) ({exporters})",
            f"sum by (cluster) (dualstack_inventory_stale{{{C}}})",
        ],
        [
            Column("cluster", "cluster", Style(unit="string", link=TO_CLUSTER)),
            Column("#B", "IPv6", NODES_FAILING, 130),
            Column("#C", "IPv4", NODES_FAILING, 130),
            Column("#D", "critical causes", COUNT_BAD, 120),
            Column("#E", "warning causes", COUNT_WARN, 120),
            Column("#A", "exporters", width=100),
            Column("#F", "not scraped", COUNT_BAD, 110),
            Column("#G", "stalled", COUNT_WARN, 90),
            Column("#H", "stale inventory", COUNT_WARN, 120),
        ],
        description="Clusters by the label cluster, those with the most critical causes first. IPv6, IPv4: number of "
        "nodes on which the family does not work. stalled: exporters without a current report. stale inventory: "
        "exporters that use old data of Kubernetes or none. A click on a cluster selects it.",
        empty="Prometheus has no exporter among its targets",
        sort=("critical causes", True),
        size=(24, 5),
    )


def _now() -> Iterator[Panel]:
    for family in ("IPv6", "IPv4"):
        chosen = f'dualstack_family_ok{{ip_family="{family}", {S}}}'
        yield stat(
            f"Nodes without working {family}",
            f"count({chosen}) - sum({chosen})",
            description=f"Nodes on which at least half of the pods reach no target of one group over {family}.",
            empty=f"{family} is not expected anywhere, or no exporter has completed a round",
            none="not expected",
            style=replace(COUNT_BAD, unit="nodes"),
            size=(5, 4),
        )
    yield causes_by_severity("Active causes by severity", S, width=4)
    yield stat(
        "Nodes reporting",
        f"count(dualstack_exporter_build_info{{{ON_NODES}}})",
        description="Nodes whose exporter was scraped. Compare with the number of nodes in the cluster.",
        empty="no exporter is scraped, or the scrape configuration does not set the label node",
        none="no node",
        size=(3, 4),
    )
    yield stat(
        "Scrape targets down",
        f"sum(1 - up{{{JOB}, {S}}})",
        description="Scrape targets that Prometheus has discovered but cannot scrape.",
        empty="Prometheus has no such target: check its scrape configuration",
        none="no target",
        style=COUNT_BAD,
        size=(4, 4),
    )
    yield stat(
        "Stalled exporters",
        f"count({STALLED % S}) or 0 * count(dualstack_exporter_info{{{S}}})",
        description="Exporters without a current report: they have completed no round for five intervals, or none "
        "since their start.",
        empty="no exporter is scraped",
        none="no exporter",
        style=COUNT_WARN,
        size=(3, 4),
    )


def _nodes() -> Panel:
    failing = f"count by (cluster, node, namespace, pod) (dualstack_pod_failing{{{ON_NODES}}})"
    return table(
        "Node status by family",
        [
            f"max by (cluster, node) (time() - dualstack_exporter_last_round_timestamp_seconds{{{ON_NODES}}})",
            f'sum by (cluster, node) (dualstack_cause{{severity=~"critical|warning", {ON_NODES}}})',
            f'max by (cluster, node) (dualstack_family_ok{{ip_family="IPv6", {ON_NODES}}})',
            f'max by (cluster, node) (dualstack_family_ok{{ip_family="IPv4", {ON_NODES}}})',
            f"count by (cluster, node) ({failing}) or 0 * sum by (cluster, node) (dualstack_pods{{{ON_NODES}}})",
        ],
        [
            Column("node", "node", Style(unit="string", link=TO_NODE)),
            Column("cluster", "cluster", width=100),
            Column("#B", "causes", COUNT_WARN, 70),
            Column("#C", "IPv6", WORKS, 110),
            Column("#D", "IPv4", WORKS, 110),
            Column("#E", "pods failing", COUNT_WARN, 95),
            Column("#A", "age of round", Style(unit="s", decimals=0), 100),
        ],
        description="Nodes with the most causes first. causes: critical and warning causes of this node only. A "
        "family is empty if it is not expected there or was not probed. A click on a node opens its dashboard.",
        empty="no exporter has completed a round, or the scrape configuration does not set the label node",
        sort=("causes", True),
        size=(12, 6),
    )


def _alerts() -> Panel:
    firing = 'fault!="", alertstate="firing", cluster=~"$cluster", node=~"$node|"'
    by_rank = " or ".join(f'{rank} * ALERTS{{severity="{severity}", {firing}}}' for severity, rank in RANKS.items())
    return table(
        "Firing alerts",
        [f"max by (cluster, node, alertname) ({by_rank})"],
        [
            Column("#A", "severity", SEVERITY, 80),
            Column("alertname", "alert", Style(unit="string", link=TO_RUNBOOK)),
            Column("node", "node (-: cluster)", width=140),
            Column("cluster", "cluster", width=100),
        ],
        description="One alert for each fault that is old enough, for the whole cluster if more than a quarter of the "
        "nodes report it. A click opens the runbook.",
        empty="there are no faults, or the rules of alerts/dualstack.yaml are not loaded",
        sort=("severity", True),
        size=(12, 6),
        only_bad=True,
    )


def _explained() -> Panel:
    return table(
        "Explained causes",
        [f"count by (cause, by) (dualstack_cause_explained{{{S}}} == 1)"],
        [
            Column("cause", "cause", TEXT),
            Column("by", "explained by", TEXT),
            Column("#A", "seen by", width=80),
        ],
        description="Active causes that are consequences of another cause. They end when that cause is fixed.",
        empty="no active cause is explained by another",
        sort=("seen by", True),
        size=(12, 6),
        only_bad=True,
    )


def _over_time() -> Iterator[Panel]:
    yield graph(
        "Working nodes by family",
        [Query('cluster:dualstack_nodes_ok:ratio{cluster=~"$cluster"}', "{{cluster}} {{ip_family}}")],
        description="Ratio of nodes on which the family works to all nodes that report it. The selection of nodes has "
        "no effect here.",
        empty="the recording rules of alerts/dualstack.yaml are not loaded, or no exporter has completed a round",
        style=RATIO,
    )
    yield graph(
        "Nodes by active cause",
        [Query(f"count by (cause) (group by (cluster, node, cause) (node:dualstack_cause:max{{{S}}}))", "{{cause}}")],
        description="Number of nodes with each active critical or warning cause over time. The cluster exporter "
        "counts as one.",
        empty="there were no faults in this time, or the recording rules of alerts/dualstack.yaml are not loaded",
        only_bad=True,
    )
    yield graph(
        "Answered probes by layer and family",
        [
            Query(
                'avg by (layer, ip_family) (cluster:dualstack_probes_answered:ratio_rate5m{cluster=~"$cluster"})',
                "{{layer}} {{ip_family}}",
            )
        ],
        description="Ratio of answered probes, as mean over vantages and targets. Only probes that test the path are "
        "counted, and no layer after a failed one.",
        empty="the recording rules of alerts/dualstack.yaml are not loaded, or no probe was made",
        style=replace(RATIO, shades=tuple(Layer)),
    )
    yield graph(
        "Pods with an address by family",
        [Query('cluster:dualstack_pods_with_address:ratio{cluster=~"$cluster"}', "{{cluster}} {{ip_family}}")],
        description="Ratio of pods with a usable global address of the family in their own network namespace to all "
        "inspected pods.",
        empty="the recording rules of alerts/dualstack.yaml are not loaded, or no pod could be inspected",
        style=RATIO,
    )


def _exporters() -> Iterator[Panel]:
    yield graph(
        "Pods by probing state",
        [Query(f"sum by (state) (dualstack_pods{{{S}}}) > 0", "{{state}}")],
        description="Pods by state. " + "; ".join(f"{state}: {words}" for state, words in POD_STATES.items()) + ".",
        empty="the exporters may not list network namespaces, or there are no pods",
        stacked=True,
    )
    yield table(
        "Failing readers",
        [f"count by (reader) (dualstack_reader_success{{{S}}} == 0)"],
        [Column("reader", "reader", TEXT), Column("#A", "exporters", COUNT_WARN, 100)],
        description="Readers of kernel state and of the Kubernetes API that failed in the last round. Their data is "
        "unknown, not zero.",
        empty="every reader works",
        sort=("exporters", True),
        size=(8, 8),
        only_bad=True,
    )
    version = f"dualstack_exporter_build_info{{{S}}}"
    its = f"on ({EXPORTER}) group_left ()"
    yield table(
        "Exporter versions",
        [
            f"count by (version, revision, python) ({version})",
            (
                f"1000 * max by (version, revision, python) ({version} * {its} "
                "dualstack_exporter_config_last_reload_success_timestamp_seconds)"
            ),
            (
                f"sum by (version, revision, python) ({version} * {its} (1 - "
                "dualstack_exporter_config_last_reload_successful))"
            ),
            f"sum by (version, revision, python) ({version} * {its} (1 - dualstack_exporter_round_complete))",
        ],
        [
            Column("version", "version", TEXT),
            Column("revision", "revision", TEXT),
            Column("python", "Python", TEXT),
            Column("#A", "exporters", width=85),
            Column("#B", "last reload", SINCE),
            Column("#C", "reload failed", COUNT_WARN, 100),
            Column("#D", "rounds incomplete", COUNT_WARN, 120),
        ],
        description="Exporters by version. More than one row means that a rollout is in progress. reload failed: "
        "exporters that use a previous configuration because the last reload failed. rounds incomplete: exporters "
        "whose last round did not finish before its deadline.",
        empty="no exporter is scraped",
        sort=("exporters", True),
        size=(16, 8),
    )
    rounds = f"rate(dualstack_exporter_rounds_total{{{S}}}[$__rate_interval])"
    yield graph(
        "Rounds and internal errors",
        [
            Query(f"sum({rounds})", "rounds"),
            Query(f"sum(rate(dualstack_exporter_rounds_skipped_total{{{S}}}[$__rate_interval]))", "rounds skipped"),
            Query(
                f"sum(rate(dualstack_exporter_errors_total{{{S}}}[$__rate_interval])) or 0 * sum({rounds})",
                "internal errors",
            ),
            Query(
                f'sum(rate(dualstack_exporter_events_total{{{S}, outcome!="sent"}}[$__rate_interval])) '
                f"or 0 * sum({rounds})",
                "Kubernetes Events not created",
            ),
            Query(
                f"sum(rate(dualstack_exporter_log_lines_dropped_total{{{S}}}[$__rate_interval])) or 0 * sum({rounds})",
                "log lines dropped",
            ),
        ],
        description="Rounds per second over all exporters, rounds skipped because the previous round was still "
        "running, internal errors (bugs), and Kubernetes Events of causes that failed or exceeded the rate limit (if "
        "`events` is set).",
        empty="no exporter is scraped",
        style=Style(unit="ops"),
    )
    yield graph(
        "Truncated series by metric",
        [Query(f"sum by (metric) (dualstack_series_truncated{{{S}}})", "{{metric}}")],
        description="Series that were dropped because of the limit on a metric. Lists of names are then incomplete; "
        "numbers and causes are not affected.",
        empty="no exporter has completed a round",
    )
    yield graph(
        "Event loop lag",
        [Query(f"max(dualstack_exporter_event_loop_lag_seconds{{{S}}})", "longest")],
        description="Longest time in the last minute that the event loop of an exporter was late, because of too much "
        "work or too little CPU time. Probes then seem slower than they are.",
        empty="no exporter is scraped",
        style=Style(unit="s"),
    )
