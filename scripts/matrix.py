"""Prints the fault matrix as Markdown: the rows of tests/lab/faults.py, which tests/e2e/test_fault_matrix.py checks.

python -m scripts.matrix                        the table; scripts/reference writes it to docs/reference/
python -m scripts.matrix --measure [FAULT ...]  breaks each (all, without names) in a lab, and prints what was found;
                                                needs root
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator, Mapping

from exporter.report.reference import markdown
from tests.lab.cluster import Cluster
from tests.lab.fault import ALL, APART, HERE, LABS, Fault
from tests.lab.faults import FAULTS, PAIRS
from tests.lab.measure import Measured, measure, settle

HEAD = (
    "fault", "scope", "what is broken", "causes to fix", "what they explain", "info", "IPv6", "IPv4",
    "rounds to detect, to clear",
    "NAT backends, where they matter", "roles",
)  # fmt: skip
WAYS = {ALL: "one process", APART: "node and cluster apart"}
WORDS = {True: "works", False: "fails", None: "not known"}


def matrix(faults: Iterable[Fault] = (*FAULTS.values(), *PAIRS.values())) -> str:
    """The table, one row for each fault."""
    return markdown(HEAD, (_row(fault) for fault in faults))


def _row(fault: Fault) -> tuple[str, ...]:
    return (
        f"`{fault.name}`",
        fault.scope.value,
        fault.says,
        ", ".join(f"`{cause}` ({severity})" for cause, severity in fault.causes.items()) or "none",
        _explained(fault.explained),
        ", ".join(f"`{cause}`" for cause in fault.infos),
        WORDS[fault.ipv6],
        WORDS[fault.ipv4],
        f"{fault.detected_by}, {fault.cleared_by}",
        ", ".join(fault.backends) if fault.backends != HERE else "",
        "; ".join(WAYS[roles] for roles in fault.ways),
    )


def _explained(explained: Mapping[str, str]) -> str:
    """By whom, where several explain."""
    roots = set(explained.values())
    return ", ".join(f"`{s}`" + (f" (by `{root}`)" if len(roots) > 1 else "") for s, root in explained.items())


def measured(faults: Iterable[Fault]) -> Iterator[tuple[str, Measured]]:
    """Where, and what the exporter found of each, broken and healed in its lab, for each way to run the roles."""
    wanted = list(faults)
    for backend in dict.fromkeys(backend for fault in wanted for backend in fault.backends):
        for roles in (ALL, APART):
            rows = [
                f
                for f in wanted
                if backend in f.backends and roles in f.ways and (roles == ALL or backend == f.backends[0])
            ]
            if not rows:
                continue
            with Cluster(lab=LABS[backend]() if backend in LABS else None, backend=backend, roles=roles) as cluster:
                for fault in rows:
                    settle(cluster)
                    yield f"{backend}, {WAYS[roles]}", measure(cluster, fault)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="scripts/matrix")
    parser.add_argument(
        "--measure", action="store_true", help="break each fault in a lab instead of printing what is expected"
    )
    parser.add_argument("faults", nargs="*", metavar="FAULT")
    asked = parser.parse_args(arguments)
    known = {**FAULTS, **PAIRS}
    unknown = [name for name in asked.faults if name not in known]
    if unknown:
        parser.error(f"no fault {unknown[0]!r}; these are known: {', '.join(known)}")
    faults = [known[name] for name in asked.faults] or list(known.values())
    if not asked.measure:
        sys.stdout.write(matrix(faults))
        return 0
    failed = False
    for where, row in measured(faults):
        failed |= not row.holds
        found = ", ".join(row.last.causes) or "info alone"
        said = "; ".join(row.wrong) or f"{found}; found in round {row.detected}, gone in round {row.cleared}"
        sys.stdout.write(f"{'holds' if row.holds else 'WRONG'}  {row.fault.name} ({where}): {said}\n")
        sys.stdout.flush()
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
