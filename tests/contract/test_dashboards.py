"""The dashboards: made from their panels, drawable by Grafana 7.5, and speaking only of what the exporter exposes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from exporter.catalogue import CATALOGUE
from exporter.config.schema import RUNBOOKS
from exporter.model.cause import Cause
from exporter.model.dns import BlockKind
from exporter.report.document import runbook
from grafana.dashboards import DASHBOARDS, HERE, TAG, text_of
from grafana.panels import NEUTRAL
from grafana.words import BLOCKS, CAUSE_SUMMARIES
from tests.contract.promql import Selector, read
from tests.contract.vocabulary import LABELS, TARGET_LABELS, problems

# Told by other metrics that are shown, or of use in alerts and for single questions only.
NOT_SHOWN = {"dualstack_probes_total"}  # in the recording rules

# What 7.5 draws without Angular and the newest still has.
PANEL_TYPES = {"stat", "table", "timeseries", "bargauge", "row"}

loaded = [json.loads(d.path.read_text()) for d in DASHBOARDS]
each = pytest.mark.parametrize("board", loaded, ids=[d.name for d in DASHBOARDS])


def shown(board: Any) -> list[Any]:
    """The panels that ask something."""
    return [panel for panel in board["panels"] if panel["type"] != "row"]


def expressions(board: Any) -> Iterator[str]:
    """Of panels, annotations and variables; of the latter the series that label_values looks through."""
    for panel in shown(board):
        yield from (target["expr"] for target in panel["targets"])
    yield from (annotation["expr"] for annotation in board["annotations"]["list"])
    for variable in board["templating"]["list"]:
        if variable["type"] == "query":
            yield label_values(variable["query"])[0]


def selectors(expr: str) -> list[Selector]:
    return read(expr.replace("$__rate_interval", "5m")).selectors


def label_values(query: str) -> tuple[str, str]:
    """The selector and the label of a variable's query."""
    match = re.fullmatch(r"label_values\((.+), (\w+)\)", query)
    assert match, query
    return match.group(1), match.group(2)


@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=lambda d: d.name)
def test_the_file_is_what_its_panels_make(dashboard: Any) -> None:
    assert dashboard.path.read_text() == text_of(dashboard), "run: python -m grafana.dashboards"


def test_the_four_files_are_all_there_is() -> None:
    assert sorted(p.name for p in HERE.glob("*.json")) == ["cluster.json", "dns.json", "fleet.json", "node.json"]


def test_uids_are_stable_and_unique() -> None:
    assert [board["uid"] for board in loaded] == [
        "dualstack-fleet",
        "dualstack-node",
        "dualstack-dns",
        "dualstack-cluster",
    ]
    for board in loaded:
        numbers = [panel["id"] for panel in board["panels"]]
        assert len(set(numbers)) == len(numbers)
        assert board["tags"] == [TAG]


@each
def test_titles_are_unique_noun_phrases(board: Any) -> None:
    titles = [board["title"], *(panel["title"] for panel in board["panels"])]
    question = re.compile(r"(Are|Does|Do|How|Is|What|When|Where|Which|Who|Why)\b|.*[?.]$")
    assert [title for title in titles if question.match(title)] == []
    assert len(set(titles)) == len(titles)


@each
def test_every_panel_says_what_it_shows_and_what_no_data_means(board: Any) -> None:
    for panel in shown(board):
        assert re.search(r"\w+.* No data: \w+.*\.$", panel["description"]), panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        said = panel["fieldConfig"]["defaults"]["noValue"]
        if panel["type"] in {"stat", "bargauge"}:
            assert re.fullmatch(r"[a-z ]{5,16}", said), panel["title"]  # in the place of a big number
            assert said != "no data"
        else:
            assert panel["description"].casefold().endswith(f"no data: {said}".casefold()), panel["title"]


@each
def test_what_is_not_known_is_neither_good_nor_bad(board: Any) -> None:
    """Grafana colours a missing value as the lowest threshold does; and a cell must not repeat the text of a table."""
    for panel in shown(board):
        for name, settings in styles(panel):
            colours = [step["color"] for step in settings["thresholds"]["steps"]]
            if len(colours) > 1:
                assert colours[0] == NEUTRAL, f"{panel['title']}: {name}"
            if panel["type"] == "table" and name:
                assert settings["noValue"] == "-", f"{panel['title']}: {name}"


def styles(panel: Any) -> Iterator[tuple[str, Any]]:
    """The settings of a panel's values: its own, and with those of each override by name."""
    defaults = panel["fieldConfig"]["defaults"]
    yield "", defaults
    for override in panel["fieldConfig"]["overrides"]:
        yield override["matcher"]["options"], defaults | {p["id"]: p["value"] for p in override["properties"]}


@each
def test_a_family_has_one_hue_wherever_it_has_lines(board: Any) -> None:
    for panel in shown(board):
        by_family = any("{{ip_family}}" in target.get("legendFormat", "") for target in panel["targets"])
        colours = {
            override["matcher"]["options"]: prop["value"]["fixedColor"]
            for override in panel["fieldConfig"]["overrides"]
            for prop in override["properties"]
            if prop["id"] == "color"
        }
        assert bool(colours) is by_family, panel["title"]
        for pattern, colour in colours.items():
            assert colour.endswith("blue" if "IPv6" in pattern else "purple")
        assert len(set(colours.values())) == len(colours)


@each
def test_graphs_name_the_tooltip_as_7_5_and_as_newer_versions_do(board: Any) -> None:
    for panel in shown(board):
        if panel["type"] == "timeseries":
            assert panel["options"]["tooltip"]["mode"] == panel["options"]["tooltipOptions"]["mode"] == "multi"


@each
def test_grafana_7_5_can_draw_it(board: Any) -> None:
    assert board["schemaVersion"] == 27  # newer versions migrate from it
    for panel in board["panels"]:
        assert panel["type"] in PANEL_TYPES
    for panel in shown(board):
        assert panel["datasource"] == "$datasource"  # 7.5 takes no object
        assert all(set(target) <= {"refId", "expr", "legendFormat", "format", "instant"} for target in panel["targets"])
        config = panel["fieldConfig"]
        mappings = config["defaults"]["mappings"] + [
            mapping
            for override in config["overrides"]
            for prop in override["properties"]
            if prop["id"] == "mappings"
            for mapping in prop["value"]
        ]
        assert all(set(m) == {"id", "type", "value", "text"} and m["type"] == 1 for m in mappings)
        for override in config["overrides"]:
            assert override["matcher"]["id"] in {"byName", "byRegexp"}
            assert {p["id"] for p in override["properties"]} <= {
                "unit", "decimals", "mappings", "thresholds", "links", "color", "noValue", "custom.displayMode",
                "custom.width",
            }  # fmt: skip
    for variable in board["templating"]["list"]:
        assert variable.get("datasource", "$datasource") == "$datasource"


@each
def test_thresholds_begin_at_the_bottom_and_rise(board: Any) -> None:
    for panel in shown(board):
        config = panel["fieldConfig"]
        found = [config["defaults"]["thresholds"]]
        found += [p["value"] for o in config["overrides"] for p in o["properties"] if p["id"] == "thresholds"]
        for thresholds in found:
            first, *others = [step["value"] for step in thresholds["steps"]]
            assert first is None
            assert others == sorted(others)


@each
def test_panels_lie_on_the_grid_and_beside_each_other(board: Any) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not cells & taken, panel["title"]
        taken |= cells


@each
def test_graphs_ask_for_ranges_and_all_else_for_the_present(board: Any) -> None:
    for panel in shown(board):
        for target in panel["targets"]:
            assert target.get("instant", False) is (panel["type"] != "timeseries"), panel["title"]
            for window in re.findall(r"\[([^\]]*)\]", target["expr"]):
                assert window == "$__rate_interval"


@each
def test_variables_are_those_of_the_queries(board: Any) -> None:
    names = {variable["name"] for variable in board["templating"]["list"]}
    used = {name for expr in expressions(board) for name in re.findall(r"\$([a-z]\w*)", expr)}
    assert used | {"datasource"} == names
    for variable in board["templating"]["list"]:
        if variable["type"] == "query":
            metric, label = label_values(variable["query"])
            assert label in LABELS[selectors(metric)[0].metric] | TARGET_LABELS


@each
def test_a_single_node_is_matched_exactly_and_many_by_pattern(board: Any) -> None:
    multiple = any(v["name"] == "node" and v["multi"] for v in board["templating"]["list"])
    for expr in expressions(board):
        for selector in selectors(expr):
            for matcher in selector.matchers:
                if matcher.value == "$node":
                    assert matcher.operator == ("=~" if multiple else "="), selector
                if matcher.value in {"$cluster", "$node|"}:
                    assert matcher.operator == "=~", selector


# What the expressions speak of


@each
def test_every_metric_label_and_value_exists(board: Any) -> None:
    for expr in expressions(board):
        assert list(problems(expr)) == [], expr


def test_the_check_finds_what_does_not_exist() -> None:
    for expr, complaint in (
        ("dualstack_family", "does not exist"),
        ('dualstack_family_ok{family="IPv6"}', "no label family"),
        ('dualstack_family_ok{ip_family="ipv6"}', "never ipv6"),
        ('dualstack_cause{cause=~"dns_.+|nat_gone"}', "never dns_.+|nat_gone"),
        ("sum by (server) (dualstack_family_ok)", "label server"),
        ('label_replace(dualstack_family_ok, "x", "$1", "server", "(.+)")', "to be copied"),
        ('dualstack_dns_lookups{outcome="reset"}', "never reset"),
    ):
        found = list(problems(expr))
        assert len(found) == 1, expr
        assert complaint in found[0]


def test_every_metric_is_shown_somewhere() -> None:
    asked = {selector.metric for board in loaded for expr in expressions(board) for selector in selectors(expr)}
    missing = {m.name for m in CATALOGUE} - {re.sub("_(bucket|sum|count)$", "", name) for name in asked} - asked
    assert missing == NOT_SHOWN


@each
def test_series_of_several_exporters_are_never_shown_one_by_one(board: Any) -> None:
    """An expression without an aggregation has a line for each pod of the DaemonSet, with labels such as instance."""
    aggregated = re.compile(r"\b(sum|min|max|avg|count|group|topk|count_values|histogram_quantile)\b")
    for panel in shown(board):
        for target in panel["targets"]:
            names = {selector.metric for selector in selectors(target["expr"])}
            assert aggregated.search(target["expr"]) or all(":" in name for name in names), panel["title"]


# Tables


def columns(panel: Any) -> Any:
    merge, organize = panel["transformations"]
    assert merge == {"id": "merge", "options": {}}
    assert organize["id"] == "organize"
    return organize["options"]


@each
def test_every_field_of_a_table_has_its_column_or_is_hidden(board: Any) -> None:
    for panel in (p for p in shown(board) if p["type"] == "table"):
        options = columns(panel)
        named = set(options["renameByName"]) | set(options["excludeByName"])
        for letter, target in zip("ABCDEFGH", panel["targets"], strict=False):
            assert target["refId"] == letter
            field = "Value" if len(panel["targets"]) == 1 else f"Value #{letter}"
            assert field in named, panel["title"]
            for label in result_labels(target["expr"]):
                assert label in named, f"{panel['title']}: {label}"
        shown_names = set(options["renameByName"].values())
        (sort,) = panel["options"]["sortBy"]
        assert sort["displayName"] in shown_names
        assert {o["matcher"]["options"] for o in panel["fieldConfig"]["overrides"]} <= shown_names


def result_labels(expr: str) -> set[str]:
    """The labels that the outermost aggregation keeps."""
    match = re.search(r"(?:sum|min|max|avg|count|group|count_values) by \(([^)]*)\)", expr)
    assert match, expr
    return {label.strip() for label in match.group(1).split(",")}


@each
def test_the_first_query_of_a_table_is_right_under_either_name(board: Any) -> None:
    """Where one query alone returns something, newer Grafana names its value "Value"."""
    for panel in (p for p in shown(board) if p["type"] == "table" and len(p["targets"]) > 1):
        options = columns(panel)
        where = options["renameByName"] if "Value #A" in options["renameByName"] else options["excludeByName"]
        assert where["Value"] == where["Value #A"], panel["title"]


# Words and links


def links(board: Any) -> Iterator[str]:
    yield from (link["url"] for link in board["links"])
    for panel in shown(board):
        for override in panel["fieldConfig"]["overrides"]:
            for prop in override["properties"]:
                if prop["id"] == "links":
                    yield from (link["url"] for link in prop["value"])


@each
def test_links_lead_to_dashboards_and_runbooks(board: Any) -> None:
    """That each alert and each cause has its runbook, test_alerts shows."""
    uids = {b["uid"] for b in loaded}
    found = list(links(board))
    assert {url.split("?")[0] for url in found if url.startswith("/d/")} >= {f"/d/{u}" for u in uids - {board["uid"]}}
    for url in found:
        if url.startswith("/d/"):
            assert url.removeprefix("/d/").split("?")[0] in uids
            assert "${datasource:queryparam}&${cluster:queryparam}" in url or (
                "?var-cluster=${__value.raw}&${datasource:queryparam}&" in url  # of a row of clusters
            )
        else:
            assert url == RUNBOOKS + "${__value.text}.md"


def test_every_cause_has_its_words_and_its_runbook_in_every_table_of_causes() -> None:
    for board in loaded:
        for panel in (p for p in shown(board) if p["type"] == "table" and "what to do" in str(p["transformations"])):
            by_name = {
                o["matcher"]["options"]: {p["id"]: p["value"] for p in o["properties"]}
                for o in panel["fieldConfig"]["overrides"]
            }
            said = {m["value"]: m["text"] for m in by_name["what is wrong"]["mappings"]}
            led = {m["value"]: RUNBOOKS + m["text"] + ".md" for m in by_name["what to do"]["mappings"]}
            assert said == CAUSE_SUMMARIES
            assert led == {cause.value: runbook(cause) for cause in Cause}


def test_every_way_of_withholding_has_words() -> None:
    assert set(BLOCKS) == set(BlockKind)


def test_each_dashboard_fits_a_configmap_that_kubectl_applies() -> None:
    """kubectl apply keeps the whole object in an annotation, and annotations hold 256 KiB."""
    for dashboard in DASHBOARDS:
        kept = json.dumps({"data": {dashboard.path.name: dashboard.path.read_text()}})
        assert len(kept.encode()) < 240_000


def test_the_kustomization_makes_a_configmap_of_each() -> None:
    settings = yaml.safe_load((HERE / "kustomization.yaml").read_text())
    assert [entry["files"] for entry in settings["configMapGenerator"]] == [[d.path.name] for d in DASHBOARDS]
    assert settings["generatorOptions"]["labels"]["grafana_dashboard"] == "1"


@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=lambda d: d.name)
def test_there_is_a_picture_of_it(dashboard: Any) -> None:
    """Made by scripts/dashboards-picture."""
    picture = (HERE.parent / "docs" / f"dashboard-{dashboard.name}.png").read_bytes()
    assert picture.startswith(b"\x89PNG\r\n")
    assert len(picture) < 200_000
