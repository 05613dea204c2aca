"""`python -m tests.fuzz [--inputs=N] [TARGET...]`: fuzz each target with so many inputs, and print one table.

Each target runs in a process of its own under atheris (libFuzzer), guided by the branches that inputs reach. A crash,
an outcome that is not stated, or an input that takes too much CPU time fails it; the input is kept, its path printed.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import atheris

ROOT = Path(__file__).resolve().parents[2]
SEED = 1


def fuzz(name: str, inputs: int, directory: Path) -> None:
    """In the target's own process: does not return."""
    with atheris.instrument_imports(include=["exporter"]):
        from tests.fuzz.targets import TARGETS  # noqa: PLC0415 - what is imported here is traced

    target = TARGETS[name]
    slowest = 0.0
    told = directory / "slowest"

    def run(data: bytes) -> None:
        nonlocal slowest
        began = time.process_time()
        target.run(atheris.FuzzedDataProvider(data))
        took = time.process_time() - began
        if took > slowest:
            slowest = took
            told.write_text(json.dumps(slowest))
        if took > target.seconds:
            raise AssertionError(f"one input took {took:.3f} s of CPU time")

    arguments = [
        sys.argv[0],
        f"-runs={inputs}",
        f"-seed={SEED}",
        f"-max_len={target.size}",
        "-len_control=0",
        "-timeout=30",
        "-rss_limit_mb=2048",
    ]
    atheris.Setup([*arguments, f"-artifact_prefix={directory}/", "-print_final_stats=1"], run)
    atheris.Fuzz()


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def report(name: str, inputs: int, kept: Path) -> bool:
    """Fuzz one target and print its row; whether all went well."""
    directory = kept / name
    directory.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    command = [sys.executable, "-m", "tests.fuzz", f"--one={name}", f"--inputs={inputs}", f"--kept={kept}"]
    ended = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
    seconds = time.monotonic() - began
    found = re.search(r"stat::number_of_executed_units: *(\d+)", ended.stderr)
    done = int(found.group(1)) if found else 0
    slow = directory / "slowest"
    slowest = json.loads(slow.read_text()) * 1000 if slow.exists() else 0.0
    good = ended.returncode == 0 and done >= inputs
    say(f"{name:12} {done:>10,} {done / seconds:>9,.0f} {slowest:>9.1f}  {'pass' if good else 'fail'}")
    if not good:
        say(ended.stderr[-3000:])
    return good


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests.fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", help="those of tests/fuzz/targets.py; all by default")
    parser.add_argument("--inputs", type=int, default=1_000_000, help="of each target")
    parser.add_argument("--kept", type=Path, help="where inputs that fail are kept; by default a new directory in /tmp")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        fuzz(given.one, given.inputs, given.kept / given.one)
    from tests.fuzz.targets import TARGETS  # noqa: PLC0415 - not before the tracing of a target's own process

    unknown = set(given.targets) - set(TARGETS)
    if unknown:
        parser.error(f"no target {', '.join(sorted(unknown))}; there are {', '.join(TARGETS)}")
    kept = given.kept or Path(tempfile.mkdtemp(prefix="dualstack-exporter-fuzz-"))
    say(f"{'target':12} {'inputs':>10} {'a second':>9} {'max. ms':>9}")
    results = [report(name, given.inputs, kept) for name in given.targets or TARGETS]
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
