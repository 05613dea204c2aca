"""The table from cause to rule, from the tables of the modules. A cause without a rule is a bug of the exporter."""

from __future__ import annotations

from collections.abc import Mapping

from exporter.diagnosis.engine.rule_input import Rule
from exporter.diagnosis.rules.cluster import CLUSTER_RULES
from exporter.diagnosis.rules.dns import DNS_RULES
from exporter.diagnosis.rules.judging import rules_of
from exporter.diagnosis.rules.node import bgp, host, link_mtu, nat, node_side_causes, service_rules, vxlan, wireguard
from exporter.diagnosis.rules.path import PATH_RULES
from exporter.diagnosis.rules.pod import pod
from exporter.model.cause import Cause

# Rules of node_side_causes replace those of the cluster with the same cause, which they call themselves.
RULES: Mapping[Cause, Rule] = {
    **CLUSTER_RULES,
    **rules_of(node_side_causes),
    **DNS_RULES,
    **PATH_RULES,
    **rules_of(bgp, host, link_mtu, nat, service_rules, vxlan, wireguard, pod),
}
