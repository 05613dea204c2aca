"""Metrics of probes: ratios and failures of the last round, failing pods and peers of the kept results, certificates, coverage.

What says nothing of the path (`Observation.counted` is false) enters no ratio and fails nobody.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from exporter.catalogue.metric import PREFIX, FinishedRound, Metric, Row, Type, counter, gauge
from exporter.catalogue.totals import ProbeKey, ProbeOutcomeKey, probe_key
from exporter.model.probe import Group, Layer, Observation
from exporter.model.report import Snapshot
from exporter.model.vantage import PodState

FAILING_ROWS = 200
PROBE = ("vantage", "target", "layer", "ip_family")


def failing(observations: tuple[Observation, ...]) -> Iterator[Observation]:
    """The observations that count and did not do what is expected of their target."""
    return (o for o in observations if o.counted and not o.passed)


def kept(snapshot: Snapshot) -> tuple[Observation, ...]:
    """Each vantage's last results; a snapshot that keeps none has those of its own round."""
    return snapshot.kept or snapshot.observations


def success_ratio(source: FinishedRound) -> Iterator[Row]:
    """Passed by made, of those that count."""
    made: Counter[ProbeKey] = Counter()
    passed: Counter[ProbeKey] = Counter()
    for observation in source.snapshot.observations:
        if observation.counted:
            key = probe_key(observation)
            made[key] += 1
            passed[key] += observation.passed
    return ((key, passed[key] / count) for key, count in made.items())


def failures(source: FinishedRound) -> Iterator[Row]:
    """Failures by outcome; no series where nothing failed."""
    failed: Counter[ProbeOutcomeKey] = Counter(
        (*probe_key(o), o.outcome.value) for o in failing(source.snapshot.observations)
    )
    return ((key, float(count)) for key, count in failed.items())


def probes_total(source: FinishedRound) -> Iterator[Row]:
    return ((key, float(count)) for key, count in source.totals.probes.items())


def probe_duration(source: FinishedRound) -> Iterator[Row]:
    return iter(source.totals.durations.items())


def certificate_expiry(source: FinishedRound) -> Iterator[Row]:
    """The earliest end of validity that any vantage saw in the target's chain."""
    earliest: dict[tuple[str, str], float] = {}
    for observation in kept(source.snapshot):
        if observation.layer is Layer.TLS and observation.expires is not None:
            key = (observation.target.name, observation.family.value)
            earliest[key] = min(observation.expires, earliest.get(key, observation.expires))
    return iter(earliest.items())


def pod_failing(source: FinishedRound) -> Iterator[Row]:
    """One row for each pod, family, layer and outcome that fails, whatever the target."""
    rows = {
        (o.vantage.namespace, o.vantage.name, o.family.value, o.layer.value, o.outcome.value)
        for o in failing(kept(source.snapshot))
        if o.vantage.kind == "pod"
    }
    return ((row, 1.0) for row in rows)


def peer_failing(source: FinishedRound) -> Iterator[Row]:
    """One row for each peer, kind of vantage, family, layer and outcome that fails."""
    rows = {
        (o.target.peer, o.vantage.kind, o.family.value, o.layer.value, o.outcome.value)
        for o in failing(kept(source.snapshot))
        if o.target.group is Group.PEERS
    }
    return ((row, 1.0) for row in rows)


def target_vantages(source: FinishedRound) -> Iterator[Row]:
    """From how many places each target was really tested over each family."""
    places: dict[tuple[str, str], set[str]] = {}
    for observation in kept(source.snapshot):
        if observation.counted:
            key = (observation.target.name, observation.family.value)
            places.setdefault(key, set()).add(observation.vantage.key)
    return ((key, float(len(keys))) for key, keys in places.items())


def pods_probed(source: FinishedRound) -> Iterator[Row]:
    """How many of the eligible pods have a kept result that counts."""
    eligible = {p.vantage.key for p in source.snapshot.pods if p.vantage.state is PodState.ELIGIBLE}
    if eligible:
        seen = {o.vantage.key for o in kept(source.snapshot) if o.counted}
        yield (), float(len(eligible & seen))


PROBES: tuple[Metric[FinishedRound], ...] = (
    gauge(
        "probe_success_ratio",
        "Probes that passed, by those that passed or failed, in the last finished round; absent where none was made.",
        PROBE,
        success_ratio,
    ),
    gauge("probe_failures", "Probes that failed in the last finished round.", (*PROBE, "outcome"), failures),
    counter(
        "probes_total",
        "Probes made. Outcomes such as not_reached or vanished say nothing of the path and are in no ratio.",
        (*PROBE, "outcome"),
        probes_total,
    ),
    Metric(
        name=PREFIX + "probe_duration_seconds",
        type=Type.HISTOGRAM,
        help="Duration of successful probes, each layer by itself.",
        labels=PROBE,
        rows=probe_duration,
    ),
    gauge(
        "tls_certificate_expiry_timestamp_seconds",
        "When the first certificate of the target's chain expires.",
        ("target", "ip_family"),
        certificate_expiry,
    ),
    gauge(
        "pod_failing",
        "A pod from which some probe fails, by its last result; one series for each failing one only.",
        ("namespace", "pod", "ip_family", "layer", "outcome"),
        pod_failing,
        limit=FAILING_ROWS,
    ),
    gauge(
        "peer_failing",
        "A node that cannot be reached from this one, by the last result; one series for each failing one only.",
        ("peer", "vantage", "ip_family", "layer", "outcome"),
        peer_failing,
        limit=FAILING_ROWS,
    ),
    gauge(
        "target_vantages",
        "Vantages with a result that counts for this target and family: what was really tested.",
        ("target", "ip_family"),
        target_vantages,
    ),
    gauge("pods_probed", "Eligible pods of this node with a kept result that counts.", (), pods_probed),
)
