"""deploy/mixin, evaluated by go-jsonnet: the shipped rules and dashboards exactly, and what each setting changes."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import _gojsonnet
import pytest
import yaml

from tests.contract.promql import Selector, read

ROOT = Path(__file__).resolve().parents[2]
MIXIN = ROOT / "deploy/mixin"
BOARDS = ("fleet.json", "node.json", "dns.json", "cluster.json")
RENAMED = "{clusterLabel: 'k8s_cluster', nodeLabel: 'host'}"
OWN = {"dualstack_exporter_info": {"node"}}  # labels of the exporter itself that are called like a target's


@cache
def evaluated(config: str, field: str) -> Any:
    """A field of the mixin with these settings."""
    mixin = f"(import '{MIXIN}/mixin.libsonnet')"
    return json.loads(_gojsonnet.evaluate_snippet("test", f"({mixin} + {{ _config+:: {config} }}).{field}"))


def groups(config: str = "{}") -> list[Any]:
    return [*evaluated(config, "prometheusRules")["groups"], *evaluated(config, "prometheusAlerts")["groups"]]


def alerts(config: str, name: str = "") -> list[Any]:
    every = [rule for group in evaluated(config, "prometheusAlerts")["groups"] for rule in group["rules"]]
    return [rule for rule in every if name in {"", rule["alert"]}]


def boards(config: str = "{}") -> dict[str, Any]:
    return dict(evaluated(config, "grafanaDashboards"))


def queries(board: Any) -> Iterator[str]:
    """Every expression of a dashboard."""
    yield from (target["expr"] for panel in board["panels"] for target in panel.get("targets", ()))
    yield from (annotation["expr"] for annotation in board["annotations"]["list"])
    for variable in board["templating"]["list"]:
        if variable["type"] == "query":
            assert variable["definition"] == variable["query"]
            yield variable["query"].removeprefix("label_values(").rpartition(", ")[0]


def expressions(config: str) -> list[str]:
    of_rules = [rule["expr"] for group in groups(config) for rule in group["rules"]]
    return [
        *of_rules,
        *(expr.replace("$__rate_interval", "5m") for b in boards(config).values() for expr in queries(b)),
    ]


def selectors(config: str) -> list[Selector]:
    return [selector for expr in expressions(config) for selector in read(expr).selectors]


def promtool(*arguments: str | Path) -> None:
    done = subprocess.run(["promtool", *arguments], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


def rules_file(config: str, directory: Path) -> Path:
    path = directory / "rules.yaml"
    path.write_text(yaml.safe_dump({"groups": groups(config)}, width=10_000))
    return path


def test_by_default_it_has_the_shipped_rules_and_dashboards_and_nothing_else() -> None:
    assert groups() == yaml.safe_load((ROOT / "alerts/dualstack.yaml").read_text())["groups"]
    assert all("record" in rule for group in evaluated("{}", "prometheusRules")["groups"] for rule in group["rules"])
    assert sorted(boards()) == sorted(path.name for path in (ROOT / "grafana").glob("*.json"))
    for name, board in boards().items():
        assert board == json.loads((ROOT / "grafana" / name).read_text())
    assert evaluated("{}", "grafanaDashboardFolder") == "Dual-stack"


def test_every_setting_is_tested() -> None:
    settings = set(evaluated("{}", "_config"))
    tested = Path(__file__).read_text()
    assert {name for name in settings if not re.search(rf"\b{name}: [^,]", tested)} == set()


# selector

PROD = """{selector: 'environment="prod"'}"""


def test_a_selector_is_in_every_series_of_a_target_and_in_no_recorded_one() -> None:
    found = selectors(PROD)
    assert len(found) > 500
    for selector in found:
        scraped = selector.metric == "up" or selector.metric.startswith("dualstack_")
        assert [m.value for m in selector.matchers if m.label == "environment"] == ["prod"] * scraped, selector
    before = [[(s.metric, set(s.matchers)) for s in read(expr).selectors] for expr in expressions("{}")]
    after = [
        [(s.metric, {m for m in s.matchers if m.label != "environment"}) for s in read(expr).selectors]
        for expr in expressions(PROD)
    ]
    assert after == before


@pytest.mark.real
def test_promtool_accepts_rules_and_dashboards_with_selector_and_labels_changed(tmp_path: Path) -> None:
    config = PROD.removesuffix("}") + ", " + RENAMED.removeprefix("{")
    promtool("check", "rules", rules_file(config, tmp_path))
    asked = [re.sub(r"\$\w+", "x", expr) for expr in expressions(config)]
    probe = {"groups": [{"name": "g", "rules": [{"record": f"r:{n}", "expr": e} for n, e in enumerate(asked)]}]}
    (tmp_path / "queries.yaml").write_text(yaml.safe_dump(probe, width=10_000).replace("[x]", "[5m]"))
    promtool("check", "rules", tmp_path / "queries.yaml")


@pytest.mark.real
@pytest.mark.parametrize(
    ("config", "name", "renamed"),
    [
        ("""{selector: 'cluster!="nowhere"'}""", "gaps", {}),
        (RENAMED, "places", {"cluster": "k8s_cluster", "node": "host"}),
    ],
)
def test_rules_that_select_everything_or_have_other_labels_behave_alike(
    config: str, name: str, renamed: dict[str, str], tmp_path: Path
) -> None:
    """The tests of the shipped rules, with their labels renamed as well."""
    lines = (ROOT / "tests/alerts" / f"{name}.yaml").read_text().splitlines()
    for label, other in renamed.items():
        lines = [
            line if "description: " in line else re.sub(rf"(?<=[{{,( ]){label}(?=[=,)]|: )", other, line)
            for line in lines
        ]
    case = yaml.safe_load("\n".join(lines))
    case["rule_files"] = [str(rules_file(config, tmp_path))]
    (tmp_path / "case.yaml").write_text(yaml.safe_dump(case, width=10_000))
    promtool("test", "rules", tmp_path / "case.yaml")


def test_labels_are_renamed_wherever_they_are_labels() -> None:
    for selector in selectors(RENAMED):
        named = {matcher.label for matcher in selector.matchers} - OWN.get(selector.metric, set())
        assert not named & {"cluster", "node"}, selector
    for expr in expressions(RENAMED):
        assert not (read(expr).grouping | read(expr).made) & {"cluster", "node"}, expr
    assert [rule["expr"].count('"cluster"') for g in groups(RENAMED) for rule in g["rules"]] == [
        rule["expr"].count('"cluster"') for g in groups() for rule in g["rules"]
    ]  # the values of matchers, such as role="cluster"
    texts = " ".join(text for rule in alerts(RENAMED) for text in rule["annotations"].values())
    assert "$labels.host" in texts
    assert "$labels.k8s_cluster" in texts
    assert "$labels.node" not in texts
    fleet = boards(RENAMED)["fleet.json"]
    assert [v["query"] for v in fleet["templating"]["list"][1:]] == [
        "label_values(dualstack_exporter_build_info, k8s_cluster)",
        'label_values(dualstack_exporter_build_info{k8s_cluster=~"$cluster", host!=""}, host)',
    ]
    panels = {panel["title"]: panel for panel in fleet["panels"]}
    organize = panels["Node status by family"]["transformations"][1]["options"]
    assert {"k8s_cluster": "cluster", "host": "node"}.items() <= organize["renameByName"].items()
    assert {"k8s_cluster", "host"} <= set(organize["indexByName"])
    assert panels["Working nodes by family"]["targets"][0]["legendFormat"] == "{{k8s_cluster}} {{ip_family}}"


def test_the_scrape_job_may_have_another_name() -> None:
    patterns = {m.value for s in selectors("{jobPattern: 'network-.*'}") for m in s.matchers if m.label == "job"}
    assert patterns == {"network-.*"}
    assert {m.value for s in selectors("{}") for m in s.matchers if m.label == "job"} == {".*dualstack-exporter.*"}


# alerts


def ages(config: str, name: str) -> list[str]:
    return [age for rule in alerts(config, name) for age in re.findall(r"age >= (\d+)", rule["expr"])]


def test_delays_by_alert_and_by_group() -> None:
    config = "{delays: {DualstackIpv6Down: 120, 'dualstack-dns': 60}}"
    assert (ages("{}", "DualstackIpv6Down"), ages(config, "DualstackIpv6Down")) == (["210"], ["120"])
    assert ages(config, "DualstackIpv4Down") == ["210"]
    assert (ages("{}", "DualstackDnsUnreachable"), ages(config, "DualstackDnsUnreachable")) == (["180"], ["60"])
    (urgent,) = alerts(config, "DualstackDnsUnreachable")
    assert urgent["expr"].endswith("(place:dualstack_fault:age >= 60 or place:dualstack_fault_urgent:age)")
    assert (ages("{}", "DualstackFelixIpv6Off"), ages(config, "DualstackFelixIpv6Off")) == (["900"], ["900"])


def test_keep_firing_for_by_alert_and_by_group() -> None:
    config = "{keepFiringFor: {DualstackExporterAbsent: '30m', 'dualstack-families': '2m'}}"
    kept = {rule["alert"]: rule.get("keep_firing_for") for rule in alerts(config)}
    assert (kept["DualstackExporterAbsent"], kept["DualstackIpv6Down"]) == ("30m", "2m")
    assert kept["DualstackExporterErrors"] == alerts("{}", "DualstackExporterErrors")[0]["keep_firing_for"]


def test_severities_and_labels() -> None:
    config = "{severities: {DualstackIpv4Down: 'warning', DualstackFelixIpv6Off: 'info'}, alertLabels: {team: 'net'}}"
    made = [(rule["alert"], rule["labels"].get("severity")) for rule in alerts(config)]
    assert made.count(("DualstackFelixIpv6Off", "info")) == 1
    assert ("DualstackIpv4Down", "warning") in made
    assert ("DualstackIpv6Down", None) in made  # that of its fault
    assert {rule["labels"]["team"] for rule in alerts(config)} == {"net"}


def test_disabled_alerts_are_left_out_and_an_empty_group_as_well() -> None:
    first, *others = evaluated("{}", "prometheusAlerts")["groups"]
    names = [rule["alert"] for rule in first["rules"]]
    config = f"{{disabledAlerts: {json.dumps(names)}}}"
    assert evaluated(config, "prometheusAlerts")["groups"] == others
    assert evaluated(config, "prometheusRules") == evaluated("{}", "prometheusRules")


def test_runbooks_may_be_elsewhere_in_alerts_and_dashboards() -> None:
    config = "{runbookBase: 'https://wiki.example/runbooks/', runbookSuffix: ''}"
    for before, after in zip(alerts("{}"), alerts(config), strict=True):
        name = before["annotations"]["runbook_url"].rpartition("/")[2].removesuffix(".md")
        assert after["annotations"]["runbook_url"] == f"https://wiki.example/runbooks/{name}"
    links = set(re.findall(r'"(https?://[^"]*)"', json.dumps(boards(config))))
    assert links == {"https://wiki.example/runbooks/${__value.text}"}
    assert alerts("{runbookBase: 'https://wiki.example/'}")[0]["annotations"]["runbook_url"].endswith(".md")


def test_fields_of_every_dashboard() -> None:
    config = "{dashboard: {refresh: '5m', timezone: 'utc'}}"
    for name, board in boards().items():
        assert boards(config)[name] == board | {"refresh": "5m", "timezone": "utc"}


@pytest.mark.parametrize(
    ("config", "complaint"),
    [
        ("{delays: {DualstackIpv6Dwn: 1}}", "_config.delays: no alert is called DualstackIpv6Dwn"),
        ("{delays: {DualstackWatchdog: 1}}", "_config.delays: DualstackWatchdog has no delay"),
        ("{severities: {'dualstack-dns': 'info'}}", "_config.severities: no alert is called dualstack-dns"),
        ("{disabledAlerts: ['Watchdog']}", "_config.disabledAlerts: no alert is called Watchdog"),
        ("{keepFiringFor: {Watchdog: '1m'}}", "_config.keepFiringFor: no alert is called Watchdog"),
    ],
)
def test_a_name_that_does_not_exist_is_an_error(config: str, complaint: str) -> None:
    with pytest.raises(RuntimeError, match=re.escape(complaint)):
        evaluated(config, "prometheusAlerts")


def test_the_example_of_the_documentation_can_be_evaluated() -> None:
    (example,) = re.findall(r"```jsonnet\n(.+?)```", (MIXIN / "README.md").read_text(), re.DOTALL)
    local = example.replace("github.com/dualstack-exporter/dualstack-exporter/deploy/mixin", str(MIXIN))
    made = json.loads(_gojsonnet.evaluate_snippet("example", local))
    assert set(made) == {"dualstack-rules.json", *BOARDS}
    written = [rule for group in made["dualstack-rules.json"]["groups"] for rule in group["rules"]]
    assert len(written) == sum(len(group["rules"]) for group in groups())
    assert all(rule["labels"]["team"] == "network" for rule in written if "alert" in rule)
