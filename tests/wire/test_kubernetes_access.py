"""Credentials of every kind, rotated under the source; exactly the declared rights; and what must not be loaded."""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
import trustme
from hypothesis import given, settings
from hypothesis import strategies as st
from kubernetes.aio.config import incluster_config

from exporter.config.load import load_config
from exporter.daemon.api_source import open_kubernetes
from exporter.digest.service_env_resolver import list_endpoints
from exporter.inventory.file import InventoryError
from exporter.inventory.kubernetes import client, credentials
from exporter.inventory.kubernetes.api_error import ApiError, ApiErrorKind
from exporter.inventory.kubernetes.client import ApiServer
from exporter.inventory.kubernetes.credentials import AccessError, load_kubeconfig, load_service_account
from exporter.inventory.kubernetes.source import KubernetesSource
from exporter.inventory.kubernetes.watched_resources import watched_resources
from exporter.model.cause import Role
from exporter.model.cluster.inventory import ResourceKind
from tests.access_rights import NAMESPACE, Right, optional_rights, rights
from tests.wire.kubernetes_api import KubernetesApi, serving
from tests.wire.kubernetes_lab import following, recorded_api, until, write_kubeconfig

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def server_context(authority: trustme.CA, *, clients: bool = False) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    if clients:
        authority.configure_trust(context)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


# Rights


@pytest.mark.parametrize(
    ("role", "digest", "declared"),
    [
        (Role.NODE, False, rights(Role.NODE)),
        (Role.NODE, True, rights(Role.NODE, digest=True)),
        (Role.CLUSTER, False, rights(Role.CLUSTER) | optional_rights(Role.CLUSTER)),
        (Role.ALL, False, rights(Role.ALL) | optional_rights(Role.ALL)),
    ],
)
async def test_each_role_uses_every_declared_right_and_no_other(
    tmp_path: Path, role: Role, digest: bool, declared: frozenset[Right]
) -> None:
    api = recorded_api()
    served = {right.group for right in declared} - {"", "projectcalico.org"}
    for right in declared:
        if right.group in served and not any(
            p.startswith(f"{right.group}/") and r == right.resource for p, r in api.collections
        ):
            versions = {"cilium.io": "v2", "policy.networking.k8s.io": "v1alpha1", "clusternetworkpolicies": "v1alpha2"}
            version = versions.get(right.resource) or versions.get(right.group, "v1")
            api.add_kind(f"{right.group}/{version}", right.resource)
    used: set[Right] = set()

    def allowed(group: str, resource: str, name: str, verb: str, namespace: str) -> bool:
        # As RBAC: a rule with resourceNames covers requests that select that name.
        fitting = {
            right
            for right in declared
            if (right.group, right.resource, right.verb) == (group, resource, verb)
            and right.name in ("", name)
            and right.namespace in ("", namespace)
        }
        used.update(fitting)
        return bool(fitting)

    api.allowed = allowed
    async with serving(api) as port, following(tmp_path, port, watched_resources(role, "ra", digest=digest)) as source:
        if digest:  # where the Service's address gives no answer
            path = str(write_kubeconfig(tmp_path, f"http://127.0.0.1:{port}"))
            server = ApiServer(await load_kubeconfig(path), lambda: load_kubeconfig(path))
            assert await list_endpoints(server, NAMESPACE, "dualstack-exporter-cluster") == ()
            await server.close()
        # Calico's other group is not served here: its rights are for other clusters.
        await until(lambda: used == {right for right in declared if right.group != "projectcalico.org"})
        assert "no_permission" not in source.current().unread.values()


# Credentials


async def test_a_refused_token_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "RELOAD_EVERY", 0.0)
    api = recorded_api()
    api.tokens = {"first"}
    async with serving(api) as port:
        path = write_kubeconfig(tmp_path, f"http://127.0.0.1:{port}", token="first")
        server = ApiServer(await load_kubeconfig(str(path)), lambda: load_kubeconfig(str(path)))
        try:
            assert (await server.get("/version")).status == 200
            api.tokens = {"second"}
            write_kubeconfig(tmp_path, f"http://127.0.0.1:{port}", token="second")
            with pytest.raises(ApiError) as refused:
                await server.get("/version")
            assert refused.value.kind is ApiErrorKind.UNAUTHORIZED
            assert (await server.get("/version")).status == 200
        finally:
            await server.close()


async def test_a_kubeconfig_that_became_unreadable_leaves_the_old_credentials_in_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(client, "RELOAD_EVERY", 0.0)
    api = recorded_api()
    api.tokens = {"other"}
    async with serving(api) as port:
        path = write_kubeconfig(tmp_path, f"http://127.0.0.1:{port}", token="first")
        server = ApiServer(await load_kubeconfig(str(path)), lambda: load_kubeconfig(str(path)))
        try:
            path.unlink()
            for _ in range(3):
                with pytest.raises(ApiError):
                    await server.get("/version")
            api.tokens = {"first"}
            assert (await server.get("/version")).status == 200
        finally:
            await server.close()
    assert [r.message for r in caplog.records].count("credentials could not be loaded again") == 1


async def test_the_service_account_is_used_over_tls_and_its_rotated_token_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, authority: trustme.CA
) -> None:
    monkeypatch.setattr(client, "RELOAD_EVERY", 0.0)
    token, bundle = tmp_path / "token", tmp_path / "ca.crt"
    authority.cert_pem.write_to_path(bundle)
    token.write_text("first")
    monkeypatch.setattr(incluster_config, "SERVICE_TOKEN_FILENAME", str(token))
    monkeypatch.setattr(incluster_config, "SERVICE_CERT_FILENAME", str(bundle))
    api = recorded_api()
    api.tokens = {"first"}
    async with serving(api, context=server_context(authority)) as port:
        monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
        monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(port))
        server = ApiServer(await load_service_account(), load_service_account)
        try:
            assert (await server.get("/version")).status == 200
            token.write_text("second")
            api.tokens = {"second"}
            with pytest.raises(ApiError):
                await server.get("/version")
            assert (await server.get("/version")).status == 200
            assert [a.token for a in api.requests] == ["first", "first", "second"]
        finally:
            await server.close()


async def test_a_server_of_another_authority_gets_no_token(tmp_path: Path, authority: trustme.CA) -> None:
    bundle = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(bundle)
    api = recorded_api()
    async with serving(api, context=server_context(trustme.CA())) as port:
        path = write_kubeconfig(tmp_path, f"https://127.0.0.1:{port}", **{"certificate-authority": str(bundle)})
        server = ApiServer(await load_kubeconfig(str(path)), lambda: load_kubeconfig(str(path)))
        try:
            with pytest.raises(ApiError, match="not trusted"):
                await server.get("/version")
        finally:
            await server.close()
    assert api.requests == []


async def test_client_certificates_inside_a_kubeconfig_leave_no_file_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, authority: trustme.CA
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    own = authority.issue_cert("someone")
    user = {
        "client-certificate-data": base64.b64encode(own.cert_chain_pems[0].bytes()).decode(),
        "client-key-data": base64.b64encode(own.private_key_pem.bytes()).decode(),
    }
    trusted = {"certificate-authority-data": base64.b64encode(authority.cert_pem.bytes()).decode()}
    api = recorded_api()
    async with serving(api, context=server_context(authority, clients=True)) as port:
        path = write_kubeconfig(tmp_path, f"https://127.0.0.1:{port}", **trusted)
        config = json.loads(path.read_text())
        config["users"][0]["user"] = user
        path.write_text(json.dumps(config))
        for _ in range(2):  # also when loaded a second time
            server = ApiServer(await load_kubeconfig(str(path)), lambda: load_kubeconfig(str(path)))
            try:
                assert list(scratch.iterdir()) == []
                assert (await server.get("/version")).status == 200
            finally:
                await server.close()


CREDENTIAL = "client.authentication.k8s.io/v1"


def with_plugin(directory: Path, port: int, script: str) -> str:
    """A kubeconfig whose user is an exec plugin: this shell script."""
    plugin = directory / "plugin"
    plugin.write_text(f"#!/bin/sh\n{script}\n")
    plugin.chmod(0o755)
    path = write_kubeconfig(directory, f"http://127.0.0.1:{port}")
    config = json.loads(path.read_text())
    config["users"][0]["user"] = {"exec": {"apiVersion": CREDENTIAL, "command": str(plugin)}}
    path.write_text(json.dumps(config))
    return str(path)


async def test_an_exec_plugin_gives_the_token_and_a_new_one_when_it_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "RELOAD_EVERY", 0.0)
    answer = tmp_path / "answer"

    def give(token: str) -> None:
        answer.write_text(json.dumps({"apiVersion": CREDENTIAL, "kind": "ExecCredential", "status": {"token": token}}))

    give("first")
    api = recorded_api()
    api.tokens = {"first"}
    async with serving(api) as port:
        path = with_plugin(tmp_path, port, f"cat {answer}")
        server = ApiServer(await load_kubeconfig(path), lambda: load_kubeconfig(path))
        try:
            assert (await server.get("/version")).status == 200
            give("second")
            api.tokens = {"second"}
            with pytest.raises(ApiError):
                await server.get("/version")
            assert (await server.get("/version")).status == 200
        finally:
            await server.close()


@pytest.mark.parametrize(
    "script",
    [
        "exit 3", "echo no >&2; exit 1", "echo '{'", "echo '[]'", "echo 7", "echo '{}'", "kill -9 $$",
        """echo '{"apiVersion":"other/v1","kind":"ExecCredential","status":{"token":"x"}}'""",
        f"""echo '{{"apiVersion":"{CREDENTIAL}","kind":"ExecCredential","status":null}}'""",
        (f"""echo '{{"apiVersion":"{CREDENTIAL}","kind":"ExecCredential","""
        """"status":{"clientCertificateData":"x","clientKeyData":7}}'"""),
    ],
)  # fmt: skip
async def test_an_exec_plugin_that_gives_none_is_refused_in_one_line(tmp_path: Path, script: str) -> None:
    with pytest.raises(AccessError) as refused:
        await load_kubeconfig(with_plugin(tmp_path, 1, script))
    assert "\n" not in str(refused.value)


async def test_an_exec_plugin_that_never_ends_is_given_up_and_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(credentials, "LOAD", 0.5)
    before = credentials._children()
    with pytest.raises(AccessError, match="did not come within"):
        await load_kubeconfig(with_plugin(tmp_path, 1, "exec sleep 3600"))
    await until(lambda: credentials._children() <= before)


async def test_a_new_authority_in_the_service_account_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, authority: trustme.CA
) -> None:
    monkeypatch.setattr(client, "RELOAD_EVERY", 0.0)
    token, bundle = tmp_path / "token", tmp_path / "ca.crt"
    authority.cert_pem.write_to_path(bundle)
    token.write_text("first")
    monkeypatch.setattr(incluster_config, "SERVICE_TOKEN_FILENAME", str(token))
    monkeypatch.setattr(incluster_config, "SERVICE_CERT_FILENAME", str(bundle))
    successor = trustme.CA()
    api = recorded_api()
    async with serving(api, context=server_context(successor)) as port:
        monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
        monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(port))
        server = ApiServer(await load_service_account(), load_service_account)
        try:
            with pytest.raises(ApiError, match="not trusted"):
                await server.get("/version")
            successor.cert_pem.write_to_path(bundle)
            with pytest.raises(ApiError, match="not trusted"):
                await server.get("/version")  # and this reads the bundle again
            assert (await server.get("/version")).status == 200
        finally:
            await server.close()


@pytest.mark.parametrize(
    "content",
    [
        "", "[]", "a: b", "{", "7", "\x00", "current-context: x\ncontexts: 7",
        "current-context: x\ncontexts: [{name: x}]",
        "current-context: [x]\ncontexts: []", "current-context: x\ncontexts: [{name: x, context: 7}]\nclusters: []",
        "current-context: x\ncontexts: [{name: x, context: {cluster: x, user: x}}]\nclusters: [{name: x}]\nusers: [x]",
        ("current-context: x\ncontexts: [{name: x, context: {cluster: x}}]\nclusters: [{name: x, cluster: {server: "
        "[1]}}]"),
        ("current-context: x\ncontexts: [{name: x, context: {cluster: x}}]\nclusters: [{name: x, cluster: {server: "
        "'https://x', certificate-authority-data: '%'}}]"),
    ],
)  # fmt: skip
async def test_a_kubeconfig_that_is_none_is_refused_in_one_line(tmp_path: Path, content: str) -> None:
    path = tmp_path / "kubeconfig"
    path.write_text(content)
    with pytest.raises(AccessError) as refused:
        await load_kubeconfig(str(path))
    assert str(refused.value).startswith(f"{path} is no kubeconfig that can be used: ")
    assert "\n" not in str(refused.value)


WORDS: list[Any] = [None, True, 7, -1, "", "x", "a: b", [], [1, "x"], {}, {"name": 1}]
junk = st.sampled_from(WORDS)


async def test_a_kubeconfig_that_cannot_be_read_is_told_by_its_errno(tmp_path: Path) -> None:
    for path, why in ((tmp_path / "nowhere", "No such file or directory"), (tmp_path, "Is a directory")):
        with pytest.raises(AccessError, match=f"^{path} cannot be read: {why}$"):
            await load_kubeconfig(str(path))


@settings(max_examples=150, deadline=None)
@given(st.data(), junk)
def test_a_kubeconfig_with_any_value_anywhere_is_used_or_refused_in_one_line(data: st.DataObject, value: Any) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = write_kubeconfig(Path(directory), "https://127.0.0.1:1", **{"certificate-authority-data": "eA=="})
        config = json.loads(path.read_text())
        at: Any = config
        while True:
            key = data.draw(st.sampled_from(sorted(at) if isinstance(at, dict) else range(len(at))))
            if not isinstance(at[key], dict | list) or data.draw(st.booleans()):
                at[key] = value
                break
            at = at[key]
        path.write_text(json.dumps(config))
        try:
            asyncio.run(load_kubeconfig(str(path)))
        except AccessError as error:
            said = str(error)
        else:
            said = ""
    assert "\n" not in said


def test_no_way_to_a_server_is_refused_before_anything_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    config = load_config("inventory: {source: kubernetes}", path="", environment={}, hostname="ra")
    with pytest.raises(InventoryError, match="no service account can be used here: "):
        open_kubernetes(config)
    config = load_config(f"inventory: {{kubeconfig: {tmp_path}/none}}", path="", environment={}, hostname="ra")
    with pytest.raises(InventoryError, match="none cannot be read: "):
        open_kubernetes(config)


def test_neither_models_nor_api_classes_are_loaded() -> None:
    """They cost memory, and decoding to them seven times the CPU."""
    program = (
        "import sys\nimport exporter.inventory.kubernetes.source\n"
        "print([m for m in sys.modules if m.startswith('kubernetes.') and ('.models.' in m or '.api.' in m)])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"


async def test_nothing_is_left_open_when_the_source_ends(tmp_path: Path) -> None:
    api: KubernetesApi = recorded_api()
    async with serving(api) as port:
        async with following(tmp_path, port) as source:
            assert isinstance(source, KubernetesSource)
            assert source.current().unread.keys() >= {ResourceKind.INSTALLATION}
            await until(lambda: api.watching > 10)
        await until(lambda: api.watching == 0)
