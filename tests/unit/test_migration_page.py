"""The way to dual-stack as the cluster exporter serves it: its page, and the metric of its phases."""

from __future__ import annotations

from collections.abc import Mapping

from exporter.catalogue.inventory import migration_phase
from exporter.catalogue.metric import FinishedRound
from exporter.diagnosis.expectation import families_expected, family_evidence
from exporter.migration.plan import plan_of
from exporter.migration.step import Phase
from exporter.model.cause import Role
from exporter.model.cluster.inventory import NO_INVENTORY, Inventory
from exporter.model.family import Family
from exporter.model.report import Report, Snapshot
from exporter.web.page.migration import migration_page
from tests.unit.migration_scene import KUBEADM, dual, single
from tests.unit.recorded import cluster
from tests.unit.test_page import Parsed

V4, V6 = Family.V4, Family.V6


def round_of(
    inventory: Inventory, role: Role = Role.CLUSTER, configured: tuple[Family, ...] | None = None
) -> FinishedRound:
    snapshot = Snapshot(
        node="ra",
        role=role,
        started=0.0,
        finished=0.0,
        complete=True,
        inventory=inventory,
        host=None,
        families=families_expected(inventory, configured),
        family_evidence=family_evidence(inventory, configured),
    )
    return FinishedRound(Report(snapshot=snapshot, families={}))


def states(source: FinishedRound) -> Mapping[str, str]:
    """The state of each phase that has rows, of which exactly one is 1."""
    rows = dict(migration_phase(source))
    phases = {phase for phase, _ in rows}
    assert len(rows) == 2 * len(phases)
    found = {phase: state for (phase, state), value in rows.items() if value}
    assert found.keys() == phases
    return found


def test_each_phase_that_is_seen_has_one_state() -> None:
    assert states(round_of(cluster("single-stack-v4"))) == {
        "node_addresses": "missing",
        "control_plane": "missing",
        "cni": "missing",
        "dns": "missing",
        "pods": "missing",
        "services": "missing",
        "load_balancers": "missing",
        "network_policies": "done",
    }
    assert "missing" not in states(round_of(dual(KUBEADM))).values()


def test_a_node_an_exporter_without_inventory_and_one_that_is_meant_for_ipv4_have_no_phases() -> None:
    inventory = cluster("single-stack-v4")
    assert states(round_of(inventory, Role.NODE)) == {}
    assert states(round_of(NO_INVENTORY)) == {}
    assert states(round_of(inventory, configured=(V4,))) == {}


def test_where_ipv6_alone_is_configured_nothing_of_ipv4_is_missing() -> None:
    alone = single(dual(KUBEADM, V6), V6)
    assert "missing" not in states(round_of(alone, configured=(V6,))).values()
    assert states(round_of(alone))["control_plane"] == "missing"


def test_the_page_has_every_phase_and_opens_what_is_missing() -> None:
    migration = plan_of(round_of(cluster("single-stack-v4")).snapshot)
    assert migration is not None
    parsed = Parsed(migration_page(migration))
    sections = [attributes["id"] for tag, attributes in parsed.elements if tag == "section"]
    assert sections == [*(phase.value for phase in Phase), "way-back"]
    opened = [tag for tag, attributes in parsed.elements if tag == "details" and "open" in attributes]
    assert len(opened) == 8
    words = " ".join(parsed.words)
    assert "Next: Each Node object has an IPv6 InternalIP." in words
    assert "microk8s kubectl -n kube-system rollout restart deployment/coredns" in words


def test_before_the_first_round_the_page_says_so() -> None:
    assert "after the first round" in " ".join(Parsed(migration_page(None)).words)
