"""What a release consists of, and that every artefact has the version of the package."""

from __future__ import annotations

import ast
import io
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import yaml

from scripts import krew

ROOT = Path(__file__).resolve().parents[2]


# The kubectl plugin


def test_the_krew_manifest_names_this_version_and_this_archive() -> None:
    assert krew.MANIFEST.read_text("utf-8") == krew.manifest(), "run `make krew`"
    spec = yaml.safe_load(krew.manifest())["spec"]
    (platform,) = spec["platforms"]
    assert platform["uri"].endswith(f"/releases/download/{spec['version']}/{krew.ARCHIVE}")
    assert {key: type(value) for key, value in platform.items()} == {
        "selector": dict, "uri": str, "sha256": str, "bin": str,
    }  # fmt: skip


def test_the_plugin_in_the_archive_runs_by_itself(tmp_path: Path) -> None:
    """Where nothing of this package is installed, on the Python that the manifest asks for."""
    with zipfile.ZipFile(io.BytesIO(krew.archive())) as file:
        assert file.namelist() == ["LICENSE", "kubectl-dualstack"]
        assert file.getinfo("kubectl-dualstack").external_attr >> 16 & 0o777 == 0o755
        file.extractall(tmp_path)
    script = tmp_path / "kubectl-dualstack"
    ast.parse(script.read_text("utf-8"), feature_version=(3, 9))
    for arguments, status, says in ((["--help"], 0, "status"), (["status"], 2, "kubectl is not in PATH")):
        done = subprocess.run(
            [sys.executable, "-I", "-S", script, *arguments],
            capture_output=True, text=True, check=False, cwd=tmp_path, env=os.environ | {"PATH": str(tmp_path)},
        )  # fmt: skip
        assert done.returncode == status, done.stderr
        assert says in done.stdout + done.stderr
