"""The dashboard of DNS: filtered records, query outcomes, and the results for programs by C library."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from grafana.panels import (
    COUNT_BAD,
    COUNT_INFO,
    COUNT_WARN,
    RATIO,
    TEXT,
    Column,
    Panel,
    Query,
    Style,
    bars,
    graph,
    pick,
    row,
    stat,
    table,
)
from grafana.verdict import causes, subjects
from grafana.words import BLOCKS, RANKED_KINDS, TO_NODE, WITHHELD

S = 'cluster=~"$cluster", node=~"$node"'
C = 'cluster=~"$cluster"'
CAUSES = 'cause=~"dns_.+|service_aaaa_.+|coredns_template_blocks_aaaa"'
HARMLESS = "none|dns64|undecided"
REPLIED = "answer|nodata|nxdomain"
NOT_SENT = "not_asked|not_allowed"
NO_AAAA, HAS_A = f'qtype="AAAA", outcome!~"answer|{NOT_SENT}"', 'qtype="A", outcome="answer"'
# ipv4only.arpa has no AAAA by design, and is asked as the canary too; random names do not exist.
OF_CONTROL = 'name!~"canary|random|ipv4only.arpa"'
EIGHTH = (3, 4)  # of the width


def panels() -> Iterator[Panel]:
    """In reading order: the current state, what nameservers answer, and the results for programs."""
    yield row("Current state")
    yield from _now()
    yield causes(
        "Active DNS causes",
        f"{CAUSES}, {S}",
        'cluster=~"$cluster", node=~"$node|"',
        height=6,
    )
    yield row("Nameservers")
    yield from _servers()
    yield from _names()
    yield row("Name resolution in pods")
    yield from _programs()


def _now() -> Iterator[Panel]:
    """Each DNS cause by node or for the cluster, whether or not another cause explains it, unless it is only info."""
    for title, cause, style in (
        ("AAAA filtered", "dns_aaaa_blocked", COUNT_BAD),
        ("A filtered", "dns_a_blocked", COUNT_BAD),
        ("DNS unreachable", "dns_unreachable", COUNT_BAD),
        ("Unstable answers", "dns_answers_differ", COUNT_WARN),
        ("Lost queries", "dns_queries_lost", COUNT_WARN),
        ("musl failures", "dns_search_breaks_musl", COUNT_WARN),
    ):
        one, active, explained = _cause(cause, S)
        yield stat(
            title,
            f"count(count by (cluster, node) ({active} == 1 or {explained})) or 0 * count({one})",
            description=f"Nodes on which the cause {cause} is active, even if another cause explains it; not if it is "
            "only info.",
            empty="it could not be checked on any node (the node dashboard shows why)",
            none="unchecked",
            style=replace(style, unit="nodes"),
            size=EIGHTH,
        )
    for title, cause, style in (
        ("Corefile filter", "coredns_template_blocks_aaaa", COUNT_BAD),
        ("Missing AAAA", "service_aaaa_missing", COUNT_WARN),
    ):
        one, active, explained = _cause(cause, C)
        yield stat(
            title,
            f"max({active} or {explained} or 0 * {one})",
            description=f"Whether the cluster exporter reports the cause {cause}, even if another cause explains it; "
            "not if it is only info.",
            empty="the cluster exporter is not scraped, or the cause could not be checked",
            none="unchecked",
            style=Style(words={"0": "no", "1": "yes"}, steps=style.steps),
            size=EIGHTH,
        )


def _cause(cause: str, where: str) -> tuple[str, str, str]:
    """Selectors: the cause where it was checked, where it is no mere info, and where another explains it."""
    named = f'cause="{cause}"'
    return (
        pick("dualstack_cause", named, where),
        pick("dualstack_cause", named, 'severity!="info"', where),
        pick("dualstack_cause_explained", named, where),
    )


def _servers() -> Iterator[Panel]:
    kinds = [
        f"{rank} * ({pick('dualstack_dns_aaaa_block', selected, S)} == 1)"
        for rank, selected in enumerate(f'kind="{kind}"' for kind in RANKED_KINDS)
    ]
    judged = f"dualstack_dns_aaaa_block{{{S}}} == 1"
    by_node = "count by (server) (group by (cluster, node, server)"
    filters = pick("dualstack_dns_aaaa_block", f'kind!~"{HARMLESS}"', S)
    yield table(
        "AAAA handling by nameserver",
        [
            f"max by (server) ({' or '.join(kinds)})",
            f"{by_node} ({judged}))",
            f"{by_node} ({filters} == 1)) or 0 * count by (server) ({judged})",
        ],
        [
            Column("server", "nameserver", TEXT, 220),
            Column("#A", "AAAA (worst)", WITHHELD),
            Column("#B", "nodes", width=80),
            Column("#C", "filtered on", COUNT_BAD, 100),
        ],
        description="Result of comparing A and AAAA answers for control names, a canary of the cluster and random "
        "names, one row for each nameserver. filtered on: number of nodes that see it filter AAAA.",
        empty="no nameserver was queried: dns.servers is empty, or nothing outside may be queried and there is no "
        "cluster DNS",
        sort=("AAAA (worst)", True),
        size=(12, 6),
    )
    yield table(
        "AAAA filtering by node",
        [f'count by (node, server, kind) (dualstack_dns_aaaa_block{{kind!~"{HARMLESS}", {S}}} == 1)'],
        [
            Column("node", "node", Style(unit="string", link=TO_NODE)),
            Column("server", "nameserver", TEXT),
            Column("kind", "how", Style(unit="string", words=BLOCKS)),
            Column("#A"),
        ],
        description="One row for each node and nameserver. For the cluster DNS on all nodes, check the Corefile. For "
        "one node, check that node's resolver.",
        empty="no nameserver filters AAAA",
        sort=("node", False),
        size=(12, 6),
        only_bad=True,
    )
    for qtype in ("AAAA", "A"):
        lookups = pick("dualstack_dns_lookups_total", f'qtype="{qtype}"', S)
        yield graph(
            f"{qtype} queries by outcome",
            [
                Query(
                    f"sum by (server, outcome) (rate({lookups}[$__rate_interval]))",
                    "{{server}}: {{outcome}}",
                )
            ],
            description=f"{qtype} queries per second by nameserver and outcome. nodata: the resolver reports that the "
            "name has no such record; nxdomain: that the name does not exist (expected for random names).",
            empty=f"no {qtype} query was sent",
            style=Style(unit="reqps"),
        )
    replied = pick("dualstack_dns_lookups_total", f'outcome=~"{REPLIED}"', S)
    sent = pick("dualstack_dns_lookups_total", f'outcome!~"{NOT_SENT}"', S)
    connected = pick("dualstack_probe_success_ratio", 'target="cluster_dns"', 'layer="tcp"', S)
    yield graph(
        "Answered queries by nameserver",
        [
            Query(
                f"sum by (server, ip_family) (rate({replied}[$__rate_interval]))"
                f" / (sum by (server, ip_family) (rate({sent}[$__rate_interval])) > 0)",
                "{{server}} over {{ip_family}}",
            )
        ],
        description="Ratio of answers, no data and NXDOMAIN to all queries sent; the rest are timeouts and errors. "
        "The family is that of the nameserver's address.",
        empty="no query was sent, or none was ever answered",
        style=RATIO,
    )
    yield graph(
        "TCP connections to the cluster DNS by family",
        [
            Query(
                f"avg by (vantage, ip_family) ({connected})",
                "from {{vantage}} over {{ip_family}}",
            )
        ],
        description="Ratio of successful TCP connections to the cluster DNS. If its Service has only IPv4, as is "
        "common, only that family is shown.",
        empty="the inventory contains no cluster DNS",
        style=replace(RATIO, shades=("host", "pod")),
    )


def _names() -> Iterator[Panel]:
    yield table(
        "Query results by name",
        [f"sum by (server, name, qtype, outcome) (dualstack_dns_lookups{{{S}}})"],
        [
            Column("server", "nameserver", TEXT),
            Column("name", "name", TEXT),
            Column("qtype", "type", width=70),
            Column("outcome", "outcome", width=110),
            Column("#A", "queries", width=90),
        ],
        description="Queries of the last round. Control names are listed by their own name; canary is a Service of "
        "the cluster; random is a name that does not exist.",
        empty="no query was sent in the last round",
        sort=("name", False),
        size=(12, 8),
    )
    yield table(
        "Names with A but no AAAA",
        [
            (
                f"sum by (server, name) ({pick('dualstack_dns_lookups', NO_AAAA, OF_CONTROL, S)}) "
                f"and on (server, name) {pick('dualstack_dns_lookups', HAS_A, OF_CONTROL, S)}"
            )
        ],
        [
            Column("server", "nameserver", TEXT),
            Column("name", "name", TEXT),
            Column("#A", "unanswered AAAA queries", width=230),
        ],
        description="Control names (dns.names) for which a nameserver returns only IPv4 addresses. This is correct for "
        "names that have no AAAA record, and a fault for all others.",
        empty="every control name with A also has AAAA, or there are none",
        sort=("name", False),
        size=(12, 8),
        only_bad=True,
    )


def _programs() -> Iterator[Panel]:
    yield table(
        "Predicted getaddrinfo results",
        [f"sum by (libc, name, request, result) (dualstack_resolver_prediction{{{S}}})"],
        [
            Column("libc", "C library", width=110),
            Column("name", "name", TEXT),
            Column("request", "requested family", width=120),
            Column("result", "result", width=130),
            Column("#A", "pods", COUNT_INFO, 80),
        ],
        description="What getaddrinfo of each C library would return with the pods' own resolv.conf, including search "
        "domains: OK or the error. musl_1_2_3 is for versions before 1.2.4.",
        empty="no pod's resolv.conf was read, or no name is queried",
        sort=("result", False),
        size=(12, 8),
    )
    yield graph(
        "Pods with unresolvable names",
        [
            Query(
                f'sum by (libc, name, result) (dualstack_resolver_prediction{{request="any", result!="OK", {S}}})',
                "{{libc}}, {{name}}: {{result}}",
            )
        ],
        description="Pods in which a name does not resolve to an address of any family, by C library and error. "
        "EAI_NODATA and EAI_NONAME are permanent errors, EAI_AGAIN is temporary.",
        empty="every name resolves with every C library",
        only_bad=True,
    )
    yield subjects("Affected objects", S, f"{CAUSES}, {S}", width=12)
    yield bars(
        "Pods by C library",
        Query(f"sum by (libc) (dualstack_pods_libc{{{S}}})", "{{libc}}"),
        description="Pods whose root filesystem contains the library. If a search domain breaks musl, the pods with "
        "musl are affected.",
        empty="no pod's root filesystem could be read",
        none="unreadable",
        size=(12, 8),
    )
