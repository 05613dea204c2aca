"""The fake API server as a process of its own, with the recorded cluster in it, to be killed, stopped and started
again.

    python -m tests.wire.kubernetes_process PORT [--without RESOURCE/NAME]...

Prints its port once it listens.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.wire.kubernetes_api import serving
from tests.wire.kubernetes_lab import recorded_api

ROOT = Path(__file__).resolve().parents[2]


async def main(port: int, without: Sequence[str]) -> None:
    api = recorded_api(bookmark_every=1.0)
    for place, resource in list(api.collections):
        for key in [k for k in api.collections[place, resource].objects if f"{resource}/{k}" in without]:
            api.delete(place, resource, key)
    api.version += int.from_bytes(os.urandom(2))  # as another life of the cluster would have it
    api.compact()
    async with serving(api, port=port) as bound:
        print(bound, flush=True)  # noqa: T201 - the tests read it
        await asyncio.Event().wait()


class ApiProcess:
    """One server process after the other on the same port. `prefix` is put before the command (nsenter ...)."""

    def __init__(self, *prefix: str) -> None:
        self.port = 0
        self._prefix = prefix
        self._process: subprocess.Popen[str] | None = None

    def start(self, *without: str) -> None:
        arguments = [word for each in without for word in ("--without", each)]
        self._process = subprocess.Popen(
            [*self._prefix, sys.executable, "-m", __spec__.name, str(self.port), *arguments],
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.communicate()
        self._process = None

    def stop(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            self.kill()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), sys.argv[3::2]))
