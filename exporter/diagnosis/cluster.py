"""The rules over the inventory alone, by cause: what role cluster checks. service_aaaa_missing, which needs answers, is in dns.py."""

from __future__ import annotations

from exporter.diagnosis.cluster_nodes import NODE_RULES
from exporter.diagnosis.cluster_policies import POLICY_RULES
from exporter.diagnosis.cluster_pools import POOL_RULES
from exporter.diagnosis.cluster_ranges import RANGE_RULES
from exporter.diagnosis.cluster_services import SERVICE_RULES
from exporter.diagnosis.cluster_settings import SETTING_RULES
from exporter.diagnosis.control_plane import CONTROL_PLANE_RULES
from exporter.diagnosis.view import Rule
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
