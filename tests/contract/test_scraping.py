"""deploy/'s ways to be scraped: the operator's, the plain one, and a first week that pages nobody."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.contract.kustomize import identity, pod_specs, render, the, the_container

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"


def test_the_pod_monitor_scrapes_every_pod_and_names_its_node() -> None:
    objects = render(DEPLOY / "overlays/prometheus-operator")
    monitor = the(objects, "PodMonitor", "dualstack-exporter")
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    assert endpoint["honorLabels"] is True
    ports = {p["name"] for t in pod_specs(objects).values() for p in the_container(t, "exporter")["ports"]}
    assert ports == {endpoint["port"]}
    selector = monitor["spec"]["selector"]["matchLabels"].items()
    assert all(selector <= template["metadata"]["labels"].items() for template in pod_specs(objects).values())
    (relabel,) = (r for r in endpoint["relabelings"] if r["targetLabel"] == "node")
    assert node_label(relabel["regex"], "node", "ra") == "ra"
    assert node_label(relabel["regex"], "cluster", "ra") is None
    assert monitor["metadata"]["labels"]["release"] == "kube-prometheus-stack"


@pytest.mark.parametrize("overlay", ["prometheus-operator", "observe"])
def test_the_prometheus_of_kube_prometheus_may_find_the_pods(overlay: str) -> None:
    """By itself it may look into default, kube-system and its own namespace alone."""
    objects = render(DEPLOY / "overlays" / overlay)
    monitor = the(objects, "PodMonitor", "dualstack-exporter")
    role, binding = (the(objects, kind, "dualstack-exporter-discovery") for kind in ("Role", "RoleBinding"))
    assert {o["metadata"]["namespace"] for o in (monitor, role, binding)} == {"dualstack-exporter"}
    assert role["rules"] == [{"apiGroups": [""], "resources": ["pods"], "verbs": ["list", "watch"]}]
    assert binding["subjects"] == [{"kind": "ServiceAccount", "name": "prometheus-k8s", "namespace": "monitoring"}]


def test_the_plain_scrape_configuration_does_the_same() -> None:
    (job,) = yaml.safe_load((DEPLOY / "prometheus/dualstack-exporter.yaml").read_text())["scrape_configs"]
    assert job["honor_labels"] is True
    assert job["job_name"] == "dualstack-exporter"  # what jobLabel makes of the PodMonitor's job
    (relabel,) = (r for r in job["relabel_configs"] if r.get("target_label") == "node")
    assert node_label(relabel["regex"], "node", "ra") == "ra"
    assert node_label(relabel["regex"], "cluster", "ra") is None


def node_label(regex: str, component: str, node: str) -> str | None:
    """What a relabelling makes of the joined component and node name: Prometheus anchors its expressions."""
    found = re.fullmatch(regex, f"{component};{node}")
    return found.group(1) if found else None


RELEASES = {
    "prometheus-operator": "kube-prometheus-stack",
    "observe": "kube-prometheus-stack",
    "microk8s-observability": "kube-prom-stack",  # as MicroK8s' addon calls it
}


@pytest.mark.parametrize("overlay", RELEASES)
def test_everything_for_the_operator_bears_the_release_label(overlay: str) -> None:
    objects = render(DEPLOY / "overlays" / overlay)
    theirs = [
        o for o in objects if o["kind"] in {"PodMonitor", "PrometheusRule"} or "dashboard" in o["metadata"]["name"]
    ]
    assert {o["kind"] for o in theirs} == {"PodMonitor", "PrometheusRule", "ConfigMap"}
    assert {o["metadata"]["labels"]["release"] for o in theirs} == {RELEASES[overlay]}
    said = [path for path in DEPLOY.rglob("*.yaml") if "kube-prometheus-stack}" in path.read_text()]
    assert said == [DEPLOY / "components/monitoring/kustomization.yaml"]


def test_microk8s_with_its_addon_is_microk8s_and_the_operators_objects() -> None:
    plain, operator, both = (
        {identity(o): o for o in render(DEPLOY / "overlays" / name)}
        for name in ("microk8s", "prometheus-operator", "microk8s-observability")
    )
    assert set(both) == set(plain) | set(operator)
    for key, document in plain.items():
        assert {**document, "metadata": None} == {**both[key], "metadata": None}


def test_observing_is_paging_with_every_alert_as_info() -> None:
    """So that applying the one over the other leaves nothing behind."""
    paging, observing = (
        {identity(o): o for o in render(DEPLOY / "overlays" / name)} for name in ("prometheus-operator", "observe")
    )
    assert set(paging) == set(observing)
    different = {key[1] for key in paging if paging[key] != observing[key]}
    assert different == {"PrometheusRule"}
    (rules,) = (o for o in observing.values() if o["kind"] == "PrometheusRule")
    alerts = [rule for group in rules["spec"]["groups"] for rule in group["rules"] if "alert" in rule]
    assert {rule["labels"]["severity"] for rule in alerts} <= {"info", "none"}


def test_the_plain_way_to_observe_takes_every_alert() -> None:
    (relabel,) = yaml.safe_load((DEPLOY / "prometheus/observe.yaml").read_text())["alerting"]["alert_relabel_configs"]
    assert (relabel["target_label"], relabel["replacement"]) == ("severity", "info")
    groups = yaml.safe_load((ROOT / "alerts/dualstack.yaml").read_text())["groups"]
    names = [rule["alert"] for group in groups for rule in group["rules"] if "alert" in rule]
    assert [name for name in names if not re.fullmatch(relabel["regex"], name)] == []


@pytest.mark.real
def test_promtool_accepts_the_plain_scrape_configuration(tmp_path: Path) -> None:
    config = yaml.safe_load((DEPLOY / "prometheus/dualstack-exporter.yaml").read_text())
    config |= yaml.safe_load((DEPLOY / "prometheus/observe.yaml").read_text())
    for job in config["scrape_configs"]:
        job.pop("kubernetes_sd_configs")  # Debian's build knows no Kubernetes discovery
        job["static_configs"] = [{"targets": ["[::1]:10046"]}]
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(config))
    done = subprocess.run(
        ["promtool", "check", "config", tmp_path / "prometheus.yml"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
