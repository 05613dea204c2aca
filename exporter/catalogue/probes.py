"""Metrics of probes (ratios and failures of the last round; the rest by kept results) and of the pods they start from.

A result that shows nothing about the path (`Observation.counted` is false) enters no ratio and is no failure.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from exporter.catalogue.metric import PREFIX, FinishedRound, Metric, Row, Type, by_label, counter, gauge, one
from exporter.catalogue.totals import ProbeKey, probe_key
from exporter.model.cause import Role
from exporter.model.dial import Dial, dials_of
from exporter.model.facts import Reader
from exporter.model.family import FAMILIES, Family
from exporter.model.probe import Group, Layer, Observation
from exporter.model.report import Snapshot
from exporter.model.vantage import PodState

FAILING_ROWS = 200
LIBCS = ("glibc", "musl")
TLS = tuple((family, Layer.TLS) for family in FAMILIES)
PROBE = ("vantage", "target", "layer", "ip_family")


def failing(observations: Iterable[Observation]) -> Iterator[Observation]:
    """The observations that count and did not do what is expected of their target."""
    return (o for o in observations if o.counted and not o.passed)


def dials(snapshot: Snapshot) -> tuple[Dial, ...]:
    """Those of each vantage's last probe; a snapshot that keeps none has those of its own round."""
    return snapshot.last or dials_of(snapshot.observations)


def kept(snapshot: Snapshot) -> tuple[Observation, ...]:
    """Each vantage's last results."""
    return tuple(o for dial in dials(snapshot) for o in dial.observations)


def success_ratio(source: FinishedRound) -> Iterator[Row]:
    made: Counter[ProbeKey] = Counter()
    passed: Counter[ProbeKey] = Counter()
    for observation in source.snapshot.observations:
        if observation.counted:
            key = probe_key(observation)
            made[key] += 1
            passed[key] += observation.passed
    return ((key, passed[key] / count) for key, count in made.items())


def failures(source: FinishedRound) -> Iterable[Row]:
    """Failures by outcome; no series where nothing failed."""
    return Counter((*probe_key(o), o.outcome.value) for o in failing(source.snapshot.observations)).items()


def certificate_expiry(source: FinishedRound) -> Iterable[Row]:
    """The earliest end of validity that any vantage saw in the target's chain."""
    earliest: dict[tuple[str, str], float] = {}
    for observation in (o for dial in dials(source.snapshot) for o in map(dial.seen.get, TLS) if o is not None):
        if observation.expires is not None:
            key = (observation.target.name, observation.family.value)
            earliest[key] = min(observation.expires, earliest.get(key, observation.expires))
    return earliest.items()


def kept_failing(source: FinishedRound) -> Iterator[Observation]:
    return (o for dial in dials(source.snapshot) for o in dial.failing)


def pod_failing(source: FinishedRound) -> Iterable[Row]:
    """One row for each pod, family, layer and outcome that fails, whatever the target."""
    return {
        ((o.vantage.namespace, o.vantage.name, o.family.value, o.layer.value, o.outcome.value), 1.0)
        for o in kept_failing(source)
        if o.vantage.kind == "pod"
    }


def peer_failing(source: FinishedRound) -> Iterable[Row]:
    """One row for each peer, kind of vantage, family, layer and outcome that fails."""
    return {
        ((o.target.peer, o.vantage.kind, o.family.value, o.layer.value, o.outcome.value), 1.0)
        for o in kept_failing(source)
        if o.target.group is Group.PEERS
    }


def target_vantages(source: FinishedRound) -> Iterable[Row]:
    tested = {(d.target.name, family.value, d.vantage.key) for d in dials(source.snapshot) for family in d.counted}
    return Counter((target, family) for target, family, _ in tested).items()


def pods_probed(source: FinishedRound) -> int | None:
    eligible = {p.vantage.key for p in source.snapshot.pods if p.vantage.state is PodState.ELIGIBLE}
    seen = {dial.vantage.key for dial in dials(source.snapshot) if dial.counted}
    return len(eligible & seen) if eligible else None


def pods(source: FinishedRound) -> Mapping[PodState, int]:
    """Every state, 0 included, unless this role has no node or its namespaces could not be listed."""
    snapshot = source.snapshot
    blind = any(r.reader in {Reader.NAMESPACES, Reader.PODS} and not r.success for r in snapshot.readings)
    if snapshot.role is Role.CLUSTER or (blind and not snapshot.pods):
        return {}
    states = Counter(pod.vantage.state for pod in snapshot.pods)
    return {state: states[state] for state in PodState}


def pods_with_address(source: FinishedRound) -> Mapping[Family, int]:
    """Of the pods whose namespace was read, those with a usable global address."""
    read = [pod.facts for pod in source.snapshot.pods if pod.facts is not None]
    return {f: sum(any(a.usable for a in pod.global_addresses(f)) for pod in read) for f in FAMILIES} if read else {}


def pods_libc(source: FinishedRound) -> Mapping[str, int]:
    """Of the pods whose containers' roots were read, those that have this C library; a pod may have both or neither."""
    read = [pod.libc for pod in source.snapshot.pods if pod.libc is not None]
    counts = {libc: sum(libc in found for found in read) for libc in LIBCS}
    return {**counts, "none": sum(not found for found in read)} if read else {}


# fmt: off
PROBES: tuple[Metric[FinishedRound], ...] = (
    gauge("probe_success_ratio", "Ratio of successful probes (0-1) in the last finished round; absent if no probe ran.",
          PROBE, success_ratio),
    gauge("probe_failures", "Probes that failed in the last finished round.", (*PROBE, "outcome"), failures),
    counter("probes_total",
            "Probes by outcome. Outcomes that show nothing about the path (such as not_reached) are in no ratio.",
            (*PROBE, "outcome"), lambda source: source.totals.probes.items()),
    Metric(name=PREFIX + "probe_duration_seconds", type=Type.HISTOGRAM,
           help="Duration of successful probes, each layer by itself; of tcp and icmp the kernel's round-trip time.",
           labels=PROBE,
           rows=lambda source: source.totals.durations.items()),
    gauge("tls_certificate_expiry_timestamp_seconds", "When the first certificate of the target's chain expires.",
          ("target", "ip_family"), certificate_expiry),
    gauge("pod_failing", "Pods from which some probe fails, by the last result; only failing ones have a series.",
          ("namespace", "pod", "ip_family", "layer", "outcome"), pod_failing, limit=FAILING_ROWS),
    gauge("peer_failing",
          "Nodes that cannot be reached from this one, by the last result; only failing ones have a series.",
          ("peer", "vantage", "ip_family", "layer", "outcome"), peer_failing, limit=FAILING_ROWS),
    gauge("target_vantages",
          "Number of places (host and pods) from which this target was actually tested over this family.",
          ("target", "ip_family"), target_vantages),
    gauge("pods_probed", "Eligible pods of this node with a result that counts.", (), one(pods_probed)),
    gauge("pods", "Pods of this node, by whether they are probed from (eligible) or why they are not.", ("state",),
          by_label(pods)),
    gauge("pods_with_address", "Pods of this node with a usable global address of the family in their own namespace.",
          ("ip_family",), by_label(pods_with_address)),
    gauge("pods_libc", "Pods of this node with this C library in a container's root filesystem (none: neither).",
          ("libc",), by_label(pods_libc)),
)
# fmt: on
