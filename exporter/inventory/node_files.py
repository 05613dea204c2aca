"""The node's own files, where they are mounted: the CNI configuration and the arguments of MicroK8s' components. Reads, parses, no more.

The paths stand here once; deploy/components/microk8s-files puts readable copies under them. A file that is not there,
or may not be read, is simply not seen: the cluster's ConfigMaps may say the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from exporter.inventory.parse.cni import parse_cni_config
from exporter.inventory.parse.flags import COMPONENTS, parse_arguments_file
from exporter.model.component import CniConfig, ComponentFlags

ARGUMENTS_DIRECTORY = "var/snap/microk8s/current/args"
# Where distributions keep theirs comes first: beside them the usual directory holds what other runtimes left.
CNI_DIRECTORIES = (f"{ARGUMENTS_DIRECTORY}/cni-network", "var/lib/rancher/k3s/agent/etc/cni/net.d", "etc/cni/net.d")
CNI_SUFFIXES = frozenset({".conflist", ".conf", ".json"})  # libcni's; the first by name is the one in use
MAX_BYTES = 1 << 20


def read_cni(root: Path = Path("/")) -> tuple[CniConfig, ...]:
    """The CNI configuration in use on this node, none where no file can be read."""
    for place in CNI_DIRECTORIES:
        try:
            names = sorted(path.name for path in (root / place).iterdir() if path.suffix in CNI_SUFFIXES)
        except OSError:
            continue
        content = _read(root / place / names[0]) if names else None
        if content is not None:
            return (parse_cni_config(content, source=f"/{place}/{names[0]}"),)
    return ()


def read_arguments(node: str, root: Path = Path("/")) -> tuple[ComponentFlags, ...]:
    """The arguments of the components that MicroK8s runs on this node."""
    return tuple(_arguments(node, root))


def _arguments(node: str, root: Path) -> Iterator[ComponentFlags]:
    for component in sorted(COMPONENTS):
        content = _read(root / ARGUMENTS_DIRECTORY / component)
        if content is not None:
            path = f"/{ARGUMENTS_DIRECTORY}/{component}"
            yield parse_arguments_file(content, component=component, path=path, node=node)


def _read(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            return file.read(MAX_BYTES + 1).decode(errors="replace")
    except OSError:
        return None
