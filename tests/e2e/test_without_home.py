"""Every command as a uid that no passwd entry knows, without HOME: a container may be started like that."""

from __future__ import annotations

import json
import pwd
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.daemon import Daemon, run_exporter
from tests.wire.kubernetes_lab import write_kubeconfig
from tests.wire.kubernetes_process import ApiProcess

pytestmark = pytest.mark.real

NOBODY = 54321
AS_NOBODY = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "env", "--unset=HOME")


@pytest.fixture(scope="module")
def config() -> Iterator[Path]:
    """Of a node exporter that reads the API of a fake server, where any user can read it."""
    with pytest.raises(KeyError):
        pwd.getpwuid(NOBODY)
    with tempfile.TemporaryDirectory() as directory, ApiProcess() as api:
        place = Path(directory)
        place.chmod(0o755)
        kubeconfig = write_kubeconfig(place, f"http://127.0.0.1:{api.port}")
        kubeconfig.chmod(0o644)
        file = place / "config.yaml"
        file.write_text(f"node_name: ra\ninventory: {{source: kubernetes, kubeconfig: {kubeconfig}}}\n")
        yield file


@pytest.mark.parametrize(
    ("command", "status", "says"),
    [
        (("check", "--output=json"), {0, 1}, '"node": "ra"'),
        (("check", "--role=cluster", "--output=json"), {0, 1}, '"role": "cluster"'),
        (("check", "--last"), {2}, "no report came"),
        (("probe", "[::1]:1", "--layers=tcp"), {1}, "refused"),
        (("resolve", "localhost", "--resolv-conf=/dev/null"), {0}, "localhost"),
        (("explain", "dns_aaaa_blocked"), {0}, "# DualstackDnsAaaaBlocked"),
        (("config",), {0}, "node_name: ra"),
        (("reference",), {0}, "dualstack_family_ok"),
        (("--version",), {0}, "dualstack-exporter"),
        (("--help",), {0}, "usage:"),
    ],
)
def test_every_command_runs(config: Path, command: tuple[str, ...], status: set[int], says: str) -> None:
    given = [*command, f"--config.file={config}", "--web.listen-address=127.0.0.1:1"]
    done = run_exporter(*given, prefix=AS_NOBODY)
    assert done.returncode in status, done.stderr
    assert says in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_the_daemon_reads_the_api(config: Path) -> None:
    with Daemon(config.read_text(), prefix=AS_NOBODY) as daemon:
        daemon.wait_rounds(1)
        report = json.loads(daemon.get("/api/v1/report")[1])
        owner = Path(f"/proc/{daemon.process.pid}").stat().st_uid
    assert report["node"] == "ra"
    assert "no_inventory" not in {each["reason"] for each in report["unchecked"]}
    assert owner == NOBODY
