"""The shipped runbooks (exporter/runbooks, the same files as alerts/runbooks), for `explain` and the pages /runbooks/.

One for each cause and each alert, named after the alert. Reads files of the package and nothing else.
"""

from __future__ import annotations

from difflib import get_close_matches
from functools import lru_cache
from importlib.resources import files

from exporter.model.cause import Cause
from exporter.report.document import alert_name

_SUFFIX = ".md"
_CAUSES = {cause.value: alert_name(cause) for cause in Cause}


@lru_cache(maxsize=1)
def runbook_names() -> tuple[str, ...]:
    """All of them, sorted."""
    found = (entry.name for entry in files("exporter").joinpath("runbooks").iterdir())
    return tuple(sorted(name.removesuffix(_SUFFIX) for name in found if name.endswith(_SUFFIX)))


def read_runbook(name: str) -> str | None:
    """The text (Markdown) of the runbook of a cause or of an alert; None where there is none of that name."""
    known = _CAUSES.get(name, name)
    if known not in runbook_names():
        return None
    return files("exporter").joinpath("runbooks", known + _SUFFIX).read_text(encoding="utf-8")


def similar_names(name: str) -> list[str]:
    """Names of causes and alerts that are spelled much like this one, the nearest first."""
    names = {known.lower(): known for known in (*runbook_names(), *_CAUSES)}
    return [names[near] for near in get_close_matches(name.lower(), names, n=3)]
