"""HTML out of values. Everything that is not made here is escaped: foreign text cannot become markup. No I/O.

Control characters and the marks that turn the direction of writing are taken out as well, so that a pod's name cannot
rearrange a page.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from html import escape


class Html(str):
    """Text that is already markup. Only this module and literals make it."""

    __slots__ = ()


NOTHING = "\u2013"  # an en dash, where there is nothing to say
VOID = frozenset({"meta", "link", "br"})


def element(tag: str, *children: str | Html, **attributes: str | None) -> Html:
    """An element; a trailing underscore of an attribute's name falls away (class_), an attribute of None is left out."""
    head = tag + "".join(
        f' {name.rstrip("_").replace("_", "-")}="{text(value)}"'
        for name, value in attributes.items()
        if value is not None
    )
    if tag in VOID:
        return Html(f"<{head}>")
    return Html(f"<{head}>{''.join(text(child) for child in children)}</{tag}>")


def join(*parts: str | Html, by: str = "") -> Html:
    """Several pieces as one."""
    return Html(text(by).join(text(part) for part in parts))


def text(value: str | Html) -> Html:
    """Markup as it is, anything else as text."""
    if isinstance(value, Html):
        return value
    if not value.isprintable():
        value = "".join(c if c == "\n" or unicodedata.category(c)[0] != "C" else "\ufffd" for c in value)
    return Html(escape(value))


def definitions(rows: Iterable[tuple[str, str | Html]]) -> Html:
    """A list of terms and what is said of each."""
    return element("dl", *(join(element("dt", term), element("dd", said)) for term, said in rows))


def age(seconds: float) -> str:
    """A duration in one unit, for people: small numbers of the smaller unit, then the larger one."""
    for unit, length in (("days", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{int(seconds // length)} {unit}"
    return f"{max(0, int(seconds))} s"
