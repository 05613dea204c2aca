"""The web configuration as it stands now: read again when its files change, so that certificates and passwords rotate without a restart.

Behind connections.py (a context per new connection) and admission.py (passwords per request). A change that cannot be
used keeps what was, and is logged once.
"""

from __future__ import annotations

import logging
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass

from exporter.config.document import ConfigError
from exporter.config.file_fingerprint import stamp_of
from exporter.config.files import read_bounded
from exporter.config.load import naming
from exporter.telemetry.logs import fields
from exporter.web.server.passwords import Passwords
from exporter.web.server.settings import WebConfig, load_web_config
from exporter.web.server.tls import build_context, files_of, limits_of

_log = logging.getLogger(__name__)
_PAUSE = 1.0  # seconds between two looks at the files


@dataclass(frozen=True, slots=True)
class Current:
    """One state of the web configuration, ready for use. `context` None: plain HTTP. `passwords` None: nobody is asked."""

    config: WebConfig
    context: ssl.SSLContext | None
    passwords: Passwords | None


class WebSettings:
    """What --web.config.file says now; without a file, plain HTTP for everybody."""

    def __init__(self, path: str = "", *, clock: Callable[[], float] = time.monotonic) -> None:
        """Read the file and what it names; raises ConfigError with one line where that cannot be used."""
        self._path = path
        self._clock = clock
        self._looked = clock()
        self._seen: dict[str, tuple[int, ...]] = {}  # the files that the last reading went by, as they were
        self._current = Current(WebConfig(), None, None)
        if path:
            self._current = self._read()

    def current(self) -> Current:
        """The state to serve the next connection or request with. Looks at the files at most once a second, and never raises."""
        now = self._clock()
        if self._path and now - self._looked >= _PAUSE:
            self._looked = now
            self._refresh()
        return self._current

    def _refresh(self) -> None:
        if all(stamp_of(path) == identity for path, identity in self._seen.items()):
            return
        try:
            self._current = self._read()
        except ConfigError as error:
            # What was read is what was seen now: the same bad state is not reported again.
            _log.error(
                "web configuration changed and cannot be used: the one before stays", extra=fields(problem=error)
            )
        else:
            _log.info("web configuration read again", extra=fields(file=self._path))

    def _read(self) -> Current:
        # Each file is looked at before it is read: a change in between is noticed at the next look.
        self._seen = {self._path: stamp_of(self._path)}
        with naming(""):
            source = read_bounded(self._path)
        config = load_web_config(source, path=self._path)
        tls = config.tls_server_config
        self._seen |= {path: stamp_of(path) for path in files_of(tls)}
        with naming(self._path):
            context = build_context(tls) if tls.enabled else None
        for sentence in limits_of(tls):
            _log.warning("%s", sentence, extra=fields(file=self._path))
        return Current(config, context, self._keep_passwords(config))

    def _keep_passwords(self, config: WebConfig) -> Passwords | None:
        """The users' passwords; while the users stay the same so do the verdicts remembered of them."""
        if config.basic_auth_users == self._current.config.basic_auth_users:
            return self._current.passwords
        return Passwords(dict(config.basic_auth_users)) if config.basic_auth_users else None
