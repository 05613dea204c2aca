"""Fleet: which nodes and families work, what is broken, since when, what to do."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from grafana.panels import (
    COUNT_BAD,
    COUNT_WARN,
    RATIO,
    TEXT,
    WORKS,
    Column,
    Look,
    Panel,
    Query,
    graph,
    row,
    stat,
    table,
)
from grafana.verdict import EXPORTER, NOT_CHECKED, SINCE, causes, causes_by_severity, subjects, unchecked
from grafana.words import POD_STATES, TO_NODE, TO_RUNBOOK

S = 'cluster=~"$cluster", node=~"$node"'
ON_NODES = f'node!="", {S}'
STALE = 150  # seconds: five rounds at the default interval, after which a report is exposed no more


def panels() -> Iterator[Panel]:
    """In reading order: the verdict, what to do, how it came about, and what is not known."""
    yield row("Does it work?")
    yield from _now()
    yield row("What is to be done?")
    yield causes("What is broken, since when, and what is to be done?", S, 'cluster=~"$cluster", node=~"$node|"')
    yield _nodes()
    yield subjects("Whom does it affect?", S, S, width=12)
    yield _alerts()
    yield _explained()
    yield row("How did it come about?")
    yield from _over_time()
    yield row("What is not known, and do the exporters work?")
    yield unchecked(
        "What could not be checked, and why?", f"dualstack_cause_unchecked{{{NOT_CHECKED}, {S}}} == 1", width=12
    )
    yield from _exporters()


def _now() -> Iterator[Panel]:
    for family in ("IPv6", "IPv4"):
        chosen = f'dualstack_family_ok{{ip_family="{family}", {S}}}'
        yield stat(
            f"Where does {family} fail?",
            f"count({chosen}) - sum({chosen})",
            says=f"Nodes of which half of the pods or more reach nothing over {family} in some group of targets.",
            empty=f"{family} is not expected anywhere, or no exporter has finished a round",
            look=replace(COUNT_BAD, unit="nodes"),
        )
    yield causes_by_severity("How many causes hold?", S, width=7)
    yield stat(
        "How many report?",
        f"count(dualstack_exporter_build_info{{{ON_NODES}}})",
        says="Nodes whose exporter was scraped. Compare with the number of nodes of the cluster.",
        empty="no exporter is scraped, or the scrape configuration sets no label node",
        size=(3, 4),
    )
    yield stat(
        "Any silent?",
        f'sum(1 - up{{job=~".*dualstack-exporter.*", {S}}})',
        says="Scrape targets that Prometheus knows and cannot scrape.",
        empty="Prometheus knows no such target: look at its scrape configuration",
        look=COUNT_BAD,
        size=(3, 4),
    )
    age = f"time() - dualstack_exporter_last_round_timestamp_seconds{{{S}}}"
    yield stat(
        "Any stale?",
        f"count({age} > {STALE}) or 0 * count({age})",
        says=f"Exporters whose last round ended more than {STALE} s ago (five rounds at the default interval). What such a one said is gone.",
        empty="no exporter has finished a round",
        look=COUNT_WARN,
        size=(3, 4),
    )


def _nodes() -> Panel:
    failing = f"count by (cluster, node, namespace, pod) (dualstack_pod_failing{{{ON_NODES}}})"
    return table(
        "Which nodes work, over which family?",
        [
            f"max by (cluster, node) (time() - dualstack_exporter_last_round_timestamp_seconds{{{ON_NODES}}})",
            f'sum by (cluster, node) (dualstack_cause{{severity=~"critical|warning", {ON_NODES}}})',
            f'max by (cluster, node) (dualstack_family_ok{{ip_family="IPv6", {ON_NODES}}})',
            f'max by (cluster, node) (dualstack_family_ok{{ip_family="IPv4", {ON_NODES}}})',
            f"count by (cluster, node) ({failing}) or 0 * sum by (cluster, node) (dualstack_pods{{{ON_NODES}}})",
        ],
        [
            Column("node", "node", Look(unit="string", link=TO_NODE)),
            Column("cluster", "cluster", width=100),
            Column("#B", "causes", COUNT_WARN, 70),
            Column("#C", "IPv6", WORKS, 110),
            Column("#D", "IPv4", WORKS, 110),
            Column("#E", "pods failing", COUNT_WARN, 95),
            Column("#A", "verdict's age", Look(unit="s", decimals=0), 100),
        ],
        says="The worst first. causes: critical and warning ones of this node alone. An empty family is not expected there, or nothing was asked over it. A click on a node opens it.",
        empty="no exporter has finished a round, or the scrape configuration sets no label node",
        sort=("causes", True),
        size=(12, 6),
    )


def _alerts() -> Panel:
    labels = "alertname, severity, node"
    return table(
        "Which alerts are firing?",
        [
            f'count by ({labels}) (ALERTS{{fault!="", alertstate="firing", cluster=~"$cluster", node=~"$node|"}})',
        ],
        [
            Column("alertname", "alert", Look(unit="string", link=TO_RUNBOOK)),
            Column("severity", "severity", width=80),
            Column("node", "node (empty: cluster)", width=160),
            Column("#A"),
        ],
        says="One fault, one alert: of the cluster where more than a quarter of the nodes see it. A fault is alerted once it is old enough. A click opens the runbook.",
        empty="nothing is wrong, or the rules of alerts/dualstack.yaml are not loaded",
        sort=("severity", False),
        size=(12, 6),
        only_bad=True,
    )


def _explained() -> Panel:
    return table(
        "What follows from something else?",
        [f"count by (cause, by) (dualstack_cause_explained{{{S}}} == 1)"],
        [
            Column("cause", "what holds", TEXT),
            Column("by", "follows from", TEXT),
            Column("#A", "seen by", width=80),
        ],
        says="Causes that hold and go away by themselves when the one they follow from is mended.",
        empty="nothing that holds follows from something else",
        sort=("seen by", True),
        size=(12, 6),
        only_bad=True,
    )


def _over_time() -> Iterator[Panel]:
    yield graph(
        "What share of the nodes works, over each family?",
        [Query('cluster:dualstack_nodes_ok:ratio{cluster=~"$cluster"}', "{{cluster}} {{ip_family}}")],
        says="Nodes on which the family works, of those that could tell. All nodes of the clusters: the choice of nodes has no effect here.",
        empty="the recording rules of alerts/dualstack.yaml are not loaded, or no exporter has finished a round",
        look=RATIO,
    )
    yield graph(
        "Which causes hold, on how many nodes?",
        [Query(f"count by (cause) (node:dualstack_cause:max{{{S}}})", "{{cause}}")],
        says="One line for each critical or warning cause that holds: where it begins, the fault began. The cluster role counts as one.",
        empty="nothing was wrong in this time, or the recording rules of alerts/dualstack.yaml are not loaded",
        only_bad=True,
    )
    yield graph(
        "What share of probes is answered, by layer and family?",
        [
            Query(
                'avg by (layer, ip_family) (cluster:dualstack_probes_answered:ratio_rate5m{cluster=~"$cluster"})',
                "{{layer}} {{ip_family}}",
            )
        ],
        says="Mean over vantages and targets, of those probes that say something of the path. A layer behind a failed one is not counted.",
        empty="the recording rules of alerts/dualstack.yaml are not loaded, or no probe was made",
        look=RATIO,
    )
    yield graph(
        "What share of pods has an address of each family?",
        [Query('cluster:dualstack_pods_with_address:ratio{cluster=~"$cluster"}', "{{cluster}} {{ip_family}}")],
        says="Pods with a usable global address of the family in their own network namespace, of all pods that were looked into.",
        empty="the recording rules of alerts/dualstack.yaml are not loaded, or no pod could be looked into",
        look=RATIO,
    )


def _exporters() -> Iterator[Panel]:
    yield graph(
        "From how many pods is it looked, and why not from others?",
        [Query(f"sum by (state) (dualstack_pods{{{S}}}) > 0", "{{state}}")],
        says="Pods by state. " + "; ".join(f"{state}: {words}" for state, words in POD_STATES.items()) + ".",
        empty="no exporter may list network namespaces, or there are no pods",
        stacked=True,
    )
    yield table(
        "What can the exporters not read?",
        [f"count by (reader) (dualstack_reader_success{{{S}}} == 0)"],
        [Column("reader", "reader", TEXT), Column("#A", "exporters", COUNT_WARN, 100)],
        says="Readers of kernel state and of the Kubernetes API that failed in the last round. What they read is then unknown, not zero.",
        empty="every reader works",
        sort=("exporters", True),
        size=(8, 8),
        only_bad=True,
    )
    version = f"dualstack_exporter_build_info{{{S}}}"
    its = f"on ({EXPORTER}) group_left ()"
    yield table(
        "Which versions run, since when are they configured?",
        [
            f"count by (version, revision, python) ({version})",
            f"1000 * max by (version, revision, python) ({version} * {its} dualstack_exporter_config_last_reload_success_timestamp_seconds)",
            f"sum by (version, revision, python) ({version} * {its} (1 - dualstack_exporter_config_last_reload_successful))",
            f"sum by (version, revision, python) ({version} * {its} (1 - dualstack_exporter_round_complete))",
        ],
        [
            Column("version", "version", TEXT),
            Column("revision", "revision", TEXT),
            Column("python", "Python", TEXT),
            Column("#A", "exporters", width=85),
            Column("#B", "last reload", SINCE),
            Column("#C", "reload failed", COUNT_WARN, 100),
            Column("#D", "rounds cut short", COUNT_WARN, 120),
        ],
        says="More than one line means that a rollout is under way. reload failed: exporters that keep an older configuration because the newer one is bad. rounds cut short: exporters whose last round did not end by its deadline.",
        empty="no exporter is scraped",
        sort=("exporters", True),
        size=(16, 8),
    )
    rounds = f"rate(dualstack_exporter_rounds_total{{{S}}}[$__rate_interval])"
    yield graph(
        "Do the exporters keep up?",
        [
            Query(f"sum({rounds})", "rounds"),
            Query(f"sum(rate(dualstack_exporter_rounds_skipped_total{{{S}}}[$__rate_interval]))", "rounds skipped"),
            Query(
                f"sum(rate(dualstack_exporter_errors_total{{{S}}}[$__rate_interval])) or 0 * sum({rounds})",
                "faults of their own",
            ),
        ],
        says="Rounds a second over all exporters, rounds left out because the one before had not ended, and errors that are bugs.",
        empty="no exporter is scraped",
        look=Look(unit="ops"),
    )
    yield graph(
        "What is left out of scrapes?",
        [Query(f"sum by (metric) (dualstack_series_truncated{{{S}}})", "{{metric}}")],
        says="Series that the cap on a metric left out: lists of names are then not complete; numbers and causes are not affected.",
        empty="no exporter has finished a round",
    )
