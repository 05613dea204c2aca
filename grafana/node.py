"""One node: layers by families, NAT, tunnel and peers, latency by family, and what its kernel says."""

from __future__ import annotations

from collections.abc import Iterator

from grafana.kernel import RATIOS, V4, V6, N, host, nat, tunnel
from grafana.panels import (
    GREEN,
    ORANGE,
    RATIO,
    RED,
    TEXT,
    WORKS,
    YES,
    Column,
    Look,
    Panel,
    Query,
    graph,
    pick,
    row,
    stat,
    table,
)
from grafana.verdict import NOT_CHECKED, causes, causes_by_severity, subjects, unchecked
from grafana.words import UNREAD

SECONDS = Look(unit="s")


def panels() -> Iterator[Panel]:
    """In reading order: the verdict, which layer fails, what stands behind it (NAT, tunnel, peers), how slow it is, and the kernel."""
    yield row("Does it work?")
    yield from _now()
    yield causes(
        "What is broken here, since when, and what is to be done?",
        N,
        'cluster=~"$cluster", node=~"$node|"',
        seen_by=False,
        height=6,
    )
    yield row("Which layer fails, over which family?")
    yield from _layers()
    yield row("Is NAT done, are Services served?")
    yield from nat()
    yield row("Is the tunnel whole, do the peers answer?")
    yield from tunnel()
    yield row("How long does it take, by family?")
    yield from _latency()
    yield row("What does the kernel say of the node and its pods?")
    yield from host()
    yield row("What is not known?")
    yield unchecked(
        "What could not be checked here, and why?", f"dualstack_cause_unchecked{{{NOT_CHECKED}, {N}}} == 1", width=12
    )
    yield from _exporter()


def _now() -> Iterator[Panel]:
    for family in ("IPv6", "IPv4"):
        yield stat(
            f"Does {family} work here?",
            f'max(dualstack_family_ok{{ip_family="{family}", {N}}})',
            says=f"Whether more than half of this node's pods (without pods: the host) reach one target of each group over {family}.",
            empty=f"{family} is not expected, nothing was asked over it, or the node's exporter has finished no round",
            look=WORKS,
        )
    yield causes_by_severity("How many causes hold here?", N, width=7)
    yield stat(
        "How old is this?",
        f"max(time() - dualstack_exporter_last_round_timestamp_seconds{{{N}}})",
        says="Time since the last round ended. After five intervals the report is exposed no more.",
        empty="the node's exporter has finished no round or is not scraped",
        look=Look(unit="s", steps=((None, GREEN), (90, ORANGE), (150, RED)), decimals=0),
        size=(3, 4),
    )
    yield stat(
        "From how many pods is it looked?",
        [
            Query(f"sum(dualstack_pods_probed{{{N}}})", "probed"),
            Query(f'sum(dualstack_pods{{state="eligible", {N}}})', "could be"),
        ],
        says="Pods with a result that counts, and pods that can be looked from. Few are probed in each round, in rotation.",
        empty="there are no pods, or the exporter may not list network namespaces",
        size=(6, 4),
    )


def _layers() -> Iterator[Panel]:
    yield table(
        "Which layer passes, over which family, from where to where?",
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
            Column("#A", "the worse", RATIO, 90),
        ],
        says="Share of probes of the last round that passed. Empty: the target has no address of the family, or a layer before failed (a failure is counted where it happened).",
        empty="nothing was probed: no targets, or the node's exporter has finished no round",
        sort=("the worse", False),
        size=(12, 10),
    )
    yield graph(
        "Since when does which layer fail?",
        [Query(f"min by (layer, ip_family) ({pick(RATIOS, N)})", "{{layer}} {{ip_family}}")],
        says="The worst target and vantage of each layer and family: 1 is well.",
        empty="nothing was probed in this time",
        look=RATIO,
        size=(12, 10),
    )
    yield graph(
        "How do probes fail?",
        [
            Query(
                f"sum by (target, layer, ip_family, outcome) (dualstack_probe_failures{{{N}}})",
                "{{target}} {{layer}} {{ip_family}}: {{outcome}}",
            )
        ],
        says="Failures of each round by outcome: timeout is silence, refused and unreachable are answers, prohibited is a firewall that says so.",
        empty="no probe failed in this time",
        only_bad=True,
    )
    yield table(
        "From which pods does something fail?",
        [f"max by (namespace, pod, ip_family, layer, outcome) (dualstack_pod_failing{{{N}}})"],
        [
            Column("namespace", "namespace", TEXT),
            Column("pod", "pod", TEXT),
            Column("ip_family", "family", width=70),
            Column("layer", "layer", width=70),
            Column("outcome", "outcome", width=110),
            Column("#A"),
        ],
        says="Each pod's last result, whatever the target; at most 200.",
        empty="nothing fails from any pod",
        sort=("pod", False),
        size=(12, 8),
        only_bad=True,
    )
    yield subjects("Whom do this node's causes affect?", N, N, width=12)
    yield table(
        "From how many places is each target tested?",
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
        says="Host and pods with a result that counts. Empty: the target has no address of the family.",
        empty="nothing was probed",
        sort=("target", False),
        size=(12, 6),
    )


def _latency() -> Iterator[Panel]:
    bucket = f'rate(dualstack_probe_duration_seconds_bucket{{layer="tcp", {N}}}[$__rate_interval])'
    yield graph(
        "How long does a connect take, by family?",
        [
            Query(
                f"histogram_quantile({share}, sum by (ip_family, le) ({bucket}))",
                f"{{{{ip_family}}}} {name}",
            )
            for share, name in ((0.5, "median"), (0.95, "95 %"))
        ],
        says="Successful TCP connects from the host and its pods to all targets. Compare the families; the buckets are coarse.",
        empty="no connect succeeded in this time",
        look=SECONDS,
    )
    spent = f"sum by (target, layer, ip_family) (rate(dualstack_probe_duration_seconds_sum{{{N}}}[$__rate_interval]))"
    made = f"sum by (target, layer, ip_family) (rate(dualstack_probe_duration_seconds_count{{{N}}}[$__rate_interval]))"
    yield graph(
        "How long does each layer of each target take, by family?",
        [Query(f"{spent} / ({made} > 0)", "{{target}} {{layer}} {{ip_family}}")],
        says="Mean duration of successful probes, each layer by itself: tls is the handshake after the connect, http the request after that.",
        empty="no probe succeeded in this time",
        look=SECONDS,
    )
    yield table(
        "When do certificates expire?",
        [f"min by (target, ip_family) (dualstack_tls_certificate_expiry_timestamp_seconds{{{N}}}) - time()"],
        [
            Column("target", "target", TEXT),
            Column("ip_family", "over", width=90),
            Column(
                "#A", "expires in", Look(unit="s", steps=((None, RED), (7 * 86_400, ORANGE), (21 * 86_400, GREEN))), 180
            ),
        ],
        says="The first certificate of the chain to expire. The two families may show different ones: then they lead to different servers.",
        empty="no target with layer tls is configured, or no handshake succeeded",
        sort=("expires in", False),
        size=(24, 6),
    )


def _exporter() -> Iterator[Panel]:
    yield table(
        "What can the exporter read here?",
        [
            f"min by (reader) (dualstack_reader_success{{{N}}})",
            f"max by (reader) (dualstack_reader_duration_seconds{{{N}}})",
        ],
        [
            Column("reader", "reader", TEXT),
            Column("#A", "read", UNREAD, 150),
            Column("#B", "took", Look(unit="s"), 100),
        ],
        says="Readers of kernel state and of the Kubernetes API in the last round. What could not be read is unknown, not zero.",
        empty="the node's exporter has finished no round",
        sort=("read", False),
        size=(8, 8),
    )
    yield table(
        "What runs here?",
        [
            f"max by (node, version, python) (dualstack_exporter_build_info{{{N}}})",
            f"max by (node) (dualstack_exporter_round_duration_seconds{{{N}}})",
            f"max by (node, release) (dualstack_kernel_info{{{N}}})",
            f"max by (node, role) (dualstack_exporter_info{{{N}}})",
            f"min by (node) (dualstack_exporter_round_complete{{{N}}})",
        ],
        [
            Column("version", "version", TEXT),
            Column("python", "Python", TEXT),
            Column("release", "kernel", TEXT),
            Column("role", "role", TEXT),
            Column("#B", "round took", Look(unit="s", decimals=1)),
            Column("#E", "in time", YES),
            *(Column(source) for source in ("node", "#A", "#C", "#D")),
        ],
        says="The exporter's version and role, the node's kernel, how long the last round took, and whether it ended before its deadline.",
        empty="the node's exporter is not scraped",
        sort=("version", False),
        size=(4, 8),
    )
