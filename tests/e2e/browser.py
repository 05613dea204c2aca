"""A real browser (Chromium) that draws a page at a given width and colour scheme, driven over its debugging pipe."""

from __future__ import annotations

import base64
import itertools
import json
import os
import signal
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any, Self

OPTIONS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--remote-debugging-pipe")


class Browser:
    """One tab. Commands are those of the DevTools protocol, each ended by a zero byte, on descriptors 3 and 4."""

    def __init__(self) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="dualstack-exporter-test-")
        theirs_in, self._out = os.pipe()
        self._in, theirs_out = os.pipe()
        self._numbers, self._rest, self._session = itertools.count(1), b"", ""
        self._events: set[str] = set()
        shell = f'exec chromium "$@" 3<&{theirs_in} 4>&{theirs_out}'
        profile = f"--user-data-dir={self._directory.name}/profile"
        self._process = subprocess.Popen(
            ["bash", "-c", shell, "chromium", *OPTIONS, profile, "about:blank"],
            pass_fds=(theirs_in, theirs_out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            start_new_session=True,
        )  # fmt: skip
        os.close(theirs_in)
        os.close(theirs_out)

    def __enter__(self) -> Self:
        tab = self._call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._call("Target.attachToTarget", targetId=tab, flatten=True)["sessionId"]
        self._call("Page.enable")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._out)
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        os.close(self._in)
        self._directory.cleanup()

    def open(self, html: str, *, width: int, dark: bool = False) -> None:
        """Draw the page, as a phone would if it is narrow."""
        screen = {"width": width, "height": 844, "deviceScaleFactor": 1, "mobile": width < 500}
        self._call("Emulation.setDeviceMetricsOverride", **screen)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._call("Emulation.setEmulatedMedia", features=[scheme])
        file = Path(self._directory.name) / "page.html"
        file.write_text(html, encoding="utf-8")
        self._events.clear()
        self._call("Page.navigate", url=file.as_uri())
        while "Page.loadEventFired" not in self._events:
            self._receive()

    def value(self, expression: str) -> Any:
        """Of a JavaScript expression in the page."""
        answer = self._call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def photograph(self, target: Path) -> None:
        """The whole page, however long."""
        shot = self._call("Page.captureScreenshot", captureBeyondViewport=True)
        target.write_bytes(base64.b64decode(shot["data"]))

    def _call(self, method: str, **params: Any) -> dict[str, Any]:
        number = next(self._numbers)
        session = {"sessionId": self._session} if self._session else {}
        message = {"id": number, "method": method, "params": params, **session}
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while (answer := self._receive()).get("id") != number:
            pass
        assert "error" not in answer, answer
        result: dict[str, Any] = answer["result"]
        return result

    def _receive(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            part = os.read(self._in, 1 << 20)
            assert part, "the browser ended"
            self._rest += part
        message, _, self._rest = self._rest.partition(b"\0")
        received: dict[str, Any] = json.loads(message)
        self._events.add(received.get("method", ""))
        return received
