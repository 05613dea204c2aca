"""`explain NAME`: the runbook of a cause or an alert, from the program itself. Asks nothing of the network."""

from __future__ import annotations

import sys

from exporter.daemon.options import CommandError, Options
from exporter.report.runbooks import read_runbook, similar_names


def explain(options: Options) -> int:
    """Print it as it is written, in Markdown."""
    text = read_runbook(options.name)
    if text is None:
        near = similar_names(options.name)
        hint = f"did you mean {' or '.join(near)}?" if near else "the report and the page name causes and alerts"
        raise CommandError(f"no cause or alert is called {options.name!r}; {hint}")
    sys.stdout.write(text)
    return 0
