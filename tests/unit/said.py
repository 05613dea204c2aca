"""What nameservers said over several rounds, as the daemon remembers it: each round's questions, and those asked
again.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from exporter.model.probe import Lookup, Told
from exporter.plan.answer_history import NO_HISTORY, all_told, remember

INTERVAL = 30.0
AGAIN = 3  # times that each question of a round is asked besides


def remembered(*rounds: Iterable[Lookup], now: float, times: int = 1 + AGAIN) -> tuple[Told, ...]:
    """The history after these rounds, the last of which was at `now`; each lookup was answered so `times`."""
    history, moment = NO_HISTORY, now - INTERVAL * (len(rounds) - 1)
    for lookups in rounds:
        made = [replace(one, time=moment) for one in lookups for _ in range(times)]
        history = remember(history, made, now=moment)
        moment += INTERVAL
    return all_told(history)
