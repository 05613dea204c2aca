"""The page's matrix: vantage by layer by family, and below it each failing probe with why and when.

Rows are the host, then the pods by namespace: one row for the namespace, one more for each pod in which something
fails. Pods in which nothing fails are names in a closed list, so that 250 pods stay readable and cheap.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

from exporter.catalogue.probes import failing, kept
from exporter.model.family import Family
from exporter.model.probe import Layer, Observation, Outcome
from exporter.model.report import PodView, Report, Role
from exporter.model.vantage import PodState
from exporter.report.document import rfc3339
from exporter.web.page.markup import NOTHING, Html, element, join

FAMILIES = (Family.V6, Family.V4)
ROWS = 100
FAILURES = 100
SPACES = 6  # namespaces without a failure up to which each has its row
OPEN = 12  # failures up to which the list stands open

STATES: Mapping[PodState, str] = {
    PodState.HOST_NETWORK: "in the host's network",
    PodState.TERMINATING: "terminating",
    PodState.STARTING: "starting",
    PodState.NOT_RUNNING: "not running",
    PodState.SANDBOXED: "in a sandbox runtime",
    PodState.INTERCEPTED: "behind a service mesh (pinged only)",
    PodState.OPTED_OUT: "opted out",
    PodState.UNREADABLE: "unreadable",
    PodState.UNKNOWN: "of nobody known",
}


def matrix_section(report: Report) -> Html:
    """From where, through which layers, over which family."""
    snapshot = report.snapshot
    if snapshot.role is Role.CLUSTER:
        return Html("")
    results = kept(snapshot)
    layers = [layer for layer in Layer if any(o.layer is layer for o in results)]
    title = element(
        "h2", "From where, through which layer", element("small", "each place's last result: ✓ and ✗ count probes")
    )
    if not layers:
        note = "No probe was made. Without Kubernetes only configured targets are dialled: name some under targets."
        return element("section", title, element("p", note, class_="card"), _pods_note(report, frozenset()))
    rows = tuple(_rows(report, results, layers))
    table = element("table", _head(layers), element("tbody", *rows), class_="matrix")
    failed = frozenset(o.vantage.key for o in failing(results))
    return element(
        "section",
        title,
        element("div", table, class_="scroll", tabindex="0", role="region", aria_label="Matrix of places and layers"),
        _pods_note(report, failed),
        id="matrix",
    )


def _head(layers: Sequence[Layer]) -> Html:
    top = [element("th", layer.value, colspan="2", scope="colgroup", class_="split") for layer in layers]
    below = [
        element("th", family.value, scope="col", class_="split" if family is FAMILIES[0] else None)
        for _ in layers
        for family in FAMILIES
    ]
    first = element("th", "from", rowspan="2", scope="col")
    return element("thead", element("tr", first, *top), element("tr", *below))


def _rows(report: Report, results: Sequence[Observation], layers: Sequence[Layer]) -> Iterator[Html]:
    """The host, then each namespace with its failing pods, those in which most fails first. Many healthy namespaces are one row."""
    by_vantage: dict[str, list[Observation]] = {}
    for observation in results:
        by_vantage.setdefault(observation.vantage.key, []).append(observation)
    host = report.snapshot.host
    if host is not None:
        yield _row("host", by_vantage.pop(host.key, []), layers)
    spaces: dict[str, list[list[Observation]]] = {}
    for made in by_vantage.values():
        spaces.setdefault(made[0].vantage.namespace, []).append(made)
    well = {name for name, pods in spaces.items() if not any(_failures(made) for made in pods)}
    if len(well) > SPACES:
        made = [o for name in sorted(well) for pod in spaces[name] for o in pod]
        yield _group(f"{len(well)} namespaces", _count(sum(len(spaces[name]) for name in well)), made, layers)
    left = ROWS
    for name, pods in sorted(spaces.items()):
        if name in well and len(well) > SPACES:
            continue
        yield _group(name or "named namespaces", _count(len(pods)), [o for made in pods for o in made], layers)
        broken = sorted((p for p in pods if _failures(p)), key=lambda p: (-_failures(p), p[0].vantage.name))
        for made in broken[:left]:
            yield _row(made[0].vantage.name, made, layers, kind="pod")
        if len(broken) > left:
            words_ = f"and {len(broken) - left} more in which something fails: see the report as JSON"
            yield element("tr", element("th", words_, colspan=str(1 + 2 * len(layers))), class_="pod")
        left = max(0, left - len(broken))


def _failures(made: Sequence[Observation]) -> int:
    return sum(1 for _ in failing(tuple(made)))


def _count(pods: int) -> str:
    return f"{pods} {'pod' if pods == 1 else 'pods'}"


def _row(name: str, made: Sequence[Observation], layers: Sequence[Layer], kind: str = "group") -> Html:
    cells = (
        _cell([o for o in made if o.layer is layer and o.family is family], family)
        for layer in layers
        for family in FAMILIES
    )
    return element("tr", element("th", name, scope="row", title=name), *cells, class_=kind)


def _cell(made: Sequence[Observation], family: Family) -> Html:
    """One place, layer and family: how many probes pass, or how and to what they fail."""
    failed = list(failing(tuple(made)))
    counted = sum(o.counted for o in made)
    split = "split" if family is FAMILIES[0] else ""
    if failed:
        outcomes = Counter(o.outcome for o in failed)
        most, _ = outcomes.most_common(1)[0]
        more = f" +{len(outcomes) - 1}" if len(outcomes) > 1 else ""
        targets = tuple(dict.fromkeys(_destination(o) for o in failed))
        note = f"to {targets[0]}" + (f" and {len(targets) - 1} more" if len(targets) > 1 else "")
        share = f", {len(failed)} of {counted}" if counted > 1 else ""
        return element(
            "td", f"✗ {words(most)}{more}", element("small", note + share), class_=f"{split} bad-text".strip()
        )
    if counted:
        return element("td", f"✓ {counted}", class_=f"{split} good-text".strip())
    said = f"· {words(made[0].outcome)}" if made else NOTHING
    if any(o.policy for o in made):
        said = "· policy"
    return element("td", said, class_=f"{split} none-text".strip())


def _group(name: str, count: str, made: Sequence[Observation], layers: Sequence[Layer]) -> Html:
    """A namespace: how many of its probes fail, of those that count."""
    cells = []
    for layer in layers:
        for family in FAMILIES:
            here = tuple(o for o in made if o.layer is layer and o.family is family and o.counted)
            failed = sum(1 for _ in failing(here))
            kind = "none-text" if not here else "bad-text" if failed else "good-text"
            said = NOTHING if not here else f"✗ {failed} of {len(here)}" if failed else f"✓ {len(here)}"
            cells.append(element("td", said, class_=f"{'split ' if family is FAMILIES[0] else ''}{kind}"))
    head = element("th", name, element("small", f" {count}", class_="soft"), scope="row", title=name)
    return element("tr", head, *cells, class_="group")


def _pods_note(report: Report, failed: frozenset[str]) -> Html:
    """Who is looked from and well, who is not looked from and why; or that there are no pods at all."""
    pods = report.snapshot.pods
    if not pods:
        blind = any(not r.success and r.reader in {"namespaces", "pods"} for r in report.snapshot.readings)
        said = (
            "Pods cannot be seen: see below what is missing."
            if blind
            else "No pod runs here: the host alone is looked from."
        )
        return element("p", said, class_="soft")
    seen = {o.vantage.key for o in kept(report.snapshot)}
    well = [p for p in pods if p.vantage.state is PodState.ELIGIBLE and p.vantage.key not in failed]
    parts = [
        _names(f"{_count(len(done))} {words_}", done)
        for words_, done in (
            ("in which nothing fails", [p for p in well if p.vantage.key in seen]),
            (
                "whose turn has not come yet" if seen else "with nothing to dial",
                [p for p in well if p.vantage.key not in seen],
            ),
        )
        if done
    ]
    skipped = [p for p in pods if p.vantage.state is not PodState.ELIGIBLE]
    if skipped:
        states = Counter(p.vantage.state for p in skipped)
        reasons = ", ".join(f"{count} {STATES[state]}" for state, count in states.most_common())
        parts.append(_names(f"{len(skipped)} not looked from: {reasons}", skipped))
    return join(*parts)


def _names(summary: str, pods: Iterable[PodView]) -> Html:
    names = ", ".join(sorted(p.vantage.subject.removeprefix("pod/") for p in pods))
    return element("details", element("summary", summary), element("p", names, class_="soft"))


def failures_section(report: Report) -> Html:
    """Each failing probe: what, why, when; the newest first."""
    failed = sorted(failing(kept(report.snapshot)), key=lambda o: (-o.time, o.vantage.subject))
    if not failed:
        return Html("")
    rows = [
        element(
            "tr",
            element("td", rfc3339(o.time)[11:19], class_="mono"),
            element("td", o.vantage.subject),
            element("td", _destination(o)),
            element("td", f"{o.family.value} {o.layer.value}"),
            element("td", f"✗ {words(o.outcome)}", element("small", o.detail) if o.detail else "", class_="bad-text"),
        )
        for o in failed[:FAILURES]
    ]
    head = element("tr", *(element("th", name, scope="col") for name in ("when (UTC)", "from", "to", "what", "why")))
    table = element("table", element("thead", head), element("tbody", *rows))
    more = f" (the newest {FAILURES})" if len(failed) > FAILURES else ""
    return element(
        "details",
        element("summary", f"✗ {len(failed)} failing {'probe' if len(failed) == 1 else 'probes'}, one by one{more}"),
        element("div", table, class_="scroll", tabindex="0", role="region", aria_label="Failing probes"),
        open="" if len(failed) <= OPEN else None,
        id="failures",
    )


def _destination(observation: Observation) -> str:
    peer = observation.target.peer
    return f"peer {peer}" if peer else observation.target.name


def words(outcome: Outcome) -> str:
    """An outcome for people. `ok` is a failure only where no connection was to be made."""
    return "connected" if outcome is Outcome.OK else outcome.value.replace("_", " ")
