"""How much work something is, counted so that neither the machine's speed nor coverage matters."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType


def calls_of(work: Callable[[], object]) -> int:
    """The calls of functions, Python's and C's, that `work` makes. 20,000 of them take less than 5 ms on one core."""
    count = 0

    def follow(_frame: FrameType, event: str, _argument: object) -> None:
        nonlocal count
        count += event in {"call", "c_call"}

    sys.setprofile(follow)
    try:
        work()
    finally:
        sys.setprofile(None)
    return count
