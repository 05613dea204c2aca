"""An exporter that starts on a node whose pod network is down already: the digest reaches it, and it names what is
missing there.
"""

from __future__ import annotations

import pytest

from tests.kernel import namespaces
from tests.kernel.calico_nodes import TUNNEL4, TUNNEL6
from tests.lab.cluster import Cluster

pytestmark = pytest.mark.real

ROUNDS = 2  # of 30 s each: a node says so within two minutes of its start
MISSING = "vxlan_device_missing"


def test_a_node_without_any_tunnel_gets_the_digest_over_the_nodes_network_and_names_the_device() -> None:
    with Cluster(roles=("node", "cluster")) as cluster:
        cluster.home = cluster.lab.nodes[1]
        namespaces.batch({cluster.node.netns: [f"link delete {TUNNEL4}", f"link delete {TUNNEL6}"]})
        report = cluster.settle(ROUNDS)[0]
        found = {each["cause"]: each for each in report["causes"]}
        assert found[MISSING]["explained_by"] is None
        assert found[MISSING]["subjects"] == [f"node/{cluster.node.name}"]
        assert {each["reason"] for each in report["unchecked"]}.isdisjoint({"api_unavailable", "no_inventory"})
