"""The text of `check`, as its reader sees it in a terminal."""

from __future__ import annotations

import io
import re
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.model.cause import Cause, Severity
from exporter.model.family import Family
from exporter.model.report import FamilyReport
from exporter.report.document import Document, document_of
from exporter.report.text import Style, write
from tests.unit.sample import bad_day, blind, quiet_day

BAD, QUIET, BLIND = document_of(bad_day()), document_of(quiet_day()), document_of(blind())
OTHER = replace(QUIET, node="node-b")
CLUSTER = replace(QUIET, node="cluster-1", role="cluster", probes=())


def section(text: str, begins: str) -> str:
    """The paragraph that begins with these words."""
    (found,) = [part for part in text.split("\n\n") if part.startswith(begins)]
    return found


def squeezed(text: str) -> str:
    return " ".join(text.split())


def test_the_node_line_comes_first() -> None:
    assert write([BAD]).splitlines()[0] == "[node-a] IPv6:✗ IPv4:✓"
    assert write([BAD], style=Style(unicode=False)).splitlines()[0] == "[node-a] IPv6:FAIL IPv4:ok"


def test_an_unknown_family_is_a_question_and_an_unexpected_one_says_so() -> None:
    assert write([BLIND]).splitlines()[0] == "[node-a] IPv6:? IPv4:✓"
    single = replace(
        BAD,
        families={Family.V4: FamilyReport(expected=True, ok=True), Family.V6: FamilyReport(expected=False, ok=None)},
    )
    assert write([single]).splitlines()[0] == "[node-a] IPv6:? IPv4:✓  (IPv6 is not expected)"


def test_why_a_family_is_expected_is_told_once() -> None:
    evidence = ("node/a has the podCIDR fd01::/64", "ServiceCIDR kubernetes has fd98::/108")
    expected = replace(
        BAD,
        families={
            Family.V4: FamilyReport(expected=True, ok=True),
            Family.V6: FamilyReport(expected=True, ok=True, evidence=evidence),
        },
    )
    text = squeezed(write([expected, replace(expected, node="node-b")]))
    assert text.count("is expected because") == 1
    assert (
        "IPv6 is expected because node/a has the podCIDR fd01::/64; ServiceCIDR kubernetes has fd98::/108 critical"
        in text
    )


def test_a_cause_is_told_with_everything_that_its_reader_needs() -> None:
    told = squeezed(section(write([BAD]), "warning: nat_masquerade_missing"))
    assert told == (
        "warning: nat_masquerade_missing for 60 min No rule masquerades an IPv6 pool that has natOutgoing enabled. "
        "affects pool/default-ipv6-ippool "
        "evidence ip6tables-nft, chain cali-nat-outgoing: 0 rules, reached from POSTROUTING "
        "pool default-ipv6-ippool (fd00:10:1::/48) has natOutgoing: true "
        "explains ipv6_unreachable "
        "run first ip6tables-nft -t nat -S cali-nat-outgoing "
        "runbook dualstack-exporter explain nat_masquerade_missing, or http://dualstack-exporter.dualstack-exporter.svc:10046/runbooks/DualstackNatMasqueradeMissing.md"
    )


def test_the_worst_cause_comes_first_and_explained_ones_have_no_paragraph() -> None:
    text = write([BAD])
    assert re.findall(r"^(critical|warning|info): (\S+)", text, re.MULTILINE) == [
        ("critical", "dns_aaaa_blocked"),
        ("warning", "nat_masquerade_missing"),
        ("info", "pod_ipv6_missing"),
    ]


def test_a_command_is_never_broken() -> None:
    text = write([BAD], style=Style(width=40))
    assert "kubectl -n kube-system get configmap coredns -o yaml | grep -n -A6 template" in text


def test_what_could_not_be_checked_is_counted_by_reason() -> None:
    told = section(write([BAD]), "Not checked: 4").splitlines()
    assert [line.split()[:2] for line in told[1:]] == [
        ["no_inventory", "2"],
        ["no_permission", "1"],
        ["too_few_samples", "1"],
    ]
    assert told[1].endswith("nat_kube_proxy_missing, control_plane_flags")
    many = [cause for cause, reason in BLIND.unchecked if reason == "no_inventory"]
    assert f"{many[7]} and {len(many) - 8} more" in squeezed(write([BLIND]))


def test_failing_probes_are_grouped_and_the_most_frequent_come_first() -> None:
    told = section(write([BAD]), "Failing probes: 14 of ")
    assert "pypi IPv6 icmp: timeout, 5 from pod/shop/web-6c9f7d5b8-2xkqp" in squeezed(told)
    assert "and 2 more (no echo reply within 1 s)" in squeezed(told)
    assert "peers IPv6 tcp: timeout, 1 from node/node-a (peer/node-c: no answer to SYN within 3 s)" in squeezed(told)
    assert "not_reached" not in told
    assert "metadata" not in told


def test_a_good_day_is_short() -> None:
    assert write([QUIET]) == "[node-a] IPv6:✓ IPv4:✓\n\nNo cause found.\n"


def test_a_bad_day_without_a_cause_is_not_called_a_good_one() -> None:
    assert "IPv6 does not work, and no known cause explains it." in write([replace(BAD, causes=())])


def test_without_any_inventory_nobody_is_told_that_no_cause_was_found() -> None:
    never = replace(QUIET, blind="https://10.0.0.1:443: forbidden: 403")
    assert "The inventory cannot be read: https://10.0.0.1:443: forbidden: 403" in write([never])
    assert "No cause found" not in write([never])
    several = write([never, OTHER])
    assert f"The inventory cannot be read on {never.node}: https" in several
    assert "No cause found" not in several
    assert "critical: dns_aaaa_blocked" in write([replace(BAD, blind="x")])


def test_an_exporter_that_probed_nothing_says_so() -> None:
    assert "Nothing was probed." in write([replace(QUIET, probes=())])
    assert "Nothing was probed." not in write([CLUSTER])


# Several reports.


def test_each_node_has_its_line_and_one_that_did_not_answer_a_question_mark() -> None:
    lines = write([CLUSTER, OTHER, BAD], missing=["node-z"]).splitlines()
    assert lines[:3] == [
        "[node-a] IPv6:✗ IPv4:✓",
        "[node-b] IPv6:✓ IPv4:✓",
        "[node-z] IPv6:? IPv4:?  (no report received)",
    ]
    assert "cluster-1" not in lines[0]


def test_the_cluster_role_alone_has_no_node_line() -> None:
    assert write([CLUSTER]) == "No cause found.\n"


def test_a_cause_of_several_nodes_is_told_once_with_its_nodes() -> None:
    again = replace(
        BAD,
        node="node-b",
        causes=tuple(replace(c, severity=Severity.CRITICAL, subjects=("pool/other",)) for c in BAD.causes),
    )
    text = write([BAD, again])
    assert text.count("nat_masquerade_missing  for") == 1
    told = section(text, "critical: nat_masquerade_missing")
    assert "nodes     node-a, node-b" in told
    assert "affects   pool/default-ipv6-ippool, pool/other" in told


def test_a_cause_that_another_report_explains_is_not_lost() -> None:
    causes = tuple(replace(c, explained_by="felix_ipv6_off") for c in BAD.causes if c.cause == Cause.IPV6_UNREACHABLE)
    text = write([replace(BAD, causes=causes)])
    assert "No cause found." in text
    assert "ipv6_unreachable is a consequence of felix_ipv6_off, which the cluster exporter reports." in text


# Terminals.


class Terminal(io.TextIOWrapper):
    def __init__(self, *, tty: bool, encoding: str = "utf-8") -> None:
        super().__init__(io.BytesIO(), encoding=encoding)
        self._tty = tty

    def isatty(self) -> bool:
        return self._tty


@pytest.mark.parametrize(
    ("tty", "environment", "colour"),
    [
        (True, {}, True),
        (False, {}, False),
        (True, {"NO_COLOR": "1"}, False),
        (True, {"NO_COLOR": ""}, True),
        (True, {"TERM": "dumb"}, False),
    ],
)
def test_colours_are_for_terminals_that_want_them(tty: bool, environment: dict[str, str], colour: bool) -> None:
    style = Style.of(Terminal(tty=tty), environment)
    assert style.colour is colour
    assert ("\x1b[" in write([BAD], style=style)) is colour


@pytest.mark.parametrize(("encoding", "unicode"), [("utf-8", True), ("ascii", False), ("latin-1", False)])
def test_ascii_is_written_where_the_terminal_needs_it(encoding: str, unicode: bool) -> None:
    style = Style.of(Terminal(tty=True, encoding=encoding), {"NO_COLOR": "1"})
    assert style.unicode is unicode
    assert write([BAD], style=style).encode(encoding)
    assert write([BAD], style=style).isascii() is not unicode


@pytest.mark.parametrize("width", [40, 60, 80, 110])
def test_lines_keep_to_the_width_unless_a_single_word_or_a_command_is_longer(width: int) -> None:
    commands = {c.command for c in BAD.causes} | {c.runbook for c in BAD.causes}
    for line in write([BAD, OTHER], style=Style(width=width)).splitlines():
        long_word = max((len(word) for word in line.split()), default=0) + 24 > width
        assert len(line) <= width or long_word or any(command in line for command in commands)


def hostile(text: str) -> Document:
    causes = tuple(
        replace(c, cause=text, subjects=(text,), evidence=(text,), command=text, runbook=text) for c in BAD.causes
    )
    probes = tuple(replace(p, subject=text, detail=text, target=text) for p in BAD.probes)
    return replace(BAD, node=text, causes=causes, probes=probes, unchecked=((text, text),))


def test_foreign_text_cannot_command_a_terminal_nor_forge_a_line() -> None:
    text = write([hostile("x\x1b[2J\x9b\r\n[node-b] IPv6:✓\u202e\u2028y")])
    assert not set(text) & set("\x1b\x9b\r\u202e\u2028")
    assert "\n[node-b]" not in text


@settings(max_examples=50, deadline=None)
@given(st.text())
def test_any_foreign_text_is_written_and_can_be_encoded(text: str) -> None:
    for style in (Style(), Style(unicode=False, width=40)):
        written = write([hostile(text)], style=style)
        assert written.encode("utf-8" if style.unicode else "ascii")
        assert all(c == "\n" or c.isprintable() for c in written)
