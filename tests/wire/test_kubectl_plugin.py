"""`kubectl dualstack` with what stands for kubectl, and with kubectl itself where it is installed."""

from __future__ import annotations

import asyncio
import inspect
import json
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import WSMsgType, web

from exporter.cli import kubectl_plugin
from exporter.cli.command import parse
from tests.wire import fake_kubectl

OURS = "dualstack-exporter"


def pod(name: str, node: str | None = "n1", *, namespace: str = OURS, component: str = "", **changes: Any) -> Any:
    """A pod that runs and is ready, as the API server has it."""
    state, ready = changes.pop("state", {"running": {"startedAt": "2026-01-01T00:00:00Z"}}), changes.pop("ready", True)
    labels = {"app.kubernetes.io/name": OURS, "app.kubernetes.io/component": component} if component else {"app": "web"}
    metadata = {"namespace": namespace, "name": name, "labels": labels, "creationTimestamp": "2026-01-01T00:00:00Z"}
    container = "exporter" if component else "web"
    return {
        "apiVersion": "v1", "kind": "Pod", "metadata": metadata | changes.pop("metadata", {}),
        "spec": {"containers": [{"name": container}]} | ({"nodeName": node} if node else {}),  # kubectl 1.36 looks
        "status": {
            "phase": changes.pop("phase", "Running"),
            "containerStatuses": [{"name": container, "ready": ready, "state": state}] if node else [],
        },
    }  # fmt: skip


WEB = pod("web", "n2", namespace="shop")
EXPORTERS = [
    pod("exp-1", "n1", component="node"),
    pod("exp-2", "n2", component="node"),
    pod("exp-cluster", "n1", component="cluster"),
]
FROM_WEB = "--pod=shop/web"
PULLING = {"waiting": {"reason": "ImagePullBackOff"}}
EXPORTER_PULLS = [pod("exp", component="node", state=PULLING, phase="Pending")]
EXPORTER_WAITS = [pod("exp", None, component="cluster", phase="Pending")]
WEB_WAITS = [*EXPORTERS, pod("web", None, namespace="shop", phase="Pending")]
WEB_ENDED = [*EXPORTERS, pod("web", namespace="shop", phase="Succeeded")]


class Kubectl:
    """What the plugin calls, and what it was called with."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._file = directory / "cluster.json"
        script = directory / "kubectl"
        script.write_text(f'#!/bin/sh\nexec {sys.executable} {fake_kubectl.__file__} "$@"\n')
        script.chmod(0o755)
        monkeypatch.setenv("PATH", str(directory))
        monkeypatch.setenv("FAKE_CLUSTER", str(self._file))
        self.has(*EXPORTERS, WEB)

    def has(self, *pods: Any, **settings: Any) -> None:
        self._file.write_text(json.dumps({"pods": pods} | settings))

    @property
    def calls(self) -> list[tuple[dict[str, str], list[str], list[str]]]:
        return [tuple(json.loads(line)) for line in self._file.with_name("calls").read_text().splitlines()]


@pytest.fixture
def kubectl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kubectl:
    return Kubectl(tmp_path, monkeypatch)


@pytest.mark.parametrize(
    ("given", "ran_in", "command"),
    [
        ("check n2", "exp-2", "check"),
        ("check n1 --last --fail-on=critical --output=json", "exp-1", "check --output=json --last --fail-on=critical"),
        ("check", "exp-cluster", "check --nodes=all"),
        ("check --last", "exp-cluster", "check --last"),
        ("resolve db.shop --pod shop/web", "exp-2", "resolve db.shop --pod=shop/web"),
        ("resolve a --pod=shop/web --family 6", "exp-2", f"resolve a {FROM_WEB} --family=6"),
        ("resolve db.shop --node=n1", "exp-1", "resolve db.shop"),
        ("probe [::1]:443 --pod shop/web --layers=tcp,tls", "exp-2", f"probe [::1]:443 {FROM_WEB} --layers=tcp,tls"),
        ("probe pypi --node n2", "exp-2", "probe pypi"),
        ("status", "exp-cluster", "check --last"),
    ],
)  # fmt: skip
def test_the_pod_that_can_answer_is_found(
    kubectl: Kubectl, capfd: pytest.CaptureFixture[str], given: str, ran_in: str, command: str
) -> None:
    assert kubectl_plugin.main(given.split()) == 0
    said = capfd.readouterr()
    assert said.out.splitlines()[-1].split(": ", 1)[0] == ran_in
    assert said.err == ""
    flags, words, run = kubectl.calls[-1]
    assert (words, flags["--container"], flags["--namespace"]) == (["exec", ran_in], "exporter", OURS)
    assert run[0] == OURS
    assert sorted(run[1:]) == sorted(command.split())
    assert parse(run[1:], {}).command == command.split(maxsplit=1)[0]  # the exporter takes these flags


def test_flags_of_kubectl_are_handed_on_and_n_is_the_exporters_namespace(kubectl: Kubectl) -> None:
    kubectl.has(pod("other", namespace="monitoring", component="node"), pod("web", namespace="shop"))
    given = "--pod shop/web -n monitoring --context here --kubeconfig=/k --as=me --request-timeout=5s"
    assert kubectl_plugin.main(["resolve", "db", *given.split()]) == 0
    assert [flags["--namespace"] for flags, _, _ in kubectl.calls] == ["shop", "monitoring", "monitoring"]
    for flags, _, _ in kubectl.calls:
        kept = {"--context": "here", "--kubeconfig": "/k", "--as": "me", "--request-timeout": "5s"}
        assert kept.items() <= flags.items()


@pytest.mark.parametrize("status", [1, 2, 130])
def test_the_status_is_the_commands(kubectl: Kubectl, capfd: pytest.CaptureFixture[str], status: int) -> None:
    kubectl.has(*EXPORTERS, status=status)
    assert kubectl_plugin.main(["check", "n1"]) == status
    assert capfd.readouterr().err == "of the command\n"


def test_a_failure_of_kubectl_is_no_finding(kubectl: Kubectl, capfd: pytest.CaptureFixture[str]) -> None:
    """kubectl ends with 1, as a check does that found something."""
    kubectl.has(*EXPORTERS, forbidden=True)
    assert kubectl_plugin.main(["check", "n1"]) == 2
    assert "is forbidden" in capfd.readouterr().err


def test_while_one_pod_replaces_another_the_one_that_stays_is_asked(
    kubectl: Kubectl, capfd: pytest.CaptureFixture[str]
) -> None:
    going = pod(
        "going",
        component="node",
        metadata={"deletionTimestamp": "2026-01-02T00:00:00Z", "creationTimestamp": "2026-01-03T00:00:00Z"},
    )
    starting = pod("starting", component="node", state=PULLING, phase="Pending")
    fresh = pod("fresh", component="node", ready=False, metadata={"creationTimestamp": "2026-01-02T00:00:00Z"})
    kubectl.has(going, starting, fresh, pod("ready", component="node"))
    kubectl_plugin.main(["check", "n1"])
    assert capfd.readouterr().out.startswith("ready: ")
    kubectl.has(starting, fresh)
    kubectl_plugin.main(["check", "n1"])
    assert capfd.readouterr().out.startswith("fresh: ")


@pytest.mark.parametrize(
    ("pods", "given", "says"),
    [
        ([], "check n1", "no node exporter is in namespace dualstack-exporter; name its namespace with -n"),
        ([], "check", "no cluster exporter runs in namespace dualstack-exporter"),
        (EXPORTERS, "check n9", "no node exporter runs on n9"),
        ([*EXPORTERS, pod("web", "n9", namespace="shop")], "resolve a --pod=shop/web", "no node exporter runs on n9"),
        (EXPORTER_PULLS, "check n1", "no node exporter runs on n1: exp is ImagePullBackOff"),
        (EXPORTER_WAITS, "check", "in namespace dualstack-exporter: exp is Pending"),
        (EXPORTERS, "probe a:1 --pod shop/web", 'Error from server (NotFound): pods "web" not found'),
        (WEB_WAITS, f"probe a:1 {FROM_WEB}", "--pod=shop/web: it is Pending and on no node yet"),
        (WEB_ENDED, f"probe a:1 {FROM_WEB}", "it has ended (Succeeded)"),
        (EXPORTERS, "probe a:1 --pod web", "NAMESPACE/NAME is expected"),
        (EXPORTERS, "probe a:1", "one of the arguments --pod --node is required"),
        (EXPORTERS, "probe a:1 --pod=a/b --node=n1", "not allowed with"),
        (EXPORTERS, "check n1 --context=there", 'context "there" does not exist'),
        (EXPORTERS, "check n1 --bogus", "unrecognized arguments: --bogus"),
        (EXPORTERS, "", "the following arguments are required: COMMAND"),
        (EXPORTERS, "nonsense", "invalid choice: 'nonsense'"),
    ],
)  # fmt: skip
def test_what_keeps_it_from_running_is_said_in_one_line(
    kubectl: Kubectl, capfd: pytest.CaptureFixture[str], pods: list[Any], given: str, says: str
) -> None:
    kubectl.has(*pods)
    assert kubectl_plugin.main(given.split()) == 2
    said = capfd.readouterr()
    assert (said.out, said.err.count("\n")) == ("", 1)
    assert said.err.startswith("kubectl-dualstack: ")
    assert says in said.err


def test_a_server_that_does_not_answer_is_said_in_kubectls_words(
    kubectl: Kubectl, capfd: pytest.CaptureFixture[str]
) -> None:
    refused = "The connection to the server localhost:8080 was refused - did you specify the right host or port?"
    kubectl.has(error=f"E1130 14:18:05.474174 24170 memcache.go:265] no API\n{refused}")
    assert kubectl_plugin.main(["status"]) == 2
    assert capfd.readouterr().err == f"kubectl-dualstack: {refused}\n"


def test_without_kubectl_that_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert kubectl_plugin.main(["status"]) == 2
    assert capsys.readouterr().err == "kubectl-dualstack: kubectl is not in PATH\n"


def test_status_names_the_exporters_that_are_not_ready(kubectl: Kubectl, capfd: pytest.CaptureFixture[str]) -> None:
    bad = [
        pod("pulling", "n3", component="node", state=PULLING),
        pod("new", "n4", component="node", ready=False),
        pod("unplaced", None, component="node", phase="Pending"),
    ]
    kubectl.has(*EXPORTERS, *bad)
    assert kubectl_plugin.main(["status"]) == 0
    assert capfd.readouterr().out.splitlines()[:-1] == [
        "node exporters: 2 of 5 ready",
        "  pulling on n3: ImagePullBackOff",
        "  new on n4: not ready",
        "  unplaced on no node: Pending",
        "cluster exporters: 1 of 1 ready",
    ]


# With kubectl itself


@asynccontextmanager
async def api_server(pods: list[Any], status: int) -> AsyncIterator[str]:
    """As much of an API server as kubectl needs to get pods and to run a command that ends with that status."""

    def listed(kind: str, **fields: Any) -> web.Response:
        return web.json_response({"kind": kind, "apiVersion": "v1"} | fields)

    async def answer(request: web.Request) -> web.StreamResponse:
        path = request.path.strip("/").split("/")
        if path == ["api"]:
            return listed("APIVersions", versions=["v1"])
        if path == ["apis"]:
            return listed("APIGroupList", groups=[])
        if path == ["api", "v1"]:
            kind = {"name": "pods", "singularName": "pod", "namespaced": True, "kind": "Pod", "verbs": ["get", "list"]}
            return listed("APIResourceList", groupVersion="v1", resources=[kind])
        if path[-1] == "exec":
            return await run_command(request, path[-2])
        if len(path) == 4:
            return listed("Namespace", metadata={"name": path[3]})
        found = [p for p in pods if p["metadata"]["namespace"] == path[3]]
        if path[-1] == "pods":
            wanted = dict(each.split("=") for each in request.query["labelSelector"].split(","))
            node = request.query.get("fieldSelector", "").removeprefix("spec.nodeName=")
            found = [p for p in found if wanted.items() <= p["metadata"]["labels"].items()]
            return listed("PodList", items=[p for p in found if node in ("", p["spec"]["nodeName"])], metadata={})
        named = [p for p in found if p["metadata"]["name"] == path[-1]]
        reason = {"status": "Failure", "reason": "NotFound", "code": 404, "message": f'pods "{path[-1]}" not found'}
        return web.json_response(
            named[0] if named else {"kind": "Status", "apiVersion": "v1"} | reason, status=200 if named else 404
        )

    async def run_command(request: web.Request, name: str) -> web.StreamResponse:
        socket = web.WebSocketResponse(protocols=["v5.channel.k8s.io"])
        await socket.prepare(request)
        command = " ".join(request.query.getall("command"))
        await socket.send_bytes(b"\x01" + f"{name}: {command}\n".encode())
        ended: dict[str, Any] = {"status": "Success", "metadata": {}}
        if status:
            cause = {"reason": "ExitCode", "message": str(status)}
            message = f"command terminated with non-zero exit code: exit status {status}"
            ended |= {
                "status": "Failure",
                "reason": "NonZeroExitCode",
                "message": message,
                "details": {"causes": [cause]},
            }
        await socket.send_bytes(b"\x03" + json.dumps(ended).encode())
        await socket.close()
        async for received in socket:
            assert received.type is not WSMsgType.ERROR
        return socket

    application = web.Application()
    application.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="no kubectl here; what stands for it is tested above")
@pytest.mark.parametrize(
    ("given", "command_status", "status", "says"),
    [
        (
            "resolve db --pod=shop/web --family=6",
            0,
            0,
            "exp-2: dualstack-exporter resolve db --pod=shop/web --family=6",
        ),
        ("check n1", 1, 1, "exp-1: dualstack-exporter check"),
        ("resolve db --pod=shop/nope", 0, 2, 'kubectl-dualstack: Error from server (NotFound): pods "nope" not found'),
        ("check n9", 0, 2, "kubectl-dualstack: no node exporter runs on n9"),
    ],
)
async def test_as_a_plugin_of_kubectl(tmp_path: Path, given: str, command_status: int, status: int, says: str) -> None:
    plugin = tmp_path / "kubectl-dualstack"
    plugin.write_text(f"#!{sys.executable}\n{inspect.getsource(kubectl_plugin)}")
    plugin.chmod(0o755)
    environment = os.environ | {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "KUBECONFIG": "/dev/null",
        "HOME": str(tmp_path),
    }
    async with api_server([*EXPORTERS, WEB], command_status) as url:
        command = ["kubectl", "dualstack", *given.split(), f"--server={url}"]
        pipe, out = subprocess.PIPE, subprocess.STDOUT
        done = await asyncio.to_thread(
            subprocess.run, command, env=environment, stdout=pipe, stderr=out, text=True, check=False
        )
    assert (done.returncode, done.stdout) == (status, f"{says}\n")
