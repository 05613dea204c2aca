"""The metrics that the contract promises, by name and label, and a whole scrape under promtool's eyes."""

from __future__ import annotations

import subprocess

import pytest

from exporter.catalogue import CATALOGUE
from exporter.catalogue.metric import Type
from exporter.catalogue.probes import LIBCS
from exporter.model.dns import BlockKind
from exporter.model.report import Report
from exporter.web.server.exposition import Exposition
from tests.unit.sample import bad_day, blind, migration_day, own, quiet_day, round_of

PROBE = "vantage target layer ip_family"
PROMISED = {
    "family_expected": "ip_family",
    "family_ok": "ip_family",
    "cause": "cause scope severity",
    "cause_explained": "cause by",
    "cause_unchecked": "cause reason",
    "cause_subjects": "cause",
    "cause_subject_info": "cause kind namespace name",
    "probe_success_ratio": PROBE,
    "probe_failures": f"{PROBE} outcome",
    "probes_total": f"{PROBE} outcome",
    "probe_duration_seconds": PROBE,
    "tls_certificate_expiry_timestamp_seconds": "target ip_family",
    "pod_failing": "namespace pod ip_family layer outcome",
    "peer_failing": "peer vantage ip_family layer outcome",
    "dns_lookups": "vantage server name qtype ip_family outcome",
    "dns_lookups_total": "vantage server name qtype ip_family outcome",
    "dns_aaaa_block": "server kind",
    "resolver_prediction": "libc name request result",
    "pods": "state",
    "pods_with_address": "ip_family",
    "pods_libc": "libc",
    "nat_masquerade_rules": "ip_family backend",
    "nat_pool_masqueraded": "ip_family pool",
    "nat_packets_total": "ip_family backend",
    "vxlan_up": "device",
    "vxlan_info": "device vni port parent flow_based",
    "vxlan_mtu_bytes": "device",
    "vxlan_peers": "device state",
    "bgp_peers": "state",
    "reader_success": "reader",
    "reader_duration_seconds": "reader",
    "series_truncated": "metric",
    "exporter_info": "node role",
    "exporter_cni_info": "cni ipam",
    "exporter_build_info": "version revision python",
    "exporter_last_round_timestamp_seconds": "",
    "exporter_round_duration_seconds": "",
    "exporter_rounds_total": "",
    "exporter_rounds_skipped_total": "",
    "exporter_errors_total": "component",
    "exporter_events_total": "outcome",
    "exporter_inventory_last_sync_timestamp_seconds": "resource",
    "exporter_config_last_reload_successful": "",
    "exporter_config_last_reload_success_timestamp_seconds": "",
}


def test_every_promised_metric_exists_under_its_name_with_exactly_its_labels() -> None:
    declared = {m.name.removeprefix("dualstack_"): set(m.labels) for m in CATALOGUE}
    assert {name: declared.get(name) for name in PROMISED} == {
        name: set(labels.split()) for name, labels in PROMISED.items()
    }


def test_durations_are_a_histogram_and_nothing_else_is() -> None:
    assert [m.name for m in CATALOGUE if m.type is Type.HISTOGRAM] == ["dualstack_probe_duration_seconds"]


def test_state_sets_hold_the_promised_values() -> None:
    promised = "none blanket_nodata blanket_nxdomain filtered refused servfail dropped sinkhole dns64 undecided"
    assert promised.split() == list(BlockKind)
    assert {"glibc", "musl"} == set(LIBCS)


@pytest.mark.parametrize(
    "report",
    [bad_day(), quiet_day(), blind(), migration_day(), None],
    ids=["bad", "quiet", "blind", "migration", "none"],
)
def test_promtool_finds_nothing_in_a_scrape(report: Report | None) -> None:
    exposed = Exposition(own=own)
    if report is not None:
        exposed.publish(round_of(report))
    checked = subprocess.run(
        ["promtool", "check", "metrics"],
        input=exposed.render("", gzip=False).body,
        capture_output=True,
        check=False,
        timeout=30,
    )
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")
