"""Labels, annotations and other text by text, as Kubernetes objects carry them."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

EMPTY: Mapping[str, str] = MappingProxyType({})
