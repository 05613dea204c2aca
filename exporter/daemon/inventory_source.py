"""Opens the configured source of inventories. Part of the wiring; the sources themselves are in inventory/ and digest/."""

from __future__ import annotations

import os

from exporter.config.schema import Config, SourceKind
from exporter.inventory.source import FileSource, InventorySource, NoSource

SERVICE_ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount/token"  # where kubelet mounts it


def source_kind(config: Config) -> SourceKind:
    """Kind auto becomes kubernetes where a service account is mounted, else none."""
    if config.inventory.source is not SourceKind.AUTO:
        return config.inventory.source
    return SourceKind.KUBERNETES if os.path.exists(SERVICE_ACCOUNT) else SourceKind.NONE  # noqa: PTH110 - one stat, no Path needed


def open_source(config: Config, *, once: bool = False) -> InventorySource:
    """The configured source. InventoryError where a file cannot be read at the start. `once`: for a command that ends within seconds."""
    kind = source_kind(config)
    if kind is SourceKind.FILE:
        return FileSource(config.inventory.file)
    if kind is SourceKind.KUBERNETES:
        from exporter.daemon.api_source import open_kubernetes  # noqa: PLC0415 - no other role loads that package

        return open_kubernetes(config, once=once)
    return NoSource()
