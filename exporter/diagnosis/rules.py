"""The table from cause to rule, put together from the modules of each topic. A cause without a rule, or two, is a bug of ours."""

from __future__ import annotations

from collections.abc import Mapping

from exporter.diagnosis.cluster import CLUSTER_RULES
from exporter.diagnosis.dns import DNS_RULES
from exporter.diagnosis.local import LOCAL_RULES
from exporter.diagnosis.nat import NAT_RULES
from exporter.diagnosis.node import NODE_RULES
from exporter.diagnosis.path import PATH_RULES
from exporter.diagnosis.pod import POD_RULES
from exporter.diagnosis.tunnel import TUNNEL_RULES
from exporter.diagnosis.view import Rule
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
