"""Rules of role cluster that need only the API's objects: of scope cluster, and dns_service_no_endpoints. Pure."""

from exporter.diagnosis.rules.cluster import (
    control_plane,
    dns_service,
    networks,
    nodes,
    pods,
    policies,
    pools,
    ranges,
    services,
    settings,
)
from exporter.diagnosis.rules.judging import rules_of

CLUSTER_RULES = rules_of(control_plane, dns_service, networks, nodes, pods, policies, pools, ranges, services, settings)
