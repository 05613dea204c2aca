"""The Helm chart, rendered by real Helm: kustomize's objects, an effect for each value, one line for a wrong one."""

from __future__ import annotations

import base64
import copy
import functools
import gzip
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate  # type: ignore[import-untyped]
import pytest
import yaml

from exporter import __version__
from exporter.config.load import load_config
from exporter.config.schema import Config
from scripts.chart import CHART, generated
from tests.contract.go_tools import HELM, binary
from tests.contract.kustomize import Object, identity, pod_specs, read_objects, render, the, the_container
from tests.contract.test_manifests import DEPLOY, ROOT, VERSIONS, WITHOUT_SCHEMA, check_runbooks
from tests.unit.test_config import CONTRACT

NAME = "dualstack-exporter"
# What Helm's conventions add to the labels of every object's own metadata. Nothing else differs from deploy/, but for
# the text of the configuration, which means the same.
HELMS = ("helm.sh/chart", "app.kubernetes.io/instance", "app.kubernetes.io/managed-by", "app.kubernetes.io/version")
OPERATOR = "podMonitor.enabled=true,prometheusRule.enabled=true,dashboards.enabled=true"
MICROK8S = f"--values={CHART / 'values-microk8s.yaml'}"
COMPONENTS = {
    "nodes that list": ("node-lists", ["--set=nodeLists=true"]),
    "any ConfigMap": ("dns-configmaps", ["--set=dnsConfigMaps=true"]),
}
OVERLAYS = {  # an overlay of deploy/ and the values that render the same
    "base": [],
    "overlays/cluster-only": ["--set=clusterOnly=true"],
    "overlays/openshift": ["--set=openshift=true"],
    "overlays/microk8s": [MICROK8S],
    # kustomize sets the label `release` on everything; the chart where the operator and Grafana look, or by this value
    "overlays/prometheus-operator": [f"--set={OPERATOR},commonLabels.release=kube-prometheus-stack"],
    "overlays/observe": [f"--set={OPERATOR},prometheusRule.observe=true,commonLabels.release=kube-prometheus-stack"],
    "overlays/microk8s-observability": [MICROK8S, f"--set={OPERATOR},commonLabels.release=kube-prom-stack"],
}
OURS = ["--namespace=elsewhere", f"--set=createNamespace=true,namespaceOverride={NAME}"]  # as kustomize creates it
EVERYTHING = [
    f"--set={OPERATOR},networkPolicy.enabled=true,openshift=true,microk8sFiles=true,nodeLists=true,dnsConfigMaps=true",
    "--set=imagePullSecrets[0].name=a,node.extraEnv[0].name=TZ,cluster.extraArgs[0]=--log.format=json,image.pullPolicy=Always",
    '--set-json=networkPolicy.from=[{"namespaceSelector":{}}]',
]


@pytest.fixture(scope="module", autouse=True)
def schemas_read_once() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        contents = kubernetes_validate.utils.schema_contents
        patch.setattr(kubernetes_validate.utils, "schema_contents", functools.cache(contents))
        yield


@pytest.fixture(scope="module", autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Helm keeps caches at home and looks for a cluster's kubeconfig there. It is built before that is changed."""
    binary(HELM)
    path = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith(("HELM_", "XDG_", "KUBE"))]:
            patch.delenv(name)
        patch.setenv("HOME", str(path))
        yield path


def helm(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([binary(HELM), *arguments], capture_output=True, text=True, check=False)


def run_template(*arguments: str, release: str = NAME, chart: Path = CHART) -> subprocess.CompletedProcess[str]:
    # Helm from its module takes an old version for the cluster's.
    defaults = [f"--kube-version={VERSIONS[-1]}", f"--namespace={NAME}"]
    return helm("template", release, chart, *defaults, *arguments)


def text_of(*arguments: str, release: str = NAME, chart: Path = CHART) -> str:
    done = run_template(*arguments, release=release, chart=chart)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@functools.cache
def template(*arguments: str, release: str = NAME, chart: Path = CHART) -> list[Object]:
    """The objects, not to be changed; each of them once."""
    text = text_of(*arguments, release=release, chart=chart)
    objects = [document for document in yaml.load_all(text, yaml.CSafeLoader) if document is not None]
    assert len({identity(o) for o in objects}) == len(objects)
    return objects


def configuration(objects: list[Object], name: str = NAME) -> Config:
    """What the ConfigMap says; its hash is in the pods."""
    text = the(objects, "ConfigMap", name)["data"]["config.yaml"]
    for pod in pod_specs(objects).values():
        stated = pod["metadata"]["annotations"]["dualstack-exporter/config-hash"]
        assert stated == hashlib.sha256(text.encode()).hexdigest()[:16]
    return load_config(text, path="config.yaml", environment={"NODE_NAME": "ra"}, hostname="ra")


def comparable(objects: list[Object]) -> dict[Any, Any]:
    """By identity, without what Helm adds, and with the configuration for its text and hash."""
    config = configuration(objects)
    found = {identity(o): copy.deepcopy(o) for o in objects}
    found["v1", "ConfigMap", NAME, NAME]["data"] = config
    for pod in pod_specs([*found.values()]).values():
        pod["metadata"]["annotations"].pop("dualstack-exporter/config-hash")
    for document in found.values():
        for label in HELMS:
            document["metadata"]["labels"].pop(label, None)
    return found


# The same as kustomize


def test_the_default_is_the_base_without_its_namespace() -> None:
    """Which exists before Helm does anything: its release is kept in it."""
    base = comparable(render(DEPLOY / "base"))
    del base["v1", "Namespace", "", NAME]
    assert comparable(template()) == base


def test_readme_installs_what_the_overlay_of_the_operator_does() -> None:
    (values,) = re.findall(r"`helm install .*? --create-namespace (--set) (\S+)`", (ROOT / "README.md").read_text())
    assert "=".join(values) == OVERLAYS["overlays/prometheus-operator"][0]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_values_render_each_overlay_object_by_object(overlay: str) -> None:
    assert comparable(template(*OURS, *OVERLAYS[overlay])) == comparable(render(DEPLOY / overlay))


def test_every_overlay_has_values() -> None:
    assert {path.parent.name for path in (DEPLOY / "overlays").glob("*/kustomization.yaml")} == {
        name.removeprefix("overlays/") for name in OVERLAYS
    } - {"base"}


@pytest.mark.parametrize("name", COMPONENTS)
def test_values_render_components(name: str, tmp_path: Path) -> None:
    component, values = COMPONENTS[name]
    (tmp_path / "kustomization.yaml").write_text(
        f"resources: [{DEPLOY / 'base'}]\ncomponents: [{DEPLOY / 'components' / component}]\n"
    )
    theirs = comparable(render(tmp_path))
    del theirs["v1", "Namespace", "", NAME]
    assert {key: _without_own_labels(value) for key, value in comparable(template(*values)).items()} == {
        key: _without_own_labels(value) for key, value in theirs.items()
    }


def _without_own_labels(document: Object) -> Object:
    return {**document, "metadata": {**document["metadata"], "labels": None}}


def test_events_in_the_configuration_bring_the_right_to_create_them() -> None:
    without, objects = comparable(template()), comparable(template("--set=config.events=true"))
    theirs = read_objects(DEPLOY / "components/events/access.yaml")
    assert {key: value for key, value in objects.items() if key not in without} == {identity(o): o for o in theirs}


def test_helms_labels_are_on_every_object_and_in_no_selector() -> None:
    for document in template(*EVERYTHING):
        labels = document["metadata"]["labels"]
        assert [labels[label] for label in HELMS] == [f"{NAME}-{__version__}", NAME, "Helm", __version__]
        assert not any(label in json.dumps(document.get("spec", {})) for label in HELMS)


def test_the_chart_has_no_file_that_nothing_writes() -> None:
    assert {*(CHART / "files").iterdir()} == {path for path in generated() if path.parent.name == "files"}


def test_the_chart_is_of_this_version() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert (chart["version"], chart["appVersion"]) == (__version__, __version__)
    assert chart["kubeVersion"] == f">={VERSIONS[0]}-0"
    assert "incompatible" in run_template("--kube-version=1.29.0").stderr


# Valid


@pytest.mark.parametrize("values", [[], *OVERLAYS.values(), EVERYTHING], ids=str)
def test_strict_lint_passes(values: list[str]) -> None:
    done = helm("lint", "--strict", CHART, *values)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("version", sorted({*VERSIONS}))
def test_every_rendering_is_strictly_valid(version: str) -> None:
    variants = [[], *OVERLAYS.values(), *(values for _, values in COMPONENTS.values()), EVERYTHING]
    different = {json.dumps(each, sort_keys=True): each for values in variants for each in template(*values)}
    for document in different.values():
        if document["kind"] not in WITHOUT_SCHEMA:
            kubernetes_validate.validate(document, version, strict=True)


def test_the_package_holds_the_whole_chart(tmp_path: Path) -> None:
    done = helm("package", CHART, "--destination", tmp_path)
    assert done.returncode == 0, done.stderr
    assert text_of(*EVERYTHING, chart=tmp_path / f"{NAME}-{__version__}.tgz") == text_of(*EVERYTHING)


def test_a_release_fits_into_its_secret() -> None:
    """Helm keeps chart and manifest, compressed, in one Secret, which may hold 1 MiB."""
    files = {str(path): base64.b64encode(path.read_bytes()).decode() for path in CHART.rglob("*") if path.is_file()}
    release = json.dumps({"chart": files, "manifest": text_of(*EVERYTHING)}).encode()
    assert len(base64.b64encode(base64.b64encode(gzip.compress(release)))) < 700_000


# Names


def test_another_release_in_another_namespace_refers_to_itself_alone() -> None:
    objects = template(
        "--namespace=net", f"--set={OPERATOR},openshift=true,nodeLists=false,serviceAccount.name=sa", release="six"
    )
    full = f"six-{NAME}"
    known = {(o["kind"], o["metadata"]["name"]) for o in objects}
    assert {o["metadata"].get("namespace", "net") for o in objects} == {"net", "kube-system", "openshift-dns"}
    assert {o["metadata"]["name"].startswith((full, "sa")) for o in objects} == {True}
    accounts = {("net", "sa"), ("net", "sa-cluster")}
    for document in objects:
        if document["kind"].endswith("Binding"):
            assert (document["roleRef"]["kind"], document["roleRef"]["name"]) in known
            subjects = {(each["namespace"], each["name"]) for each in document["subjects"]}
            assert subjects <= accounts | {("monitoring", "prometheus-k8s")}
        if document["kind"] == "SecurityContextConstraints":
            (user,) = document["users"]
            assert tuple(user.split(":")[2:]) in accounts
    for pod in pod_specs(objects).values():
        assert ("net", pod["spec"]["serviceAccountName"]) in accounts
        (config,) = (each["configMap"]["name"] for each in pod["spec"]["volumes"] if "configMap" in each)
        assert ("ConfigMap", config) in known
    assert ("Service", f"{full}-cluster") in known
    assert configuration(objects, full).digest.url == f"http://{full}-cluster.net.svc:10046/api/v1/digest"


def monitoring(*arguments: str, release: str = "six") -> tuple[Config, str, set[str]]:
    """The configuration, the rules and dashboards as one text, and where links to runbooks in them begin."""
    objects = template("--namespace=net", f"--set={OPERATOR}", *arguments, release=release)
    config = configuration(objects, f"six-{NAME}")
    shown = [o for o in objects if o["kind"] == "PrometheusRule" or "-dashboard-" in o["metadata"]["name"]]
    text = json.dumps([o.get("spec", o.get("data")) for o in shown])
    links = set(re.findall(r"(https?://[^\s\"\\]*/)(?:Dualstack\w+|\$\{__value\.text\})\.md", text))
    assert len(shown) == 5
    if "://wiki" not in config.runbooks.url:
        check_runbooks(objects, config)
    return config, text, links


@pytest.mark.parametrize("values", [[], ["--set=prometheusRule.observe=true"], ["--set=nodeLists=true"]], ids=str)
def test_links_and_commands_of_rules_and_dashboards_are_of_the_release(values: list[str]) -> None:
    config, text, links = monitoring(*values)
    assert links == {config.runbooks.url} == {f"http://six-{NAME}.net.svc:10046/runbooks/"}
    assert set(re.findall(r"-n \S*dualstack\S*|-n net|dualstack-exporter\.svc", text)) == {"-n net"}
    assert set(re.findall(r"deploy/[\w-]+", text)) == {f"deploy/six-{NAME}-cluster"}


def test_without_nodes_links_lead_to_the_cluster_exporter() -> None:
    config, _, links = monitoring("--set=clusterOnly=true")
    assert links == {config.runbooks.url} == {f"http://six-{NAME}-cluster.net.svc:10046/runbooks/"}


@pytest.mark.parametrize("url", ["https://wiki.example/rb/$1", "https://wiki.example/rb/$1/"])
def test_one_value_decides_where_all_links_lead(url: str) -> None:
    config, _, links = monitoring(set_value("config.runbooks.url", url))
    assert links == {config.runbooks.url} == {"https://wiki.example/rb/$1/"}
    assert monitoring(set_value("config.runbooks.url", ""))[2] == monitoring()[2]


# Each value has an effect: the value, what it is set to, and where that is then

NODE, CLUSTER = ("DaemonSet", NAME), ("Deployment", f"{NAME}-cluster")
POD, EXPORTER, BROKER = (
    "spec.template",
    "spec.template.spec.containers.exporter",
    "spec.template.spec.containers.broker",
)
LABELS, ANNOTATIONS = "metadata.labels", "metadata.annotations"
DIGEST = f"sha256:{'0a' * 32}"
PLACEMENT = [
    ("priorityClassName", "high", f"{POD}.spec.priorityClassName", "high"),
    ("tolerations", [{"key": "a"}], f"{POD}.spec.tolerations", [{"key": "a"}]),
    ("nodeSelector", {"a": "b"}, f"{POD}.spec.nodeSelector.a", "b"),
    ("affinity", {"podAffinity": {}}, f"{POD}.spec.affinity.podAffinity", {}),
    ("podAnnotations", {"a": "b"}, f"{POD}.metadata.annotations.a", "b"),
    ("podLabels", {"a": "b"}, f"{POD}.metadata.labels.a", "b"),
    ("extraArgs", ["--log.format=json"], f"{EXPORTER}.args.-1", "--log.format=json"),
    ("extraEnv", [{"name": "A", "value": "b"}], f"{EXPORTER}.env.-1", {"name": "A", "value": "b"}),
    ("resources", {"limits": {"memory": "3Gi"}}, f"{EXPORTER}.resources.limits.memory", "3Gi"),
]
PEER: Object = {"podSelector": {}}
CONFIG = ("ConfigMap", NAME)
EFFECTS: list[tuple[str, Any, tuple[str, str], str, Any]] = [
    ("image.repository", "r.example/a", NODE, f"{BROKER}.image", f"r.example/a:{__version__}"),
    ("image.tag", "1", CLUSTER, f"{EXPORTER}.image", f"{NAME}:1"),
    ("image.digest", DIGEST, NODE, f"{EXPORTER}.image", f"{NAME}@{DIGEST}"),
    ("image.pullPolicy", "Always", NODE, f"{BROKER}.imagePullPolicy", "Always"),
    ("image.pullPolicy", "Never", CLUSTER, f"{EXPORTER}.imagePullPolicy", "Never"),
    ("imagePullSecrets", [{"name": "a"}], NODE, f"{POD}.spec.imagePullSecrets", [{"name": "a"}]),
    ("imagePullSecrets", [{"name": "a"}], CLUSTER, f"{POD}.spec.imagePullSecrets", [{"name": "a"}]),
    ("fullnameOverride", "six", ("DaemonSet", "six"), f"{POD}.spec.volumes.config.configMap.name", "six"),
    ("namespaceOverride", "net", NODE, "metadata.namespace", "net"),
    ("commonLabels", {"a": "b"}, CONFIG, f"{LABELS}.a", "b"),
    ("commonLabels", {"a": "b"}, ("ClusterRole", NAME), f"{LABELS}.a", "b"),
    ("clusterOnly", True, CLUSTER, f"{POD}.spec.hostNetwork", None),
    ("nodeLists", True, ("Role", NAME), "metadata.namespace", "kube-system"),
    ("dnsConfigMaps", True, ("Role", f"{NAME}-cluster-dns"), "metadata.namespace", "kube-system"),
    ("openshift", True, ("SecurityContextConstraints", NAME), "allowHostPID", True),
    ("microk8sFiles", True, NODE, "spec.template.spec.containers.node-files.image", f"{NAME}:{__version__}"),
    *((f"node.{key}", value, NODE, path, there) for key, value, path, there in PLACEMENT),
    *((f"cluster.{key}", value, CLUSTER, path, there) for key, value, path, there in PLACEMENT),
    ("node.brokerResources", {"limits": {"memory": "1Gi"}}, NODE, f"{BROKER}.resources.limits.memory", "1Gi"),
    ("node.updateStrategy", {"rollingUpdate": {"maxUnavailable": 1}}, NODE,
        "spec.updateStrategy.rollingUpdate.maxUnavailable", 1),
    ("node.priorityClassName", "high", ("ResourceQuota", f"{NAME}-critical-pods"),
        "spec.scopeSelector.matchExpressions.0.values", ["high", "system-cluster-critical"]),
    ("serviceAccount.name", "sa", NODE, f"{POD}.spec.serviceAccountName", "sa"),
    ("serviceAccount.annotations", {"a": "b"}, ("ServiceAccount", f"{NAME}-cluster"), f"{ANNOTATIONS}.a", "b"),
    ("rbac.prometheus.namespace", "prom", ("RoleBinding", f"{NAME}-discovery"), "subjects.0.namespace", "prom"),
    ("rbac.prometheus.serviceAccount", "p", ("RoleBinding", f"{NAME}-discovery"), "subjects.0.name", "p"),
    ("podMonitor.enabled", True, ("PodMonitor", NAME), "kind", "PodMonitor"),
    ("podMonitor.additionalLabels", {"release": "a"}, ("PodMonitor", NAME), f"{LABELS}.release", "a"),
    ("podMonitor.interval", "1m", ("PodMonitor", NAME), "spec.podMetricsEndpoints.0.interval", "1m"),
    ("podMonitor.scrapeTimeout", "20s", ("PodMonitor", NAME), "spec.podMetricsEndpoints.0.scrapeTimeout", "20s"),
    ("serviceMonitor.enabled", True, ("ServiceMonitor", NAME), "spec.endpoints.0.port", "metrics"),
    ("serviceMonitor.additionalLabels", {"release": "a"}, ("ServiceMonitor", NAME), f"{LABELS}.release", "a"),
    ("serviceMonitor.interval", "1m", ("ServiceMonitor", NAME), "spec.endpoints.0.interval", "1m"),
    ("serviceMonitor.scrapeTimeout", "20s", ("ServiceMonitor", NAME), "spec.endpoints.0.scrapeTimeout", "20s"),
    ("prometheusRule.enabled", True, ("PrometheusRule", NAME), "kind", "PrometheusRule"),
    ("prometheusRule.additionalLabels", {"release": "a"}, ("PrometheusRule", NAME), f"{LABELS}.release", "a"),
    ("dashboards.enabled", True, ("ConfigMap", f"{NAME}-dashboard-node"), f"{LABELS}.grafana_dashboard", "1"),
    ("dashboards.namespace", "graf", ("ConfigMap", f"{NAME}-dashboard-node"), "metadata.namespace", "graf"),
    ("dashboards.labels", {"a": "b"}, ("ConfigMap", f"{NAME}-dashboard-dns"), f"{LABELS}.a", "b"),
    ("dashboards.annotations", {"a": "b"}, ("ConfigMap", f"{NAME}-dashboard-dns"), f"{ANNOTATIONS}.a", "b"),
    ("networkPolicy.enabled", True, ("NetworkPolicy", NAME), "spec.ingress.0.from", None),
    ("networkPolicy.from", [PEER], ("NetworkPolicy", NAME), "spec.ingress.0.from", [PEER]),
]  # fmt: skip
REMOVING = {  # a value whose effect is that objects are missing, and their kinds
    "rbac.create": {"Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding"},
    "serviceAccount.create": {"ServiceAccount"},
    "resourceQuota.create": {"ResourceQuota"},
}
OPTIONAL = {"podMonitor", "serviceMonitor", "prometheusRule", "dashboards", "networkPolicy"}
ELSEWHERE = {"createNamespace", "prometheusRule.observe", "config"}  # tests of their own


def set_value(key: str, value: Any) -> str:
    return f"--set-json={key}={json.dumps(value)}"


def at(document: Any, path: str) -> Any:
    """The value at a dotted path; of a list by index or by name. None where there is none."""
    for part in path.split("."):
        if isinstance(document, list):
            named = [each for each in document if isinstance(each, dict) and each.get("name") == part]
            document = named[0] if named else document[int(part)] if re.fullmatch(r"-?\d+", part) else None
        else:
            document = document.get(part) if document else None
    return document


@pytest.mark.parametrize(("key", "value", "where", "path", "there"), EFFECTS, ids=lambda value: str(value)[:40])
def test_each_value_has_its_effect(key: str, value: Any, where: tuple[str, str], path: str, there: Any) -> None:
    section = {"rbac": "podMonitor"}.get(key.partition(".")[0], key.partition(".")[0])
    needed = [f"--set={section}.enabled=true"] if section in OPTIONAL and not key.endswith(".enabled") else []
    found = the(template(*needed, set_value(key, value)), *where)
    assert at(found, path) == there
    before = [o for o in template(*needed) if identity(o) == identity(found)]
    assert not before or at(before[0], path) != there


@pytest.mark.parametrize("key", REMOVING)
def test_what_others_create_is_left_out(key: str) -> None:
    enabled = "--set=podMonitor.enabled=true"
    kinds = {o["kind"] for o in template(enabled)} - {o["kind"] for o in template(enabled, f"--set={key}=false")}
    assert kinds == REMOVING[key]


def _keys(values: Any, prefix: str = "") -> Iterator[str]:
    for key, value in values.items():
        path = f"{prefix}{key}"
        whole = {"resources", "brokerResources", "nodeSelector", "affinity", "updateStrategy", "labels", "annotations"}
        if isinstance(value, dict) and value and key not in whole | {"config"}:
            yield from _keys(value, f"{path}.")
        else:
            yield path


def test_no_value_is_without_a_test_and_the_schema_knows_each() -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    assert {key for key, *_ in EFFECTS} | set(REMOVING) | ELSEWHERE == set(_keys(values))
    schema = json.loads((CHART / "values.schema.json").read_text())
    known = {key: value["properties"] for key, value in schema["properties"].items() if "properties" in value}
    assert set(schema["properties"]) == set(values) | {"global"}
    for section in set(known) - {"config"}:
        assert set(known[section]) == set(values[section])


def test_only_one_monitor_is_taken() -> None:
    done = run_template("--set=podMonitor.enabled=true,serviceMonitor.enabled=true")
    assert done.returncode == 1
    assert "podMonitor and serviceMonitor are both enabled: every series would exist twice" in done.stderr


def test_a_namespace_of_the_releases_own_is_refused() -> None:
    done = run_template("--set=createNamespace=true")
    assert done.returncode == 1
    assert "createNamespace needs namespaceOverride" in done.stderr


def test_the_service_monitor_scrapes_each_pod_once_under_the_same_labels() -> None:
    objects = template("--set=serviceMonitor.enabled=true")
    (endpoint,) = the(objects, "ServiceMonitor", NAME)["spec"]["endpoints"]
    (monitored,) = the(template("--set=podMonitor.enabled=true"), "PodMonitor", NAME)["spec"]["podMetricsEndpoints"]
    keep, job, *node = endpoint["relabelings"]
    assert {**endpoint, "relabelings": node} == monitored
    assert job == {"targetLabel": "job", "replacement": NAME, "action": "replace"}
    (selected,) = the(objects, "ServiceMonitor", NAME)["spec"]["selector"]["matchExpressions"]
    services = [
        o for o in objects if o["kind"] == "Service" and o["metadata"]["labels"][selected["key"]] in selected["values"]
    ]
    kept = [s for s in services if re.fullmatch(keep["regex"], s["metadata"]["name"])]
    assert sorted(s["spec"]["selector"]["app.kubernetes.io/component"] for s in kept) == ["cluster", "node"]
    assert {p["name"] for s in kept for p in s["spec"]["ports"]} == {endpoint["port"]}
    rules = the(objects, "Role", f"{NAME}-discovery")["rules"]
    assert {r for rule in rules for r in rule["resources"]} == {"pods", "services", "endpoints", "endpointslices"}


# The configuration


def test_any_configuration_reaches_the_exporter_as_it_is(tmp_path: Path) -> None:
    values = tmp_path / "values.yaml"
    values.write_text(yaml.safe_dump({"config": yaml.safe_load(CONTRACT.read_text())}))
    text = the(template(f"--values={values}"), "ConfigMap", NAME)["data"]["config.yaml"]
    config = load_config(CONTRACT.read_text(), path="config.yaml", environment={}, hostname="ra")
    file = tmp_path / "config.yaml"
    file.write_text(text)
    done = subprocess.run(
        [sys.executable, "-m", "exporter", "config", f"--config.file={file}"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert load_config(done.stdout, path="config.yaml", environment={}, hostname="ra") == config


def test_a_value_of_the_configuration_leaves_the_digest_in_place() -> None:
    config = configuration(template("--set=config.pods.sample=3,config.node_name=12a"))
    assert (config.pods.sample, config.digest.url) == (3, configuration(template()).digest.url)
    own = configuration(template("--set=config.digest.url=http://a.test:1/x"))
    assert own.digest.url == "http://a.test:1/x"


def test_the_commented_example_of_the_values_is_accepted(tmp_path: Path) -> None:
    values = tmp_path / "values.yaml"
    values.write_text(re.sub(r"^  # (?=( |\w+:$))", "  ", (CHART / "values.yaml").read_text(), flags=re.MULTILINE))
    config = configuration(template(f"--values={values}"))
    assert [target.name for target in config.targets] == ["pypi"]
    assert [name.name for name in config.dns.names or ()] == ["pypi.org"]


WRONG = [
    ("config.pods.sample", "many", "at '/config/pods/sample': got string, want integer"),
    ("config.pods.sample", 1001, "at '/config/pods/sample': maximum: got 1,001, want 1,000"),
    ("config.pods.smaple", 1, "at '/config/pods': additional properties 'smaple' not allowed"),
    ("config.targets", [{"host": "a.test"}], "at '/config/targets/0': missing property 'name'"),
    ("config.role", "leader", "at '/config/role': value must be one of 'node', 'cluster', 'all'"),
    ("config.families", "both", "at '/config/families': 'both' does not match pattern '^auto$'"),
    ("config.dns.servers", ["host"], "at '/config/dns/servers/0': 'host' does not match pattern '^pod$'"),
    ("config.dns.servers", [{"name": "a"}], "at '/config/dns/servers/0': missing property 'address'"),
    ("config.round.interval", "30", "at '/config/round/interval': '30' does not match pattern"),
    ("config.runbooks.url", "wiki.example", "at '/config/runbooks/url': 'wiki.example' does not match pattern"),
    ("config.runbooks.url", 'http://a"{{b', "at '/config/runbooks/url': 'http://a\"{{b' does not match pattern"),
    ("podMonitor", None, "at '': missing property 'podMonitor'"),
    ("node.resource", {}, "at '/node': additional properties 'resource' not allowed"),
    ("image.repository", "a:1", "at '/image/repository': 'a:1' does not match pattern"),
    ("image.digest", "sha256:1", "at '/image/digest': 'sha256:1' does not match pattern"),
    ("image.pullPolicy", "Sometimes", "at '/image/pullPolicy': value must be one of"),
    ("clusterOnly", "yes", "at '/clusterOnly': got string, want boolean"),
    ("podMonitor.interval", "30", "at '/podMonitor/interval': '30' does not match pattern"),
    ("node.extraArgs", ["log"], "at '/node/extraArgs/0': 'log' does not match pattern"),
    ("namespaceOverride", "A_b", "at '/namespaceOverride': 'A_b' does not match pattern"),
    ("cluster.podLabels", {"a": 1}, "at '/cluster/podLabels/a': got number, want string"),
]


@pytest.mark.parametrize(("key", "value", "line"), WRONG, ids=str)
def test_a_wrong_value_gets_one_line_with_its_place(key: str, value: Any, line: str) -> None:
    done = run_template(set_value(key, value))
    assert (done.returncode, done.stdout) == (1, "")
    (said,) = (each for each in done.stderr.splitlines() if each.lstrip().startswith("- "))
    assert said.startswith(f"- {line}")


# What a person is told and does


@pytest.mark.parametrize(("values", "workload"), [([], "daemonset"), (["--set=clusterOnly=true"], "deployment")])
def test_notes_give_the_next_two_commands(values: list[str], workload: str, tmp_path: Path) -> None:
    chart = tmp_path / "chart"
    shutil.copytree(CHART, chart)  # `helm template` renders the notes only where another template includes them
    (chart / "templates/shown.yaml").write_text(
        "apiVersion: v1\nkind: Shown\nmetadata: {name: shown}\n"
        'notes: {{ include (print .Template.BasePath "/NOTES.txt") . | toJson }}\n'
    )
    objects = template(*values, chart=chart)
    notes = the(objects, "Shown", "shown")["notes"]
    commands = re.findall(r"^\d\. .*\n\n     (.+)$", notes, re.MULTILINE)
    name = {"daemonset": NAME, "deployment": f"{NAME}-cluster"}[workload]
    assert commands[0] == f"kubectl -n {NAME} rollout status {workload}/{name}"
    target = re.fullmatch(
        rf"kubectl -n {NAME} exec {workload}/{name} (?:-c (\w+) )?-- {NAME} check --last", commands[1]
    )
    assert target
    the_container(pod_specs(objects)[name], target[1] or "exporter")
    assert len(commands) == 2
    level = "privileged" if workload == "daemonset" else "restricted"
    assert f"kubectl label --overwrite namespace {NAME} pod-security.kubernetes.io/enforce={level}" in notes


def test_a_published_image_is_the_charts_too(tmp_path: Path) -> None:
    for name in ("deploy", "scripts"):
        shutil.copytree(ROOT / name, tmp_path / name)
    image = "registry.example:5000/net/dualstack-exporter:1.10"
    subprocess.run([tmp_path / "scripts/manifest", image], capture_output=True, check=True)
    objects = template(chart=tmp_path / CHART.relative_to(ROOT))
    assert {c["image"] for pod in pod_specs(objects).values() for c in pod["spec"]["containers"]} == {image}
