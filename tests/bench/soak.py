"""`python -m tests.bench.soak [--rounds=N] [--namespaces=N]`: a daemon whose namespaces come and go in every round.

A real exporter and broker make rounds much faster than in use. In each round some of the pod-like namespaces around a
router are deleted and others made; all of them are healthy. Prints memory, descriptors and threads of both processes
over time, and every cause that was found: there must be none, and nothing may grow after the first tenth (memory: in a
run of 1,000 rounds and more, because caches are filled before). Exit status 1 otherwise.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import statistics
import subprocess
import sys
import time
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address
from itertools import count
from pathlib import Path

from tests.e2e.daemon import Daemon, children_of, status_of
from tests.e2e.village import PORT, SERVER, paced
from tests.kernel import namespaces

LIVE = 20  # namespaces at a time
SAMPLES = 40
WARM = 1000  # rounds that a run must have for its memory to be judged
GROWTH = 1.1  # of memory, from the second tenth to the last
ROUTER4, ROUTER6 = IPv4Address("203.0.113.1"), IPv6Address("2001:db8:ffff::1")
_LIBC = ctypes.CDLL(None, use_errno=True)
_MS_BIND = 4096
CONFIG = """
families: [IPv4, IPv6]
node_name: soak
{pace}netns: {{include: ["{prefix}pod-*"]}}
dns: {{names: []}}
targets:
  - {{name: router, host: router.test, addresses: ["{six}", {four}], port: {port}, layers: [icmp, tcp],
      vantages: [pod]}}
"""


@dataclass
class Churn:
    """Namespaces around a router: each has a /30 and a /64 of its own, in which the router has the first address."""

    prefix: str = field(default_factory=namespaces.unique_prefix)
    made: int = 0
    live: deque[str] = field(default_factory=deque)
    _numbers: Iterator[int] = field(default_factory=count)

    @property
    def router(self) -> str:
        return f"{self.prefix}router"

    def open(self) -> None:
        namespaces.create([self.router])
        lines = ["link set lo up", f"address add {ROUTER6}/128 dev lo", f"address add {ROUTER4}/32 dev lo"]
        namespaces.batch({self.router: lines})

    def add(self) -> None:
        """Ready before it has the name that the exporter looks for: a runtime makes the network before the pod."""
        number = next(self._numbers)
        place, draft, name = number % 4096, f"{self.prefix}draft", f"{self.prefix}pod-{number}"
        four, six = IPv4Address("10.9.0.0") + 4 * place, IPv6Address(0x20010DB8_0009_0000 << 64) + (place << 64)
        namespaces.create([draft])
        link = f"pod{number}"
        namespaces.batch({self.router: [
            f"link add {link} type veth peer name eth0 netns {draft}", f"link set {link} up",
            f"address add {four + 1}/30 dev {link}", f"address add {six + 1}/64 dev {link} nodad"]})  # fmt: skip
        namespaces.batch({draft: ["link set lo up", "link set eth0 up", f"address add {four + 2}/30 dev eth0",
            f"address add {six + 2}/64 dev eth0 nodad", f"route add default via {four + 1}",
            f"route add default via {six + 1}"]})  # fmt: skip
        final = Path(namespaces.path_of(name))
        final.touch()
        if _LIBC.mount(namespaces.path_of(draft).encode(), bytes(final), None, _MS_BIND, None):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), name)
        namespaces.delete([draft])
        self.live.append(name)
        self.made += 1

    def step(self, wanted: int) -> None:
        """Replace the oldest until so many were made in all."""
        while self.made < wanted:
            self.add()
            if len(self.live) > LIVE:
                namespaces.delete([self.live.popleft()])

    def close(self) -> None:
        namespaces.delete([*self.live, f"{self.prefix}draft", self.router])


@dataclass(frozen=True)
class Sample:
    """Of one process: KiB, numbers."""

    memory: int
    descriptors: int
    threads: int

    @classmethod
    def of(cls, pid: int) -> Sample:
        status = status_of(pid)
        descriptors = len(os.listdir(f"/proc/{pid}/fd"))  # noqa: PTH208 - names alone
        return cls(int(status["VmRSS"].split()[0]), descriptors, int(status["Threads"]))


@contextmanager
def churned_daemon(interval: float) -> Iterator[tuple[Churn, Daemon]]:
    with ExitStack() as stack:
        churn = Churn()
        stack.callback(churn.close)
        churn.open()
        server = namespaces.python_inside(churn.router, SERVER, str(PORT), stdout=subprocess.PIPE)
        stack.callback(server.communicate)
        stack.callback(server.kill)
        assert server.stdout is not None
        server.stdout.readline()
        churn.step(LIVE)
        pace = paced(f"{interval * 1000:.0f}ms", f"{interval * 900:.0f}ms", f"{interval * 800:.0f}ms")
        config = CONFIG.format(pace=pace, prefix=churn.prefix, six=ROUTER6, four=ROUTER4, port=PORT)
        with Daemon(config) as daemon:
            daemon.wait(lambda: daemon.get("/-/ready")[0] == 200, "ready")
            yield churn, daemon


def rounds_of(daemon: Daemon) -> int:
    return int(daemon.series()["dualstack_exporter_rounds_total"])


def soak(rounds: int, wanted: int, interval: float) -> int:
    """Run, print, judge; the exit status."""
    say(f"{'rounds':>7} {'namespaces':>10}  {'exporter: KiB fds threads':>28}  {'broker: KiB fds threads':>26}")
    samples: list[tuple[Sample, Sample]] = []
    found: Counter[str] = Counter()
    with churned_daemon(interval) as (churn, daemon):
        (broker,) = children_of(daemon.pid)
        done, began = 0, time.monotonic()
        while done < rounds:
            done = rounds_of(daemon)
            found.update(f"{name}: {cause['evidence'][:1]}" for name, cause in daemon.causes().items())
            churn.step(LIVE + wanted * min(done, rounds) // rounds)
            if done >= rounds * len(samples) // SAMPLES:
                samples.append((Sample.of(daemon.pid), Sample.of(broker)))
                both = "  ".join(f"{s.memory:>17} {s.descriptors:>4} {s.threads:>5}" for s in samples[-1])
                say(f"{done:>7} {churn.made:>10}  {both}")
        errors = {k: v for k, v in daemon.series().items() if k.startswith("dualstack_exporter_errors_total") and v}
        seconds = time.monotonic() - began
    say(f"{done} rounds and {churn.made} namespaces in {seconds:.0f} s")
    problems = [f"a cause was found {times} times: {name}" for name, times in found.items()]
    problems += [f"errors: {errors}"] if errors else []
    for process, seen in (("exporter", [a for a, _ in samples]), ("broker", [b for _, b in samples])):
        problems += growth(process, seen, memory=done >= WARM)
    for problem in problems:
        say(f"fail: {problem}")
    say("pass" if not problems else f"{len(problems)} problems")
    return 1 if problems else 0


def growth(process: str, samples: list[Sample], *, memory: bool) -> Iterator[str]:
    """What grew from the second tenth to the last."""
    tenth = max(1, len(samples) // 10)
    early, late = samples[tenth : 2 * tenth], samples[-tenth:]
    before, after = (statistics.median(s.memory for s in each) for each in (early, late))
    if memory and after > before * GROWTH:
        yield f"{process}: memory grew from {before:.0f} to {after:.0f} KiB"
    if max(s.threads for s in late) > max(s.threads for s in samples[: 2 * tenth]):
        yield f"{process}: threads grew to {max(s.threads for s in late)}"
    if min(s.descriptors for s in late) > max(s.descriptors for s in samples[: 2 * tenth]):
        yield f"{process}: descriptors grew to {min(s.descriptors for s in late)}"


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests.bench.soak", description=__doc__)
    parser.add_argument("--rounds", type=int, default=10_000)
    parser.add_argument("--namespaces", type=int, default=10_000)
    parser.add_argument("--interval", type=float, default=0.3, help="seconds from round to round")
    given = parser.parse_args()
    return soak(given.rounds, given.namespaces, given.interval)


if __name__ == "__main__":
    sys.exit(main())
