"""The rules over the inventory alone, by cause: what role cluster checks. service_aaaa_missing, which needs answers, is in dns.py."""

from __future__ import annotations

from exporter.diagnosis.engine.rule_input import Rule
from exporter.diagnosis.rules.cluster.control_plane import CONTROL_PLANE_RULES
from exporter.diagnosis.rules.cluster.nodes import NODE_RULES
from exporter.diagnosis.rules.cluster.policies import POLICY_RULES
from exporter.diagnosis.rules.cluster.pools import POOL_RULES
from exporter.diagnosis.rules.cluster.ranges import RANGE_RULES
from exporter.diagnosis.rules.cluster.services import SERVICE_RULES
from exporter.diagnosis.rules.cluster.settings import SETTING_RULES
from exporter.model.report import Cause

CLUSTER_RULES: dict[Cause, Rule] = {
    **NODE_RULES,
    **SERVICE_RULES,
    **POOL_RULES,
    **SETTING_RULES,
    **RANGE_RULES,
    **POLICY_RULES,
    **CONTROL_PLANE_RULES,
}
