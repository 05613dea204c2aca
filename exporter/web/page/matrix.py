"""The page's matrix: vantage by layer by family, and below it each failing probe. Reads a report, does no I/O.

Rows are the host, then the pods by namespace: a row for the namespace, and one for each pod with a failing probe.
Healthy pods are names in a closed list, so that 250 pods stay readable and cheap.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from exporter.catalogue.probes import failing, kept
from exporter.model.cause import Role
from exporter.model.facts import Reader
from exporter.model.grouping import grouped
from exporter.model.probe import Layer, Observation, Outcome
from exporter.model.report import PodView, Report
from exporter.model.vantage import PodState
from exporter.report.document import rfc3339
from exporter.web.page.markup import (
    EMPTY,
    FAMILIES,
    NOTHING,
    Html,
    class_of,
    details,
    element,
    head_row,
    join,
    number,
    section,
    table,
)

ROWS = 100
FAILURES = 100
SPACES = 6  # healthy namespaces up to which each has its row
OPEN = 12  # failures up to which their list is open

COLUMNS = tuple(zip(FAMILIES, ("split", ""), strict=True))  # of each layer, with the class of the line before the first

STATES: Mapping[PodState, str] = {
    PodState.HOST_NETWORK: "in the host's network",
    PodState.TERMINATING: "terminating",
    PodState.STARTING: "starting",
    PodState.NOT_RUNNING: "not running",
    PodState.SANDBOXED: "in a sandbox runtime",
    PodState.INTERCEPTED: "behind a service mesh (ICMP only)",
    PodState.OPTED_OUT: "opted out",
    PodState.UNREADABLE: "unreadable",
    PodState.UNKNOWN: "namespaces that belong to no known pod",
}

Made: TypeAlias = Sequence[Observation]


@dataclass(frozen=True, slots=True)
class Tally:
    """How many probes failed of those that count, and how many do not count (`others`), by what became of them."""

    failed: int
    dialled: int
    others: Counter[str]

    @property
    def apart(self) -> str:
        return ", ".join(f"{count} {words}" for words, count in self.others.most_common())


def tally(made: Made) -> Tally:
    others = Counter("egress policy" if o.policy else _words(o.outcome) for o in made if not o.counted)
    return Tally(_failures(made), sum(o.counted for o in made), others)


def matrix_section(report: Report) -> Html:
    if report.snapshot.role is Role.CLUSTER:
        return EMPTY
    results = kept(report.snapshot)
    layers = [layer for layer in Layer if any(o.layer is layer for o in results)]
    if layers:
        matrix = table("Vantages and layers", _head(layers), _rows(report, results, layers), "matrix")
    else:
        note = "No probe was made. Without Kubernetes only configured targets are probed: add some under targets."
        matrix = element("p", note, class_="card")
    failed = frozenset(o.vantage.key for o in failing(results))
    note = "the last result of each place: ✓ and ✗ count probes"
    below = (_pods_note(report, failed), _addresses(results))
    return section("matrix", "Probes by place and layer", matrix, *below, note=note)


def _head(layers: Sequence[Layer]) -> Html:
    top = [element("th", layer.value, colspan="2", scope="colgroup", class_="split") for layer in layers]
    below = [element("th", family.value, scope="col", class_=line) for _ in layers for family, line in COLUMNS]
    first = element("th", "from", rowspan="2", scope="col")
    return join(element("tr", first, *top), element("tr", *below))


def _rows(report: Report, results: Made, layers: Sequence[Layer]) -> Iterator[Html]:
    """The host, then the namespaces; many healthy ones share a row."""
    by_vantage = grouped(results, lambda o: o.vantage.key)
    host = report.snapshot.host
    if host is not None:
        yield _row("host", by_vantage.pop(host.key, []), layers, _outcomes)
    spaces = grouped(by_vantage.values(), lambda made: made[0].vantage.namespace)
    healthy = [name for name, pods in spaces.items() if not any(map(_failures, pods))]
    if len(healthy) > SPACES:
        yield _group(f"{len(healthy)} namespaces", [pod for name in healthy for pod in spaces.pop(name)], layers)
    left = ROWS
    for name, pods in sorted(spaces.items()):
        yield _group(name or "named namespaces", pods, layers)
        broken = sorted(filter(_failures, pods), key=lambda pod: (-_failures(pod), pod[0].vantage.name))
        yield from (_row(pod[0].vantage.name, pod, layers, _outcomes, kind="pod") for pod in broken[:left])
        if len(broken) > left:
            more = f"and {len(broken) - left} more pods with a failing probe: see the report as JSON"
            yield element("tr", element("th", more, colspan=str(1 + 2 * len(layers))), class_="pod")
        left = max(0, left - len(broken))


def _failures(made: Made) -> int:
    return sum(1 for _ in failing(tuple(made)))


def _group(name: str, pods: Sequence[Made], layers: Sequence[Layer]) -> Html:
    return _row(name, [o for made in pods for o in made], layers, _counts, note=f" {number(len(pods), 'pod')}")


def _row(
    name: str,
    made: Made,
    layers: Sequence[Layer],
    cell: Callable[[Made], tuple[bool | None, Html]],
    *,
    kind: str = "group",
    note: str = "",
) -> Html:
    cells = []
    for layer in layers:
        for family, line in COLUMNS:
            good, content = cell([o for o in made if o.layer is layer and o.family is family])
            of = f"{family.value} {layer.value}"  # shown where the screen is too narrow for columns
            cells.append(element("td", content, class_=f"{class_of(good)} {line}".strip(), data_of=of))
    head = element("th", name, element("small", note, class_="soft") if note else "", scope="row", title=name)
    return element("tr", head, *cells, class_=kind)


def _counts(made: Made) -> tuple[bool | None, Html]:
    """Of one layer and family of many vantages: how many probes fail, or how many pass."""
    counts = tally(made)
    apart = element("small", counts.apart) if counts.apart else ""
    if not counts.dialled:
        return None, join(f"· {counts.apart}" if apart else NOTHING)
    return not counts.failed, join(_share(counts), apart)


def _outcomes(made: Made) -> tuple[bool | None, Html]:
    """Of one vantage, layer and family: how many probes pass, or how and to what they fail."""
    failed, counts = list(failing(tuple(made))), tally(made)
    apart = element("small", counts.apart) if counts.apart else ""
    if failed:
        outcomes = Counter(o.outcome for o in failed)
        more = f" +{len(outcomes) - 1}" if len(outcomes) > 1 else ""
        targets = tuple(dict.fromkeys(_destination(o) for o in failed))
        note = f"to {targets[0]}" + (f" and {len(targets) - 1} more" if len(targets) > 1 else "")
        share = f", {len(failed)} of {counts.dialled}" if counts.dialled > 1 else ""
        return False, join(f"✗ {_words(outcomes.most_common(1)[0][0])}{more}", element("small", note + share), apart)
    if counts.dialled:
        return True, join(f"✓ {counts.dialled}", apart)
    words = counts.apart if len(counts.others) > 1 else next(iter(counts.others), "")
    return None, join(f"· {words}" if words else NOTHING)


def _pods_note(report: Report, failed: frozenset[str]) -> Html:
    """Which pods are healthy, which are not probed yet and which are not probed at all, with the reason."""
    pods = report.snapshot.pods
    if not pods:
        blind = any(not r.success and r.reader in {Reader.NAMESPACES, Reader.PODS} for r in report.snapshot.readings)
        without = (
            "Pods cannot be read: see below for the reason." if blind else "No pods on this node: only the host probes."
        )
        return element("p", without, class_="soft")
    seen = {o.vantage.key for o in kept(report.snapshot)}
    unfailed = [p for p in pods if p.vantage.state is PodState.ELIGIBLE and p.vantage.key not in failed]
    skipped = [p for p in pods if p.vantage.state is not PodState.ELIGIBLE]
    states = Counter(p.vantage.state for p in skipped)
    reasons = ", ".join(f"{count} {STATES[state]}" for state, count in states.most_common())
    lists: tuple[tuple[str, str, list[PodView]], ...] = (
        ("healthy pod", "", [p for p in unfailed if p.vantage.key in seen]),
        ("pod", " not probed yet" if seen else " without a target", [p for p in unfailed if p.vantage.key not in seen]),
        ("pod", f" not probed: {reasons}", skipped),
    )
    return join(*(_names(number(len(listed), noun) + rest, listed) for noun, rest, listed in lists if listed))


def _names(summary: str, pods: Sequence[PodView]) -> Html:
    return details(summary, ", ".join(sorted(p.vantage.subject.removeprefix("pod/") for p in pods)))


def _addresses(results: Made) -> Html:
    """The addresses that were dialled for each destination, the failing ones first."""
    dialled = grouped(results, lambda o: (_destination(o), o.family.value, _address(o)))
    counts = {key: tally(made) for key, made in dialled.items()}
    rows = [
        element(
            "li",
            f"{to}: {address} ({family}) " if address else f"{to}: no {family} address ",
            element("span", _share(count), class_=class_of(good=not count.failed if count.dialled else None)),
            f", not counted: {count.apart}" if count.apart else "",
        )
        for (to, family, address), count in sorted(counts.items(), key=lambda item: (not item[1].failed, item[0]))
    ]
    heading = element("summary", f"Addresses dialled ({len(rows)})")
    return element("details", heading, element("ul", *rows[:ROWS], class_="soft")) if rows else EMPTY


def _share(counts: Tally) -> str:
    if counts.failed:
        return f"✗ {counts.failed} of {counts.dialled}"
    return f"✓ {counts.dialled}" if counts.dialled else NOTHING


def _address(observation: Observation) -> str:
    address = observation.address or observation.target.addresses.get(observation.family)
    return str(address) if address is not None else ""


def failures_section(report: Report) -> Html:
    """Each failing probe with its reason and time, the newest first."""
    counts = tally(kept(report.snapshot))
    failed = sorted(failing(kept(report.snapshot)), key=lambda o: (-o.time, o.vantage.subject))
    if not failed:
        return EMPTY
    rows = [
        element(
            "tr",
            element("td", rfc3339(o.time)[11:19], class_="mono"),
            element("td", o.vantage.subject),
            element("td", _destination(o)),
            element("td", f"{o.family.value} {o.layer.value}"),
            element("td", f"✗ {_words(o.outcome)}", element("small", o.detail) if o.detail else "", class_="bad-text"),
            element("td", _address(o), class_="mono"),
        )
        for o in failed[:FAILURES]
    ]
    newest = f" (the newest {FAILURES})" if len(failed) > FAILURES else ""
    apart = f"; not counted: {counts.apart}" if counts.apart else ""
    return element(
        "details",
        element("summary", f"✗ {number(len(failed), 'failing probe')} of {counts.dialled}{newest}{apart}"),
        table("Failing probes", head_row("when (UTC)", "from", "to", "layer", "why", "address"), rows),
        open="" if len(failed) <= OPEN else None,
        id="failures",
    )


def _destination(observation: Observation) -> str:
    peer = observation.target.peer
    return f"peer {peer}" if peer else observation.target.name


def _words(outcome: Outcome) -> str:
    """An outcome in words. `ok` is a failure only where no connection was expected."""
    return "connected" if outcome is Outcome.OK else outcome.value.replace("_", " ")
