"""`check` whose inventory cannot be read at all: exit status 2 and why, whatever it is that keeps it from being read
(specification section 2).
"""

from __future__ import annotations

import asyncio
import json
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from tests.e2e.daemon import run_exporter
from tests.e2e.test_kubernetes_outage import IslandDaemon
from tests.kernel import namespaces
from tests.wire.kubernetes_api import KubernetesApi, serving
from tests.wire.kubernetes_lab import recorded_api, write_kubeconfig
from tests.wire.kubernetes_process import ApiProcess
from tests.wire.plain_authority import PlainAuthority

pytestmark = pytest.mark.real

NOTHING_FOUND = "No cause found"
CONFIG = """
role: {role}
node_name: ra
families: [IPv4, IPv6]
inventory: {{kubeconfig: {kubeconfig}}}
timeouts: {{icmp: 200ms, tcp: 200ms, dns: 200ms}}
digest: {{url: "{digest}"}}
"""


@pytest.fixture(scope="module")
def island() -> Iterator[str]:
    name = f"{namespaces.unique_prefix()}island"
    namespaces.create([name])
    try:
        namespaces.run_inside(name, "ip", "link", "set", "lo", "up")
        yield name
    finally:
        namespaces.delete([name])


def configured(directory: Path, server: str, *, role: str = "cluster", digest: str = "", bundle: str = "") -> str:
    trusted = {"certificate-authority": bundle} if bundle else {}
    kubeconfig = write_kubeconfig(directory, server, **trusted)
    file = directory / "config.yaml"
    file.write_text(CONFIG.format(role=role, kubeconfig=kubeconfig, digest=digest))
    return f"--config.file={file}"


def is_told(done: subprocess.CompletedProcess[str], reason: str) -> None:
    """Exit status 2, one line that says why among what is no log, and the report all the same, without a word of
    comfort.
    """
    assert done.returncode == 2, done.stdout + done.stderr
    (said,) = [line for line in done.stderr.splitlines() if line.startswith("dualstack-exporter: ")]
    assert "the inventory cannot be read: " in said
    assert reason in said
    assert "Traceback" not in done.stderr
    assert NOTHING_FOUND not in done.stdout


def refusing(api: KubernetesApi, how: str) -> None:
    if how == "every token":
        api.tokens = set()
    elif how == "every right":
        api.allowed = lambda *_: False


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("every token", "unauthorized: 401 Unauthorized"),
        ("every right", "forbidden: 403 "),
    ],
)
async def test_an_api_server_that_refuses_everything(tmp_path: Path, how: str, reason: str) -> None:
    api = recorded_api()
    refusing(api, how)
    async with serving(api) as port:
        flag = configured(tmp_path, f"http://127.0.0.1:{port}")
        text = await asyncio.to_thread(run_exporter, "check", flag)
        listed = await asyncio.to_thread(run_exporter, "check", flag, "--output=json")
    is_told(text, reason)
    is_told(listed, reason)
    assert "The inventory cannot be read: " in text.stdout
    report = json.loads(listed.stdout)
    assert reason in report["inventory"]["problem"]
    assert {each["reason"] for each in report["unchecked"]} <= {"api_unavailable", "no_permission"}


async def test_an_api_server_whose_certificate_is_not_trusted(tmp_path: Path) -> None:
    plain = PlainAuthority(tmp_path)
    other = tmp_path / "other.pem"
    trustme.CA().cert_pem.write_to_path(other)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(plain.chain)
    async with serving(recorded_api(), context=context) as port:
        server = f"https://127.0.0.1:{port}"
        done = await asyncio.to_thread(run_exporter, "check", configured(tmp_path, server, bundle=str(other)))
        is_told(done, "unable to get local issuer certificate")
        # By its own authority it is trusted, though that lacks keyUsage and key identifiers.
        well = await asyncio.to_thread(run_exporter, "check", configured(tmp_path, server, bundle=str(plain.bundle)))
    assert well.returncode in {0, 1}, well.stderr
    assert "cannot be read" not in well.stdout + well.stderr


@pytest.mark.parametrize("role", ["node", "cluster", "all"])
def test_an_api_server_that_is_not_there(tmp_path: Path, island: str, role: str) -> None:
    done = run_exporter("check", configured(tmp_path, "http://127.0.0.1:1", role=role), namespace=island)
    is_told(done, "http://127.0.0.1:1: unreachable: ")
    assert done.stdout.startswith("[ra] IPv6:? IPv4:?") == (role != "cluster")


def test_a_kubeconfig_and_a_file_that_cannot_be_read_are_one_line(tmp_path: Path) -> None:
    flag = configured(tmp_path, "http://127.0.0.1:1")
    (tmp_path / "kubeconfig").unlink()
    for given in ((flag,), ("--role=cluster", f"--inventory.file={tmp_path / 'nowhere.yaml'}")):
        done = run_exporter("check", *given)
        assert (done.returncode, done.stdout) == (2, "")
        (said,) = done.stderr.splitlines()
        assert "No such file or directory" in said


def test_a_node_without_its_digest_checks_what_it_can_with_its_own_pods(tmp_path: Path, island: str) -> None:
    with ApiProcess("nsenter", f"--net={namespaces.path_of(island)}") as api:
        server, nowhere = f"http://127.0.0.1:{api.port}", "http://127.0.0.1:1/api/v1/digest"
        flag = configured(tmp_path, server, role="node", digest=nowhere)
        done = run_exporter("check", flag, "--output=json", namespace=island)
    assert done.returncode in {0, 1}, done.stderr
    report = json.loads(done.stdout)
    assert "inventory" not in report
    assert "api_unavailable" in {each["reason"] for each in report["unchecked"]}


def test_a_daemon_that_never_had_an_inventory_says_so_everywhere_and_is_ready(tmp_path: Path, island: str) -> None:
    text = CONFIG.format(role="cluster", kubeconfig=write_kubeconfig(tmp_path, "http://127.0.0.1:1"), digest="")
    with IslandDaemon(island, f"{text}round: {{interval: 1s, timeout: 900ms}}\n") as daemon:
        daemon.wait_rounds(2)
        assert daemon.series()["dualstack_inventory_stale"] == 1
        assert "dualstack_inventory_age_seconds" not in daemon.series()
        page = daemon.get("/")[1]
        assert page.index("! The inventory was never read.") < page.index("No cause found")
        assert "http://127.0.0.1:1: unreachable: " in page
        assert daemon.get("/-/ready")[0] == 200
        last = run_exporter("check", "--last", f"--web.listen-address=[::1]:{daemon.port}", namespace=island)
        is_told(last, "http://127.0.0.1:1: unreachable: ")
