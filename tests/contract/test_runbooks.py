"""alerts/runbooks/: a page for each alert and each cause, whole, with links, metrics and commands that exist."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml

from alerts.derive import runbook_base, with_runbooks
from exporter.catalogue import CATALOGUE
from exporter.config.schema import RUNBOOKS
from exporter.model.cause import Cause
from exporter.report.document import alert_name
from exporter.report.runbooks import read_runbook
from tests.contract.alert_rules import ALERTING, ALERTS, CAUSE_ALERTS, MAIN, RECORDED, ROOT, Rule

RUNBOOK_FILES = ALERTS / "runbooks"
HEADINGS = ["Meaning", "Impact", "Diagnosis", "Mitigation", "What not to do"]


def runbooks() -> list[Path]:
    return sorted(RUNBOOK_FILES.glob("*.md"))


def test_there_is_a_runbook_for_every_alert_and_every_cause_and_no_other() -> None:
    named = {path.stem for path in runbooks()}
    assert named == {rule.name for rule in MAIN if rule.is_alert} | set(CAUSE_ALERTS)


@pytest.mark.parametrize("rule", ALERTING, ids=lambda rule: rule.name)
def test_the_runbook_of_an_alert_is_where_it_says(rule: Rule) -> None:
    address = rule.annotations["runbook_url"]
    assert address.startswith(RUNBOOKS)
    assert (RUNBOOK_FILES / address.removeprefix(RUNBOOKS)).is_file()
    if rule in MAIN:
        assert address == f"{RUNBOOKS}{rule.name}.md"


@pytest.mark.parametrize("path", runbooks(), ids=lambda path: path.stem)
def test_a_runbook_has_its_five_sections_with_something_in_each(path: Path) -> None:
    text = path.read_text()
    assert text.startswith(f"# {path.stem}\n")
    parts = re.split(r"^## (.+)\n", text, flags=re.MULTILINE)
    assert parts[1::2] == HEADINGS
    assert all(len(body.strip()) > 20 for body in parts[2::2])
    assert re.search(r"^(```|    \S)", parts[parts.index("Diagnosis") + 1], re.MULTILINE), "a command to run"


# What a command begins with; a line of code that begins otherwise shows what a command says, a query's result, or an
# object.
PROGRAMS = re.compile(
    r"\|?\s*(kubectl|microk8s|calicoctl|dualstack-exporter|dig|ip|ip6tables|iptables|ipset|nft|sysctl|bridge|ping|tcpdump|ethtool|grep|tr|cat"
    r"|openssl|amtool|-o)\b(?!:)"
)
QUERY = re.compile(r"(increase\()?dualstack_\w+")


@pytest.mark.parametrize("path", runbooks(), ids=lambda path: path.stem)
def test_a_diagnosis_shows_what_a_command_says_when_it_is_this(path: Path) -> None:
    diagnosis = path.read_text().split("## Diagnosis\n")[1].split("\n## ")[0]
    code = re.findall(r"^    +(\S.*)$", diagnosis, re.MULTILINE)
    assert any(PROGRAMS.match(line) or QUERY.match(line) for line in code), "a command"
    shown = [line for line in code if not PROGRAMS.match(line) and not QUERY.match(line)]
    assert shown or re.search(r"(shows|prints) nothing", diagnosis), "and what it says"


def commands() -> dict[Cause, list[str]]:
    """The fixed parts of the command that each rule prints first, as far as they stand in the rule itself."""
    found: dict[Cause, list[str]] = {}
    for path in (ROOT / "exporter/diagnosis").rglob("*.py"):
        module = ast.parse(path.read_text())
        named = {
            node.targets[0].id: str(node.value.value)
            for node in module.body
            if isinstance(node, ast.Assign)
            and isinstance(node.targets[0], ast.Name)
            and isinstance(node.value, ast.Constant)
        }
        for node in ast.walk(module):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in {"finding", "found"}:
                cause, command = node.args[0], {k.arg: k.value for k in node.keywords}["command"]
                if isinstance(cause, ast.Attribute):
                    found[Cause[cause.attr]] = re.split(r"; | \| ", _fixed(command, named))[0].split("\0")
    return found


def _fixed(node: ast.expr, named: Mapping[str, str]) -> str:
    """A text with what is not fixed in it as NUL."""
    match node:
        case ast.Constant():
            return str(node.value)
        case ast.Name():
            return named.get(node.id, "\0")
        case ast.JoinedStr():
            return "".join(_fixed(part, named) for part in node.values)
        case ast.FormattedValue():
            return _fixed(node.value, named)
    return "\0"


@pytest.mark.parametrize(("cause", "parts"), commands().items(), ids=[str(cause) for cause in commands()])
def test_a_runbook_begins_with_the_command_that_check_prints(cause: Cause, parts: list[str]) -> None:
    text = (RUNBOOK_FILES / f"{alert_name(cause)}.md").read_text()
    diagnosis = text[text.index("## Diagnosis") :]
    assert all(part.strip() in diagnosis for part in parts)


def test_commands_of_most_rules_are_found() -> None:
    assert len(commands()) >= 30


@pytest.mark.parametrize("path", [*runbooks(), *ALERTS.glob("*.md")], ids=lambda path: path.stem)
def test_every_link_of_a_page_leads_to_a_file(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", path.read_text()):
        assert target.startswith("https://") or (path.parent / target).exists(), target


@pytest.mark.parametrize("path", [*runbooks(), *ALERTS.glob("*.md")], ids=lambda path: path.stem)
def test_metrics_named_on_a_page_exist(path: Path) -> None:
    known = {m.name for m in CATALOGUE} | RECORDED
    named = set(re.findall(r"(?<![\w:/.-])(?:\w+:)?dualstack_[a-z0-9_]+(?::\w+)?", path.read_text()))
    assert named <= known


def test_one_key_decides_where_all_links_lead(tmp_path: Path) -> None:
    """That of the shipped configuration, which reports use as well (test_report_document.py)."""
    config = tmp_path / "deploy/base/config.yaml"
    config.parent.mkdir(parents=True)
    shipped = (ROOT / "deploy/base/config.yaml").read_text()
    assert runbook_base(ROOT) == RUNBOOKS
    config.write_text(shipped.replace("    families: auto\n", "    runbooks: {url: 'https://wiki.test/rb'}\n"))
    assert runbook_base(tmp_path) == "https://wiki.test/rb/"
    rules = yaml.safe_load(with_runbooks((ALERTS / "dualstack.yaml").read_text(), runbook_base(tmp_path)))
    named = {r["alert"]: r["annotations"]["runbook_url"] for g in rules["groups"] for r in g["rules"] if "alert" in r}
    assert named == {name: f"https://wiki.test/rb/{name}.md" for name in named}


@pytest.mark.parametrize("path", runbooks(), ids=lambda path: path.stem)
def test_the_default_links_are_pages_of_the_exporter(path: Path) -> None:
    assert RUNBOOKS.endswith("/runbooks/")
    assert read_runbook(path.stem) == path.read_text()
