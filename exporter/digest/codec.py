"""Frozen values of the inventory as JSON and back, by the types that their dataclasses declare. Pure; for format.py.

Fields at their default are left out, unknown ones are ignored when read: a field may be added without a new format,
never renamed. Foreign values must have exactly the declared types, and texts must be short and printable, since names
become labels.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from enum import Enum
from functools import cache
from itertools import repeat
from types import MappingProxyType, NoneType, UnionType
from typing import Any, TypeAlias, TypeVar, Union, get_args, get_origin, get_type_hints

LONGEST = 1024
LONGEST_WORD = 63  # of addresses and values of enumerations
_T = TypeVar("_T")
Decoder: TypeAlias = Callable[[Any], Any]

# The pairs of IPv4 and IPv6 types, and what makes either of a text.
_IP_TYPES: Mapping[frozenset[Any], Callable[[str], Any]] = {
    frozenset({ipaddress.IPv4Address, ipaddress.IPv6Address}): ipaddress.ip_address,
    frozenset({ipaddress.IPv4Network, ipaddress.IPv6Network}): ipaddress.ip_network,
    frozenset({ipaddress.IPv4Interface, ipaddress.IPv6Interface}): ipaddress.ip_interface,
}
_IP = tuple(kind for pair in _IP_TYPES for kind in pair)


class CodecError(ValueError):
    """The JSON value does not have the declared type; the message is one line."""


def _refuse(expected: str, value: object) -> CodecError:
    return CodecError(f"not {expected}: {value!r:.40}")


def encode(value: Any) -> Any:
    """The JSON value of a frozen value, or of anything inside one."""
    if is_dataclass(value) and not isinstance(value, type):
        given = ((each, getattr(value, each.name)) for each in fields(value))
        return {each.name: encode(inner) for each, inner in given if inner != _default(each)}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, _IP):
        return str(value)
    if isinstance(value, frozenset):
        return sorted(encode(each) for each in value)
    if isinstance(value, tuple):
        return [encode(each) for each in value]
    if isinstance(value, Mapping):
        return {encode(key): encode(inner) for key, inner in sorted(value.items())}
    return value


def decode(kind: type[_T], value: object) -> _T:
    """The value of this type from its JSON value. Raises CodecError if that is not of the type."""
    found: _T = _decoder(kind)(value)  # type: ignore[arg-type]  # types are hashable
    return found


def _default(each: Field[Any]) -> Any:
    return each.default if each.default_factory is MISSING else each.default_factory()


@cache
def _decoder(kind: Any) -> Decoder:
    """The reader of a declared type."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return _union(frozenset(inner))
    if origin is tuple:
        return _sequence(tuple, inner)
    if origin is frozenset:
        return _sequence(frozenset, (inner[0], ...))
    if origin is not None and issubclass(origin, Mapping):
        return _mapping(_decoder(inner[0]), _decoder(inner[1]))
    if isinstance(kind, type) and is_dataclass(kind):
        return _dataclass(kind)
    if issubclass(kind, Enum):
        return _word(kind, kind.__name__)
    return _scalar(kind)


def _union(kinds: frozenset[Any]) -> Decoder:
    """Optional values, and the pairs of IPv4 and IPv6 types."""
    rest = kinds - {NoneType}
    factory = _IP_TYPES.get(rest)
    read = _decoder(*rest) if factory is None else _word(factory, factory.__name__)
    return read if rest == kinds else lambda value: None if value is None else read(value)


def _word(factory: Callable[[str], Any], name: str) -> Decoder:
    def read(value: Any) -> Any:
        if isinstance(value, str) and len(value) <= LONGEST_WORD:
            try:
                return factory(value)
            except ValueError:
                pass
        raise _refuse(f"a {name}", value)

    return read


def _sequence(make: Callable[[Any], Any], inner: tuple[Any, ...]) -> Decoder:
    repeated = inner[1:] == (...,)
    readers = [_decoder(each) for each in (inner[:1] if repeated else inner)]

    def read(value: Any) -> Any:
        if not isinstance(value, list) or not (repeated or len(value) == len(readers)):
            raise _refuse("a list as expected", value)
        pairs = zip(repeat(readers[0]) if repeated else readers, value, strict=False)
        return make(one(each) for one, each in pairs)

    return read


def _mapping(keys: Decoder, values: Decoder) -> Decoder:
    def read(value: Any) -> Any:
        if not isinstance(value, dict):
            raise _refuse("an object", value)
        return MappingProxyType({keys(key): values(inner) for key, inner in value.items()})

    return read


def _dataclass(kind: type[Any]) -> Decoder:
    hints = get_type_hints(kind)
    readers = {each.name: _decoder(hints[each.name]) for each in fields(kind)}
    required = [each.name for each in fields(kind) if each.default is MISSING and each.default_factory is MISSING]

    def read(value: Any) -> Any:
        if not isinstance(value, dict) or not all(name in value for name in required):
            raise _refuse(f"a {kind.__name__}", value)
        return kind(**{name: readers[name](inner) for name, inner in value.items() if name in readers})

    return read


_SCALARS: Mapping[Any, tuple[str, type | UnionType, Callable[[Any], bool]]] = {
    str: ("a short text", str, lambda value: len(value) <= LONGEST and value.isprintable()),
    bool: ("true or false", bool, lambda _: True),
    int: ("a whole number", int, lambda value: abs(value) < 1 << 63),
    float: ("a number", int | float, lambda value: abs(value) <= 1e15),
}


def _scalar(kind: Any) -> Decoder:
    """A plain value, or a text of a type of its own (Subject)."""
    expected, accepted, is_valid = _SCALARS[str if issubclass(kind, str) else kind]

    def read(value: Any) -> Any:
        if not isinstance(value, accepted) or isinstance(value, bool) != (kind is bool) or not is_valid(value):
            raise _refuse(expected, value)
        return kind(value)

    return read
