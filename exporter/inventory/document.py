"""A YAML or JSON text as plain values (dict, list, str, int, float, bool, None), read without trusting it.

For inventory files and the YAML inside ConfigMaps. Aliases and tags are refused: kubectl writes neither, and a few
lines of nested aliases stand for billions of values. Times stay strings. Built on libyaml's events, which is also
faster than its constructor.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import yaml

MAX_DEPTH = 100
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_INTEGER = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,30})")
_FLOAT = re.compile(r"[-+]?(?:[0-9]{1,30}\.[0-9]{0,30}|[0-9]{1,30}(?:\.[0-9]{1,30})?[eE][-+]?[0-9]{1,3})")
_WORDS: dict[str, bool | None] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_PLAIN_TAGS = frozenset({None, "!", *(f"tag:yaml.org,2002:{kind}" for kind in ("str", "int", "bool", "map", "seq"))})


class InventoryDocumentError(ValueError):
    """The text is neither YAML nor JSON as expected here; the message is one line."""


def read_documents(content: str) -> Iterator[Any]:
    """Each document of the text. JSON is tried first where it looks like it.

    Raises:
        DocumentError: malformed, nested deeper than 100, or with aliases or tags.
    """
    if content.lstrip("\ufeff \t\r\n")[:1] in ("{", "["):
        document = _read_json(content)
        if document is not None:
            yield document
            return
    yield from _read_yaml(content)


def _read_json(content: str) -> Any | None:
    """The value, or None where it is not JSON (flow-style YAML begins the same way)."""
    try:
        return json.loads(content.lstrip("\ufeff"))
    except ValueError:
        return None
    except RecursionError:
        raise InventoryDocumentError("nested too deeply") from None


def _read_yaml(content: str) -> Iterator[Any]:
    try:
        yield from _build(yaml.parse(content, Loader=_LOADER))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"line {mark.line + 1}: " if mark is not None else ""
        raise InventoryDocumentError(f"{where}{error.problem or 'not YAML'}") from None
    except yaml.YAMLError as error:  # of the reader: characters that YAML does not allow
        raise InventoryDocumentError(str(error).splitlines()[0][:200] if str(error) else "not YAML") from None


def _build(events: Iterator[Any]) -> Iterator[Any]:
    """Values of the events. Every open container stands on the stack, a mapping with the key that waits for its value."""
    stack: list[tuple[Any, list[str]]] = []
    root: list[Any] = []
    for event in events:
        if isinstance(event, yaml.ScalarEvent):
            _put(stack, root, _scalar(event))
        elif isinstance(event, (yaml.MappingStartEvent, yaml.SequenceStartEvent)):
            _refuse_tag(event)
            container: Any = {} if isinstance(event, yaml.MappingStartEvent) else []
            _put(stack, root, container)
            stack.append((container, []))
            if len(stack) > MAX_DEPTH:
                raise InventoryDocumentError(f"{_line(event)}nested too deeply")
        elif isinstance(event, (yaml.MappingEndEvent, yaml.SequenceEndEvent)):
            stack.pop()
        elif isinstance(event, yaml.AliasEvent):
            raise InventoryDocumentError(f"{_line(event)}aliases are not accepted")
        elif isinstance(event, yaml.DocumentEndEvent):
            yield root[0] if root else None
            root = []


def _put(stack: list[tuple[Any, list[str]]], root: list[Any], value: Any) -> None:
    if not stack:
        root.append(value)
        return
    container, waiting = stack[-1]
    if isinstance(container, list):
        container.append(value)
    elif waiting:
        container[waiting.pop()] = value
    elif isinstance(value, (dict, list)):
        raise InventoryDocumentError("a mapping's key must be a scalar")
    else:
        waiting.append(value if isinstance(value, str) else str(value))


def _scalar(event: Any) -> Any:
    _refuse_tag(event)
    content: str = event.value
    if not event.implicit[0]:  # quoted, or a block
        return content
    if content in _WORDS:
        return _WORDS[content]
    if _INTEGER.fullmatch(content):
        return int(content)
    return float(content) if _FLOAT.fullmatch(content) else content


def _refuse_tag(event: Any) -> None:
    if event.tag not in _PLAIN_TAGS:
        raise InventoryDocumentError(f"{_line(event)}tags are not accepted")


def _line(event: Any) -> str:
    return f"line {event.start_mark.line + 1}: " if event.start_mark is not None else ""
