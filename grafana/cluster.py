"""Cluster: whether it is configured for both families, and how far it is on its way there."""

from __future__ import annotations

from collections.abc import Iterator

from grafana.panels import (
    COUNT_WARN,
    GREEN,
    ORANGE,
    RED,
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
from grafana.verdict import EXPORTER, NOT_CHECKED, causes, causes_by_severity, subjects, unchecked
from grafana.words import UNREAD

C = 'cluster=~"$cluster"'
CONFIGURED = f'scope="cluster", {C}'
ROLE = f'on ({EXPORTER}) dualstack_exporter_info{{role=~"cluster|all", {C}}}'
PROGRESS = Look(unit="percentunit", steps=((None, RED), (0.5, ORANGE), (1, GREEN)), range=(0, 1))


def panels() -> Iterator[Panel]:
    """In reading order: what is configured wrongly, how far the migration is, what the nodes make of it, and what is not known."""
    yield row("Is it configured for both families?")
    yield from _now()
    yield causes("What is wrong with the configuration, since when, and what is to be done?", CONFIGURED, C, height=6)
    yield subjects("Which objects does it concern?", C, CONFIGURED, width=24)
    yield row("How far is the migration?")
    yield from _migration()
    yield row("Do all nodes agree?")
    yield from _nodes()
    yield row("What is not known?")
    yield from _unknown()


def _now() -> Iterator[Panel]:
    yield stat(
        "Which families are pods meant to have?",
        [Query(f"max by (ip_family) (dualstack_family_expected{{{C}}})", "{{ip_family}}")],
        says="As configured, or as pools, podCIDRs, Service ranges, the CNI configuration and pod addresses say.",
        empty="nothing that could tell was readable, or no exporter has finished a round",
        look=Look(words={"1": "expected", "0": "not expected"}),
        size=(6, 4),
    )
    yield causes_by_severity("How many causes hold in the configuration?", CONFIGURED, width=8)
    yield stat(
        "How far are pods?",
        f'min(dualstack_migration_ratio{{resource="pods", {C}}})',
        says="Pods that have both families, of those that could.",
        empty="the cluster role is not scraped, or may not list pods",
        look=PROGRESS,
        size=(4, 4),
    )
    yield stat(
        "How old is this?",
        f"max(dualstack_inventory_age_seconds{{{C}}})",
        says="Age of the oldest inventory that an exporter judged by in its last round.",
        empty="no exporter has an inventory: there is no Kubernetes, or its API was never reached",
        # A watch in which nothing happens shows that its kind is current when it ends: after six minutes.
        look=Look(unit="s", steps=((None, GREEN), (600, ORANGE), (1200, RED)), decimals=0),
        size=(3, 4),
    )
    yield stat(
        "Any stale?",
        f"sum(dualstack_inventory_stale{{{C}}})",
        says="Exporters that cannot reach the API and go on with what they knew.",
        empty="no exporter has an inventory",
        look=COUNT_WARN,
        size=(3, 4),
    )


def _migration() -> Iterator[Panel]:
    yield bars(
        "What share is dual-stack?",
        Query(f"min by (resource) (dualstack_migration_ratio{{{C}}})", "{{resource}}"),
        says="Objects that have both families, of those that could. EndpointSlices count by Service.",
        empty="the cluster role is not scraped, or may not list these objects",
        look=PROGRESS,
        size=(6, 8),
    )
    having, lacking = "dualstack_objects_with_family", "dualstack_objects_without_family"
    v6, v4 = 'ip_family="IPv6"', 'ip_family="IPv4"'
    yield table(
        "How many objects have which family?",
        [
            f"sum by (resource) ({selected})"
            for selected in (
                pick(having, C),
                pick(having, v6, C),
                pick(lacking, v6, C),
                pick(having, v4, C),
                pick(lacking, v4, C),
            )
        ],
        [
            Column("resource", "objects", TEXT),
            Column("#B", "with IPv6"),
            Column("#C", "lack IPv6", COUNT_WARN),
            Column("#D", "with IPv4"),
            Column("#E", "lack IPv4", COUNT_WARN),
            Column("#A"),
        ],
        says="lack: meant to have the family and without it. Pods older than the change stay as they are until restarted; Services until their ipFamilyPolicy is changed.",
        empty="the cluster role is not scraped, or may not list these objects",
        sort=("lack IPv6", True),
        size=(10, 8),
    )
    yield graph(
        "How does it go on?",
        [Query(f"min by (resource) (dualstack_migration_ratio{{{C}}})", "{{resource}}")],
        says="Share of dual-stack objects over time.",
        empty="the cluster role was not scraped in this time",
        look=PROGRESS,
        size=(8, 8),
    )
    by_namespace = f"dualstack_namespace_objects_without_family{{{C}}}"
    yield table(
        "In which namespaces is a family lacking?",
        [f"topk(200, sum by (namespace, resource, ip_family) ({by_namespace}))"],
        [
            Column("namespace", "namespace", TEXT),
            Column("resource", "objects", TEXT),
            Column("ip_family", "lack", width=90),
            Column("#A", "how many", COUNT_WARN, 100),
        ],
        says="The most first, among the hundred largest namespaces.",
        empty="nothing lacks a family, or the cluster role is not scraped",
        sort=("how many", True),
        size=(12, 8),
        only_bad=True,
    )
    yield graph(
        "What still lacks IPv6?",
        [Query(f'sum by (resource) (dualstack_objects_without_family{{ip_family="IPv6", {C}}})', "{{resource}}")],
        says="Objects that are meant to have IPv6 and lack it, over time.",
        empty="the cluster role was not scraped in this time, or IPv6 is not expected",
    )


def _nodes() -> Iterator[Panel]:
    yield table(
        "On how many nodes is each pool masqueraded?",
        [
            f"count by (pool, ip_family) (dualstack_nat_pool_masqueraded{{{C}}})",
            f"sum by (pool, ip_family) (dualstack_nat_pool_masqueraded{{{C}}})",
            f"sum by (pool, ip_family) (1 - dualstack_nat_pool_masqueraded{{{C}}})",
        ],
        [
            Column("pool", "pool", TEXT),
            Column("ip_family", "family", width=80),
            Column("#B", "nodes that do", width=120),
            Column("#C", "nodes that do not", COUNT_WARN, 140),
            Column("#A"),
        ],
        says="Pools with natOutgoing, as each node's kernel has them. All nodes wrong: the pool or Felix; some: those nodes.",
        empty="no pool asks for natOutgoing, or the nodes' NAT tables could not be read",
        sort=("nodes that do not", True),
        size=(12, 6),
    )
    yield table(
        "Do the tunnels have one MTU?",
        [f'count_values by (device) ("mtu", dualstack_vxlan_mtu_bytes{{{C}}})'],
        [Column("device", "device", TEXT), Column("mtu", "MTU", width=100), Column("#A", "nodes", width=90)],
        says="Nodes by the MTU of their tunnel. Two lines for one device are right only where underlays differ.",
        empty="no node has a tunnel",
        sort=("device", False),
        size=(6, 6),
    )
    yield table(
        "Does kube-proxy serve both families?",
        [
            f"count by (mode, ip_family) (dualstack_kube_proxy_service_rules{{{C}}})",
            f"sum by (mode, ip_family) (dualstack_kube_proxy_service_rules{{{C}}})",
        ],
        [
            Column("mode", "mode", TEXT),
            Column("ip_family", "family", width=80),
            Column("#B", "have rules", width=100),
            Column("#A", "of nodes", width=90),
        ],
        says="Nodes on which kube-proxy's rules for Services of the family stand.",
        empty="no kube-proxy was found, or its rules could not be read",
        sort=("family", True),
        size=(6, 6),
    )
    yield graph(
        "Which families do the exporters expect?",
        [Query(f"sum by (ip_family) (dualstack_family_expected{{{C}}})", "{{ip_family}}")],
        says="Exporters that expect the family, nodes and cluster role. The lines of an agreeing cluster are level; a fall means that what named the family is gone.",
        empty="nothing that could tell was readable",
        size=(24, 8),
    )


def _unknown() -> Iterator[Panel]:
    yield unchecked(
        "What could the cluster role not check, and why?",
        f"dualstack_cause_unchecked{{{NOT_CHECKED}, {C}}} == 1 and {ROLE}",
        width=12,
    )
    synced = f"time() - dualstack_exporter_inventory_last_sync_timestamp_seconds{{{C}}} and {ROLE}"
    yield table(
        "Which objects can be read, how fresh are they?",
        [
            f"min by (reader) (dualstack_reader_success{{{C}}} and {ROLE})",
            f"max by (reader) (dualstack_reader_duration_seconds{{{C}}} and {ROLE})",
            f'max by (reader) (label_replace({synced}, "reader", "$1", "resource", "(.+)"))',
        ],
        [
            Column("reader", "objects", TEXT),
            Column("#A", "read", UNREAD, 150),
            Column("#B", "took", Look(unit="s"), 100),
            Column("#C", "current as of", Look(unit="s", decimals=0), 130),
        ],
        says="Readers of the cluster role. current as of: seconds since the kind of object was last known to be current.",
        empty="the cluster role is not scraped",
        sort=("read", False),
        size=(12, 8),
    )
