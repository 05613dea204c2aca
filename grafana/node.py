"""The dashboard of one node: probes by layer and family, NAT, tunnel, peers, latency and kernel state."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from exporter.model.probe import Layer
from grafana.kernel import RATIOS, V4, V6, N, host, nat, tunnel
from grafana.panels import (
    BLUE,
    GREEN,
    ORANGE,
    RATIO,
    RED,
    TEXT,
    WORKS,
    YES,
    Column,
    Panel,
    Query,
    Style,
    graph,
    pick,
    row,
    scale,
    stat,
    table,
)
from grafana.verdict import EXPORTER, NOT_CHECKED, causes, causes_by_severity, subjects, unchecked
from grafana.words import READ

SECONDS = Style(unit="s")
EVER = 100 * 365 * 86_400  # seconds, longer than anything has expired


def panels() -> Iterator[Panel]:
    """In reading order: current state, probes, NAT, tunnel and peers, latency, kernel, and what is not checked."""
    yield row("Current state")
    yield from _now()
    yield causes(
        "Active causes",
        N,
        'cluster=~"$cluster", node=~"$node|"',
        seen_by=False,
        height=6,
    )
    yield row("Probes by layer and family")
    yield from _layers()
    yield row("NAT and kube-proxy")
    yield from nat()
    yield row("Tunnel and peers")
    yield from tunnel()
    yield row("Latency")
    yield from _latency()
    yield row("Kernel state and pods")
    yield from host()
    yield row("Not checked")
    yield unchecked(
        "Causes not checked on this node", f"dualstack_cause_unchecked{{{NOT_CHECKED}, {N}}} == 1", width=12
    )
    yield from _exporter()


def _now() -> Iterator[Panel]:
    for family in ("IPv6", "IPv4"):
        yield stat(
            f"{family} status",
            f'max(dualstack_family_ok{{ip_family="{family}", {N}}})',
            description="Whether more than half of this node's pods (or the host if there are none) reach at least "
            f"one target of each group over {family}.",
            empty=f"{family} is not expected or was not probed, or the node's exporter has completed no round",
            none="unknown",
            style=WORKS,
        )
    yield causes_by_severity("Causes of this node by severity", N, width=7)
    info = f"dualstack_exporter_info{{{N}}}"
    yield stat(
        "Round age",
        [
            Query(f"max(time() - dualstack_exporter_last_round_timestamp_seconds{{{N}}})", "last round"),
            Query(f"count({info} unless on ({EXPORTER}) dualstack_series_truncated) or 0 * count({info})", "too old"),
        ],
        description="Time since the last round ended, and whether it is too old: after five intervals the report is no "
        "longer exposed.",
        empty="the node's exporter has completed no round or is not scraped",
        none="no round",
        by_name={
            "last round": Style(unit="s", decimals=0, steps=scale((-60, BLUE))),  # clocks differ
            "too old": Style(words={"0": "no", "1": "yes"}, steps=scale((0, GREEN), (1, RED))),
        },
        size=(4, 4),
    )
    yield stat(
        "Pods probed",
        [
            Query(f"sum(dualstack_pods_probed{{{N}}})", "probed"),
            Query(f'sum(dualstack_pods{{state="eligible", {N}}})', "eligible"),
        ],
        description="Pods with a current result, and pods from which the exporter can probe. Each round probes some "
        "of them in rotation.",
        empty="there are no pods, or the exporter may not list network namespaces",
        none="no pods",
        size=(5, 4),
    )


def _layers() -> Iterator[Panel]:
    yield table(
        "Probe success by vantage, target and layer",
        [
            f"min by (vantage, target, layer) ({pick(RATIOS, N)})",
            f"min by (vantage, target, layer) ({pick(RATIOS, V6, N)})",
            f"min by (vantage, target, layer) ({pick(RATIOS, V4, N)})",
        ],
        [
            Column("vantage", "from", width=70),
            Column("target", "to", TEXT),
            Column("layer", "layer", width=70),
            Column("#B", "IPv6", RATIO, 90),
            Column("#C", "IPv4", RATIO, 90),
            Column("#A", "lowest", RATIO, 90),
        ],
        description="Ratio of successful probes in the last round. A cell is empty if the target has no address of "
        "the family or a previous layer failed (failures are counted in the layer in which they occur).",
        empty="nothing was probed: there are no targets, or the node's exporter has completed no round",
        sort=("lowest", False),
        size=(12, 10),
    )
    yield graph(
        "Lowest probe success by layer",
        [Query(f"min by (layer, ip_family) ({pick(RATIOS, N)})", "{{layer}} {{ip_family}}")],
        description="Success ratio of the worst target and vantage for each layer and family; 1 is healthy.",
        empty="nothing was probed in this time",
        style=replace(RATIO, shades=tuple(Layer)),
        size=(12, 10),
    )
    yield graph(
        "Probe failures by outcome",
        [
            Query(
                f"sum by (target, layer, ip_family, outcome) (dualstack_probe_failures{{{N}}})",
                "{{target}} {{layer}} {{ip_family}}: {{outcome}}",
            )
        ],
        description="Failed probes of each round by outcome: timeout is no answer, refused and unreachable are "
        "answers, prohibited is a rejection by a firewall.",
        empty="no probe failed in this time",
        style=Style(shades=tuple(Layer)),
        only_bad=True,
    )
    yield table(
        "Pods with failing probes",
        [f"max by (namespace, pod, ip_family, layer, outcome) (dualstack_pod_failing{{{N}}})"],
        [
            Column("namespace", "namespace", TEXT),
            Column("pod", "pod", TEXT),
            Column("ip_family", "family", width=70),
            Column("layer", "layer", width=70),
            Column("outcome", "outcome", width=110),
            Column("#A"),
        ],
        description="Failing pods by their last result for any target; at most 200.",
        empty="no probe from a pod fails",
        sort=("pod", False),
        size=(12, 8),
        only_bad=True,
    )
    yield subjects("Affected objects", N, N, width=12)
    yield table(
        "Vantages by target",
        [
            f"max by (target) (dualstack_target_vantages{{{N}}})",
            f'max by (target) (dualstack_target_vantages{{ip_family="IPv6", {N}}})',
            f'max by (target) (dualstack_target_vantages{{ip_family="IPv4", {N}}})',
        ],
        [
            Column("target", "target", TEXT),
            Column("#B", "over IPv6", width=100),
            Column("#C", "over IPv4", width=100),
            Column("#A"),
        ],
        description="Number of places (host and pods) from which each target was tested. A cell is empty if the "
        "target has no address of the family.",
        empty="nothing was probed",
        sort=("target", False),
        size=(12, 6),
    )


def _latency() -> Iterator[Panel]:
    bucket = f'rate(dualstack_probe_duration_seconds_bucket{{layer="tcp", {N}}}[$__rate_interval])'
    yield graph(
        "TCP connect latency by family",
        [
            Query(
                f"histogram_quantile({share}, sum by (ip_family, le) ({bucket}))",
                f"{{{{ip_family}}}} {name}",
            )
            for share, name in ((0.5, "median"), (0.95, "95 %"))
        ],
        description="Duration of successful TCP connections from the host and its pods to all targets. The histogram "
        "buckets are coarse: use it to compare the families.",
        empty="no connection succeeded in this time",
        style=replace(SECONDS, shades=("median", "95 %")),
    )
    spent = f"sum by (target, layer, ip_family) (rate(dualstack_probe_duration_seconds_sum{{{N}}}[$__rate_interval]))"
    made = f"sum by (target, layer, ip_family) (rate(dualstack_probe_duration_seconds_count{{{N}}}[$__rate_interval]))"
    yield graph(
        "Mean probe duration by target and layer",
        [Query(f"{spent} / ({made} > 0)", "{{target}} {{layer}} {{ip_family}}")],
        description="Mean duration of successful probes, separately for each layer: tls is the handshake after the "
        "connection, http the request after the handshake.",
        empty="no probe succeeded in this time",
        style=replace(SECONDS, shades=tuple(Layer)),
    )
    yield table(
        "TLS certificate expiry",
        [f"min by (target, ip_family) (dualstack_tls_certificate_expiry_timestamp_seconds{{{N}}}) - time()"],
        [
            Column("target", "target", TEXT),
            Column("ip_family", "over", width=90),
            Column(
                "#A",
                "expires in",
                Style(unit="s", steps=scale((-EVER, RED), (2 * 86_400, ORANGE), (7 * 86_400, GREEN))),
                180,
            ),
        ],
        description="Time until the first certificate of the chain expires: orange in the last week, red in the last "
        "two days. If the families differ, they lead to different servers.",
        empty="no target with the layer tls is configured, or no handshake succeeded",
        sort=("expires in", False),
        size=(24, 6),
    )


def _exporter() -> Iterator[Panel]:
    yield table(
        "Readers",
        [
            f"min by (reader) (dualstack_reader_success{{{N}}})",
            f"max by (reader) (dualstack_reader_duration_seconds{{{N}}})",
        ],
        [
            Column("reader", "reader", TEXT),
            Column("#A", "read", READ, 150),
            Column("#B", "took", Style(unit="s"), 100),
        ],
        description="Readers of kernel state and of the Kubernetes API in the last round. Data that could not be read "
        "is unknown, not zero.",
        empty="the node's exporter has completed no round",
        sort=("read", False),
        size=(8, 8),
    )
    yield table(
        "Versions",
        [
            f"max by (node, version, python) (dualstack_exporter_build_info{{{N}}})",
            f"max by (node) (dualstack_exporter_round_duration_seconds{{{N}}})",
            f"max by (node, release) (dualstack_kernel_info{{{N}}})",
            f"max by (node, role) (dualstack_exporter_info{{{N}}})",
            f"min by (node) (dualstack_exporter_round_complete{{{N}}})",
            f"max by (node, cni, ipam) (dualstack_exporter_cni_info{{{N}}})",
        ],
        [
            Column("version", "version", TEXT),
            Column("python", "Python", TEXT),
            Column("release", "kernel", TEXT),
            Column("role", "role", TEXT),
            Column("cni", "pod network", TEXT),
            Column("ipam", "IPAM", TEXT),
            Column("#B", "round took", Style(unit="s", decimals=1)),
            Column("#E", "complete", YES),
            *(Column(source) for source in ("node", "#A", "#C", "#D", "#F")),
        ],
        description="The exporter's version and role, the pod network, the node's kernel, the duration of the last "
        "round, and whether it finished before its deadline.",
        empty="the node's exporter is not scraped",
        sort=("version", False),
        size=(4, 8),
    )
