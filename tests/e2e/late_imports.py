"""Runs the exporter as its command would, and makes any import after privilege was given up an error that is counted.

    python tests/e2e/late_imports.py RECORD ARGUMENTS...

Names of modules imported late are written to RECORD, one a line. Started by test_preload.py.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from exporter.__main__ import main
from exporter.daemon import broker_session as session


class Watch(importlib.abc.MetaPathFinder):
    """Asked for every module that is not loaded yet."""

    def __init__(self, record: Path) -> None:
        self._record = record.open("a", buffering=1)

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,  # noqa: ARG002 - the interface's
        target: ModuleType | None = None,  # noqa: ARG002 - the interface's
    ) -> importlib.machinery.ModuleSpec | None:
        self._record.write(fullname + "\n")
        return None


watch = Watch(Path(sys.argv.pop(1)))
give_up = session.give_up_privilege


def give_up_and_watch() -> None:
    give_up()
    sys.meta_path.insert(0, watch)


session.give_up_privilege = give_up_and_watch
sys.exit(main())
