"""Runs one reader after another over a visit's answers, and keeps how each fared. Part of the readers; no I/O but the clock."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from exporter.kernel.decode.parse_error import ParseError
from exporter.kernel.read.answers import ReadError
from exporter.model.facts import Reader, ReaderStatus
from exporter.model.reason import Reason

Part = TypeVar("Part")


class Readings:
    """How each reader fared in one pass. `passing`: some failure that a second look may heal."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._found: dict[Reader, ReaderStatus] = {}
        self.passing = False

    def take(self, reader: Reader, visit_seconds: float, read: Callable[[], Part]) -> Part | None:
        """What `read` returns, None where it could not be read. A reader that is taken twice adds up; its first failure counts."""
        began = self._clock()
        part: Part | None = None
        reason: Reason | None = None
        detail = ""
        try:
            part = read()
        except ReadError as error:
            reason, detail = error.reason, error.detail
            self.passing |= error.reason is Reason.READER_FAILED
        except ParseError as error:
            reason, detail = Reason.READER_FAILED, f"malformed: {error}"
        self._add(reader, visit_seconds + self._clock() - began, reason, detail)
        return part

    def fail(self, reader: Reader, reason: Reason | None, detail: str) -> None:
        """A reader got a part, and some of it is missing."""
        self._add(reader, 0.0, reason, detail)

    def first_failure(self) -> tuple[Reason | None, str]:
        """Reason and detail of a reader that failed, for one that needs what it would have given."""
        failed = next((r for r in self._found.values() if not r.success), None)
        return (failed.reason, f"{failed.reader}: {failed.detail}") if failed else (Reason.READER_FAILED, "")

    def _add(self, reader: Reader, seconds: float, reason: Reason | None, detail: str) -> None:
        before = self._found.get(reader)
        if before is not None:
            seconds += before.seconds
            reason, detail = (before.reason, before.detail) if before.reason else (reason, detail)
        self._found[reader] = ReaderStatus(
            reader=reader.value, success=not reason, seconds=seconds, reason=reason, detail=detail
        )

    def all(self) -> tuple[ReaderStatus, ...]:
        return tuple(self._found.values())
