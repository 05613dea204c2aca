"""Imports, before privilege is given up, what would otherwise be imported later, when its files may be unreadable.

A Python or a checkout under a private home directory (mode 0700) cannot be read by the unprivileged uid. aiohttp and
asyncio load parts on first use; dnspython loads record types by name, but only to read records, which nothing here lets
it do (1 MiB). Nothing else belongs in this file.
"""

from __future__ import annotations

import importlib

CODECS = ("idna", "utf_8", "ascii", "latin_1")
# _strptime is what ssl.cert_time_to_seconds loads.
LATE = (
    "_strptime", "asyncio.base_subprocess", "aiohttp.web", "concurrent.futures.thread", "gzip", "html", "json",
    "multiprocessing", "prometheus_client.openmetrics.exposition", "stringprep", "traceback", "zlib",
)  # fmt: skip


def preload() -> None:
    """Import them all."""
    for name in (*LATE, *(f"encodings.{codec}" for codec in CODECS)):
        importlib.import_module(name)
