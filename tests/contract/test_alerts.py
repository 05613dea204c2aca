"""alerts/: every metric, label and value exists, every cause has its alert, and the rules behave as their tests say."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import yaml

from alerts.derive import derived, observing_rule
from exporter.diagnosis.engine.explanations import FOLLOWS, PATH_CAUSES, REACHES
from exporter.model.cause import Cause, Scope, Severity
from exporter.report.document import alert_name
from exporter.report.reference import wait_of
from tests.contract import cause_cases
from tests.contract.alert_rules import (
    ALERTING,
    ALERTS,
    CAUSE_ALERTS,
    COMPANIONS,
    EVERY,
    MAIN,
    RECORDED,
    ROOT,
    Rule,
)
from tests.contract.vocabulary import TARGET_LABELS, exists, labels_of

RULE_TESTS = sorted((ROOT / "tests/alerts").glob("*.yaml"))
SCRAPES = sorted((ROOT / "tests/data/scrapes").glob("*-node.prom"))

TARGETS = {*TARGET_LABELS, "namespace", "pod"}
# Metrics of other projects, with the labels that their sources give them.
FOREIGN: Mapping[str, set[str]] = {
    "up": set(),
    "kube_pod_ips": {"namespace", "pod", "uid", "ip", "ip_family"},
    "kube_pod_info": {"namespace", "pod", "uid", "host_ip", "pod_ip", "node", "host_network", "priority_class"},
    "coredns_template_matches_total": {"server", "zone", "view", "class", "type"},
    "felix_iptables_rules": {"ip_version", "table"},
    "kubeproxy_sync_proxy_rules_iptables_restore_failures_total": {"ip_family"},
    "kubeproxy_sync_proxy_rules_nftables_sync_failures_total": {"ip_family"},
}
# What exists, and means the same, in Prometheus 2.42 and in every 3.x.
KNOWN_FUNCTIONS = {
    "absent", "avg_over_time", "count", "group", "increase", "label_join", "label_replace", "last_over_time", "max",
    "max_over_time", "min", "min_over_time", "rate", "sum", "time", "topk", "vector",
}  # fmt: skip
KNOWN_KEYS = {"record", "alert", "expr", "for", "keep_firing_for", "labels", "annotations"}


FAULTS = {*Cause, *(rule.labels["fault"] for rule in MAIN if "fault" in rule.labels)}

each_rule = pytest.mark.parametrize("rule", EVERY, ids=lambda rule: rule.name)
each_alert = pytest.mark.parametrize("rule", ALERTING, ids=lambda rule: rule.name)


# Metrics, labels, values


@each_rule
def test_every_metric_and_label_exists(rule: Rule) -> None:
    expression = rule.expression
    available = {"cluster", "node"} | expression.made
    for selector in expression.selectors:
        own = FOREIGN.get(selector.metric) or labels_of(selector.metric)
        assert own is not None, f"{selector.metric} does not exist"
        labels = own | TARGETS
        available |= labels
        assert {matcher.label for matcher in selector.matchers} <= labels, selector
    assert expression.grouping <= available


@each_rule
def test_every_value_of_a_closed_set_exists(rule: Rule) -> None:
    for selector in rule.expression.selectors:
        for matcher in selector.matchers if selector.metric not in FOREIGN else ():
            assert exists(selector.metric, matcher), matcher
            named = [] if matcher.label != "fault" or matcher.value == "" else matcher.values
            assert all(any(re.fullmatch(part, fault) for fault in FAULTS) for part in named), matcher


@pytest.mark.parametrize(
    ("expression", "wrong"),
    [
        ('dualstack_cause{cuase="cidr_overlap"}', "label"),
        ("dualstack_causes == 1", "metric"),
        ("max by (nod) (dualstack_cause)", "label"),
        ('dualstack_pods{state="sleeping"}', "value"),
        ('place:dualstack_fault:subjects{fault="nat_missing"}', "value"),
        ('dualstack_cause{cause=~"ippv6_.+"}', "value"),
    ],
)
def test_a_slip_of_the_pen_is_noticed(expression: str, wrong: str) -> None:
    rule = Rule("", {"alert": "X", "expr": expression})
    check = test_every_value_of_a_closed_set_exists if wrong == "value" else test_every_metric_and_label_exists
    with pytest.raises(AssertionError):
        check(rule)


@each_rule
def test_only_what_prometheus_2_42_and_3_have_alike_is_used(rule: Rule) -> None:
    assert rule.expression.functions <= KNOWN_FUNCTIONS
    assert set(rule.fields) <= KNOWN_KEYS


def test_groups_hold_nothing_but_rules() -> None:
    for name in ("dualstack.yaml", "companions.yaml"):
        for group in yaml.safe_load((ALERTS / name).read_text())["groups"]:
            assert set(group) - {"interval"} == {"name", "rules"}
            # The recordings, and every alert that reads them within minutes.
            fast = name == "dualstack.yaml" and group["name"] != "dualstack-exporter"
            assert group.get("interval") == (f"{EVALUATION}s" if fast else None)


def test_recording_rules_are_named_level_metric_operation() -> None:
    for name in RECORDED:
        assert re.fullmatch(
            r"(cluster|node|place):dualstack_\w+:(max|count|ratio|ratio_rate5m|nodes|subjects|age)", name
        )


# Causes and alerts


def faults_alerted() -> dict[str, set[str]]:
    """The alerts of each fault."""
    found: dict[str, set[str]] = {}
    for rule in MAIN:
        for selector in rule.expression.selectors if rule.is_alert else ():
            for matcher in selector.matchers:
                if matcher.label == "fault":
                    found.setdefault(matcher.value, set()).add(rule.name)
    return found


def reasons_for_no_alert() -> set[str]:
    return set(re.findall(r"^ +# No alert for (\w+): \w.{20}", (ALERTS / "dualstack.yaml").read_text(), re.MULTILINE))


def test_every_cause_has_its_alert_or_a_stated_reason_for_none() -> None:
    alerted = faults_alerted()
    assert {c for c in Cause if c in alerted} | reasons_for_no_alert() == set(Cause)
    assert not {c for c in Cause if c in alerted} & reasons_for_no_alert()
    assert all(alerted[cause] == {alert_name(cause)} for cause in Cause if cause in alerted)


def test_only_causes_that_are_info_by_definition_have_no_alert() -> None:
    assert {Cause(name).spec.severity for name in reasons_for_no_alert()} == {Severity.INFO}


def test_every_recorded_fault_is_alerted() -> None:
    assert set(faults_alerted()) | reasons_for_no_alert() == FAULTS


@pytest.mark.parametrize("cause", [c for c in Cause if c not in reasons_for_no_alert()])
def test_a_cause_is_alerted_in_the_time_of_its_scope(cause: Cause) -> None:
    """DNS 3 minutes, what a kernel states and paths 5, pods and cluster 15, and each sooner where it is urgent."""
    (rule,) = (rule for rule in MAIN if rule.name == alert_name(cause))
    times = {Scope.DNS: "3m", Scope.POD: "15m", Scope.CLUSTER: "15m"}
    template = cause is Cause.COREDNS_TEMPLATE_BLOCKS_AAAA  # its warning waits as other objects of the cluster do
    assert wait_of(rule.fields) == ("15m" if template else times.get(cause.spec.scope, "5m"))
    assert "or place:dualstack_fault_urgent:age)" in rule.fields["expr"]


def test_what_explains_keeps_firing_at_least_as_long_as_what_it_explains() -> None:
    keeps = {r.name: seconds(str(r.fields.get("keep_firing_for", "0m"))) for r in MAIN if r.is_alert}
    # A path counts as well after six dials, and nothing is added to it.
    own = {keep for name, keep in keeps.items() if not name.startswith("DualstackExporter")}
    assert own <= {0, 60, 120, KEPT}
    assert keeps["DualstackDnsAaaaBlocked"] + 3 * ROUND <= keeps["DualstackCorednsTemplateBlocksAaaa"]
    assert all(keeps[alert_name(cause)] == 0 for cause in PATH_CAUSES)
    # What explains may be gone after one interval, and its symptom only after six dials, a scrape and an evaluation.
    assert ROUND + KEPT >= 6 * ROUND + SCRAPE + EVALUATION
    for reach in REACHES:
        for cause in reach.causes:
            if cause.spec.scope is not Scope.PATH:
                assert keeps[alert_name(cause)] == KEPT
    for cause, explaining in FOLLOWS.items():
        assert all(keeps[alert_name(by)] >= keeps[alert_name(cause)] for by in explaining)


# Times as they add up: those of the rules are tested by tests/alerts/times.yaml. In seconds, at defaults.
ROUND = SCRAPE = 30
EVALUATION = 10  # of the groups
KEPT = 210


def seconds(duration: str) -> int:
    """Of a duration as Prometheus writes it."""
    return sum(
        int(number) * {"s": 1, "m": 60, "h": 3600}[unit] for number, unit in re.findall(r"(\d+)([smh])", duration)
    )


def test_a_page_is_sent_and_taken_back_in_time() -> None:
    routes = yaml.safe_load((ALERTS / "alertmanager.yaml").read_text())["route"]["routes"]
    page = next(route for route in routes if route["receiver"] == "page")
    wait, interval = seconds(page["group_wait"]), seconds(page["group_interval"])
    # From the first round that sees it, at the latest: rounds, scrapes and both evaluations (of the recordings and of
    # the alerts) are not in step. Name resolution for everybody, by two rounds and stated; a family; paths in part.
    seen = SCRAPE + EVALUATION + EVALUATION
    assert ROUND + seen + 60 + wait <= 3 * 60
    assert seen + 90 + wait <= 3 * 60
    assert ROUND + seen + 210 + wait <= 5 * 60
    assert ROUND + seen + 240 + wait <= 6 * 60
    # From healing on, likewise: two rounds of a cause that explains others, six dials of a path.
    assert 2 * ROUND + seen + KEPT + interval <= 6 * 60
    assert 6 * ROUND + seen + interval <= 6 * 60


def test_the_summary_of_a_causes_alert_is_what_the_exporter_says_of_it() -> None:
    for rule in MAIN:
        if rule.is_alert and rule.name in CAUSE_ALERTS:
            assert rule.annotations["summary"] == CAUSE_ALERTS[rule.name].spec.says


# The same in every description: templates cannot be shared between alerts.
SUBJECTS = (
    '{{ $s := query (printf "place:dualstack_fault_subject:max{cluster=%q,node=%q,fault=%q}" $labels.cluster '
    '$labels.node $labels.fault) | sortByLabel "subject" }}'
)
AFFECTED = (
    "{{ with $s }} Affected: {{ range $i, $e := . }}{{ if lt $i 5 }}{{ if $i }}, {{ end }}{{ $e.Labels.subject }}"
    "{{ end }}{{ end }}{{ if gt (len .) 5 }} and others{{ end }}.{{ end }} First: "
)


@each_alert
def test_an_alert_is_complete(rule: Rule) -> None:
    assert set(rule.annotations) == {"summary", "description", "runbook_url"}
    assert "{{" not in rule.annotations["summary"]
    assert rule.annotations["summary"].endswith(".")
    assert "\n" not in rule.annotations["description"]
    if rule.name != "DualstackWatchdog":
        assert "First: " in rule.annotations["description"]
        assert "$value" in rule.annotations["description"] or "$labels" in rule.annotations["description"]
        runbook = rule.annotations["runbook_url"].rpartition("/")[2].removesuffix(".md")
        assert rule.annotations["description"].endswith(f" Runbook: `dualstack-exporter explain {runbook}`.")
    if rule in MAIN and rule.name != "DualstackWatchdog":
        assert rule.annotations["description"].startswith(SUBJECTS), "what is affected is looked up"
        assert AFFECTED in rule.annotations["description"], "and named"
    assert rule.labels.get("severity", "info") in {*Severity, "none"}
    assert rule.name.startswith("Dualstack")


def test_recorded_severities_are_of_the_contract() -> None:
    for rule in MAIN:
        if rule.name == "node:dualstack_fault_now:subjects":
            made = rule.labels.get("severity") or ("severity" if "severity" in rule.expression.grouping else "")
            assert made in {"critical", "warning", "severity"}
            assert ("critical" not in made) or rule.labels.get("fault", "") in {"", "ipv6_down", "ipv4_down"}


# What is derived, and what promtool and recorded scrapes say


def test_derived_files_are_up_to_date() -> None:
    for path, text in derived(ALERTS).items():
        assert path.read_text() == text, f"{path.name}: run `make alerts`"


def test_the_prometheus_rules_hold_the_same_rules() -> None:
    groups = yaml.safe_load((ALERTS / "dualstack.yaml").read_text())["groups"]
    rule = yaml.safe_load((ALERTS / "prometheusrule.yaml").read_text())
    assert rule["spec"] == {"groups": groups}
    assert rule["kind"] == "PrometheusRule"


def test_under_observation_every_alert_is_info_and_nothing_else_differs() -> None:
    plain = yaml.safe_load((ALERTS / "dualstack.yaml").read_text())["groups"]
    observed = yaml.safe_load(observing_rule((ALERTS / "dualstack.yaml").read_text()))["spec"]["groups"]
    for before, after in zip(plain, observed, strict=True):
        for rule, other in zip(before["rules"], after["rules"], strict=True):
            if "alert" in rule and rule["alert"] != "DualstackWatchdog":
                would_be = rule.get("labels", {}).get("severity", "{{ $labels.severity }}")
                assert other == {**rule, "labels": {"severity": "info", "would_be": would_be}}
            else:
                assert other == rule


def promtool(*arguments: str | Path) -> None:
    done = subprocess.run(["promtool", *arguments], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.real
def test_promtool_accepts_every_form_of_the_rules(tmp_path: Path) -> None:
    promtool("check", "rules", ALERTS / "dualstack.yaml", ALERTS / "companions.yaml")
    for name in ("prometheusrule.yaml", "observe/prometheusrule.yaml"):
        spec = yaml.safe_load((ALERTS / name).read_text())["spec"]
        (tmp_path / "rules.yaml").write_text(yaml.safe_dump(spec))
        promtool("check", "rules", tmp_path / "rules.yaml")


@pytest.mark.real
@pytest.mark.parametrize("path", RULE_TESTS, ids=lambda path: path.stem)
def test_rules_behave_as_their_tests_say(path: Path) -> None:
    promtool("test", "rules", path)


@pytest.mark.real
def test_rules_treat_every_cause_alike(tmp_path: Path) -> None:
    """Alerted in its time where it holds and is a warning, silent where it does not hold, is info or unchecked."""
    (tmp_path / "causes.yaml").write_text(yaml.safe_dump(cause_cases.cases(), width=10_000))
    promtool("test", "rules", tmp_path / "causes.yaml")


@pytest.mark.real
def test_a_fault_of_the_whole_cluster_names_twenty_and_stays_with_them(tmp_path: Path) -> None:
    """Which ones is chance: series that changed with each evaluation would be many."""
    nodes = [f"n{number}" for number in range(4)]
    series = [{"series": f'dualstack_exporter_info{{node="{node}", role="node"}}', "values": "1x80"} for node in nodes]
    for node in nodes:
        own = f'cause="ipv6_unreachable", node="{node}"'
        series.append({"series": f'dualstack_cause{{{own}, scope="path", severity="warning"}}', "values": "1x80"})
        for number in range(10):
            subject = f'{own}, kind="pod", namespace="shop", name="{node}-{number}"'
            series.append({"series": f"dualstack_cause_subject_info{{{subject}}}", "values": "1x80"})
    named = 'place:dualstack_fault_subject:max{fault="ipv6_unreachable"}'
    ever = f"count(count by (subject) (last_over_time({named}[20m])))"
    case = {
        "interval": "30s",
        "input_series": series,
        "promql_expr_test": [
            {"expr": expr, "eval_time": "25m", "exp_samples": [{"labels": "{}", "value": 20}]}
            for expr in (f"count({named})", ever)
        ],
    }
    file = {"rule_files": [str(ALERTS / "dualstack.yaml")], "evaluation_interval": "30s", "tests": [case]}
    (tmp_path / "test.yaml").write_text(yaml.safe_dump(file, width=10_000))
    promtool("test", "rules", tmp_path / "test.yaml")


def test_every_alert_is_tested_to_fire_and_to_be_silent() -> None:
    fired: set[str] = set()
    silent: set[str] = set()
    files = {path.stem: yaml.safe_load(path.read_text()) for path in RULE_TESTS} | {"causes": cause_cases.cases()}
    for stem, file in files.items():
        names = {r.name for r in (COMPANIONS if stem == "companions" else MAIN) if r.is_alert}
        for case in file["tests"]:
            # Whole lists of what fires, not queries about one alert.
            for check in case.get("promql_expr_test", ()):
                if re.search(r'ALERTS(\)|\{alertstate="firing"\})', check["expr"]):
                    firing = set(re.findall(r'alertname="(\w+)"', str(check["exp_samples"])))
                    fired |= firing
                    silent |= names - firing
    everything = {rule.name for rule in ALERTING}
    assert fired == everything
    assert silent == everything - {"DualstackWatchdog"}


@pytest.mark.real
@pytest.mark.parametrize("node", SCRAPES, ids=lambda path: path.stem)
def test_rules_work_on_what_every_released_version_exposes(node: Path, tmp_path: Path) -> None:
    """Recorded scrapes of a node with faults and of its cluster exporter."""
    cluster = node.with_name(node.name.replace("-node", "-cluster"))
    series = [*_input(node, {"node": "node-a", "instance": "a"}), *_input(cluster, {"instance": "c"})]
    expected = {
        ("DualstackDnsAaaaBlocked", "critical", "node-a"),
        ("DualstackNatMasqueradeMissing", "critical", "node-a"),
        ("DualstackCidrOverlap", "warning", ""),
        ("DualstackWatchdog", "none", ""),
    }
    case = {
        "interval": "30s",
        "input_series": series,
        "promql_expr_test": [
            {
                "expr": 'sum by (alertname, severity, node) (ALERTS{alertstate="firing", fault!~"exporter_.+"})',
                "eval_time": "20m",
                "exp_samples": [{"labels": _text(alertname=a, severity=s, node=n), "value": 1} for a, s, n in expected],
            }
        ],
    }
    (tmp_path / "test.yaml").write_text(
        yaml.safe_dump(
            {"rule_files": [str(ALERTS / "dualstack.yaml")], "evaluation_interval": "30s", "tests": [case]},
            width=10_000,
        )
    )
    promtool("test", "rules", tmp_path / "test.yaml")


def _text(**labels: str) -> str:
    return "{" + ", ".join(f'{name}="{value}"' for name, value in labels.items() if value) + "}"


def _input(scrape: Path, target: Mapping[str, str]) -> Iterator[dict[str, str]]:
    """The series of a scrape as a test's input, with the target's labels where the series has none of that name."""
    for line in scrape.read_text().splitlines():
        if line.startswith("#"):
            continue
        name, value = line.rsplit(" ", 1)
        metric, _, rest = name.partition("{")
        given = rest.removesuffix("}")
        added = ",".join(f'{label}="{text}"' for label, text in target.items() if f'{label}="' not in given)
        yield {"series": f"{metric}{{{','.join(filter(None, (given, added)))}}}", "values": f"{float(value):.17g}x60"}
