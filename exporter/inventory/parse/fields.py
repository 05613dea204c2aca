"""Fields of foreign objects: each getter returns a value of the type asked for, or its absence, and never raises. Pure.

Every parser of the inventory uses them. An API object may be of any shape (CRDs without schema, objects half deleted,
hand-written files), so a parser must read a dict through these only.
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

from exporter.model import EMPTY
from exporter.model.family import FAMILIES, Address, Family, Interface, Net, parse_address, parse_net

JSON_LIMIT = 4096
NAME_LIMIT = 253  # the longest name Kubernetes gives (RFC 1123 subdomain)
_NOTHING: Mapping[str, Any] = MappingProxyType({})
_TRUE = frozenset({"true", "yes", "on", "1", "enabled"})
_FALSE = frozenset({"false", "no", "off", "0", "disabled"})


def mapping(value: object) -> Mapping[str, Any]:
    """The value if it is an object, else an empty one."""
    return value if isinstance(value, dict) else _NOTHING


def items(value: object) -> list[Any]:
    """The value if it is a list, else an empty one (null lists are ordinary)."""
    return value if isinstance(value, list) else []


def objects(value: object) -> list[Mapping[str, Any]]:
    """The items of a list as objects; what is not an object is an empty one."""
    return [mapping(each) for each in items(value)]


def text(value: object) -> str:
    return value if isinstance(value, str) else ""


def texts(value: object) -> tuple[str, ...]:
    """The strings of a list; what is not a string is left out."""
    return tuple(item for item in items(value) if isinstance(item, str))


def json_value(value: str, limit: int = JSON_LIMIT) -> Any:
    """What a JSON text of limited length has, as in an annotation; None where it is no such text."""
    try:
        return json.loads(value) if len(value) <= limit else None
    except (ValueError, RecursionError):
        return None


def json_mapping(value: str) -> Mapping[str, Any]:
    """The object that a short JSON text has; else an empty one."""
    return mapping(json_value(value))


def name_of(value: object) -> str:
    """A name that may become a label value: printable, without blanks and slashes, of Kubernetes' length; else ""."""
    if not isinstance(value, str) or not value or len(value) > NAME_LIMIT:
        return ""
    # Of all blanks only the space is printable.
    return value if value.isprintable() and " " not in value and "/" not in value else ""


def flag(value: object) -> bool | None:
    """A truth value; a boolean or a string, depending on the age of the CRD."""
    if isinstance(value, bool):
        return value
    lowered = value.strip().lower() if isinstance(value, str) else ""
    return True if lowered in _TRUE else False if lowered in _FALSE else None


def number(value: object) -> int | None:
    """An integer below 2^63, also one written as a string."""
    if isinstance(value, bool):
        return None
    if isinstance(value, str) and len(value) <= 20 and value.strip().isascii() and value.strip().isdigit():
        value = int(value)
    return value if isinstance(value, int) and abs(value) < 1 << 63 else None


def moment(value: object) -> float | None:
    """An RFC 3339 time as Unix seconds; one without zone counts as UTC."""
    if not isinstance(value, str) or not 10 <= len(value) <= 40:
        return None
    try:
        parsed = datetime.fromisoformat(value)
        return (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None


def string_map(value: object, share: Callable[[str], str] = str) -> Mapping[str, str]:
    """The string entries of an object; the shared empty mapping if there is none. `share` may intern what repeats."""
    if not isinstance(value, dict) or not value:
        return EMPTY
    return MappingProxyType({share(k): share(v) for k, v in value.items() if isinstance(k, str) and isinstance(v, str)})


def addresses(values: Iterable[object]) -> tuple[Address, ...]:
    """Those of the values that are addresses, IPv4-mapped ones unmapped, each once, in order."""
    found = dict.fromkeys(parse_address(value) for value in values)
    return tuple(address for address in found if address is not None)


def nets(values: Iterable[object]) -> tuple[Net, ...]:
    """Those of the values that are networks, each once, in order."""
    found = dict.fromkeys(parse_net(value) for value in values)
    return tuple(net for net in found if net is not None)


def net_list(value: object) -> tuple[Net, ...]:
    """Networks of a comma-separated text, as component flags have them."""
    return nets(text(value).split(",")) if value else ()


def interface(value: object) -> Interface | None:
    """An address with prefix length; a bare address counts as a host's."""
    if not isinstance(value, str):
        return None
    try:
        return ipaddress.ip_interface(value.strip())
    except ValueError:
        return None


def families(values: Iterable[object]) -> tuple[Family, ...]:
    """The IPFamily strings among the values, each once, in order."""
    known = {str(family): family for family in FAMILIES}
    return tuple(dict.fromkeys(known[value] for value in values if isinstance(value, str) and value in known))
