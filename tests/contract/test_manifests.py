"""deploy/: valid for every supported Kubernetes, least power, and in agreement with the code, the image and each
other.
"""

from __future__ import annotations

import functools
import hashlib
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import kubernetes_validate  # type: ignore[import-untyped]
import pytest
import yaml
from kubernetes_validate.utils import all_versions  # type: ignore[import-untyped]

from exporter import __version__
from exporter.broker.server.privilege import missing_capabilities
from exporter.cli.command import parse
from exporter.config.load import load_config
from exporter.config.schema import Config
from exporter.daemon.options import Options
from exporter.digest import service_env_resolver as own_services
from exporter.inventory import node_files as nodefiles
from exporter.web.server.listening import DEFAULT_ADDRESSES
from tests.contract.kustomize import (
    Object,
    containers,
    identity,
    pod_specs,
    read_objects,
    render,
    the,
    the_container,
)

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
SINGLE_FILE = DEPLOY / "daemonset.yaml"
OVERLAYS = sorted(path.parent for path in (DEPLOY / "overlays").glob("*/kustomization.yaml"))
ROOTS = [DEPLOY / "base", *OVERLAYS]

OLDEST = (1, 30)
VERSIONS = [v for v in all_versions() if tuple(int(part) for part in v.split(".")[:2]) >= OLDEST]
WITHOUT_SCHEMA = {"PodMonitor", "PrometheusRule", "SecurityContextConstraints"}  # of other projects' APIs
UNPRIVILEGED = 65532
THEIRS = ("monitoring", "prometheus-k8s")  # the service account of kube-prometheus

name_of_root = pytest.mark.parametrize("directory", ROOTS, ids=lambda path: path.name)


@pytest.fixture(scope="module")
def manifest() -> list[Object]:
    return read_objects(SINGLE_FILE)


# Validity


@pytest.fixture(scope="module", autouse=True)
def schemas_read_once() -> Iterator[None]:
    """The library reads megabytes of definitions anew for each object."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            kubernetes_validate.utils, "schema_contents", functools.cache(kubernetes_validate.utils.schema_contents)
        )
        yield


@pytest.mark.parametrize("version", VERSIONS)
def test_every_object_of_every_overlay_is_strictly_valid(version: str) -> None:
    different = {json.dumps(document, sort_keys=True): document for root in ROOTS for document in render(root)}
    for document in different.values():
        if document["kind"] not in WITHOUT_SCHEMA:
            kubernetes_validate.validate(document, version, strict=True)


def test_validation_refuses_a_misspelt_field(manifest: list[Object]) -> None:
    template = pod_specs(manifest)["dualstack-exporter"]
    template["spec"]["hostPid"] = template["spec"].pop("hostPID")
    with pytest.raises(kubernetes_validate.ValidationError, match="hostPid"):
        kubernetes_validate.validate(the(manifest, "DaemonSet", "dualstack-exporter"), VERSIONS[-1], strict=True)
    template["spec"]["hostPID"] = template["spec"].pop("hostPid")


@name_of_root
def test_the_broker_alone_is_unconfined_by_the_field_and_no_annotation_warns(directory: Path) -> None:
    """The API server answers each apply of the annotation with a warning."""
    profiles = {}
    for template in pod_specs(render(directory)).values():
        assert not any("apparmor" in key for key in template["metadata"].get("annotations", {}))
        assert "appArmorProfile" not in template["spec"]["securityContext"]
        for container in template["spec"]["containers"]:
            if "appArmorProfile" in container["securityContext"]:
                profiles[container["name"]] = container["securityContext"]["appArmorProfile"]
    assert profiles == ({} if directory.name == "cluster-only" else {"broker": {"type": "Unconfined"}})


def test_the_single_file_is_the_base_with_its_image() -> None:
    assert subprocess.run([ROOT / "scripts/manifest"], capture_output=True, text=True, check=True).stdout == (
        SINGLE_FILE.read_text()
    ), "run `make manifest`"
    assert read_objects(SINGLE_FILE) == render(DEPLOY / "base")


@pytest.mark.skipif(
    shutil.which("kubectl") is None, reason="no kubectl to compare with; the other tests do not need it"
)
@name_of_root
def test_kubectl_renders_the_same(directory: Path) -> None:
    done = subprocess.run(["kubectl", "kustomize", directory], capture_output=True, text=True, check=True)
    theirs = {identity(o): _ordered(o) for o in yaml.safe_load_all(done.stdout)}
    assert theirs == {identity(o): _ordered(o) for o in render(directory)}


def _ordered(value: Any) -> Any:
    """Lists of named things in the order of their names: kustomize puts what a patch adds first."""
    if isinstance(value, dict):
        return {key: _ordered(each) for key, each in value.items()}
    if isinstance(value, list):
        return sorted((_ordered(each) for each in value), key=lambda each: json.dumps(each, sort_keys=True))
    return value


# Names and references


@name_of_root
def test_objects_are_ours_to_delete(directory: Path) -> None:
    """`kubectl delete -k` leaves nothing, and takes nothing: every object is labelled and bears our name."""
    objects = render(directory)
    assert len({identity(o) for o in objects}) == len(objects)
    for document in objects:
        metadata = document["metadata"]
        assert metadata["name"].startswith("dualstack-exporter")
        assert metadata["labels"]["app.kubernetes.io/name"].startswith("dualstack-exporter")
        elsewhere = document["kind"] in {"Role", "RoleBinding"} and "dns" in str(metadata["namespace"])
        assert metadata.get("namespace", "dualstack-exporter") in {"dualstack-exporter", "kube-system"} or elsewhere


@name_of_root
def test_references_resolve(directory: Path) -> None:
    objects = render(directory)
    known = {(o["kind"], o["metadata"]["name"]) for o in objects}
    templates = list(pod_specs(objects).values())
    for template in templates:
        assert ("ServiceAccount", template["spec"]["serviceAccountName"]) in known
        volumes = {volume["name"]: volume for volume in template["spec"]["volumes"]}
        mounted = {mount["name"] for c in template["spec"]["containers"] for mount in c.get("volumeMounts", ())}
        assert mounted == set(volumes)
        for volume in volumes.values():
            assert "configMap" not in volume or ("ConfigMap", volume["configMap"]["name"]) in known
    for document in objects:
        if document["kind"].endswith("Binding"):
            role = document["roleRef"]
            assert (role["kind"], role["name"]) in known or role["name"].startswith("system:openshift:scc:")
            for subject in document["subjects"]:
                assert ("ServiceAccount", subject["name"]) in known or (subject["namespace"], subject["name"]) == THEIRS
        if document["kind"] == "Service":
            selector, ports = document["spec"]["selector"].items(), document["spec"]["ports"]
            chosen = [t for t in templates if selector <= t["metadata"]["labels"].items()]
            assert len(chosen) == 1
            offered = {p["name"] for c in chosen[0]["spec"]["containers"] for p in c.get("ports", ())}
            assert {p["targetPort"] for p in ports} <= offered
            assert {p["port"] for p in ports} == {10046}


@name_of_root
def test_one_image_of_this_version(directory: Path) -> None:
    (image,) = yaml.safe_load((DEPLOY / "components/image/kustomization.yaml").read_text())["images"]
    assert image["newTag"] == __version__
    used = {container["image"] for document in render(directory) for container in containers(document)}
    assert used == {f"{image['newName']}:{image['newTag']}"}


@pytest.mark.parametrize("image", ["registry.example:5000/net/dualstack-exporter:1.10", "dualstack-exporter:dev"])
def test_an_image_of_ones_own_is_named_once_and_reaches_everything(tmp_path: Path, image: str) -> None:
    for name in ("deploy", "alerts", "grafana", "scripts"):
        shutil.copytree(ROOT / name, tmp_path / name)
    single = subprocess.run([tmp_path / "scripts/manifest", image], capture_output=True, text=True, check=True).stdout
    made = [list(yaml.safe_load_all(single)), *(render(tmp_path / root.relative_to(ROOT)) for root in ROOTS)]
    assert {c["image"] for objects in made for document in objects for c in containers(document)} == {image}


def made(*arguments: str) -> str:
    """What make would run."""
    return subprocess.run(
        ["make", "--dry-run", "CONTAINER_TOOL=podman", *arguments], capture_output=True, text=True, check=True, cwd=ROOT
    ).stdout


def test_the_image_that_is_built_is_the_one_that_the_kubelet_asks_for(manifest: list[Object]) -> None:
    """A name without a registry means docker.io/library/ to it, and to `ctr -n k8s.io images import`."""
    (image,) = {container["image"] for document in manifest for container in containers(document)}
    assert f"podman save --output build/image.tar docker.io/library/{image}\n" in made("archive")


def test_a_published_image_is_the_one_that_the_manifests_then_name() -> None:
    image = "registry.example/dualstack-exporter:1"
    commands = made("publish", f"IMAGE={image}").splitlines()
    build, push = (
        next(n for n, line in enumerate(commands) if line.startswith(f"podman {verb}")) for verb in ("build", "push")
    )
    name = next(n for n, line in enumerate(commands) if line.startswith(f"scripts/manifest {image} >"))
    assert build < push < name
    assert commands[push] == f"podman push {image}"


@pytest.mark.parametrize("image", ["dualstack-exporter", "registry.example:5000/dualstack-exporter"])
def test_an_image_without_a_tag_is_refused(image: str) -> None:
    done = subprocess.run([ROOT / "scripts/manifest", image], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert "NAME:TAG" in done.stderr


def test_services_have_both_families_and_one_is_the_known_destination(manifest: list[Object]) -> None:
    services = [o for o in manifest if o["kind"] == "Service"]
    assert {s["spec"]["ipFamilyPolicy"] for s in services} == {"PreferDualStack"}
    # Nodes find the Service that they probe by this label and by its having an address.
    probed = [
        s["metadata"]["name"]
        for s in services
        if s["metadata"]["labels"]["app.kubernetes.io/name"] == "dualstack-exporter"
        and s["spec"].get("clusterIP") != "None"
    ]
    assert probed == ["dualstack-exporter"]


# Configuration and command line


@name_of_root
def test_the_shipped_configuration_loads_and_its_hash_is_in_the_pods(directory: Path) -> None:
    _check_configuration(render(directory))


def _check_configuration(objects: list[Object]) -> Config:
    text = the(objects, "ConfigMap", "dualstack-exporter")["data"]["config.yaml"]
    config = load_config(text, path="config.yaml", environment={"NODE_NAME": "ra"}, hostname="ra")
    expected = hashlib.sha256(text.encode()).hexdigest()[:16]
    for template in pod_specs(objects).values():
        assert template["metadata"]["annotations"]["dualstack-exporter/config-hash"] == expected
    check_runbooks(objects, config)
    return config


def check_runbooks(objects: list[Object], config: Config) -> None:
    """Links lead to a Service that is there, and to a port of it."""
    url = urlsplit(config.runbooks.url)
    name, namespace, _ = str(url.hostname).split(".")
    service = the(objects, "Service", name)
    assert (service["metadata"]["namespace"], url.path) == (namespace, "/runbooks/")
    assert url.port in [port["port"] for port in service["spec"]["ports"]]
    assert any(
        service["spec"]["selector"].items() <= pod["metadata"]["labels"].items() for pod in pod_specs(objects).values()
    )


def test_nodes_are_told_where_the_digest_is_by_what_stands_before_them_in_the_file(manifest: list[Object]) -> None:
    config = _check_configuration(manifest)
    url = urlsplit(config.digest.url)
    service = the(manifest, "Service", "dualstack-exporter-cluster")
    metadata = service["metadata"]
    assert url.hostname == f"{metadata['name']}.{metadata['namespace']}.svc"
    assert url.port == service["spec"]["ports"][0]["port"]
    assert service["spec"]["selector"]["app.kubernetes.io/component"] == "cluster"
    # The kubelet tells a pod the Services of its namespace that exist when it starts, where the pod wants to know.
    daemonset = the(manifest, "DaemonSet", "dualstack-exporter")
    assert manifest.index(service) < manifest.index(daemonset)
    assert daemonset["metadata"]["namespace"] == metadata["namespace"]
    assert daemonset["spec"]["template"]["spec"]["enableServiceLinks"] is True
    mounts = the_container(daemonset["spec"]["template"], "exporter")["volumeMounts"]
    assert str(own_services.NAMESPACE.parent) in {mount["mountPath"] for mount in mounts}


def test_nodes_that_list_for_themselves_ask_for_no_digest(tmp_path: Path) -> None:
    (tmp_path / "kustomization.yaml").write_text(
        f"resources: [{DEPLOY / 'base'}]\ncomponents: [{DEPLOY / 'components/node-lists'}]\n"
    )
    objects = render(tmp_path)
    assert _check_configuration(objects).digest.url == ""
    for version in VERSIONS:
        for document in objects:
            kubernetes_validate.validate(document, version, strict=True)


def test_the_commented_example_of_the_configuration_loads_too(manifest: list[Object]) -> None:
    text = the(manifest, "ConfigMap", "dualstack-exporter")["data"]["config.yaml"]
    example = "\n".join(re.sub(r"^# (?=( |\w+:$))", "", line) for line in text.splitlines())
    config = load_config(example, path="config.yaml", environment={}, hostname="ra")
    assert [target.name for target in config.targets] == ["pypi"]
    assert [name.name for name in config.dns.names or ()] == ["pypi.org"]


def options_of(container: Object, *command: str) -> Options:
    """What the container's process is told, or a command that `kubectl exec` runs in it."""
    told = {each["name"]: each["value"] for each in container["env"] if "value" in each}
    return parse([*command, *(() if command else container.get("args", ()))], told)


def test_arguments_are_ones_that_the_command_takes(manifest: list[Object]) -> None:
    templates = pod_specs(manifest)
    node = options_of(the_container(templates["dualstack-exporter"], "exporter"))
    cluster = options_of(the_container(templates["dualstack-exporter-cluster"], "exporter"))
    assert cluster.role == "cluster"
    assert node.role == ""
    broker = the_container(templates["dualstack-exporter"], "broker")["args"]
    assert broker == ["broker", f"--socket={node.broker_socket}", f"--client-uid={UNPRIVILEGED}"]
    for template in templates.values():
        mounts = {m["mountPath"] for m in the_container(template, "exporter")["volumeMounts"]}
        assert str(Path(node.config_file).parent) in mounts


def test_both_containers_share_the_sockets_directory_and_nothing_else(manifest: list[Object]) -> None:
    template = pod_specs(manifest)["dualstack-exporter"]
    broker, exporter = (the_container(template, name)["volumeMounts"] for name in ("broker", "exporter"))
    assert broker == [{"name": "run", "mountPath": "/run/dualstack-exporter"}]
    assert broker[0] in exporter


# Power


def test_the_broker_has_the_capabilities_that_its_code_uses_and_no_other(manifest: list[Object]) -> None:
    context = the_container(pod_specs(manifest)["dualstack-exporter"], "broker")["securityContext"]
    # Spelt without CAP_: the API refuses allowPrivilegeEscalation: false beside CAP_SYS_ADMIN. Effective for uid 0
    # alone.
    assert set(context["capabilities"]["add"]) == set(missing_capabilities(0))
    assert context["capabilities"]["drop"] == ["ALL"]
    assert context["runAsUser"] == 0


@name_of_root
def test_no_other_container_has_any_power(directory: Path) -> None:
    for name, template in pod_specs(render(directory)).items():
        for container in template["spec"]["containers"]:
            context = container["securityContext"]
            assert context["allowPrivilegeEscalation"] is False
            assert context["readOnlyRootFilesystem"] is True
            assert "privileged" not in context
            if container["name"] == "broker":
                continue
            assert context["capabilities"] == {"drop": ["ALL"]}
            effective = {**template["spec"]["securityContext"], **context}
            if container["name"] == "exporter":
                assert (effective["runAsUser"], effective["runAsNonRoot"]) == (UNPRIVILEGED, True), name


@name_of_root
def test_seccomp_is_on_and_no_host_directory_is_writable(directory: Path) -> None:
    for template in pod_specs(render(directory)).values():
        assert template["spec"]["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        host = {v["name"]: v["hostPath"]["path"] for v in template["spec"]["volumes"] if "hostPath" in v}
        assert set(host.values()) <= {"/var/snap/microk8s/current/args"}
        for container in template["spec"]["containers"]:
            for mount in container["volumeMounts"]:
                assert mount["name"] not in host or mount["readOnly"] is True


def test_only_the_exporters_container_can_read_the_token(manifest: list[Object]) -> None:
    for template in pod_specs(manifest).values():
        assert template["spec"]["automountServiceAccountToken"] is False
        (volume,) = (v["name"] for v in template["spec"]["volumes"] if "projected" in v)
        holders = [
            c["name"] for c in template["spec"]["containers"] if volume in {m["name"] for m in c["volumeMounts"]}
        ]
        assert holders == ["exporter"]
    assert all(o["automountServiceAccountToken"] is False for o in manifest if o["kind"] == "ServiceAccount")


@name_of_root
def test_access_is_listing_and_watching_only(directory: Path) -> None:
    rules = [r for o in render(directory) if o["kind"] in {"Role", "ClusterRole"} for r in o["rules"]]
    for rule in rules:
        assert rule["verbs"] in (["list", "watch"], ["list"])
        assert "*" not in [*rule["apiGroups"], *rule["resources"]]
        assert "secrets" not in rule["resources"]
        assert "configmaps" not in rule["resources"] or rule["resourceNames"]


# The pod as a whole


def test_the_node_pod_runs_everywhere_and_outlives_the_network(manifest: list[Object]) -> None:
    daemonset = the(manifest, "DaemonSet", "dualstack-exporter")
    spec = daemonset["spec"]["template"]["spec"]
    assert daemonset["spec"]["updateStrategy"]["rollingUpdate"] == {"maxUnavailable": "10%"}
    assert (spec["hostNetwork"], spec["hostPID"], spec["dnsPolicy"]) == (True, True, "Default")
    assert spec["priorityClassName"] == "system-node-critical"
    assert spec["tolerations"] == [{"operator": "Exists"}]
    assert spec["nodeSelector"] == {"kubernetes.io/os": "linux"}
    quota = the(manifest, "ResourceQuota", "dualstack-exporter-critical-pods")
    (scope,) = quota["spec"]["scopeSelector"]["matchExpressions"]
    assert {t["spec"]["priorityClassName"] for t in pod_specs(manifest).values()} == set(scope["values"])


def test_the_cluster_role_answers_on_its_nodes_own_network_beside_the_nodes_exporter(manifest: list[Object]) -> None:
    """What tells the nodes must not travel over the pod network, which is what they judge by it."""
    templates = pod_specs(manifest)
    node, cluster = templates["dualstack-exporter"]["spec"], templates["dualstack-exporter-cluster"]["spec"]
    assert (cluster["hostNetwork"], cluster["dnsPolicy"]) == (True, "ClusterFirstWithHostNet")  # it asks cluster DNS
    assert not {"hostPID", "hostIPC"} & set(cluster)
    taken = [p["hostPort"] for spec in (node, cluster) for c in spec["containers"] for p in c.get("ports", ())]
    assert len(set(taken)) == len(taken) == 2
    # Two pods of one Deployment cannot have the same port of one node.
    assert the(manifest, "Deployment", "dualstack-exporter-cluster")["spec"]["strategy"] == {"type": "Recreate"}


@name_of_root
def test_each_exporter_listens_on_the_port_that_its_pod_names(directory: Path) -> None:
    for template in pod_specs(render(directory)).values():
        exporter = the_container(template, "exporter")
        (port,) = exporter["ports"]
        listens = list(options_of(exporter).web_listen_address or DEFAULT_ADDRESSES)
        assert listens == [f":{port['containerPort']}"]
        assert port.get("hostPort", port["containerPort"]) == port["containerPort"]
        assert ("hostPort" in port) == bool(template["spec"].get("hostNetwork"))


@name_of_root
@pytest.mark.parametrize("command", [("check", "--last"), ("config",), ("probe", "a:1"), ("resolve", "a")])
def test_a_command_in_the_container_is_told_what_the_daemon_is(directory: Path, command: tuple[str, ...]) -> None:
    """By `kubectl exec`, which passes on the container's variables and none of its arguments."""
    shared = ("config_file", "role", "broker_socket", "web_listen_address", "web_config_file")
    for template in pod_specs(render(directory)).values():
        exporter = the_container(template, "exporter")
        daemon, run = options_of(exporter), options_of(exporter, *command)
        assert [getattr(run, name) for name in shared] == [getattr(daemon, name) for name in shared]
        assert daemon.config_file


@name_of_root
def test_pod_security_labels_fit_the_pods(directory: Path) -> None:
    objects = render(directory)
    labels = the(objects, "Namespace", "dualstack-exporter")["metadata"]["labels"]
    level = "privileged" if "dualstack-exporter" in pod_specs(objects) else "restricted"
    assert {v for k, v in labels.items() if k.startswith("pod-security.")} == {level}


def test_copies_of_microk8s_files_stand_where_the_exporter_reads_them() -> None:
    template = pod_specs(render(DEPLOY / "overlays/microk8s"))["dualstack-exporter"]
    copier, exporter = (
        {m["name"]: m["mountPath"] for m in the_container(template, name)["volumeMounts"]}
        for name in ("node-files", "exporter")
    )
    (script,) = the_container(template, "node-files")["args"]
    (name,) = set(copier) & set(exporter)
    assert exporter[name] == f"/{nodefiles.ARGUMENTS_DIRECTORY}"
    written = re.findall(r'"(/copies/\S+)/\$name"', script)
    assert [f"{exporter[name]}{target.removeprefix(copier[name])}" for target in written] == [
        f"/{nodefiles.ARGUMENTS_DIRECTORY}",
        f"/{nodefiles.CNI_DIRECTORIES[0]}",
    ]


def test_cluster_only_is_the_deployment_without_any_capability() -> None:
    objects = render(DEPLOY / "overlays/cluster-only")
    assert list(pod_specs(objects)) == ["dualstack-exporter-cluster"]
    assert "add" not in str([c["securityContext"] for o in objects for c in containers(o)])
    assert "NET_ADMIN" not in str(objects)
    # Nothing of the host, as Pod Security "restricted" wants it.
    assert not {"hostNetwork", "hostPID", "hostIPC", "dnsPolicy"} & set(
        pod_specs(objects)["dualstack-exporter-cluster"]["spec"]
    )
    assert "hostPort" not in str(objects)


def test_probes_ask_paths_that_need_no_authentication(manifest: list[Object]) -> None:
    for template in pod_specs(manifest).values():
        exporter = the_container(template, "exporter")
        assert exporter["livenessProbe"]["httpGet"] == {"path": "/-/healthy", "port": "metrics"}
        assert exporter["readinessProbe"]["httpGet"] == {"path": "/-/ready", "port": "metrics"}


def test_openshift_constraints_allow_what_the_pod_asks_for_and_no_more() -> None:
    objects = render(DEPLOY / "overlays/openshift")
    constraints = the(objects, "SecurityContextConstraints", "dualstack-exporter")
    template = pod_specs(objects)["dualstack-exporter"]
    asked = {
        name for c in template["spec"]["containers"] for name in c["securityContext"]["capabilities"].get("add", ())
    }
    assert set(constraints["allowedCapabilities"]) == asked
    kinds = {key for volume in template["spec"]["volumes"] for key in volume if key != "name"}
    assert kinds <= set(constraints["volumes"])
    account = f"system:serviceaccount:dualstack-exporter:{template['spec']['serviceAccountName']}"
    assert constraints["users"] == [account]
    assert constraints["allowHostDirVolumePlugin"] is False


def test_openshift_constraints_let_the_cluster_role_have_a_port_of_the_node_and_nothing_else() -> None:
    objects = render(DEPLOY / "overlays/openshift")
    constraints = the(objects, "SecurityContextConstraints", "dualstack-exporter-cluster")
    template = pod_specs(objects)["dualstack-exporter-cluster"]
    allowed = {key for key, value in constraints.items() if key.startswith("allow") and value}
    assert allowed == {"allowHostNetwork", "allowHostPorts"}
    assert constraints["runAsUser"] == {"type": "MustRunAsNonRoot"}
    assert {key for volume in template["spec"]["volumes"] for key in volume if key != "name"} == set(
        constraints["volumes"]
    )
    assert constraints["users"] == ["system:serviceaccount:dualstack-exporter:dualstack-exporter-cluster"]
