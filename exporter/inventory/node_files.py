"""The node's own files, where they are mounted: the CNI configuration and the arguments of MicroK8s' components.

A thin rim: reads and hands over to the parsers. The paths are declared here only; deploy/components/microk8s-files puts
readable copies under them. A file that is absent or may not be read is skipped: ConfigMaps may have the same.
"""

from __future__ import annotations

from pathlib import Path

from exporter.inventory.fetching import read_file
from exporter.inventory.parse.components import COMPONENTS, parse_arguments_file, parse_cni_config
from exporter.model.cluster.component import CniConfig, ComponentFlags

ARGUMENTS_DIRECTORY = "var/snap/microk8s/current/args"
# A distribution's own directory comes first: the usual one may have files of another runtime.
CNI_DIRECTORIES = (f"{ARGUMENTS_DIRECTORY}/cni-network", "var/lib/rancher/k3s/agent/etc/cni/net.d", "etc/cni/net.d")
CNI_SUFFIXES = frozenset({".conflist", ".conf", ".json"})  # libcni's; the first by name is the one in use
MAX_BYTES = 1 << 20


def read_cni(root: Path = Path("/")) -> tuple[CniConfig, ...]:
    """The CNI configuration in use on this node, none where no file can be read."""
    for directory in CNI_DIRECTORIES:
        try:
            names = sorted(path.name for path in (root / directory).iterdir() if path.suffix in CNI_SUFFIXES)
        except OSError:
            continue
        content = _read(root / directory / names[0]) if names else None
        if content is not None:
            return (parse_cni_config(content, source=f"/{directory}/{names[0]}"),)
    return ()


def read_arguments(node: str, root: Path = Path("/")) -> tuple[ComponentFlags, ...]:
    """The arguments of the components that MicroK8s runs on this node."""
    files = {component: f"{ARGUMENTS_DIRECTORY}/{component}" for component in sorted(COMPONENTS)}
    contents = {component: _read(root / path) for component, path in files.items()}
    return tuple(
        parse_arguments_file(content, component=component, path=f"/{files[component]}", node=node)
        for component, content in contents.items()
        if content is not None
    )


def _read(path: Path) -> str | None:
    content = read_file(path, MAX_BYTES + 1)
    return None if content is None else content.decode(errors="replace")
