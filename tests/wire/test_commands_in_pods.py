"""Commands that `kubectl exec` runs in the shipped pods: they use the daemon's configuration and digest, and ask the
API server for nothing that the pod's service account may not read.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web

from exporter.digest.format import MEDIA, VERSION, write_digest
from exporter.model.cause import Role
from tests.access_rights import optional_rights, rights
from tests.contract.kustomize import pod_specs, read_objects, the, the_container
from tests.unit import recorded
from tests.wire.kubernetes_api import serving
from tests.wire.kubernetes_lab import recorded_api, write_kubeconfig

ROOT = Path(__file__).resolve().parents[2]
OF_ROLE = {Role.NODE: "dualstack-exporter", Role.CLUSTER: "dualstack-exporter-cluster"}


@asynccontextmanager
async def digest_server() -> AsyncIterator[tuple[str, list[str]]]:
    """Its URL, and the paths that were asked for."""
    body, asked = write_digest(recorded.cluster("healthy-dual-stack"), (), 0.0), list[str]()

    async def answer(request: web.BaseRequest) -> web.Response:
        asked.append(request.path)
        return web.Response(body=body, headers={"Content-Type": MEDIA.format(VERSION), "Age": "0"})

    runner = web.ServerRunner(web.Server(answer))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/api/v1/digest", asked
    finally:
        await runner.cleanup()


def variables(role: Role, directory: Path, kubeconfig: Path, digest: str) -> dict[str, str]:
    """Those of the pod's container, with its configuration where a test may put it."""
    objects = read_objects(ROOT / "deploy/daemonset.yaml")
    config = yaml.safe_load(the(objects, "ConfigMap", "dualstack-exporter")["data"]["config.yaml"])
    config["digest"]["url"] = digest
    config["inventory"] = {"source": "kubernetes", "kubeconfig": str(kubeconfig)}
    (directory / "config.yaml").write_text(yaml.safe_dump(config))
    given = {
        e["name"]: e.get("value", "ra") for e in the_container(pod_specs(objects)[OF_ROLE[role]], "exporter")["env"]
    }
    given["DUALSTACK_EXPORTER_CONFIG_FILE"] = str(directory / "config.yaml")
    given.pop("DUALSTACK_EXPORTER_BROKER_SOCKET", None)  # no broker runs here: the command starts one
    return given


@pytest.mark.parametrize(
    ("role", "command"),
    [
        (Role.NODE, ("check", "--output=json")),
        (Role.NODE, ("probe", "[::1]:1", "--layers=tcp")),
        (Role.NODE, ("resolve", "localhost", "--resolv-conf=/dev/null")),
        (Role.CLUSTER, ("check", "--output=json")),
    ],
)
async def test_a_command_asks_for_what_its_pod_may_read(tmp_path: Path, role: Role, command: tuple[str, ...]) -> None:
    api, refused = recorded_api(), list[Any]()
    declared = rights(role, digest=True) if role is Role.NODE else rights(role) | optional_rights(role)

    def allowed(group: str, resource: str, name: str, verb: str, namespace: str) -> bool:
        wanted = (group, resource, verb)
        fitting = [r for r in declared if (r.group, r.resource, r.verb) == wanted]
        if not any(r.name in ("", name) and r.namespace in ("", namespace) for r in fitting):
            refused.append((*wanted, name, namespace))
        return not refused

    api.allowed = allowed
    async with serving(api) as port, digest_server() as (url, asked):
        kubeconfig = write_kubeconfig(tmp_path, f"http://127.0.0.1:{port}")
        environment = os.environ | variables(role, tmp_path, kubeconfig, url)
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "exporter", *command), cwd=ROOT, env=environment,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        said, logged = await process.communicate()
    assert process.returncode in {0, 1}, logged.decode()
    assert refused == []
    assert api.requests
    assert bool(asked) is (role is Role.NODE)
    assert b"no permission" not in logged
    if command[0] == "check":
        report = json.loads(said)
        assert (report["role"], report["node"]) == (role.value, "ra")
        assert "api_unavailable" not in {each["reason"] for each in report["unchecked"]}
