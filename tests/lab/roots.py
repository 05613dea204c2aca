"""What a lab pod's processes see as their root directory: a resolv.conf and the loader of a C library, nothing else.

The exporter reads both through a process of the pod (/proc/PID/root), so the processes are chrooted there.
"""

from __future__ import annotations

import subprocess
import tempfile
from functools import cache
from pathlib import Path

from exporter.broker.server.files.podfiles import GLIBC_FILES, MUSL_FILES

PROGRAM = """
#include <unistd.h>
int main(void) { write(1, "ready\\n", 6); for (;;) pause(); }
"""


@cache
def _program() -> bytes:
    """A static program that says that it runs, and does nothing more."""
    with tempfile.TemporaryDirectory() as directory:
        made = Path(directory, "program")
        command = ["musl-gcc", "-static", "-Os", "-x", "c", "-o", str(made), "-"]
        subprocess.run(command, input=PROGRAM.encode(), check=True, capture_output=True)
        return made.read_bytes()


def place_program(root: Path, path: str) -> None:
    """Put the program into a root directory: as a sandbox's, /pause, or as a container's."""
    file = root / path.lstrip("/")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(_program())
    file.chmod(0o755)


class PodRoot:
    """One pod's root directory, with glibc in it."""

    def __init__(self, path: Path, resolv_conf: str) -> None:
        self.path = path
        self._healthy = resolv_conf
        self.heal()

    def resolv_conf(self, text: str) -> None:
        self._write("etc/resolv.conf", text)

    def hold_musl(self) -> None:
        """As an image made from Alpine: musl's loader in place of glibc's."""
        self._drop(GLIBC_FILES[0])
        self._write(MUSL_FILES[0], "loader")

    def heal(self) -> None:
        self.resolv_conf(self._healthy)
        self._drop(MUSL_FILES[0])
        self._write(GLIBC_FILES[0], "loader")

    def _write(self, name: str, text: str) -> None:
        file = self.path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def _drop(self, name: str) -> None:
        (self.path / name).unlink(missing_ok=True)
