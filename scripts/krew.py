"""The kubectl plugin for krew: its archive, and the manifest in deploy/krew/ that names the archive's checksum.

python -m scripts.krew              writes deploy/krew/dualstack.yaml
python -m scripts.krew ARCHIVE      writes the archive, as a release has it
"""

from __future__ import annotations

import hashlib
import io
import sys
import tomllib
import zipfile
from pathlib import Path

from exporter import __version__

ROOT = Path(__file__).resolve().parents[1]
MANIFEST = ROOT / "deploy/krew/dualstack.yaml"
ARCHIVE = "kubectl-dualstack.zip"
EARLIEST = (1980, 1, 1, 0, 0, 0)  # of a zip file


def archive() -> bytes:
    """The plugin as one executable file, and the licence: the same bytes on every machine, so nothing is compressed."""
    script = b"#!/usr/bin/env python3\n" + (ROOT / "exporter/cli/kubectl_plugin.py").read_bytes()
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as file:
        for name, content, mode in (
            ("LICENSE", (ROOT / "LICENSE").read_bytes(), 0o644),
            ("kubectl-dualstack", script, 0o755),
        ):
            entry = zipfile.ZipInfo(name, EARLIEST)
            entry.create_system, entry.external_attr = 3, (0o100000 | mode) << 16
            file.writestr(entry, content)
    return made.getvalue()


def manifest() -> str:
    """What krew reads."""
    home = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["urls"]["Repository"]
    return f"""\
# For krew, the plugin manager of kubectl. Written by `make krew`: do not edit.
# `kubectl krew install --manifest=deploy/krew/dualstack.yaml` installs the plugin of this release.
apiVersion: krew.googlecontainertools.github.com/v1alpha2
kind: Plugin
metadata:
  name: dualstack
spec:
  version: v{__version__}
  homepage: {home}
  shortDescription: Find IPv4/IPv6 dual-stack faults
  description: |
    Runs check, resolve and probe of dualstack-exporter in the exporter pod that can answer: of a node, of a pod's node,
    or of the cluster. It finds that pod by itself.
  caveats: |
    Needs Python 3.9 or newer, dualstack-exporter in the cluster, and the right to create pods/exec in its namespace.
  platforms:
    - selector:
        matchExpressions:
          - {{key: os, operator: In, values: [darwin, linux]}}
      uri: {home}/releases/download/v{__version__}/{ARCHIVE}
      sha256: {hashlib.sha256(archive()).hexdigest()}
      bin: kubectl-dualstack
"""


if __name__ == "__main__":
    if len(sys.argv) > 1:
        Path(sys.argv[1]).write_bytes(archive())
    else:
        MANIFEST.write_text(manifest(), "utf-8")
