"""The answers recorded from a real API server (tests/data/kubernetes), as the tests want them."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from exporter.inventory.file import load_file
from exporter.model.cluster.inventory import Inventory

DATA = Path(__file__).parent.parent / "data" / "kubernetes"
SCENARIOS = tuple(sorted(path.stem.removeprefix("cluster-") for path in DATA.glob("cluster-*.yaml")))


@cache
def cluster(scenario: str) -> Inventory:
    """The inventory of a recorded cluster."""
    return load_file(DATA / f"cluster-{scenario}.yaml")


def body(folder: str, name: str) -> Any:
    """The body of a recorded answer."""
    return json.loads((DATA / folder / f"{name}.json").read_text())["response"]["body"]


def listed(name: str) -> list[dict[str, Any]]:
    """The items of a recorded list, as the API server sends them: without kind and apiVersion for built-in kinds."""
    items: list[dict[str, Any]] = body("list", name)["items"]
    for item in items:
        item["metadata"].pop("managedFields", None)  # long, and no parser looks at it
    return items


def config_map(name: str) -> dict[str, str]:
    """The data of a recorded ConfigMap."""
    data: dict[str, str] = body("configmap", name)["data"]
    return data
