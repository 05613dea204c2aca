"""The reference tables in Markdown: metrics, causes, alerts, configuration. `dualstack-exporter reference` prints them.

Each table comes from what the program itself uses: the catalogue, the table of causes, the configuration's schema;
alerts from the rules file where the repository is present. docs/reference/ has a copy of each; a test compares them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from exporter.catalogue import CATALOGUE
from exporter.config.reference import list_keys
from exporter.diagnosis.rules.registry import RULES
from exporter.model.cause import Cause, Role
from exporter.report.document import alert_name

ALERTS = Path(__file__).parents[2] / "alerts" / "dualstack.yaml"

FAULT = re.compile(r'\bfault="(\w+)"')  # what an alert of the rules file reads
AGE = re.compile(r"place:dualstack_fault:age >= (\d+)")


def reference() -> str:
    """All tables, each under its heading."""
    return "\n".join(f"## {name.capitalize()}\n\n{table}" for name, table in tables().items())


def tables(root: str = "") -> Mapping[str, str]:
    """The tables by name. `root` is the path from their page to the repository ("../"), for links to files."""
    found = {"metrics": metrics_table(), "causes": causes_table(root)}
    if ALERTS.is_file():
        found["alerts"] = alerts_table(ALERTS.read_text(encoding="utf-8"), root)
    return found | {"configuration": configuration_table()}


def metrics_table() -> str:
    rows = ((_code(each.name), each.type.value, ", ".join(each.labels), each.help) for each in CATALOGUE)
    return markdown(("metric", "type", "labels", "meaning"), rows)


def causes_table(root: str = "") -> str:
    """Every cause; `rule` links to the file with the function of its name that finds it."""
    rows = []
    for cause in Cause:
        spec, path = cause.spec, RULES[cause].__module__.replace(".", "/") + ".py"
        rows.append(
            (
                f"[`{cause}`]({root}alerts/runbooks/{alert_name(cause)}.md)",
                spec.scope.value,
                ", ".join(role.value for role in Role if role in spec.roles),
                spec.severity.value,
                "in two rounds" if spec.needs_two_rounds else "at once",
                spec.says,
                f"[{path.rpartition('/')[2]}]({root}{path})",
            )
        )
    return markdown(("cause (runbook)", "scope", "role", "severity", "found", "what is wrong", "rule"), rows)


def configuration_table() -> str:
    rows = ((_code(row.key), row.type, _code(row.default), row.meaning) for row in list_keys())
    return markdown(("key", "type", "default", "meaning"), rows)


def alerts_table(rules: str, root: str = "") -> str:
    """The alerts of a Prometheus rules file (YAML). Of recording rules only the severity of their fault is used."""
    every = [rule for group in yaml.safe_load(rules)["groups"] for rule in group["rules"]]
    recorded = {_label(rule, "fault"): _label(rule, "severity") for rule in every if "record" in rule}
    rows = []
    for rule in every:
        if "alert" in rule:
            notes = rule.get("annotations", {})
            page = str(notes.get("runbook_url", "")).rpartition("/")[2]
            name = f"[`{rule['alert']}`]({root}alerts/runbooks/{page})" if page else _code(rule["alert"])
            rows.append((name, _severity(rule, recorded), wait_of(rule), notes.get("summary", "")))
    return markdown(("alert", "severity", "for", "meaning"), rows)


def wait_of(rule: Mapping[str, Any]) -> str:
    """How long a fault lasts before the alert fires: the age in the expression, else the rule's `for`."""
    age = AGE.search(str(rule["expr"]))
    if age is None:
        return str(rule.get("for", "0s"))
    minutes, seconds = divmod(int(age.group(1)), 60)
    return f"{minutes}m{seconds}s" if seconds else f"{minutes}m"


def _severity(rule: Mapping[str, Any], recorded: Mapping[str, str]) -> str:
    """The alert's own severity, else that of its recorded fault, else it comes with the series."""
    fault = FAULT.search(str(rule["expr"]))
    return _label(rule, "severity") or (recorded.get(fault.group(1)) or "from the cause" if fault else "")


def _label(rule: Mapping[str, Any], name: str) -> str:
    return str(rule.get("labels", {}).get(name, ""))


def _code(text: str) -> str:
    return f"`{text}`" if text else ""


def markdown(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """A Markdown table; bars and line breaks in a cell, which would end it, are replaced."""
    lines = [head, ("---",) * len(head), *rows]
    cells = ([cell.replace("|", "\\|").replace("\n", " ") for cell in line] for line in lines)
    return "".join(f"| {' | '.join(line)} |\n" for line in cells)
