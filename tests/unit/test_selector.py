"""Label selectors mean what kubectl means by them."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.config.selector import parse_selector

LABELS = {"app": "web", "tier": "front", "example.com/part": "", "old": "yes"}


@pytest.mark.parametrize(
    ("text", "matches"),
    [
        ("", True),
        ("app=web", True),
        ("app==web", True),
        ("app = db", False),
        ("app!=db", True),
        ("app!=web", False),
        ("absent!=x", True),
        ("absent=x", False),
        ("app", True),
        ("absent", False),
        ("!absent", True),
        ("!old", False),
        ("tier in (front, back)", True),
        ("tier in (back)", False),
        ("tier notin (back)", True),
        ("absent notin (a)", True),
        ("absent in (a)", False),
        ("example.com/part=", True),
        ("example.com/part in (,x)", True),
        ("app=web,tier in (front,back),!absent", True),
        ("app=web,tier=back", False),
        ("in in (a)", False),
        (" app = web , tier ", True),
    ],
)
def test_selectors_match_as_kubectl_does(text: str, matches: bool) -> None:
    assert parse_selector(text).matches(LABELS) is matches


@pytest.mark.parametrize(
    "text",
    [
        "app=web,",
        ",app",
        "app in web",
        "app in (a",
        "a b",
        "=web",
        "app=we b",
        "-app",
        "app=-x",
        "!",
        "a/b/c",
        "x" * 64,
        "app in (a b)",
        "app===b",
    ],
)
def test_what_is_no_selector_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_selector(text)


@given(st.text(alphabet="ab=!,() in/.-", max_size=40))
def test_any_text_is_a_selector_or_a_value_error(text: str) -> None:
    with contextlib.suppress(ValueError):
        parse_selector(text).matches({"a": "b"})
