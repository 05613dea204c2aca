"""The rules of alerts/ as values, for the tests about them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from exporter.model.cause import Cause
from exporter.report.document import alert_name
from tests.contract.promql import Expression, read

ROOT = Path(__file__).resolve().parents[2]
ALERTS = ROOT / "alerts"


@dataclass(frozen=True)
class Rule:
    group: str
    fields: Mapping[str, Any]

    @property
    def name(self) -> str:
        return str(self.fields.get("alert") or self.fields["record"])

    @property
    def is_alert(self) -> bool:
        return "alert" in self.fields

    @property
    def expression(self) -> Expression:
        return read(str(self.fields["expr"]))

    @property
    def labels(self) -> Mapping[str, str]:
        return dict(self.fields.get("labels", {}))

    @property
    def annotations(self) -> Mapping[str, str]:
        return dict(self.fields.get("annotations", {}))


def rules_of(name: str) -> list[Rule]:
    groups = yaml.safe_load((ALERTS / name).read_text())["groups"]
    return [Rule(group["name"], fields) for group in groups for fields in group["rules"]]


MAIN, COMPANIONS = rules_of("dualstack.yaml"), rules_of("companions.yaml")
EVERY = [*MAIN, *COMPANIONS]
CAUSE_ALERTS = {alert_name(cause): cause for cause in Cause}
RECORDED = {rule.name for rule in MAIN if not rule.is_alert}
ALERTING = [rule for rule in EVERY if rule.is_alert]
GROUPS = list(dict.fromkeys(rule.group for rule in MAIN))
