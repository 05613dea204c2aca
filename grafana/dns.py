"""DNS and resolvers: who withholds what, how questions end, and what programs of each C library get."""

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
    Look,
    Panel,
    Query,
    bars,
    graph,
    pick,
    row,
    stat,
    table,
)
from grafana.verdict import causes, subjects
from grafana.words import BLOCKS, TO_NODE

S = 'cluster=~"$cluster", node=~"$node"'
C = 'cluster=~"$cluster"'
CAUSES = 'cause=~"dns_.+|service_aaaa_missing|coredns_template_blocks_aaaa"'
HARMLESS = "none|dns64|undecided"
REPLIED = "answer|nodata|nxdomain"
NOT_SENT = "not_asked|not_allowed"
EIGHTH = (3, 4)  # of the width


def panels() -> Iterator[Panel]:
    """In reading order: the verdict, what resolvers answer, what programs make of it."""
    yield row("Do names resolve over both families?")
    yield from _now()
    yield causes(
        "What is wrong with names, since when, and what is to be done?",
        f"{CAUSES}, {S}",
        'cluster=~"$cluster", node=~"$node|"',
        height=6,
    )
    yield row("What do the nameservers answer?")
    yield from _servers()
    yield from _names()
    yield row("What do programs get?")
    yield from _programs()


def _now() -> Iterator[Panel]:
    """Each cause of names, whether or not something else explains it: by nodes, or for the cluster."""
    for title, cause, look in (
        ("Where is AAAA withheld?", "dns_aaaa_blocked", COUNT_BAD),
        ("Where is A withheld?", "dns_a_blocked", COUNT_BAD),
        ("Where is DNS silent?", "dns_unreachable", COUNT_BAD),
        ("Where do answers differ?", "dns_answers_differ", COUNT_WARN),
        ("Where do questions get lost?", "dns_queries_lost", COUNT_WARN),
        ("Where does musl break?", "dns_search_breaks_musl", COUNT_WARN),
    ):
        checked, explained = (pick(f"dualstack_{m}", f'cause="{cause}"', S) for m in ("cause", "cause_explained"))
        yield stat(
            title,
            f"count(count by (cluster, node) ({checked} == 1 or {explained})) or 0 * count({checked})",
            says=f"Nodes on which {cause} holds, also where another cause explains it.",
            empty="it could not be checked anywhere (the node dashboard says why)",
            look=replace(look, unit="nodes"),
            size=EIGHTH,
        )
    for title, cause, look in (
        ("Is it the Corefile?", "coredns_template_blocks_aaaa", COUNT_BAD),
        ("Do Services lack AAAA?", "service_aaaa_missing", COUNT_WARN),
    ):
        checked, explained = (pick(f"dualstack_{m}", f'cause="{cause}"', C) for m in ("cause", "cause_explained"))
        yield stat(
            title,
            f"max({checked} or {explained})",
            says=f"Whether the cluster role finds {cause}, also where another cause explains it.",
            empty="the cluster role is not scraped, or it could not be checked",
            look=Look(words={"0": "no", "1": "yes"}, steps=look.steps),
            size=EIGHTH,
        )


def _servers() -> Iterator[Panel]:
    yield table(
        "How does each nameserver treat AAAA?",
        [f"count by (server, kind) (dualstack_dns_aaaa_block{{{S}}} == 1)"],
        [
            Column("server", "nameserver", TEXT, 220),
            Column("kind", "AAAA is", Look(unit="string", words=BLOCKS)),
            Column("#A", "nodes", width=80),
        ],
        says="What the answers to the verdict set show: control names, a canary of the cluster and random names, A beside AAAA.",
        empty="no nameserver was asked: dns.servers is empty, or nothing outside may be asked and there is no cluster DNS",
        sort=("nodes", True),
        size=(12, 6),
    )
    yield table(
        "On which nodes is AAAA withheld?",
        [f'count by (node, server, kind) (dualstack_dns_aaaa_block{{kind!~"{HARMLESS}", {S}}} == 1)'],
        [
            Column("node", "node", Look(unit="string", link=TO_NODE)),
            Column("server", "nameserver", TEXT),
            Column("kind", "how", Look(unit="string", words=BLOCKS)),
            Column("#A"),
        ],
        says="One line for each node and nameserver. All nodes and the cluster DNS: look at the Corefile. One node: look at that node's resolver.",
        empty="no nameserver withholds AAAA",
        sort=("node", False),
        size=(12, 6),
        only_bad=True,
    )
    for qtype in ("AAAA", "A"):
        yield graph(
            f"How do questions for {qtype} end?",
            [
                Query(
                    f'sum by (server, outcome) (rate(dualstack_dns_lookups_total{{qtype="{qtype}", {S}}}[$__rate_interval]))',
                    "{{server}}: {{outcome}}",
                )
            ],
            says=f"{qtype} questions a second by nameserver and outcome. nodata: the name exists and has no such record, so the resolver says; nxdomain: it does not exist (random names should not).",
            empty=f"no question for {qtype} was asked",
            look=Look(unit="reqps"),
        )
    replied = pick("dualstack_dns_lookups_total", f'outcome=~"{REPLIED}"', S)
    sent = pick("dualstack_dns_lookups_total", f'outcome!~"{NOT_SENT}"', S)
    yield graph(
        "What share of questions does each nameserver answer at all?",
        [
            Query(
                f"sum by (server, ip_family) (rate({replied}[$__rate_interval]))"
                f" / (sum by (server, ip_family) (rate({sent}[$__rate_interval])) > 0)",
                "{{server}} over {{ip_family}}",
            )
        ],
        says="Answers, no data and NXDOMAIN, of all questions that were sent; the rest is silence and errors. The family is that of the nameserver's address.",
        empty="no question was sent, or none was ever answered",
        look=RATIO,
    )
    yield graph(
        "From where does the cluster DNS accept connections, over which family?",
        [
            Query(
                f'avg by (vantage, ip_family) (dualstack_probe_success_ratio{{target="cluster_dns", layer="tcp", {S}}})',
                "from {{vantage}} over {{ip_family}}",
            )
        ],
        says="Share of TCP connects to the cluster DNS that pass. Its Service is often IPv4 alone: then only that family is here, and rightly.",
        empty="the inventory names no cluster DNS",
        look=RATIO,
    )


def _names() -> Iterator[Panel]:
    yield table(
        "What did the last round get, name by name?",
        [f"sum by (server, name, qtype, outcome) (dualstack_dns_lookups{{{S}}})"],
        [
            Column("server", "nameserver", TEXT),
            Column("name", "name", TEXT),
            Column("qtype", "type", width=70),
            Column("outcome", "outcome", width=110),
            Column("#A", "questions", width=90),
        ],
        says="Control names by their own name; canary: a Service of the cluster; random: a name that nobody has.",
        empty="no question was asked in the last round",
        sort=("name", False),
        size=(12, 8),
    )
    yield table(
        "Which names have A here and no AAAA?",
        [
            f'sum by (server, name) (dualstack_dns_lookups{{qtype="AAAA", outcome!~"answer|{NOT_SENT}", {S}}}) and on (server, name) dualstack_dns_lookups{{qtype="A", outcome="answer", {S}}}'
        ],
        [
            Column("server", "nameserver", TEXT),
            Column("name", "name", TEXT),
            Column("#A", "AAAA questions without an answer", width=230),
        ],
        says="Names that a nameserver has an address for, over IPv4 alone. Right for names that have no AAAA in truth; for the others, this is the fault.",
        empty="every name that has A has AAAA",
        sort=("name", False),
        size=(12, 8),
        only_bad=True,
    )


def _programs() -> Iterator[Panel]:
    yield table(
        "What would a program get that looks a name up?",
        [f"sum by (libc, name, request, result) (dualstack_resolver_prediction{{{S}}})"],
        [
            Column("libc", "C library", width=110),
            Column("name", "name", TEXT),
            Column("request", "asks for family", width=120),
            Column("result", "gets", width=130),
            Column("#A", "pods", COUNT_INFO, 80),
        ],
        says="What getaddrinfo of each C library would return in the pods' own resolv.conf, search domains included: OK or its error. musl_1_2_3 stands for versions before 1.2.4.",
        empty="no pod's resolv.conf was read, or no name is asked",
        sort=("gets", False),
        size=(12, 8),
    )
    yield graph(
        "For how many pods does a name not resolve?",
        [
            Query(
                f'sum by (libc, name, result) (dualstack_resolver_prediction{{result!="OK", {S}}})',
                "{{libc}}, {{name}}: {{result}}",
            )
        ],
        says="EAI_NODATA and EAI_NONAME are final for a program; EAI_AGAIN may pass.",
        empty="every name resolves for every C library",
        only_bad=True,
    )
    yield subjects("Whom does it affect?", S, f"{CAUSES}, {S}", width=12)
    yield bars(
        "Which C library do pods hold?",
        Query(f"sum by (libc) (dualstack_pods_libc{{{S}}})", "{{libc}}"),
        says="Pods whose root holds the library. Where a search domain breaks musl, the pods with musl are those that suffer.",
        empty="no pod's root could be read",
        size=(12, 8),
    )
