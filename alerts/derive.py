"""Derives PrometheusRules and the mixin's rules from the rules file, and Alertmanager's inhibition from explanations.

`make alerts` runs it and a test compares the files; the program does not use it. Within one report the verdict explains
causes pair by pair. Inhibition covers what no report knows: a node's tunnel seen from other nodes, causes of the
cluster exporter without a digest, and the minutes in which a symptom outlasts its cause. No alert is muted by a milder
one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from exporter.config.schema import RUNBOOKS
from exporter.diagnosis.engine.explanations import FOLLOWS, PATH_CAUSES, REACHES, SYMPTOMS, To
from exporter.model.cause import Cause, Role
from exporter.report.document import alert_name

ALERTS = Path(__file__).parent
BEGIN = "  # begin: what explains what (written by `make alerts` from exporter/diagnosis/engine/explanations.py)\n"
END = "  # end\n"
HEADER = """\
# For the Prometheus Operator. Written by `make alerts` from {source}: do not edit.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: dualstack-exporter
  namespace: dualstack-exporter
  labels: {{app.kubernetes.io/name: dualstack-exporter}}
spec:
"""
# The layout of the rules file: a rule begins with its kind, followed by labels and annotations.
RULE, SEVERITY, ANNOTATIONS = "      - ", "        labels: {severity: ", "        annotations:"
SAME_NODE: tuple[str, ...] = ("cluster", "node")
SAME_CLUSTER: tuple[str, ...] = ("cluster",)
IPV6_DOWN = "DualstackIpv6Down"


@dataclass(frozen=True, slots=True, kw_only=True)
class Inhibition:
    """While one of the sources is firing, the targets with the same values of `equal` are muted."""

    sources: tuple[str, ...]
    targets: tuple[str, ...]
    equal: tuple[str, ...]
    whole_cluster: bool = False  # only sources that concern the whole cluster (no label node)
    mutes_critical: bool = True  # a critical source mutes critical targets


def prometheus_rule(rules: str, source: str = "dualstack.yaml") -> str:
    """The rules file as a PrometheusRule, its comments included."""
    body = "".join(f"  {line}" if line.strip() else line for line in rules.splitlines(keepends=True))
    return HEADER.format(source=source) + body


def observing_rule(rules: str) -> str:
    """The same for a trial week: every alert is info; the label would_be has the real severity."""
    return prometheus_rule("".join(_observing(rules.splitlines(keepends=True))), source="../dualstack.yaml")


def _observing(lines: Iterable[str]) -> Iterator[str]:
    """The lines of the rules file, with the labels of alerts added or changed."""
    unlabelled = False
    for line in lines:
        if line.startswith(RULE):
            unlabelled = line.startswith(f"{RULE}alert:")
        severity = line.removeprefix(SEVERITY).rstrip("}\n") if line.startswith(SEVERITY) else ""
        if severity in {"critical", "warning"} and unlabelled:
            yield f"{SEVERITY}info, would_be: {severity}}}\n"
        elif unlabelled and line.startswith(ANNOTATIONS):
            yield f"{SEVERITY}info, would_be: '{{{{ $labels.severity }}}}'}}\n{line}"
        else:
            yield line
        unlabelled = unlabelled and not line.startswith((SEVERITY, ANNOTATIONS))


def runbook_base(root: Path) -> str:
    """Where links to runbooks begin: `runbooks.url` of the shipped configuration, which the reports use as well."""
    shipped = yaml.safe_load((root / "deploy" / "base" / "config.yaml").read_text(encoding="utf-8"))["data"]
    runbooks = (yaml.safe_load(shipped["config.yaml"]) or {}).get("runbooks", {})
    return str(runbooks.get("url") or RUNBOOKS).rstrip("/") + "/"


def with_runbooks(rules: str, base: str) -> str:
    """The rules file with the links of all alerts beginning so."""
    return re.sub(r"(?<= runbook_url: )\S+/(?=\w+\.md$)", lambda _: base, rules, flags=re.MULTILINE)


def mixin_rules(rules: str) -> str:
    """The rules file for Jsonnet, in which not every implementation reads the aliases of YAML."""
    return json.dumps(yaml.safe_load(rules), indent=1, ensure_ascii=False) + "\n"


def inhibitions() -> tuple[Inhibition, ...]:
    """The two tables of exporter/diagnosis/engine/explanations.py as inhibitions of alerts, widest first."""
    roots = _in_order(_reasons() - SYMPTOMS)
    tunnels = {c for reach in REACHES if reach.destinations in {To.PEERS, To.OWN_PEER} for c in reach.causes}
    # Nameserver causes are no targets: only a report knows over which family a question was sent.
    symptoms = _names(PATH_CAUSES)
    return (
        # On the node itself.
        Inhibition(sources=_names(c for c in roots if Role.NODE in c.spec.roles), targets=symptoms, equal=SAME_NODE),
        # On the nodes at the other end of its tunnels. Never a page: another node may have a fault of its own.
        Inhibition(
            sources=_names(c for c in roots if c in tunnels and Role.NODE in c.spec.roles),
            targets=symptoms,
            equal=SAME_CLUSTER,
            mutes_critical=False,
        ),
        # From the cluster to its nodes.
        Inhibition(
            sources=_names(c for c in roots if Role.CLUSTER in c.spec.roles),
            targets=symptoms,
            equal=SAME_CLUSTER,
            whole_cluster=True,
        ),
        *_followers(),
        # A family that is down without a known reason needs no ticket beside the page.
        Inhibition(sources=(IPV6_DOWN,), targets=_names(_reasons()), equal=SAME_NODE, mutes_critical=False),
    )


def _followers() -> Iterator[Inhibition]:
    """FOLLOWS, with the causes that have the same explanations in one inhibition."""
    together: dict[tuple[tuple[str, ...], tuple[str, ...], bool], list[Cause]] = {}
    for cause, explaining in FOLLOWS.items():
        roles = cause.spec.roles
        on_the_node = [c for c in explaining if Role.NODE in c.spec.roles & roles]
        downwards = [c for c in explaining if Role.CLUSTER in c.spec.roles]
        upwards = [c for c in explaining if Role.CLUSTER not in c.spec.roles and Role.NODE not in roles]
        for sources, equal, whole in (
            (on_the_node, SAME_NODE, False),
            (downwards, SAME_CLUSTER, True),
            (upwards, SAME_CLUSTER, False),
        ):
            if sources:
                together.setdefault((_names(sources), equal, whole), []).append(cause)
    for (names, equal, whole), causes in together.items():
        yield Inhibition(sources=names, targets=_names(causes), equal=equal, whole_cluster=whole)


def _reasons() -> set[Cause]:
    """The causes that affect traffic, and those that explain them."""
    found = {c for reach in REACHES for c in reach.causes}
    while more := {by for cause in found for by in FOLLOWS.get(cause, ()) if by not in found}:
        found |= more
    return found


def _in_order(causes: Iterable[Cause]) -> list[Cause]:
    """Each once, in table order."""
    given = set(causes)
    return [cause for cause in Cause if cause in given]


def _names(causes: Iterable[Cause]) -> tuple[str, ...]:
    return tuple(alert_name(cause) for cause in _in_order(causes))


def inhibit_rules() -> list[dict[str, list[str]]]:
    """The same for Alertmanager: two rules each, because a critical alert is muted by a critical one only."""
    return [rule for inhibition in inhibitions() for rule in _rules(inhibition)]


def _rules(inhibition: Inhibition) -> Iterator[dict[str, list[str]]]:
    source = [_matcher(inhibition.sources), *(['node=""'] if inhibition.whole_cluster else [])]
    pairs = [('severity=~"critical|warning"', 'severity="warning"')]
    if inhibition.mutes_critical:
        pairs.insert(0, ('severity="critical"', 'severity="critical"'))
    for by, muted in pairs:
        yield {
            "source_matchers": [*source, by],
            "target_matchers": [_matcher(inhibition.targets), muted],
            "equal": list(inhibition.equal),
        }


def _matcher(names: tuple[str, ...]) -> str:
    return f'alertname="{names[0]}"' if len(names) == 1 else f'alertname=~"{"|".join(names)}"'


def with_inhibition(configuration: str) -> str:
    """Alertmanager's configuration with the generated rules; ValueError if it does not have the marks for them."""
    return replace_between(configuration, BEGIN, END, "".join(map(_text, inhibit_rules())))


def replace_between(document: str, begin: str, end: str, text: str) -> str:
    """The document with this text between two marks.

    Raises:
        ValueError: it does not have both marks once, in order.
    """
    head, _, rest = document.partition(begin)
    _, _, tail = rest.partition(end)
    if document.count(begin) != 1 or document.count(end) != 1 or end in head:
        raise ValueError(f"the document needs the lines {begin.strip()!r} and {end.strip()!r}, once each and in order")
    return f"{head}{begin}{text}{end}{tail}"


def _text(rule: Mapping[str, list[str]]) -> str:
    lines = [f"{key}: [{', '.join(map(_quoted, values))}]" for key, values in rule.items()]
    return "".join(f"  {'- ' if number == 0 else '  '}{line}\n" for number, line in enumerate(lines))


def _quoted(text: str) -> str:
    return f"'{text}'" if '"' in text else text


def derived(directory: Path) -> dict[Path, str]:
    """Every derived file with its content."""
    base = runbook_base(directory.parent)
    rules, companions = (
        with_runbooks((directory / name).read_text(encoding="utf-8"), base)
        for name in ("dualstack.yaml", "companions.yaml")
    )
    alertmanager = directory / "alertmanager.yaml"
    return {
        directory / "dualstack.yaml": rules,
        directory / "companions.yaml": companions,
        directory / "prometheusrule.yaml": prometheus_rule(rules),
        directory / "observe" / "prometheusrule.yaml": observing_rule(rules),
        alertmanager: with_inhibition(alertmanager.read_text(encoding="utf-8")),
        directory.parent / "deploy" / "mixin" / "rules.json": mixin_rules(rules),
    }


if __name__ == "__main__":
    for derived_path, derived_text in derived(ALERTS).items():
        derived_path.write_text(derived_text, encoding="utf-8")
