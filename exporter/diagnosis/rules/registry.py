"""The table from cause to rule, put together from the modules of each topic. A cause without a rule, or two, is a bug of ours."""

from __future__ import annotations

from collections.abc import Mapping

from exporter.diagnosis.engine.rule_input import Rule
from exporter.diagnosis.rules.cluster.registry import CLUSTER_RULES
from exporter.diagnosis.rules.dns.servers import DNS_RULES
from exporter.diagnosis.rules.node.nat import NAT_RULES
from exporter.diagnosis.rules.node.node import NODE_RULES
from exporter.diagnosis.rules.node.node_side_causes import LOCAL_RULES
from exporter.diagnosis.rules.node.vxlan import TUNNEL_RULES
from exporter.diagnosis.rules.path.path import PATH_RULES
from exporter.diagnosis.rules.pod.pod import POD_RULES
from exporter.model.report import Cause

# LOCAL_RULES stand before the cluster's: they are those of both roles, and call the cluster's themselves.
RULES: Mapping[Cause, Rule] = {
    **CLUSTER_RULES,
    **LOCAL_RULES,
    **DNS_RULES,
    **PATH_RULES,
    **NODE_RULES,
    **NAT_RULES,
    **TUNNEL_RULES,
    **POD_RULES,
}
