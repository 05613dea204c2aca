"""The rules mean the same on Prometheus 2.42, which evaluates them here, and on 3.x, which these tests know by what it
changed.

Changed in 3.0 (its migration guide): ranges and subqueries leave out a sample that lies exactly on their left border;
`.` in a regular expression matches a line break as well; le and quantile are written as floats; holt_winters has
another name, and some words became part of the language. Alertmanager 0.27 reads unquoted matchers otherwise than
before.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.contract import cause_cases
from tests.contract.alert_rules import ALERTS, EVERY, ROOT, Rule

RULE_TESTS = sorted((ROOT / "tests/alerts").glob("*.yaml"))
RANGE = re.compile(r"\[(\d+)([smhd])(:\w+)?\]")
MILLISECONDS = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
SCRAPED = 30_000  # milliseconds between two samples
# Labels whose values never hold a line break: enums, and names that Kubernetes or a scrape configuration gives.
ONE_LINE = {
    "cause", "by", "job", "reason", "state", "fault", "outcome", "role", "node", "name", "ip_family", "reader",
    "component",
}  # fmt: skip
WORDS = {"anchored", "smoothed", "fill", "fill_left", "fill_right", "start", "end", "range", "step"}

each_rule = pytest.mark.parametrize("rule", EVERY, ids=lambda rule: rule.name)


def length(found: re.Match[str]) -> int:
    """Of a range, in milliseconds."""
    return int(found[1]) * MILLISECONDS[found[2]]


def without_left_border(expression: str) -> str:
    """The expression as 3.x takes it, for 2.42: samples stand at whole milliseconds, so a range that is one shorter is
    open on its left.
    """
    return RANGE.sub(lambda found: f"[{length(found) - 1}ms{found[3] or ''}]", expression)


@pytest.mark.real
@pytest.mark.parametrize("path", [*RULE_TESTS, None], ids=lambda path: path.stem if path else "causes")
def test_rules_behave_alike_where_ranges_leave_out_their_left_border(path: Path | None, tmp_path: Path) -> None:
    case = yaml.safe_load(path.read_text()) if path else cause_cases.cases()
    for number, name in enumerate(case["rule_files"]):
        document = yaml.safe_load((ROOT / "tests/alerts" / name).read_text())
        for rule in (rule for group in document["groups"] for rule in group["rules"]):
            rule["expr"] = without_left_border(rule["expr"])
        (tmp_path / f"{number}.yaml").write_text(yaml.safe_dump(document, width=10_000))
        case["rule_files"][number] = str(tmp_path / f"{number}.yaml")
    (tmp_path / "test.yaml").write_text(yaml.safe_dump(case, width=10_000))
    done = subprocess.run(
        ["promtool", "test", "rules", tmp_path / "test.yaml"], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_range_is_made_open_on_its_left() -> None:
    assert without_left_border("max_over_time(a[3m]) or rate(b[1d:30m])") == (
        "max_over_time(a[179999ms]) or rate(b[86399999ms:30m])"
    )


@each_rule
def test_every_range_is_found_and_holds_samples_enough_without_the_one_on_its_border(rule: Rule) -> None:
    expression = str(rule.fields["expr"])
    ranges = list(RANGE.finditer(expression))
    assert len(ranges) == expression.count("[")
    assert all(length(found) >= 3 * SCRAPED for found in ranges)


@each_rule
def test_what_a_dot_may_match_never_holds_a_line_break(rule: Rule) -> None:
    for selector in rule.expression.selectors:
        for matcher in selector.matchers:
            assert "." not in matcher.value or "~" not in matcher.operator or matcher.label in ONE_LINE, matcher
    replaced = re.findall(r'"(\w+)",\s*"\(\.\+\)"', str(rule.fields["expr"]))
    assert len(replaced) == str(rule.fields["expr"]).count("label_replace")
    assert set(replaced) <= ONE_LINE


@each_rule
def test_no_rule_goes_by_labels_that_3_0_writes_otherwise_or_by_words_that_it_took(rule: Rule) -> None:
    used = rule.expression
    named = {matcher.label for selector in used.selectors for matcher in selector.matchers} | used.grouping | used.made
    assert not named & ({"le", "quantile"} | WORDS)
    assert not {selector.metric for selector in used.selectors} & WORDS


def test_every_matcher_of_the_alertmanager_example_is_quoted() -> None:
    configuration = yaml.safe_load((ALERTS / "alertmanager.yaml").read_text())
    routes = [matcher for route in configuration["route"]["routes"] for matcher in route["matchers"]]
    rules = [m for rule in configuration["inhibit_rules"] for m in (*rule["source_matchers"], *rule["target_matchers"])]
    assert len(routes) > 3
    for matcher in (*routes, *rules):
        assert re.fullmatch(r'\w+(=|!=|=~|!~)"[^"]*"', matcher), matcher
