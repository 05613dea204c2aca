"""`config --schema` against the parser, which it is made from: it may accept more, and never refuses what loads."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest
import yaml

from exporter.config.document import Fault, Node, ScalarType, parse_document
from exporter.config.kinds import Section
from exporter.config.load import parse_mapping
from exporter.config.reference import format_config, format_schema
from exporter.config.schema import Config
from tests.unit.test_config import CONTRACT
from tests.unit.test_config_errors import BAD

ROOT = Path(__file__).resolve().parents[2]
SCHEMA = json.loads(format_schema())
VALIDATOR = jsonschema.Draft7Validator(SCHEMA)

# What BAD has that a schema of single values cannot see: YAML itself, the numbers behind a text, other keys, files.
BEYOND = re.compile(
    r"(?<!interval: 0 is )out of range|is not shorter|is longer|out of order|appears twice, again|is reserved"
    r"|is the name of|ends before"
    r"|is not read|source is file|cannot be read|is not a regular file|tls needs|host is an address|addresses of IPv4"
    r"|families leaves out|has no address here|no single host|link-local|inside IPv6|host bits|has no value"
    r"|targets\[0\]\.(host|port): is missing|not an IPv4 or IPv6 address|is not a network|not a host name"
    r"|not a domain name|not a label selector|not an absolute|not a file name"
)


def plain(node: Node | None) -> Any:
    """The values that a reader of JSON would see."""
    if isinstance(node, dict):
        return {key: plain(value) for key, value in node.items()}
    if isinstance(node, list):
        return [plain(item) for item in node]
    if node is None or node.type is ScalarType.TEXT:
        return node and node.text
    return yaml.safe_load(node.text)


def documented() -> Iterator[str]:
    yield CONTRACT.read_text()
    yield from re.findall(r"```yaml\n(role: .*?)```", (ROOT / "docs/specification.md").read_text(), re.DOTALL)
    shipped = yaml.safe_load((ROOT / "deploy/base/config.yaml").read_text())["data"]["config.yaml"]
    yield shipped
    yield re.sub(r"^# (?=( |\w+:$))", "", shipped, flags=re.MULTILINE)
    yield format_config(Config(node_name="node-a"))


@pytest.mark.parametrize("text", [*documented()])
def test_documented_examples_are_accepted(text: str) -> None:
    assert list(VALIDATOR.iter_errors(plain(parse_document(text)))) == []


def test_it_is_a_schema_and_its_defaults_are_values_of_it() -> None:
    jsonschema.Draft7Validator.check_schema(SCHEMA)
    checked = 0
    for key, schema in _properties(SCHEMA):
        if "default" in schema:
            checked += 1
            assert list(jsonschema.Draft7Validator(schema).iter_errors(schema["default"])) == [], key
    assert checked > 30


def _properties(schema: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in schema.get("properties", {}).items():
        yield f"{prefix}{key}", value
        yield from _properties(value.get("items", value), f"{prefix}{key}.")


@pytest.mark.parametrize(("text", "problem"), BAD, ids=lambda value: str(value)[:60])
def test_it_refuses_each_broken_configuration_that_single_values_show(text: str | bytes, problem: str) -> None:
    try:
        values = plain(parse_mapping(text))
    except Fault:
        return  # YAML that is not understood has no values
    refused = not VALIDATOR.is_valid(values)
    assert refused == (BEYOND.search(problem) is None), [e.message for e in VALIDATOR.iter_errors(values)]


# Values of every kind, as YAML; where a key decodes one, the schema must accept it.
VALUES = [
    "0", "1", "-1", "200", "70000", "2.5", "true", "off", "~", '""', '"0"', '"5"', "0s", "1ms", "1m30s", "1d", "30",
    "pod", "host", "auto", "none", "node", "IPv6", "[IPv6]", "[IPv6, IPv4]", "[]", "{}", "[~]", "[tcp, http]", "[icmp]",
    "[tcp, tcp]", "[host]", "[pod, {name: a, address: 192.0.2.1}]", "[A]", "a.test", "192.0.2.1", "2001:db8::1",
    "1:2:3:4:5:6:7:8", "[192.0.2.1, 2001:db8::1]", "[10.0.0.0/8]", "'*'", "['*']", "['kube-*']", "/", "/a b", "/run",
    "app=web", "app in (web, db), !old", "200-399", "[200, 301-302]", "http://a.test:80/x", "é", "2001-01-01", "served",
    "[{name: a.test}]", "[{name: a, host: a.test}]", "[{namespaces: [a], policy: any}]", "{name: a, address: '::1'}",
    "unreachable", "blocked", "prefer_dual_stack", "{include: [a]}", "{tcp: 1s}", "a_b-c.D", "a,b", "999999999y",
]  # fmt: skip


def _places(node: Node, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    yield path
    entries = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in entries:
        yield from _places(value, (*path, key))


def test_it_never_refuses_what_the_parser_takes() -> None:
    root: Any = parse_mapping(CONTRACT.read_text())
    values = [parse_mapping(f"x: {value}")["x"] for value in VALUES]
    accepted = set()
    for place in [*_places(root)][1:]:
        tree = copy.deepcopy(root)
        holder = tree
        for key in place[:-1]:
            holder = holder[key]
        for value in values:
            holder[place[-1]] = value
            try:
                Section(Config).decode(tree, "")
            except Fault:
                continue
            assert [e.message for e in VALIDATOR.iter_errors(plain(tree))] == [], (place, value)
            accepted.add((place, str(value)))
    assert len({place for place, _ in accepted}) > 60
    assert len(accepted) > 300
