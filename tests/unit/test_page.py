"""The status page as its reader finds it: parsed as HTML, never compared as text."""

from __future__ import annotations

import re
import time
from dataclasses import replace
from html.parser import HTMLParser
from ipaddress import ip_network
from typing import ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.model.cause import Cause, Scope, Severity
from exporter.model.cluster.inventory import Came, Inventory, InventoryOrigin, ResourceKind
from exporter.model.cluster.node import Node
from exporter.model.dial import dials_of
from exporter.model.dns import BlockKind
from exporter.model.facts import HostFacts, Inet6Conf, ReaderStatus
from exporter.model.family import Family
from exporter.model.packet_filter import MASQUERADE, Chain, Condition, Fixed, NatTable, Postrouting, Rule
from exporter.model.probe import Layer, Outcome
from exporter.model.reason import Reason
from exporter.model.report import CauseReport, FamilyReport, Finding, Report
from exporter.model.subject import Subject
from exporter.report.document import age, alert_name
from exporter.report.healed import DAY, HealedDay
from exporter.web.page.document import page
from exporter.web.page.markup import element
from exporter.web.page.style import STYLE
from tests.unit import sample_probes
from tests.unit.sample import bad_day, blind, migration_day, own, quiet_day
from tests.unit.sample_node import PODS
from tests.unit.sample_probes import NOW


class Parsed(HTMLParser):
    """The page's words, its elements with their attributes, and whether it is well-formed."""

    VOID: ClassVar = {"meta", "link", "br"}

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.words: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def shown(report: Report | None, *, fresh: bool = True, now: float = NOW + 12) -> Parsed:
    return Parsed(page(report, own(), now=now, fresh=fresh))


def with_snapshot(report: Report, **changes: object) -> Report:
    return replace(report, snapshot=replace(report.snapshot, **changes))  # type: ignore[arg-type]


ALL = {"bad": bad_day(), "migration": migration_day(), "quiet": quiet_day(), "blind": blind(), "none": None}


@pytest.mark.parametrize("report", ALL.values(), ids=ALL)
def test_the_page_is_well_formed_and_loads_and_runs_nothing(report: Report | None) -> None:
    parsed = shown(report)
    names = {name for name, _ in parsed.elements}
    assert not names & {"script", "link", "img", "iframe", "form", "object", "base"}
    assert not [
        a for _, attributes in parsed.elements for a in attributes if a.startswith("on") or a in {"style", "src"}
    ]
    assert len(parsed.named("style")) == 1
    assert "<style>" + STYLE + "</style>" in page(report, own(), now=NOW)
    assert not re.search(r"url\(|@import", STYLE)


def test_the_verdict_comes_first_in_signs_and_words() -> None:
    text = shown(bad_day()).text
    assert (
        text.index("node-a")
        < text.index("✗ IPv6 does not work")
        < text.index("✓ IPv4 works")
        < text.index("What to fix")
    )
    assert text.startswith("IPv6✗ IPv4✓")  # the browser's tab


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (FamilyReport(expected=True, ok=True), "✓ IPv6 works"),
        (FamilyReport(expected=True, ok=False), "✗ IPv6 does not work"),
        (FamilyReport(expected=None, ok=None), "? IPv6 unknown"),
        (FamilyReport(expected=False, ok=None), "– IPv6 is not expected"),  # noqa: RUF001 (the sign that is shown)
    ],
)
def test_each_state_of_a_family_has_its_sign_and_its_words(state: FamilyReport, words: str) -> None:
    assert words in shown(replace(bad_day(), families={Family.V6: state})).text


def test_the_page_says_why_a_family_is_expected() -> None:
    state = FamilyReport(expected=True, ok=True, evidence=("node/a has the podCIDR fd01::/64",))
    text = shown(replace(bad_day(), families={Family.V6: state})).text
    assert "IPv6 is expected because node/a has the podCIDR fd01::/64" in text
    assert "IPv4 is expected because" not in text


def test_a_cause_says_what_is_wrong_whom_it_affects_what_it_explains_and_what_to_do() -> None:
    text = shown(bad_day()).text
    told = text[text.index("nat_masquerade_missing warning") :]
    for words in (
        "for 60 min",
        "No rule masquerades an IPv6 pool that has natOutgoing enabled.",
        "Affects pool/default-ipv6-ippool",
        "Evidence ip6tables-nft, chain cali-nat-outgoing: 0 rules, reached from POSTROUTING",
        "Explains ipv6_unreachable (6)",
        "Run first ip6tables-nft -t nat -S cali-nat-outgoing",
        "Runbook DualstackNatMasqueradeMissing",
    ):
        assert words in told
        told = told[told.index(words) :]


def test_causes_stand_in_order_of_severity_and_explained_ones_are_folded_away_behind_them() -> None:
    text = shown(bad_day()).text
    places = [
        text.index(words)
        for words in ("dns_aaaa_blocked critical", "nat_masquerade_missing warning", "pod_ipv6_missing info")
    ]
    places.append(text.index("Consequences of other causes (2)"))
    places.append(text.index("ipv6_unreachable warning"))
    assert places == sorted(places)


def test_many_subjects_are_folded_and_cut() -> None:
    finding = Finding(
        cause=Cause.POD_IPV6_MISSING,
        severity=Severity.WARNING,
        subjects=tuple(Subject(f"pod/shop/web-{n:03d}") for n in range(150)),
        evidence=(),
        command="true",
    )
    text = shown(replace(bad_day(), causes=(CauseReport(finding=finding, scope=Scope.POD, since=NOW - 5),))).text
    assert "pod/shop/web-005 and 144 more" in text
    assert "pod/shop/web-099 and 50 more" in text
    assert "pod/shop/web-100" not in text


def test_without_a_cause_the_page_says_what_that_means() -> None:
    assert f"✓ {len(quiet_day().checked)} causes checked, none found." in shown(quiet_day()).text
    nothing = replace(blind(), checked=frozenset())
    assert f"? None of the {len(nothing.unchecked)} causes could be checked: see below." in shown(nothing).text
    broken = replace(quiet_day(), families={Family.V6: FamilyReport(expected=True, ok=False)})
    assert "? IPv6 is failing, but none of the checked causes explains it. See the table below" in shown(broken).text


def test_the_matrix_shows_each_failing_pod_with_how_and_to_what() -> None:
    text = shown(bad_day()).text
    assert "before-ipv6-0 ✗ unreachable to pypi, 1 of 2 ✓ 2 ✗ unreachable to pypi, 1 of 3" in text
    assert "· not reached" in text
    assert "host ✓ 3 ✓ 3 ✗ timeout to peer node-c, 1 of 4" in text
    assert "shop 3 pods ✗ 3 of 6" in text


def test_the_verdict_counts_what_failed_of_what_was_dialled_and_the_rest_apart() -> None:
    text = shown(bad_day()).text
    assert "IPv6 does not work 13 of 39 probes fail, from 7 of 7 places (host, pods)." in text
    assert "Not counted: 12 not reached, 1 egress policy." in text
    assert "shop 3 pods ✗ 3 of 6 ✓ 6 ✗ 3 of 9 1 egress policy" in text
    assert "✗ 14 failing probes of 99; not counted: 12 not reached, 1 egress policy" in text


def test_each_address_that_was_dialled_is_shown_with_what_came_of_it() -> None:
    text = shown(bad_day()).text
    listed = text[text.index("Addresses dialled (11)") :]
    assert "pypi: 2001:db8:ffff::80 (IPv6) ✗ 12 of 16 , not counted: 12 not reached, 1 egress policy" in listed
    assert "service: fd00:10:2::40 (IPv6) ✓ 7" in listed
    nothing = replace(sample_probes.PYPI, addresses={Family.V6: None})
    observation = replace(sample_probes.seen(sample_probes.DB, nothing, Layer.TCP, Family.V6, Outcome.NO_ADDRESS))
    assert "pypi: no IPv6 address ✗ 1 of 1" in shown(with_snapshot(bad_day(), last=dials_of((observation,)))).text


def test_what_healed_is_told_with_its_runbook_and_since_when_it_is_known() -> None:
    day = HealedDay(since=NOW - 7_200)
    assert (
        "Nothing healed since 2026-11-20 08:10 UTC, when this exporter started."
        in Parsed(page(quiet_day(), own(), now=NOW, healed=day)).text
    )
    parsed = Parsed(page(quiet_day(), own(), now=NOW + 5, healed=day.after(bad_day(), quiet_day())))
    assert "✓ Healed since 2026-11-20 08:10 UTC, when this exporter started: 3 faults" in parsed.text
    assert "nat_masquerade_missing lasted 60 min, until 2026-11-20 10:10 UTC pool/default-ipv6-ippool" in parsed.text
    assert {"href": "/runbooks/DualstackNatMasqueradeMissing"} in parsed.named("a")
    assert "Nothing healed in 24 h." in Parsed(page(quiet_day(), own(), now=NOW + 2 * DAY, healed=day)).text


def test_every_cause_links_to_its_runbook_here() -> None:
    links = [a["href"] for a in shown(bad_day()).named("a")]
    assert {f"/runbooks/{alert_name(item.finding.cause)}" for item in bad_day().causes} <= {*links}


def test_a_policy_is_no_failure_in_the_matrix() -> None:
    observation = replace(
        sample_probes.seen(sample_probes.DB, sample_probes.PYPI, Layer.TCP, Family.V6, Outcome.PROHIBITED), policy=True
    )
    text = shown(with_snapshot(bad_day(), last=dials_of((observation,)))).text
    assert "prohibited" not in text
    assert "failing probe" not in text


def test_pods_in_which_nothing_fails_are_one_line() -> None:
    parsed = shown(quiet_day())
    assert "20 healthy pods" in parsed.text
    assert "90 pods not probed yet" in parsed.text
    assert len(parsed.named("tr")) < 12


def test_every_failing_probe_is_told_with_when_and_why() -> None:
    text = shown(bad_day()).text
    assert "✗ 14 failing probes" in text
    assert "10:10:28 node/node-a peer node-c IPv6 tcp ✗ timeout no answer to SYN within 3 s" in text


def test_what_nobody_expects_is_not_shown_as_a_fault() -> None:
    off = HostFacts(addresses=(), routes=(), all_conf=Inet6Conf(forwarding=0, accept_ra=0, disable_ipv6=1))
    plain_host = with_snapshot(blind(), host_facts=off)
    text = shown(plain_host).text
    assert "IPv6 forwarding off IPv6 disabled by sysctl" in text
    text = shown(replace(plain_host, families=bad_day().families)).text
    assert "IPv6 default ✗ none" in text
    assert "IPv6 forwarding ✗ off IPv6 ✗ disabled by sysctl" in text


def test_names_and_the_kernel_are_told_in_short() -> None:
    text = shown(bad_day()).text
    assert "cluster_dns IPv4 ✗ withheld blanket nodata 4 nodata 3 answer 1 nxdomain" in text
    assert "✗ musl >= 1.2.4 returns EAI_NODATA for pypi.org in 6 pods" in text
    assert "pool default-ipv6-ippool ✗ natOutgoing is on, but not masqueraded" in text
    assert "IPv6 default ✓ via fe80::1 on ens3, from a router advertisement, expires in 25 min" in text
    assert "peers ✗ 1 complete, 1 wrong mac" in text


def test_whether_pods_are_masqueraded_is_told_where_it_is_not_calicos_pools_that_say_it() -> None:
    def told(*conditions: Condition) -> str:
        rule = Rule(verdict=MASQUERADE, conditions=conditions)
        chain = Chain(name="POSTROUTING", hook=4, rules=(rule,), total=1)
        tables = (NatTable(name="ip6 nat", chains={"POSTROUTING": chain}),)
        facts = HostFacts(links=(), postrouting=Postrouting(copied=0, tables=tables))
        day = bad_day()
        absent = dict.fromkeys((ResourceKind.IP_POOLS, ResourceKind.FELIX), Reason.NOT_APPLICABLE)
        ranges = (ip_network("fd42:0:0:1::/64"),)
        plain = Inventory(
            source=InventoryOrigin.FILE, nodes=(Node(name=day.snapshot.node, pod_cidrs=ranges),), pods=(), unread=absent
        )
        return shown(with_snapshot(day, host_facts=facts, inventory=plain)).text

    assert "pods' IPv6 ✓ masqueraded" in told()
    assert "pods' IPv6 not masqueraded" in told(Fixed(holds=False, text="the family"))
    assert "pods' IPv6 ? not known: match time in ip6 nat POSTROUTING" in told(Fixed(None, "match time"))
    assert "pods' IPv6" not in shown(bad_day()).text


def test_what_was_not_checked_is_told_by_reason() -> None:
    text = shown(bad_day()).text
    assert "Not checked 4 causes" in text
    assert "2: needs Kubernetes objects that were not read (no_inventory)" in text


def test_what_cannot_be_seen_is_told_with_the_capability_that_would_show_it() -> None:
    text = shown(blind()).text
    assert "Pods cannot be read: see below for the reason." in text
    assert "? NAT rules: a permission is missing; needs CAP_NET_ADMIN" in text
    assert "? List of network namespaces: a permission is missing; needs CAP_SYS_ADMIN and CAP_SYS_PTRACE" in text
    assert "? Kubernetes: without an inventory" in text


def test_what_the_api_refuses_is_told_apart_from_what_the_kernel_refuses() -> None:
    names = ("pods", "namespaces", "api_pods", "api_ippools")
    refused = [ReaderStatus(reader=name, success=False, seconds=0.0, reason=Reason.NO_PERMISSION) for name in names]
    text = shown(with_snapshot(bad_day(), readings=tuple(refused))).text
    for what in ("Pods' network namespaces", "List of network namespaces"):
        assert f"? {what}: a permission is missing; needs CAP_SYS_ADMIN and CAP_SYS_PTRACE" in text
    for what in ("pods", "ippools"):
        assert f"? Kubernetes {what}: a permission is missing; RBAC does not allow it" in text


# Empty and unusual states.


def test_before_the_first_round_the_page_says_so() -> None:
    text = shown(None).text
    assert "No round has finished yet" in text
    assert "IPv6" not in text


def test_a_stale_round_an_incomplete_one_and_a_stale_inventory_stand_above_everything() -> None:
    report = bad_day()
    report = with_snapshot(report, complete=False, inventory=replace(report.snapshot.inventory, stale=True))
    text = shown(report, fresh=False, now=NOW + 400).text
    for words in (
        "! Probing has stalled. The last round finished 6 min ago and its metrics are no longer exposed.",
        "! This round is not complete.",
        "! The inventory is stale.",
    ):
        assert text.index(words) < text.index("IPv6 does not work")


@pytest.mark.parametrize("report", [bad_day(), None], ids=["a round", "no round yet"])
def test_a_failed_reload_stands_above_everything_with_its_reason(report: Report | None) -> None:
    failed = replace(own(), reload_successful=False, reload_problem="config.yaml: targets[0].nme: unknown key")
    text = Parsed(page(report, failed, now=NOW)).text
    words = "! The configuration was not reloaded. The previous one stays in use. config.yaml: targets[0].nme: unknown"
    assert words in text
    assert text.index(words) < text.index("No round has finished" if report is None else "IPv6 does not work")
    assert "not reloaded" not in shown(report).text


def test_an_inventory_that_never_came_stands_above_everything_with_its_reason() -> None:
    why = "https://10.0.0.1:443: forbidden: 403 <nodes> is forbidden"
    for came, words in (
        (Came.NOTHING, "! The inventory was never read."),
        (Came.PART, "! A part of the inventory was never read."),
    ):
        inventory = replace(bad_day().snapshot.inventory, came=came, problem=why)
        text = shown(with_snapshot(bad_day(), inventory=inventory)).text
        assert f"{words} Causes that need it are not checked. {why}" in text
        assert text.index(words) < text.index("IPv6 does not work")
    stale = replace(bad_day().snapshot.inventory, stale=True, problem=why)
    text = shown(with_snapshot(bad_day(), inventory=stale)).text
    assert "! The inventory is stale." in text
    assert why in text
    assert "never" not in text.partition("IPv6 does not work")[0]


def test_a_host_without_pods_and_without_probes_says_what_to_do() -> None:
    text = shown(with_snapshot(bad_day(), pods=(), last=(), observations=())).text
    assert "No probe was made." in text
    assert "No pods on this node: only the host probes." in text


def test_without_an_inventory_the_page_says_how_to_have_the_families_judged() -> None:
    report = with_snapshot(bad_day(), inventory=Inventory(source=InventoryOrigin.NONE))
    told = "set families in the configuration to have them judged"
    unknown = replace(report, families=dict.fromkeys(report.families, FamilyReport(None, None)))
    assert told in shown(unknown).text
    assert told not in shown(report).text


def test_pods_without_any_target_have_nothing_to_dial() -> None:
    text = shown(with_snapshot(bad_day(), last=(), observations=())).text
    assert "without a target" in text
    assert "not probed yet" not in text


def test_the_cluster_role_shows_the_migration_and_neither_matrix_nor_kernel() -> None:
    text = shown(migration_day()).text
    assert "Probes by place" not in text
    assert "This node's kernel" not in text
    assert "cidr_overlap warning" in text
    assert "pods 12 18 12 of 18 (67%)" in text
    assert "services without IPv6: 1 shop/cart" in text
    assert "? IPv6 unknown The cluster exporter does not probe" in text


def test_facts_that_were_not_read_leave_no_empty_boxes() -> None:
    text = shown(with_snapshot(bad_day(), host_facts=HostFacts())).text
    assert "This node's kernel" not in text


def test_the_links_are_there() -> None:
    links = [a["href"] for a in Parsed(page(bad_day(), own(), now=NOW, metrics="/m")).named("a")]
    assert links[-4:] == ["/m", "/api/v1/report", "/config", "/runbooks/"]


# Foreign text.

HOSTILE = "<script>alert(1)</script>\"'&lt;\u202e\x1b[31m\x00"


def hostile_report(text: str) -> Report:
    vantage = replace(sample_probes.WEB, namespace=text, name=text, uid="hostile")
    observation = sample_probes.seen(
        vantage, replace(sample_probes.PYPI, name=text), Layer.TCP, Family.V6, Outcome.TIMEOUT, detail=text
    )
    finding = Finding(
        cause=Cause.POD_IPV6_MISSING,
        severity=Severity.WARNING,
        subjects=(Subject(text), vantage.subject),
        evidence=(text,),
        command=text,
    )
    report = replace(
        bad_day(),
        causes=(CauseReport(finding=finding, scope=Scope.POD, since=NOW),),
        aaaa_blocks={text: BlockKind.REFUSED},
    )
    views = (
        *report.snapshot.pods,
        replace(report.snapshot.pods[0], vantage=replace(sample_probes.DB, name=text, uid="other")),
    )
    return with_snapshot(report, last=dials_of((observation,)), pods=views, node=text)


def test_foreign_text_stays_text() -> None:
    html = page(hostile_report(HOSTILE), replace(own(), node=HOSTILE, revision=HOSTILE), now=NOW)
    parsed = Parsed(html)
    assert parsed.named("script") == []
    assert "<script" not in html
    assert "alert(1)" in parsed.text
    assert not set(html) & set("\u202e\x1b\x00")


@settings(max_examples=50, deadline=None)
@given(st.text())
def test_any_foreign_text_leaves_the_page_well_formed_and_encodable(text: str) -> None:
    html = page(hostile_report(text), own(), now=NOW)
    assert html.encode()
    Parsed(html)


def test_an_element_escapes_what_it_is_given() -> None:
    assert element("b", "<i>", title='"') == '<b title="&quot;">&lt;i&gt;</b>'


def test_250_failing_pods_are_a_page_of_bounded_size_and_quick() -> None:
    pods = tuple(sample_probes.pod(n, f"ns-{n % 40}", f"app-{n}") for n in range(250))
    layers = (Layer.ICMP, Layer.TCP)
    broken = tuple(
        sample_probes.seen(p, sample_probes.PYPI, layer, Family.V6, Outcome.TIMEOUT, detail="x" * 60)
        for p in pods
        for layer in layers
    )
    report = with_snapshot(bad_day(), last=dials_of(broken), pods=tuple(replace(PODS[0], vantage=p) for p in pods))
    begun = time.process_time()
    html = page(report, own(), now=NOW)
    assert time.process_time() - begun < 1.0
    assert len(html) < 200_000
    assert "more pods with a failing probe: see the report as JSON" in html


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(-3, "0 s"), (0, "0 s"), (119, "119 s"), (120, "2 min"), (7_199, "119 min"), (7_200, "2 h"), (172_800, "2 days")],
)
def test_ages_are_told_in_one_unit(seconds: float, words: str) -> None:
    assert age(seconds) == words
