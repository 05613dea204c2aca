"""Over which families a pod is not dialled, and nobody's fault it is."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address

import pytest

from exporter.model.cluster.inventory import Inventory
from exporter.model.cluster.pod import Namespace, Pod
from exporter.model.family import Family
from exporter.plan.checks import pod_checks
from exporter.plan.family_support import unsupported_families
from tests.unit.cluster_scene import HEALTHY, POOL4, POOL6, changed
from tests.unit.plan_scene import round_plan
from tests.unit.scene import V4, V6, target
from tests.unit.scene import pod as vantage

SINGLE = Pod(
    namespace="default",
    name="web",
    uid="uid-web",
    node="ra",
    phase="Running",
    created=500.0,
    ips=(ip_address("10.1.13.2"),),
)
DUAL = replace(SINGLE, ips=(*SINGLE.ips, ip_address("fd01:0:0:13::2")))


def cluster(pod: Pod, *, pool_since: float | None = None, space_chooses: bool = False) -> Inventory:
    return changed(
        pods=(pod,),
        pools=(POOL4, replace(POOL6, created=pool_since)),
        namespaces=(Namespace(name="default", address_choice=space_chooses),),
    )


@pytest.mark.parametrize(
    ("inventory", "lacks"),
    [
        (cluster(SINGLE), ()),  # it should have IPv6: it is dialled over it, so that it shows
        (cluster(SINGLE, pool_since=400.0), ()),
        (cluster(SINGLE, pool_since=600.0), (V6,)),
        (cluster(replace(SINGLE, address_choice=True)), (V6,)),
        (cluster(SINGLE, space_chooses=True), (V6,)),
        (cluster(DUAL, pool_since=600.0, space_chooses=True), ()),
        (cluster(replace(SINGLE, ips=(), address_choice=True)), ()),  # not known yet
        (changed(pods=(replace(SINGLE, node="babel", address_choice=True),)), ()),
    ],
)
def test_a_family_is_unspoken_where_a_pod_lacks_it_by_choice_or_by_age(
    inventory: Inventory, lacks: tuple[Family, ...]
) -> None:
    assert unsupported_families(inventory, "ra") == {("pod/default/web", family) for family in lacks}


def test_nothing_is_dialled_over_an_unspoken_family() -> None:
    pods = (vantage("web"), vantage("db"))
    made = pod_checks(round_plan(unsupported=frozenset({("pod/default/web", V6)})), pods, (target("pypi"),))
    assert {(c.vantage.name, c.family) for c in made} == {("web", V4), ("db", V4), ("db", V6)}


def test_a_healthy_cluster_speaks_everything() -> None:
    assert unsupported_families(HEALTHY, "ra") == frozenset()
