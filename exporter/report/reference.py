"""The reference tables in Markdown: metrics, causes, alerts, configuration. `dualstack-exporter reference` prints them.

Each table is made from the one place that the program itself runs on: the catalogue, the table of causes, the
configuration's schema; alerts come from the rules file where the repository is at hand. docs/reference/ has a copy of
each, between markers; a test compares them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from exporter.catalogue import CATALOGUE
from exporter.config.reference import list_keys
from exporter.diagnosis.engine.causes import TABLE, CauseSpec
from exporter.diagnosis.rules.registry import RULES
from exporter.model.report import Cause, Role
from exporter.report.document import runbook

ALERTS = Path(__file__).parents[2] / "alerts" / "dualstack.yaml"

FAULT = re.compile(r'\bfault="(\w+)"')  # what an alert of the rules file reads
AGE = re.compile(r"place:dualstack_fault:age >= (\d+)")

MARKERS = ("<!-- {name}: begin (made by `{by}`) -->", "<!-- {name}: end -->")
MAKER = "dualstack-exporter reference"


def reference() -> str:
    """All tables, each under its heading."""
    return "\n".join(f"## {name.capitalize()}\n\n{table}" for name, table in tables().items())


def tables(root: str = "") -> Mapping[str, str]:
    """The tables by name. `root` leads from the page that shows them to the repository ("../"), for links to files."""
    found = {"metrics": metrics_table(), "causes": causes_table(root)}
    if ALERTS.is_file():
        found["alerts"] = alerts_table(ALERTS.read_text(encoding="utf-8"))
    return found | {"configuration": configuration_table()}


def metrics_table() -> str:
    rows = (
        (_code(metric.name), metric.type.value, ", ".join(metric.labels), metric.help) for metric in CATALOGUE
    )  # fmt: skip
    return markdown(("metric", "type", "labels", "meaning"), rows)


def causes_table(root: str = "") -> str:
    rows = (
        (
            f"[`{line.cause}`]({runbook(line.cause)})",
            line.scope.value,
            _roles(line),
            line.severity.value,
            _found(line),
            line.says,
            _rule(line.cause, root),
        )
        for line in TABLE
    )
    return markdown(("cause (runbook)", "scope", "role", "severity", "found", "what is wrong", "rule"), rows)


def _rule(cause: Cause, root: str) -> str:
    """A link to the file with the function that finds it. The function has the cause's name; its docstring says when it holds."""
    path = RULES[cause].__module__.replace(".", "/") + ".py"
    return f"[{path.rpartition('/')[2]}]({root}{path})"


def _roles(line: CauseSpec) -> str:
    return ", ".join(role.value for role in Role if role in line.roles)


def _found(line: CauseSpec) -> str:
    return "at once" if line.stated and not line.compares else "in two rounds"


def configuration_table() -> str:
    rows = ((_code(row.key), row.type, _code(row.default), row.meaning) for row in list_keys())
    return markdown(("key", "type", "default", "meaning"), rows)


def alerts_table(rules: str) -> str:
    """The alerts of a Prometheus rules file (its YAML text). Recording rules are left out, but for the severity that they give a fault."""
    every = [rule for group in yaml.safe_load(rules)["groups"] for rule in group["rules"]]
    recorded = {_label(rule, "fault"): _label(rule, "severity") for rule in every if "record" in rule}
    rows = (
        (_alert_link(rule), _severity(rule, recorded), wait_of(rule), _annotation(rule, "summary"))
        for rule in every
        if "alert" in rule
    )
    return markdown(("alert", "severity", "for", "meaning"), rows)


def wait_of(rule: Mapping[str, Any]) -> str:
    """How long a fault lasts before it is alerted: the age that the expression asks for, else the rule's `for`."""
    age = AGE.search(str(rule["expr"]))
    return f"{int(age.group(1)) // 60}m" if age else str(rule.get("for", "0s"))


def _severity(rule: Mapping[str, Any], recorded: Mapping[str, str]) -> str:
    """The alert's own, else the one that its fault is recorded with, else it comes with the series."""
    fault = FAULT.search(str(rule["expr"]))
    return _label(rule, "severity") or (recorded.get(fault.group(1)) or "from the cause" if fault else "")


def _alert_link(rule: Mapping[str, Any]) -> str:
    address = _annotation(rule, "runbook_url")
    return f"[`{rule['alert']}`]({address})" if address else _code(rule["alert"])


def _label(rule: Mapping[str, Any], name: str) -> str:
    return str(rule.get("labels", {}).get(name, ""))


def _annotation(rule: Mapping[str, Any], name: str) -> str:
    return str(rule.get("annotations", {}).get(name, ""))


def _code(text: str) -> str:
    return f"`{text}`" if text else ""


def markdown(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """A Markdown table; a bar or a line break inside a cell would end it and is written otherwise."""
    lines = [head, ("---",) * len(head), *rows]
    return "".join(f"| {' | '.join(_cell(cell) for cell in line)} |\n" for line in lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def replace_between_markers(document: str, name: str, table: str, *, by: str = MAKER) -> str:
    """The document with this table between the markers of that name; `by` is the command that makes it.

    Raises:
        ValueError: it does not hold both markers once, in order.
    """
    begin, end = (marker.format(name=name, by=by) for marker in MARKERS)
    if document.count(begin) != 1 or document.count(end) != 1 or document.index(begin) > document.index(end):
        raise ValueError(f"the document needs the lines {begin} and {end}, once each and in this order")
    head, rest = document.split(begin)
    _, tail = rest.split(end)
    return f"{head}{begin}\n{table}{end}{tail}"
