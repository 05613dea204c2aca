"""The dashboard of the cluster: its dual-stack configuration and the progress of a migration."""

from __future__ import annotations

from collections.abc import Iterator

from grafana.panels import (
    BLUE,
    COUNT_INFO,
    COUNT_WARN,
    GREEN,
    ORANGE,
    RED,
    TEXT,
    Column,
    Panel,
    Query,
    Style,
    bars,
    graph,
    pick,
    row,
    scale,
    stat,
    table,
)
from grafana.verdict import EXPORTER, NOT_CHECKED, causes, causes_by_severity, subjects, unchecked
from grafana.words import READ

C = 'cluster=~"$cluster"'
CONFIGURED = f'scope="cluster", {C}'
API = 'reader=~"api_.+"'
ROLE = f'on ({EXPORTER}) dualstack_exporter_info{{role=~"cluster|all", {C}}}'
# A migration that is not finished, or not wanted, is no fault.
PROGRESS = Style(unit="percentunit", steps=scale((0, BLUE), (1, GREEN)), range=(0, 1))


def panels() -> Iterator[Panel]:
    """In reading order: the configuration, the migration, differences between nodes, and what is not checked."""
    yield row("Configuration")
    yield from _now()
    yield causes("Active causes in the configuration", CONFIGURED, C, height=6)
    yield subjects("Affected objects", C, CONFIGURED, width=24)
    yield row("Migration")
    yield from _migration()
    yield row("Consistency across nodes")
    yield from _nodes()
    yield row("Not checked")
    yield from _unknown()


def _now() -> Iterator[Panel]:
    yield stat(
        "Expected address families",
        [Query(f"max by (ip_family) (dualstack_family_expected{{{C}}})", "{{ip_family}}")],
        description="Families that pods should have, from the configuration or from pools, podCIDRs, Service ranges, "
        "the CNI configuration and pod addresses.",
        empty="none of these could be read, or no exporter has completed a round",
        none="unknown",
        style=Style(words={"1": "expected", "0": "not expected"}),
        size=(6, 4),
    )
    yield causes_by_severity("Configuration causes by severity", CONFIGURED, width=8)
    yield stat(
        "Dual-stack pods",
        f'min(dualstack_migration_ratio{{resource="pods", {C}}})',
        description="Ratio of pods with both families to all pods that can have them.",
        empty="the cluster exporter is not scraped, or may not list pods",
        none="unknown",
        style=PROGRESS,
        size=(4, 4),
    )
    yield stat(
        "Inventory age",
        f"max(dualstack_inventory_age_seconds{{{C}}})",
        description="Age of the oldest inventory that an exporter used in its last round.",
        empty="no exporter has an inventory: there is no Kubernetes API, or it was never reached",
        none="no inventory",
        # A watch without events proves that its data is current only when it ends, after six minutes.
        style=Style(unit="s", steps=scale((0, GREEN), (600, ORANGE), (1200, RED)), decimals=0),
        size=(3, 4),
    )
    yield stat(
        "Stale inventories",
        f"sum(dualstack_inventory_stale{{{C}}})",
        description="Exporters that cannot reach the API and use old data.",
        empty="no exporter has an inventory",
        none="no inventory",
        style=COUNT_WARN,
        size=(3, 4),
    )


def _migration() -> Iterator[Panel]:
    yield bars(
        "Dual-stack objects by resource",
        Query(f"min by (resource) (dualstack_migration_ratio{{{C}}})", "{{resource}}"),
        description="Ratio of objects with both families to all objects that can have them. EndpointSlices are "
        "counted by Service.",
        empty="the cluster exporter is not scraped, or may not list these objects",
        none="unknown",
        style=PROGRESS,
        size=(6, 8),
    )
    having, lacking = "dualstack_objects_with_family", "dualstack_objects_without_family"
    v6, v4 = 'ip_family="IPv6"', 'ip_family="IPv4"'
    yield table(
        "Objects by address family",
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
            Column("#C", "without IPv6", COUNT_INFO),
            Column("#D", "with IPv4"),
            Column("#E", "without IPv4", COUNT_INFO),
            Column("#A"),
        ],
        description="without: the object should have the family but has not. Pods keep their addresses until they are "
        "recreated, Services until their ipFamilyPolicy is changed.",
        empty="the cluster exporter is not scraped, or may not list these objects",
        sort=("without IPv6", True),
        size=(10, 8),
    )
    yield graph(
        "Migration progress",
        [Query(f"min by (resource) (dualstack_migration_ratio{{{C}}})", "{{resource}}")],
        description="Ratio of dual-stack objects over time.",
        empty="the cluster exporter was not scraped in this time",
        style=PROGRESS,
        size=(8, 8),
    )
    yield table(
        "Phases of the migration",
        [f"max by (phase, state) (dualstack_migration_phase{{{C}}}) == 1"],
        [Column("phase", "phase", TEXT), Column("state", "state", TEXT), Column("#A")],
        description="The page /migration of the cluster exporter and `dualstack-exporter migration` show the steps of "
        "each phase and what to do. Phases that only nodes show have no row.",
        empty="the cluster exporter is not scraped, or has no inventory",
        sort=("state", True),
        size=(6, 8),
    )
    by_namespace = f"dualstack_namespace_objects_without_family{{{C}}}"
    yield table(
        "Objects without a family by namespace",
        [f"topk(200, sum by (namespace, resource, ip_family) ({by_namespace}))"],
        [
            Column("namespace", "namespace", TEXT),
            Column("resource", "objects", TEXT),
            Column("ip_family", "without", width=90),
            Column("#A", "count", COUNT_INFO, 100),
        ],
        description="Objects that should have the family but have not, for the hundred largest namespaces, highest "
        "count first.",
        empty="every object has its families, or the cluster exporter is not scraped",
        sort=("count", True),
        size=(10, 8),
        only_bad=True,
    )
    yield graph(
        "Objects without IPv6",
        [Query(f'sum by (resource) (dualstack_objects_without_family{{ip_family="IPv6", {C}}})', "{{resource}}")],
        description="Objects that should have IPv6 but have not, over time.",
        empty="the cluster exporter was not scraped in this time, or IPv6 is not expected",
        size=(8, 8),
    )


def _nodes() -> Iterator[Panel]:
    yield table(
        "Nodes with NAT outgoing by IP pool",
        [
            f"count by (pool, ip_family) (dualstack_nat_pool_masqueraded{{{C}}})",
            f"sum by (pool, ip_family) (dualstack_nat_pool_masqueraded{{{C}}})",
            f"sum by (pool, ip_family) (1 - dualstack_nat_pool_masqueraded{{{C}}})",
        ],
        [
            Column("pool", "pool", TEXT),
            Column("ip_family", "family", width=80),
            Column("#B", "nodes with", width=120),
            Column("#C", "nodes without", COUNT_WARN, 140),
            Column("#A"),
        ],
        description="Nodes whose kernel masquerades packets of each pool with natOutgoing. If all nodes are without, "
        "check the pool or Felix; if some are, check those nodes.",
        empty="no pool has natOutgoing enabled, or the nodes' NAT tables could not be read",
        sort=("nodes without", True),
        size=(12, 6),
    )
    yield table(
        "Tunnel MTU by device",
        [f'count_values by (device) ("mtu", dualstack_vxlan_mtu_bytes{{{C}}})'],
        [Column("device", "device", TEXT), Column("mtu", "MTU", width=100), Column("#A", "nodes", width=90)],
        description="Nodes by the MTU of their tunnel. More than one MTU for a device is correct only if the "
        "underlying networks differ.",
        empty="no node has a tunnel",
        sort=("device", False),
        size=(6, 6),
    )
    yield table(
        "Nodes with kube-proxy rules by family",
        [
            f"count by (mode, ip_family) (dualstack_kube_proxy_service_rules{{{C}}})",
            f"sum by (mode, ip_family) (dualstack_kube_proxy_service_rules{{{C}}})",
        ],
        [
            Column("mode", "mode", TEXT),
            Column("ip_family", "family", width=80),
            Column("#B", "have rules", width=100),
            Column("#A", "nodes", width=90),
        ],
        description="Nodes on which kube-proxy has rules for Services of the family.",
        empty="no kube-proxy was found, or its rules could not be read",
        sort=("family", True),
        size=(6, 6),
    )
    yield graph(
        "Exporters by expected family",
        [Query(f"sum by (ip_family) (dualstack_family_expected{{{C}}})", "{{ip_family}}")],
        description="Number of exporters (nodes and cluster exporter) that expect the family. The lines should be "
        "level; a drop means that the configuration of the family was removed.",
        empty="the expected families could not be determined",
        size=(24, 8),
    )


def _unknown() -> Iterator[Panel]:
    yield unchecked(
        "Causes not checked by the cluster exporter",
        f"dualstack_cause_unchecked{{{NOT_CHECKED}, {C}}} == 1 and {ROLE}",
        width=12,
    )
    # Readers have the name of the resource behind api_. A resource that no reader reads, such as a file, has no row.
    synced = f"time() - dualstack_exporter_inventory_last_sync_timestamp_seconds{{{C}}} and {ROLE}"
    named = f'label_replace({synced}, "reader", "api_$1", "resource", "(.+)")'
    yield table(
        "Kubernetes readers",
        [
            f"min by (reader) ({pick('dualstack_reader_success', API, C)} and {ROLE})",
            f"max by (reader) ({pick('dualstack_reader_duration_seconds', API, C)} and {ROLE})",
            f"max by (reader) ({named} and on ({EXPORTER}, reader) dualstack_reader_success)",
        ],
        [
            Column("reader", "objects", TEXT),
            Column("#A", "read", READ, 150),
            Column("#B", "took", Style(unit="s"), 100),
            Column("#C", "current as of", Style(unit="s", decimals=0), 130),
        ],
        description="Readers of the cluster exporter. current as of: seconds since this kind of object was last known "
        "to be current.",
        empty="the cluster exporter is not scraped",
        sort=("read", False),
        size=(12, 8),
    )
