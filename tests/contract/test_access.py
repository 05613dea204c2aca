"""The rights that the manifests grant are those that the code declares, verb by verb; no other right at the API server
is granted.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from exporter.inventory.kubernetes.watched_resources import mounted_config_map
from exporter.model.cause import Role
from tests.access_rights import VERBS, Right, optional_rights, rights
from tests.contract.kustomize import read_objects, render

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
ACCOUNTS = {Role.NODE: "dualstack-exporter", Role.CLUSTER: "dualstack-exporter-cluster"}


def granted(objects: list[Any], account: str) -> frozenset[Right]:
    """What a service account may, over every binding to it."""
    rules = {
        (o["kind"], o["metadata"].get("namespace", ""), o["metadata"]["name"]): o["rules"]
        for o in objects
        if "rules" in o
    }
    found = set()
    for binding in objects:
        if binding["kind"] not in {"RoleBinding", "ClusterRoleBinding"}:
            continue
        if not any(s["kind"] == "ServiceAccount" and s["name"] == account for s in binding["subjects"]):
            continue
        namespace = binding["metadata"].get("namespace", "")
        role = binding["roleRef"]
        if role["name"].startswith("system:openshift:scc:"):
            continue  # the use of a security context constraint, no right to read
        for rule in rules[role["kind"], namespace if role["kind"] == "Role" else "", role["name"]]:
            assert set(rule) <= {"apiGroups", "resources", "resourceNames", "verbs"}
            found |= {
                Right(group=group, resource=resource, name=name, verb=verb, namespace=namespace)
                for group in rule["apiGroups"]
                for resource in rule["resources"]
                for name in rule.get("resourceNames", [""])
                for verb in rule["verbs"]
            }
    return frozenset(found)


# As shipped: nodes get from the cluster exporter what they do not list themselves.
SHIPPED = {Role.NODE: rights(Role.NODE, digest=True), Role.CLUSTER: rights(Role.CLUSTER)}


@pytest.mark.parametrize("role", [Role.NODE, Role.CLUSTER])
def test_the_manifest_grants_exactly_what_the_code_declares(role: Role) -> None:
    assert granted(read_objects(DEPLOY / "daemonset.yaml"), ACCOUNTS[role]) == SHIPPED[role]


@pytest.mark.parametrize(
    "overlay", sorted(path.parent.name for path in (DEPLOY / "overlays").glob("*/kustomization.yaml"))
)
def test_no_overlay_grants_anything_else(overlay: str) -> None:
    objects = render(DEPLOY / "overlays" / overlay)
    for role, account in ACCOUNTS.items():
        found = granted(objects, account)
        assert found in (frozenset(), SHIPPED[role], SHIPPED[role] | optional_rights(role)), overlay
    cluster = granted(objects, ACCOUNTS[Role.CLUSTER])
    assert (cluster == rights(Role.CLUSTER) | optional_rights(Role.CLUSTER)) == (overlay == "openshift")


def test_nodes_that_list_for_themselves_are_granted_exactly_that(tmp_path: Path) -> None:
    (tmp_path / "kustomization.yaml").write_text(
        f"resources: [{DEPLOY / 'base'}]\ncomponents: [{DEPLOY / 'components/node-lists'}]\n"
    )
    objects = render(tmp_path)
    assert granted(objects, ACCOUNTS[Role.NODE]) == rights(Role.NODE)
    assert granted(objects, ACCOUNTS[Role.CLUSTER]) == rights(Role.CLUSTER)


def test_events_are_granted_by_their_component_alone_and_nothing_but_their_creation(tmp_path: Path) -> None:
    (tmp_path / "kustomization.yaml").write_text(
        f"resources: [{DEPLOY / 'base'}]\ncomponents: [{DEPLOY / 'components/events'}]\n"
    )
    objects = render(tmp_path)
    create = Right(group="events.k8s.io", resource="events", name="", verb="create", namespace="")
    for role, account in ACCOUNTS.items():
        assert granted(objects, account) == SHIPPED[role] | {create}


def test_the_clusters_own_names_of_corefiles_can_be_granted(tmp_path: Path) -> None:
    (tmp_path / "kustomization.yaml").write_text(
        f"resources: [{DEPLOY / 'base'}]\ncomponents: [{DEPLOY / 'components/dns-configmaps'}]\n"
    )
    objects = render(tmp_path)
    mounted = mounted_config_map("kube-system", "")
    more = {
        Right(group="", resource=mounted.resource, name="", verb=verb, namespace=mounted.namespace) for verb in VERBS
    }
    assert granted(objects, ACCOUNTS[Role.CLUSTER]) == rights(Role.CLUSTER) | more
    assert granted(objects, ACCOUNTS[Role.NODE]) == SHIPPED[Role.NODE]


def test_a_node_with_a_digest_needs_less() -> None:
    watched = {
        Right(group="", resource=resource, name="", verb=verb, namespace="")
        for resource in ("nodes", "pods")
        for verb in ("list", "watch")
    }
    # To find the cluster exporter: only in its own namespace, and never watched.
    asked = {
        Right(group="discovery.k8s.io", resource="endpointslices", name="", verb="list", namespace="dualstack-exporter")
    }
    assert rights(Role.NODE, digest=True) == watched | asked
    assert watched < rights(Role.NODE)
    assert rights(Role.ALL) == rights(Role.CLUSTER)
