"""Calico's selector language and Kubernetes' label selectors select what their authors mean."""

from __future__ import annotations

from typing import Any

import pytest

from exporter.inventory.parse.selectors import SelectorError, parse_calico, parse_labels
from exporter.model.cluster.selector import matches

LABELS = {"app": "web", "tier": "front-end", "kubernetes.io/hostname": "ra", "empty": ""}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", True),
        ("all()", True),
        ("all( )", True),
        ("global()", True),  # these labels are of nothing that has a namespace
        ("app == 'web'", True),
        ('app == "db"', False),
        ("app != 'db'", True),
        ("missing != 'x'", True),
        ("has(app)", True),
        ("has( empty )", True),
        ("!has(app)", False),
        ("!!has(app)", True),
        ("app in {'web', \"db\"}", True),
        ("app in {}", False),
        ("app not in {'db'}", True),
        ("missing not in {'db'}", True),
        ("tier contains 'nt-e'", True),
        ("tier starts with 'front'", True),
        ("tier ends with 'front'", False),
        ("missing contains ''", False),
        ('kubernetes.io/hostname == "ra"', True),
        ("app == 'db' || app == 'web' && has(missing)", False),  # && binds tighter
        ("(app == 'db' || app == 'web') && has(tier)", True),
        ("! (app == 'web' && tier == 'x')", True),
    ],
)
def test_a_calico_selector_selects(text: str, expected: bool) -> None:
    assert matches(parse_calico(text), LABELS.get) is expected


@pytest.mark.parametrize(
    "text",
    ["app", "app =", "app = 'x'", "app == web", "app == 'x", "has(", "has()", "all(", "app in 'x'", "app in {'x'",
        "app not 'x'", "&&",
     "app == 'x' app", "(all()", "all())", "a starts 'x'", "§", "!" * 3, "(" * 60 + "all()" + ")" * 60,
     "has(a)&&" * 4000],
)  # fmt: skip
def test_what_is_no_calico_selector_is_refused(text: str) -> None:
    with pytest.raises(SelectorError):
        parse_calico(text)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (None, True),
        ({}, True),
        ({"matchLabels": None, "matchExpressions": None}, True),
        ({"matchLabels": {"app": "web"}}, True),
        ({"matchLabels": {"app": "web", "tier": "x"}}, False),
        ({"matchExpressions": [{"key": "app", "operator": "In", "values": ["db", "web"]}]}, True),
        ({"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["web"]}]}, False),
        ({"matchExpressions": [{"key": "missing", "operator": "NotIn", "values": ["web"]}]}, True),
        ({"matchExpressions": [{"key": "app", "operator": "Exists"}, {"key": "x", "operator": "DoesNotExist"}]}, True),
    ],
)
def test_a_label_selector_selects(source: Any, expected: bool) -> None:
    assert matches(parse_labels(source), LABELS.get) is expected


@pytest.mark.parametrize(
    "source",
    [
        "app",
        [],
        {"matchLabels": {"app": 1}},
        {"matchExpressions": [{"operator": "Exists"}]},
        {"matchExpressions": [{"key": "a", "operator": "Gt"}]},
    ],
)
def test_what_is_no_label_selector_is_refused(source: Any) -> None:
    with pytest.raises(SelectorError):
        parse_labels(source)
