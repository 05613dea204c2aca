"""The current web configuration. It is read again when its files change, so that certificates and passwords rotate.

connections.py takes a TLS context per new connection from here, admission.py the passwords per request. A change that
cannot be used is logged once, and the previous configuration stays in use.
"""

from __future__ import annotations

import logging
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass

from exporter.config.document import ConfigError
from exporter.config.files import file_fingerprint, read_bounded
from exporter.config.load import naming
from exporter.telemetry.logs import fields
from exporter.web.server.passwords import Passwords
from exporter.web.server.settings import WebConfig, load_web_config
from exporter.web.server.tls import build_context

_log = logging.getLogger(__name__)
_PAUSE = 1.0  # seconds between two checks of the files


@dataclass(frozen=True, slots=True)
class Current:
    """The web configuration, ready for use. `context` None: plain HTTP. `passwords` None: no authentication."""

    config: WebConfig
    context: ssl.SSLContext | None
    passwords: Passwords | None


class WebSettings:
    """The content of --web.config.file; without a file, plain HTTP for everybody."""

    def __init__(self, path: str = "", *, clock: Callable[[], float] = time.monotonic) -> None:
        """Read the file and those it names; raises ConfigError with one line where they cannot be used."""
        self._path = path
        self._clock = clock
        self._checked = clock()
        self._seen: dict[str, tuple[int, ...]] = {}  # fingerprints of the files at the last reading
        self._current = Current(WebConfig(), None, None)
        if path:
            self._current = self._read()

    def current(self) -> Current:
        """What to serve the next connection or request with. Checks the files at most once a second; never raises."""
        now = self._clock()
        if self._path and now - self._checked >= _PAUSE:
            self._checked = now
            if any(file_fingerprint(path) != identity for path, identity in self._seen.items()):
                self._refresh()
        return self._current

    def _refresh(self) -> None:
        try:
            self._current = self._read()
        except ConfigError as error:
            # The fingerprints are those of the bad files: they are reported once.
            _log.error("web config reload failed, keeping the previous one", extra=fields(problem=error))
        else:
            _log.info("web config reloaded", extra=fields(file=self._path))

    def _read(self) -> Current:
        # Each fingerprint is taken before its file is read: a change in between is noticed at the next check.
        self._seen = {self._path: file_fingerprint(self._path)}
        with naming(""):
            source = read_bounded(self._path)
        config = load_web_config(source, path=self._path)
        tls = config.tls_server_config
        self._seen |= {path: file_fingerprint(path) for path in tls.files}
        with naming(self._path):
            context = build_context(tls) if tls.enabled else None
        if len(tls.curve_preferences) > 1:
            _log.warning("curve_preferences has several curves: OpenSSL's list is used", extra=fields(file=self._path))
        return Current(config, context, self._keep_passwords(config))

    def _keep_passwords(self, config: WebConfig) -> Passwords | None:
        """The users' passwords; remembered verdicts are kept as long as the users stay the same."""
        if config.basic_auth_users == self._current.config.basic_auth_users:
            return self._current.passwords
        return Passwords(dict(config.basic_auth_users)) if config.basic_auth_users else None
