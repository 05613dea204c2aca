"""Rules of scope cluster: what the API's objects show, without service_aaaa_missing, which needs answers. Pure."""

from exporter.diagnosis.rules.cluster import control_plane, networks, nodes, policies, pools, ranges, services, settings
from exporter.diagnosis.rules.judging import rules_of

CLUSTER_RULES = rules_of(control_plane, networks, nodes, policies, pools, ranges, services, settings)
