"""Frozen values of the inventory as JSON and back, by the types that their dataclasses declare. Pure; below digest.py.

Fields at their default are left out, unknown ones are ignored when read: a field may be added without a new format,
never renamed. What comes from elsewhere must have exactly the declared types, and texts must be short and printable,
since names become labels.
"""

from __future__ import annotations

import ipaddress
import math
from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from enum import Enum
from functools import cache
from types import MappingProxyType, NoneType, UnionType
from typing import Any, TypeAlias, TypeVar, Union, get_args, get_origin, get_type_hints

LONGEST = 1024
_T = TypeVar("_T")
_ADDRESSES = (ipaddress.IPv4Address, ipaddress.IPv6Address)
_NETWORKS = (ipaddress.IPv4Network, ipaddress.IPv6Network)
_INTERFACES = (ipaddress.IPv4Interface, ipaddress.IPv6Interface)
Decoder: TypeAlias = Callable[[Any], Any]


class CodecError(ValueError):
    """The JSON value does not have the declared type; the message is one line."""


def encode(value: Any) -> Any:
    """The JSON value of a frozen value, or of anything inside one."""
    if is_dataclass(value) and not isinstance(value, type):
        given = ((each, getattr(value, each.name)) for each in fields(value))
        return {each.name: encode(held) for each, held in given if held != _default(each)}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, (*_INTERFACES, *_NETWORKS, *_ADDRESSES)):
        return str(value)
    if isinstance(value, frozenset):
        return sorted(encode(each) for each in value)
    if isinstance(value, tuple):
        return [encode(each) for each in value]
    if isinstance(value, Mapping):
        return {encode(key): encode(held) for key, held in sorted(value.items())}
    return value


def decode(kind: type[_T], value: object) -> _T:
    """The value of this type that the JSON value spells.

    Raises:
        CodecError: it spells none.
    """
    read: Decoder = _decoder(kind)  # type: ignore[arg-type]  # types are hashable
    found: _T = read(value)
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
    if isinstance(kind, type) and issubclass(kind, Enum):
        return lambda value: _convert(kind, value if isinstance(value, str) else None)
    if isinstance(kind, type) and issubclass(kind, str):  # Subject, and plain text
        return lambda value: kind(_text(value))
    return _SCALARS[kind]


def _union(kinds: frozenset[Any]) -> Decoder:
    """Optional values, and the pairs of IPv4 and IPv6 types, which one text tells apart."""
    optional = NoneType in kinds
    rest = kinds - {NoneType}
    for members, factory in (
        (_ADDRESSES, ipaddress.ip_address),
        (_NETWORKS, ipaddress.ip_network),
        (_INTERFACES, ipaddress.ip_interface),
    ):
        if rest == set(members):
            read: Decoder = _address(factory)
            break
    else:
        (one,) = rest
        read = _decoder(one)
    return lambda value: None if optional and value is None else read(value)


def _address(factory: Callable[[str], Any]) -> Decoder:
    return lambda value: _convert(factory, value if isinstance(value, str) and len(value) < 64 else None)


def _convert(factory: Callable[[Any], Any], value: Any) -> Any:
    try:
        return factory(value)
    except ValueError:
        raise CodecError(f"not a {getattr(factory, '__name__', 'value')}: {value!r:.40}") from None


def _sequence(make: Callable[[Any], Any], inner: tuple[Any, ...]) -> Decoder:
    items = _decoder(inner[0]) if inner[1:] == (...,) else None
    several = None if items else [_decoder(each) for each in inner]

    def read(value: Any) -> Any:
        if not isinstance(value, list) or (several is not None and len(value) != len(several)):
            raise CodecError(f"not a list as expected: {value!r:.40}")
        if several is not None:
            return make(one(each) for one, each in zip(several, value, strict=True))
        assert items is not None
        return make(items(each) for each in value)

    return read


def _mapping(keys: Decoder, values: Decoder) -> Decoder:
    def read(value: Any) -> Any:
        if not isinstance(value, dict):
            raise CodecError(f"not an object: {value!r:.40}")
        return MappingProxyType({keys(key): values(held) for key, held in value.items()})

    return read


def _dataclass(kind: type[Any]) -> Decoder:
    hints = get_type_hints(kind)
    readers = {each.name: _decoder(hints[each.name]) for each in fields(kind)}
    required = [each.name for each in fields(kind) if each.default is MISSING and each.default_factory is MISSING]

    def read(value: Any) -> Any:
        if not isinstance(value, dict) or not all(name in value for name in required):
            raise CodecError(f"not a {kind.__name__}: {value!r:.40}")
        return kind(**{name: readers[name](held) for name, held in value.items() if name in readers})

    return read


def _text(value: Any) -> str:
    if not isinstance(value, str) or len(value) > LONGEST or not value.isprintable():
        raise CodecError(f"not a short text: {value!r:.40}")
    return value


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise CodecError(f"neither true nor false: {value!r:.40}")
    return value


def _whole(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) >= 1 << 63:
        raise CodecError(f"not a whole number: {value!r:.40}")
    return value


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or abs(value) > 1e15:
        raise CodecError(f"not a number: {value!r:.40}")
    return float(value)


_SCALARS: Mapping[Any, Decoder] = {bool: _flag, int: _whole, float: _number}
