"""Builds HTML from values; every other module of this folder writes its part with it. Does no I/O.

Text that is not `Html` is escaped, so names from outside cannot become markup. Control characters and marks that change
the direction of writing are replaced, so that a pod's name cannot rearrange the page.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from html import escape

from exporter.model.family import Family


class Html(str):
    """Text that is already markup. Only this module and literals make it."""

    __slots__ = ()


FAMILIES = (Family.V6, Family.V4)  # in the order that the page has
NOTHING = "\u2013"  # an en dash, for an empty cell
EMPTY = Html("")


def element(tag: str, *children: str, **attributes: str | None) -> Html:
    """An element. An attribute's trailing underscore is dropped (class_), an attribute of None is left out."""
    given = {name.rstrip("_").replace("_", "-"): value for name, value in attributes.items() if value is not None}
    head = tag + "".join(f' {name}="{text(value)}"' for name, value in given.items())
    return Html(f"<{head}>" if tag == "meta" else f"<{head}>{join(*children)}</{tag}>")


def join(*parts: str) -> Html:
    return Html("".join(map(text, parts)))


def text(value: str) -> Html:
    """Markup as it is, anything else as text."""
    if isinstance(value, Html):
        return value
    if not value.isprintable():
        value = "".join(c if c == "\n" or unicodedata.category(c)[0] != "C" else "\ufffd" for c in value)
    return Html(escape(value))


def section(name: str, title: str, *parts: str, note: str = "") -> Html:
    """A section with its heading; `name` is its anchor."""
    heading = element("h2", title, element("small", note) if note else "")
    return element("section", heading, *parts, id=name)


def table(label: str, head: Html, rows: Iterable[Html], class_: str | None = None) -> Html:
    """A table that scrolls sideways where it is wider than the screen."""
    body = element("table", element("thead", head), element("tbody", *rows), class_=class_)
    return element("div", body, class_="scroll", tabindex="0", role="region", aria_label=label)


def head_row(*names: str) -> Html:
    return element("tr", *(element("th", name, scope="col") for name in names))


def details(summary: str, content: str) -> Html:
    """Text that is hidden until its summary is opened."""
    return element("details", element("summary", summary), element("p", content, class_="soft"))


def definitions(rows: Iterable[tuple[str, str]]) -> Html:
    return element("dl", *(join(element("dt", term), element("dd", value)) for term, value in rows))


def number(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def class_of(good: bool | None) -> str:
    """The CSS class of a good or bad value, or of one that is neither (None)."""
    return "none-text" if good is None else "good-text" if good else "bad-text"
