"""How often rounds run, how long one may take, and how much it may ask (docs/specification.md section 3). Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import TypeVar

from exporter.config.schema import Config

QUERIES, CONNECTS = 2.0, 0.1  # per second and node: DNS questions, connections to the API server
LARGE = 500  # nodes; above it the interval grows, so that the cluster sees at most 1,000 queries/s
SPREAD = 5.0  # seconds over which the starts of a round are spread
WHOLE = 10.0  # seconds that one connection may take over all its phases
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """Seconds: a daemon's from the configuration, a check's own (docs/specification.md section 2)."""

    interval: float
    timeout: float
    whole: float = WHOLE
    spread: float = SPREAD
    bounded: bool = True  # whether the budget applies
    configured: float | None = None  # the interval that the budget is for, where a large cluster makes rounds rarer

    @property
    def queries(self) -> int | None:
        """DNS questions per round; None without a budget."""
        return int(QUERIES * (self.configured or self.interval)) if self.bounded else None

    @property
    def connects(self) -> float | None:
        """Connections to the API server per round, on average; None without a budget."""
        return CONNECTS * (self.configured or self.interval) if self.bounded else None

    @property
    def patience(self) -> float:
        """Seconds that inspecting this machine may take before the round is given up."""
        return min(self.interval, 2 * self.timeout)


def pace_of(config: Config, nodes: int) -> Pace:
    timeout = config.round.timeout
    spread = min(SPREAD, timeout / 5)
    return Pace(
        interval=config.round.interval * max(1.0, nodes / LARGE),
        timeout=timeout,
        whole=min(WHOLE, timeout - spread),
        spread=spread,
        configured=config.round.interval,
    )


def rounds_between(dials: int, allowed: float | None) -> int:
    """Every how many rounds a target of `dials` connections may be dialled; `allowed`: connections per round."""
    return 1 if allowed is None else max(1, ceil(dials / allowed))


def rotated(items: Sequence[T], by: int) -> tuple[T, ...]:
    """The items in the same circular order, starting `by` places later."""
    first = by % len(items) if items else 0
    return (*items[first:], *items[:first])
