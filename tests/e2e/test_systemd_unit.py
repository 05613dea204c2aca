"""The daemon with the capabilities that the systemd unit leaves it: it works, and keeps them in the broker alone."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from exporter.broker.server.privilege import BROKER_CAPABILITIES
from exporter.daemon.broker_session import UNPRIVILEGED
from tests.e2e.daemon import ROOT, Daemon

pytestmark = pytest.mark.real


def status(pid: int) -> dict[str, str]:
    lines = (line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return {name: value.strip() for name, value in lines}


def test_the_units_capabilities_suffice() -> None:
    text = (ROOT / "deploy/systemd/dualstack-exporter.service").read_text()
    kept = re.findall(r"CAP_(\w+)", re.findall(r"^CapabilityBoundingSet=(.*)$", text, re.MULTILINE)[0])
    bounds = ",".join(["-all", *(f"+{name.lower()}" for name in kept)])
    prefix = ["setpriv", "--no-new-privs", "--inh-caps=-all", f"--bounding-set={bounds}"]
    with Daemon("families: [IPv4, IPv6]\n", prefix=prefix) as daemon:
        daemon.wait_rounds(1)
        pid = daemon.process.pid
        own = status(pid)
        (child,) = map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
        broker = status(child)
        logged = daemon.log.read_text()
    assert set(own["Uid"].split()) == {str(UNPRIVILEGED)}
    assert int(own["CapEff"], 16) == int(own["CapPrm"], 16) == 0
    assert int(broker["CapEff"], 16) == BROKER_CAPABILITIES
    assert "lacks a capability" not in logged
