"""How fast rounds follow one another, how long one may take, and how much it may ask (contract section 3, budget). Pure."""

from __future__ import annotations

from dataclasses import dataclass

from exporter.config.schema import Config
from exporter.plan.checks import SPREAD

QUERIES, CONNECTS = 2.0, 0.1  # a second and node: DNS questions, connections to the API server
LARGE = 500  # nodes from which on the interval grows, so that the cluster sees at most 1,000 queries/s
WHOLE = 10.0  # seconds that one connection may take over all its phases


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """Seconds: the daemon's from the configuration, a check's own (contract section 2)."""

    interval: float
    timeout: float
    whole: float = WHOLE
    spread: float = SPREAD
    bounded: bool = True  # whether the budget binds
    configured: float | None = None  # the interval that the budget goes by, where a large cluster makes rounds rarer

    @property
    def queries(self) -> int | None:
        """DNS questions of one round; None where the budget does not bind."""
        return int(QUERIES * (self.configured or self.interval)) if self.bounded else None

    @property
    def connects(self) -> float | None:
        """Connections to the API server in one round, on average; None where the budget does not bind."""
        return CONNECTS * (self.configured or self.interval) if self.bounded else None

    @property
    def patience(self) -> float:
        """Seconds that looking at this machine may take before the round is given up."""
        return min(self.interval, 2 * self.timeout)


def pace_of(config: Config, nodes: int) -> Pace:
    """The configured pace, slower in a cluster of more than 500 nodes."""
    timeout = config.round.timeout
    spread = min(SPREAD, timeout / 5)
    return Pace(
        interval=config.round.interval * max(1.0, nodes / LARGE),
        timeout=timeout,
        whole=min(WHOLE, timeout - spread),
        spread=spread,
        configured=config.round.interval,
    )
