"""Draws the status page of a node with two faults, as README shows it. `make pictures` runs it, as root.

python -m scripts.status_page FILE.png
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import threading
import urllib.request
from pathlib import Path

from scripts.demo import PORT, exporter_in
from tests.lab.cluster import Cluster
from tests.lab.faults import FAULTS

BROKEN = ("aaaa_noerror", "masquerade_rule_removed")
CAUSES = {"dns_aaaa_blocked", "nat_masquerade_missing"}
SIZE = "1100,1352"
INTERVAL = "15s"  # with shorter rounds the DNS budget spreads the questions over many
PATIENCE = 120  # seconds


def wait_found() -> None:
    """Until a round found both causes and that IPv6 does not work."""
    found: set[str] = set()
    for _ in range(PATIENCE):
        with urllib.request.urlopen(f"http://[::1]:{PORT}/api/v1/report", timeout=5) as response:
            report = json.load(response)
        found = {each["cause"] for each in report["causes"] if each["explained_by"] is None}
        if found == CAUSES and report["families"]["IPv6"]["ok"] is False:
            return
        threading.Event().wait(1)
    raise SystemExit(f"not found: {CAUSES - found}; found: {found}")


def draw(target: Path) -> None:
    """A screenshot with few colours, which keeps the file small."""
    with tempfile.TemporaryDirectory() as directory:
        shot = f"{directory}/page.png"
        options = ("--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--window-size={SIZE}")
        files = (f"--user-data-dir={directory}/profile", f"--screenshot={shot}")
        command = ["chromium", *options, *files, f"http://[::1]:{PORT}/"]
        subprocess.run(command, check=True, capture_output=True, timeout=60)
        subprocess.run(["convert", shot, "-colors", "64", f"PNG8:{target}"], check=True)


if __name__ == "__main__":
    with Cluster() as cluster:
        for name in BROKEN:  # before the exporter starts: records that were served a moment ago are not filtered
            FAULTS[name].act(cluster)
        with exporter_in(cluster, INTERVAL):
            wait_found()
            draw(Path(sys.argv[1]))
