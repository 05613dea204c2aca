"""What `kubectl get ... -o yaml` prints (kind: List), as an Inventory. Reads one file and asks no cluster.

Support bundles are diagnosed this way. A kind that the file lacks was not read; one with an empty typed list (PodList)
was read and has no object. Accepts JSON, several documents and lists of lists.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from exporter.inventory.document import InventoryDocumentError, read_documents
from exporter.inventory.inventory_builder import build_inventory
from exporter.inventory.parse.fields import items, mapping, text
from exporter.inventory.parse.objects import Parsed, identify, parse_object
from exporter.model.cluster.inventory import Inventory, InventoryOrigin, ResourceKind, Unreadable

MAX_BYTES = 512 << 20
MAX_NESTING = 5
LIST = "List"


class InventoryError(Exception):
    """The file is not an inventory. The message is one line and names the file."""


def load_file(path: str | Path) -> Inventory:
    """The inventory in a file, synced when the file was last written. Raises InventoryError."""
    where = Path(path)
    try:
        status = where.stat()
        if status.st_size > MAX_BYTES:
            raise InventoryError(f"{where}: larger than {MAX_BYTES >> 20} MiB")
        content = where.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InventoryError(f"{where}: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise InventoryError(f"{where}: not UTF-8 text") from None
    return load_text(content, name=str(where), synced=status.st_mtime)


def load_text(content: str, *, name: str = "inventory", synced: float | None = None) -> Inventory:
    """The inventory of a text; `name` is what errors call it. Raises InventoryError."""
    objects: dict[ResourceKind, list[Parsed | Unreadable | None]] = {}
    count = 0
    try:
        for document in read_documents(content):
            for kind, item in _objects(document, name, 0):
                count += 1
                if kind is not None:
                    found = objects.setdefault(kind, [])
                    found += [parse_object(kind, item)] if item is not None else []
    except InventoryDocumentError as error:
        raise InventoryError(f"{name}: {error}") from None
    if not count:
        raise InventoryError(f"{name}: holds no Kubernetes object (expected what `kubectl get ... -o yaml` prints)")
    return build_inventory(objects, source=InventoryOrigin.FILE, synced=synced)


def _objects(document: Any, name: str, depth: int) -> Iterator[tuple[ResourceKind | None, Any]]:
    """Each object with its kind, None for one of no interest; (kind, None) for a typed list, which may be empty."""
    if document is None:
        return
    fields = mapping(document)
    kind, version = text(fields.get("kind")), text(fields.get("apiVersion"))
    if not kind or not version:
        raise InventoryError(f"{name}: not a Kubernetes object or list: {_described(document)}")
    if kind != LIST and not (kind.endswith(LIST) and "items" in fields):
        yield identify(fields), fields
        return
    if depth >= MAX_NESTING:
        raise InventoryError(f"{name}: lists nested deeper than {MAX_NESTING}")
    if not isinstance(fields.get("items"), list | None):
        raise InventoryError(f"{name}: items of a {kind} is no list")
    listed = items(fields.get("items"))
    header = {"kind": kind.removesuffix(LIST), "apiVersion": version}  # which items of typed lists may lack
    inner = identify(header)
    if inner is not None:
        yield inner, None
        yield from ((inner, {**header, **mapping(item)}) for item in listed)
        return
    for item in listed:
        yield from _objects(item, name, depth + 1) if isinstance(item, dict) else [(None, None)]


def _described(document: Any) -> str:
    """What the document is instead, in a few words."""
    if isinstance(document, dict):
        names = ", ".join(str(key)[:30] for key in list(document)[:3])
        return f"a mapping with {names}" if names else "an empty mapping"
    return "a plain list" if isinstance(document, list) else "a text" if isinstance(document, str) else "a value"
