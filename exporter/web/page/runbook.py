"""The pages of the runbooks: their list, and each one's text as it is written. Builds HTML from values; no I/O."""

from __future__ import annotations

from collections.abc import Iterable

from exporter.web.page.document import document_page
from exporter.web.page.markup import element, join


def runbooks_page(names: Iterable[str]) -> str:
    """A link to each."""
    links = (element("li", element("a", name, href=name)) for name in names)
    return document_page("Runbooks", element("h1", "Runbooks"), element("ul", *links))


def runbook_page(name: str, text: str) -> str:
    """The text with its own line breaks."""
    back = join(element("a", "status", href="../"), " · ", element("a", "all runbooks", href="./"))
    return document_page(name, element("p", back), element("pre", text))
