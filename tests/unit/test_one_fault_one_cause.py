"""Whatever faults come together, exactly their causes stand unexplained; what is well adds nothing. Over simulated
clusters, in pure rules.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from typing import Any

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from exporter.model.cause import Cause
from tests.unit.broken_world import FAULTS, Fault, World, all_in_one, apart, unexplained, world

LOOKS = {"one process": all_in_one, "roles apart": apart}


def broken(faults: list[Fault], start: World | None = None) -> World:
    state = start or world()
    for fault in faults:
        state = fault.change(state)
    return state


def together(names: list[str]) -> list[Fault]:
    """Those of the faults that can be told beside each other: of a group the first, and none that another hides."""
    chosen: list[Fault] = []
    for fault in (FAULTS[name] for name in names):
        hidden = any(fault.group in other.hides or other.group in fault.hides for other in chosen)
        if not hidden and fault.group not in {other.group for other in chosen}:
            chosen.append(fault)
    return chosen


@pytest.mark.parametrize("look", LOOKS)
def test_a_healthy_cluster_has_no_cause(look: str) -> None:
    assert LOOKS[look](world()) == ()


@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize("name", FAULTS)
def test_one_fault_gives_one_unexplained_cause(name: str, look: str) -> None:
    found = LOOKS[look](broken([FAULTS[name]]))
    assert unexplained(found) == {FAULTS[name].cause}
    assert all(c.finding.evidence and c.finding.command for c in found)


@pytest.mark.parametrize("look", LOOKS)
def test_any_two_faults_give_their_causes_and_no_other(look: str) -> None:
    wrong = {}
    for names in combinations(FAULTS, 2):
        faults = together(list(names))
        found = unexplained(LOOKS[look](broken(faults)))
        if found != {fault.cause for fault in faults}:
            wrong[names] = found
    assert wrong == {}


@settings(max_examples=150)
@given(st.lists(st.sampled_from(sorted(FAULTS)), min_size=3, max_size=5, unique=True), st.sampled_from(sorted(LOOKS)))
def test_independent_faults_give_their_causes_and_no_other(names: list[str], look: str) -> None:
    faults = together(names)
    assert unexplained(LOOKS[look](broken(faults))) == {fault.cause for fault in faults}


@settings(max_examples=60)
@given(st.lists(st.sampled_from(sorted(set(FAULTS) - {"other pod: no address"})), max_size=3, unique=True))
def test_one_more_healthy_pod_changes_nothing(names: list[str]) -> None:
    faults = together(names)
    alone, beside = broken(faults, world(("web",))), broken(faults)
    beside = replace(beside, pods={"web": alone.pods["web"], "db": beside.pods["db"]})
    assert unexplained(all_in_one(alone)) == unexplained(all_in_one(beside))


NO_WAY_TO = {"peer with the DNS": "anubis", "peer with the Service": "babel", "peer's tunnel address": "babel"}
IN_THE_TUNNEL = "TCP dropped in the tunnel"


@settings(max_examples=100)
@given(
    st.lists(st.sampled_from(sorted(FAULTS)), max_size=3, unique=True),
    st.sampled_from(sorted(LOOKS)),
    st.sampled_from(["anubis", "babel"]),
)
@example(names=[IN_THE_TUNNEL, "peer's tunnel address"], look="one process", node="babel")
def test_a_node_that_reboots_meanwhile_changes_nothing(names: list[str], look: str, node: str) -> None:
    """It answers over neither family for two rounds, and is not yet known not to be Ready."""
    assume(
        IN_THE_TUNNEL not in names or {node, *map(NO_WAY_TO.get, names)} < {"anubis", "babel", None}
    )  # a peer is left to show it
    faults = together([name for name in names if name != "VXLAN not asked"])  # which no other peer would show
    rebooting = replace(broken(faults), down=node)
    assert unexplained(LOOKS[look](rebooting)) == {fault.cause for fault in faults}


HOST_PARTS = ("links", "addresses", "routes", "all_conf", "forwarding_v4", "nat", "kube_proxy", "vxlan")
CLUSTER_PARTS = (
    "nodes", "pods", "namespaces", "services", "endpoint_slices", "service_cidrs", "policies", "pools",
    "block_affinities", "ipam_blocks",
    "felix", "calico_node", "corefile", "cni", "components",
)  # fmt: skip


def without(state: World, host: set[str], cluster: set[str]) -> World:
    """These parts were not read."""
    unread: Any = dict.fromkeys(host)
    unlisted: Any = dict.fromkeys(cluster)
    return replace(state, host=replace(state.host, **unread), inventory=replace(state.inventory, **unlisted))


@settings(max_examples=200)
@given(st.sets(st.sampled_from(HOST_PARTS)), st.sets(st.sampled_from(CLUSTER_PARTS)), st.sampled_from(sorted(LOOKS)))
def test_what_was_not_read_is_never_a_cause(host: set[str], cluster: set[str], look: str) -> None:
    state = world()
    blind = without(state, host, cluster)
    assert LOOKS[look](blind) == ()


@settings(max_examples=200)
@given(
    st.sampled_from(sorted(FAULTS)),
    st.sets(st.sampled_from(HOST_PARTS)),
    st.sets(st.sampled_from(CLUSTER_PARTS)),
    st.sampled_from(sorted(LOOKS)),
)
def test_with_less_known_a_fault_is_called_by_its_name_or_by_its_symptom(
    name: str, host: set[str], cluster: set[str], look: str
) -> None:
    fault = FAULTS[name]
    state = broken([fault])
    blind = without(state, host, cluster)
    whole = {c.finding.cause for c in LOOKS[look](state)}
    assert unexplained(LOOKS[look](blind)) <= whole | {Cause.IPV6_UNREACHABLE}
