"""Every cause and alert has a runbook in the package, found by either name."""

from __future__ import annotations

from pathlib import Path

import pytest

from exporter.cli.explain import explain
from exporter.daemon.options import CommandError, Options
from exporter.model.cause import Cause
from exporter.report.document import alert_name
from exporter.report.runbooks import read_runbook, runbook_names, similar_names
from exporter.web.page.runbook import runbook_page, runbooks_page

FILES = Path(__file__).parents[2] / "alerts" / "runbooks"


def test_the_package_has_every_runbook() -> None:
    assert runbook_names() == tuple(sorted(path.stem for path in FILES.glob("*.md")))
    assert all(read_runbook(path.stem) == path.read_text() for path in FILES.glob("*.md"))


@pytest.mark.parametrize("cause", Cause)
def test_a_cause_is_explained_by_its_alerts_runbook(cause: Cause) -> None:
    assert read_runbook(cause.value) == read_runbook(alert_name(cause)) is not None


@pytest.mark.parametrize("name", ["", "nothing", "../README", "DualstackDnsAaaaBlocked.md", "/etc/passwd"])
def test_nothing_else_is_read(name: str) -> None:
    assert read_runbook(name) is None


def test_a_misspelled_name_leads_to_the_right_one() -> None:
    assert similar_names("dns_aaa_blocked")[0] == "dns_aaaa_blocked"
    assert similar_names("dualstackipv6down")[0] == "DualstackIpv6Down"
    assert similar_names("zzz") == []


def test_explain_prints_the_runbook(capsys: pytest.CaptureFixture[str]) -> None:
    assert explain(Options(name="dns_aaaa_blocked")) == 0
    assert capsys.readouterr() == ((FILES / "DualstackDnsAaaaBlocked.md").read_text(), "")


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("dns_aaa_blocked", "did you mean dns_aaaa_blocked or"),
        ("zzz", "the report and the page name causes and alerts"),
    ],
)
def test_an_unknown_name_is_told_with_similar_ones(name: str, hint: str) -> None:
    with pytest.raises(CommandError, match=f"no cause or alert is called '{name}'; {hint}"):
        explain(Options(name=name))


def test_the_pages_link_to_each_other_and_show_the_text_as_it_is() -> None:
    assert all(f'<a href="{name}">{name}</a>' in runbooks_page(runbook_names()) for name in runbook_names())
    page = runbook_page("DualstackIpv6Down", "# Title\n\n    <script> & `x`\n")
    assert "# Title\n\n    &lt;script&gt; &amp; `x`\n" in page
    assert '<a href="./">all runbooks</a>' in page
