"""Plain frozen values by topic, used by every other part. No I/O; imports nothing else of the exporter."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

EMPTY: Mapping[str, str] = MappingProxyType({})  # labels, annotations or arguments, where there are none
