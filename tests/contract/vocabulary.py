"""The closed sets behind metric names, labels and their values, as the code has them: what dashboards may speak of."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from pathlib import Path

import yaml

from exporter.catalogue import CATALOGUE
from exporter.catalogue.kernel import ADDRESS_STATES
from exporter.catalogue.metric import Type
from exporter.catalogue.probes import LIBCS
from exporter.diagnosis.census import Resource
from exporter.inventory.event_writer import OUTCOMES
from exporter.model.cause import Cause, Role, Scope, Severity
from exporter.model.cluster.inventory import ResourceKind
from exporter.model.dns import BlockKind
from exporter.model.facts import Backend, PeerState, Reader
from exporter.model.family import Family
from exporter.model.probe import Layer, LookupOutcome, Outcome
from exporter.model.reason import Reason
from exporter.model.vantage import PodState
from tests.contract.promql import Matcher, read

RULES = Path(__file__).resolve().parents[2] / "alerts" / "dualstack.yaml"

TARGET_LABELS = {"cluster", "node", "job", "instance"}  # set by the scrape configuration
OF_PROMETHEUS = {
    "up": set[str](),
    "ALERTS": {"alertname", "alertstate", "severity", "fault"},
}
LABELS = {metric.name: set(metric.labels) for metric in CATALOGUE}
for metric in CATALOGUE:
    if metric.type is Type.HISTOGRAM:
        LABELS |= {
            f"{metric.name}_bucket": {*metric.labels, "le"},
            f"{metric.name}_sum": set(metric.labels),
            f"{metric.name}_count": set(metric.labels),
        }

VALUES: dict[str, set[str]] = {
    "cause": set(Cause),
    "by": set(Cause),
    "scope": set(Scope),
    "severity": set(Severity),
    "reason": set(Reason),
    "ip_family": set(Family),
    "vantage": {"host", "pod"},
    "layer": set(Layer),
    "outcome": {*Outcome, *LookupOutcome},
    "qtype": {"A", "AAAA", "MX", "PTR"},
    "libc": {*LIBCS, "musl_1_2_3", "none"},
    "request": {"any", "4", "6"},
    "result": {"OK", "EAI_NONAME", "EAI_NODATA", "EAI_AGAIN", "EAI_FAIL"},
    "backend": set(Backend),
    "device": {"vxlan.calico", "vxlan-v6.calico", "flannel.1", "flannel-v6.1"},
    "role": set(Role),
    "reader": {*Reader, *(f"api_{kind}" for kind in ResourceKind)},
    "resource": {*Resource, *ResourceKind},
    "target": {"service", "peers", "cluster_dns", "apiserver"},
    "job": {"dualstack-exporter", "monitoring/dualstack-exporter"},  # as scrape configurations and PodMonitors name it
}
OF_METRIC: dict[tuple[str, str], set[str]] = {
    ("dualstack_dns_aaaa_block", "kind"): set(BlockKind),
    ("dualstack_pods", "state"): set(PodState),
    ("dualstack_vxlan_peers", "state"): set(PeerState),
    ("dualstack_bgp_peers", "state"): {"established", "missing"},
    ("dualstack_host_addresses", "state"): set(ADDRESS_STATES),
    ("dualstack_dns_lookups", "outcome"): set(LookupOutcome),
    ("dualstack_dns_lookups_total", "outcome"): set(LookupOutcome),
    ("dualstack_probe_failures", "outcome"): set(Outcome),
    ("dualstack_probes_total", "outcome"): set(Outcome),
    ("dualstack_exporter_events_total", "outcome"): set(OUTCOMES),
}


@functools.cache
def recorded() -> dict[str, set[str]]:
    """The recording rules with the labels that their expressions keep or set."""
    rules = [r for group in yaml.safe_load(RULES.read_text())["groups"] for r in group["rules"] if "record" in r]
    found: dict[str, set[str]] = {}
    for rule in rules:
        expression = read(rule["expr"])
        labels = found.setdefault(rule["record"], set())
        labels.update(expression.grouping, expression.made, rule.get("labels", {}))
        # What it reads of earlier ones may pass through.
        labels.update(*(found[selector.metric] for selector in expression.selectors if selector.metric in found))
    return found


def labels_of(metric: str) -> set[str] | None:
    """The labels that the metric's series have of their own; None for a metric that does not exist."""
    return next((known[metric] for known in (LABELS, OF_PROMETHEUS, recorded()) if metric in known), None)


def problems(expr: str) -> Iterator[str]:
    """Every name, label and value of an expression that does not exist."""
    expression = read(re.sub(r"\[\$\w+\]", "[5m]", expr))
    labels: set[str] = set()
    for selector in expression.selectors:
        own = labels_of(selector.metric)
        if own is None:
            yield f"{selector.metric} does not exist"
            continue
        labels |= own
        for matcher in selector.matchers:
            if matcher.label not in own | TARGET_LABELS:
                yield f"{selector.metric} has no label {matcher.label}"
            if not exists(selector.metric, matcher):
                yield f"{selector.metric}: {matcher.label} is never {matcher.value}"
    made = expression.made | set(re.findall(r'count_values by \(\w+\) \("(\w+)"', expr))
    for label in expression.grouping - labels - made - TARGET_LABELS:
        yield f"nothing here has the label {label}"
    for label in set(re.findall(r'"\$1", "(\w+)", "', expr)) - labels:
        yield f"nothing here has the label {label}, which is to be copied"


def exists(metric: str, matcher: Matcher) -> bool:
    """Whether the closed set of the label has each value that is named, and something for each pattern."""
    values = OF_METRIC.get((metric, matcher.label), VALUES.get(matcher.label))
    if values is None or not matcher.value or "$" in matcher.value:
        return True
    return all(any(re.fullmatch(part, value) for value in values) for part in matcher.values)
