"""A YAML or JSON text as plain values (dict, list, str, int, float, bool, None), for inventory files and ConfigMaps.

Built on config's bounded reader, with libyaml's parser where it is there. kubectl writes neither aliases nor tags: both
are refused. Times stay strings. It opens no file and knows no object.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import yaml

from exporter.config.document import DocumentReader, Fault, Node, ScalarType

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_TAGS = frozenset({None, "!", *(f"tag:yaml.org,2002:{kind}" for kind in ("str", "int", "bool", "map", "seq"))})
_INTEGER = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,30})")
_FLOAT = re.compile(r"[-+]?(?:[0-9]{1,30}\.[0-9]{0,30}|[0-9]{1,30}(?:\.[0-9]{1,30})?[eE][-+]?[0-9]{1,3})")
_WORDS: dict[str, bool | None] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}


class InventoryDocumentError(ValueError):
    """The text is neither YAML nor JSON as expected here; the message is one line."""


def read_documents(content: str) -> Iterator[Any]:
    """Each document of the text. JSON is tried first where it looks like it. Raises InventoryDocumentError."""
    if content.lstrip("\ufeff \t\r\n")[:1] in ("{", "["):
        document = _read_json(content)
        if document is not None:
            yield document
            return
    try:
        for _, node in DocumentReader(loader=_LOADER, deepest=100, most=None, tags=_TAGS).read(content):
            yield _plain(node)
    except Fault as fault:
        raise InventoryDocumentError(str(fault)) from None


def _read_json(content: str) -> Any | None:
    """The value, or None where it is not JSON (flow-style YAML begins the same way)."""
    try:
        return json.loads(content.lstrip("\ufeff"))
    except ValueError:
        return None
    except RecursionError:
        raise InventoryDocumentError("nested too deeply") from None


def _plain(node: Node) -> Any:
    if isinstance(node, dict):
        return {key: _plain(value) for key, value in node.items()}
    if isinstance(node, list):
        return [_plain(item) for item in node]
    text = node.text
    if node.type is ScalarType.TEXT:
        return text
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.fullmatch(text):
        return int(text)
    return float(text) if _FLOAT.fullmatch(text) else text
