"""From a configuration file's text to a Config, or to one line that describes what is wrong with it.

The first step of every subcommand: document.py (YAML) -> kinds and schema (values) -> defaults that depend on other
values -> consistency.py -> the CA files that it names. Nothing is started, resolved or sent here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

from exporter.config.consistency import find_faults
from exporter.config.document import ConfigError, Fault, Node, Scalar, ScalarType, parse_document
from exporter.config.files import check_authorities, read_bounded, resolve_file
from exporter.config.kinds import Section, show
from exporter.config.network_kinds import NODE_NAME
from exporter.config.schema import Config, InventoryConfig, SourceKind


def load_config(
    source: str | bytes | None = None,
    *,
    path: str = "",
    environment: Mapping[str, str],
    hostname: str,
    role: str = "",
    inventory_file: str = "",
) -> Config:
    """The configuration in this YAML, or in the file at `path`, or the defaults without either.

    `path` names the file in errors, and relative file names start at its directory. `role` and `inventory_file` are the
    flags of those names and override the file (--inventory.file implies source file). NODE_NAME is looked up in
    `environment`. Raises ConfigError with one line, also for a file that cannot be read.
    """
    if source is None:
        with naming(""):
            source = read_bounded(path) if path else b""
    with naming(path):
        root = _apply_flags(parse_mapping(source), role, resolve_file(inventory_file, ""))
        config = _complete(Section(Config).decode(root, ""), root, path)
        config = replace(config, node_name=config.node_name or _find_node_name(environment, hostname))
        for fault in find_faults(config):
            raise fault
        for index, target in enumerate(config.targets):
            if target.ca_file:
                check_authorities(target.ca_file, key=f"targets[{index}].ca_file")
        return config


def parse_mapping(source: str | bytes) -> dict[str, Node]:
    """The keys and values of a file; none where it is empty."""
    root = parse_document(source)
    if not isinstance(root, dict | None):
        raise Fault("", f"{show(root)} is not a mapping of keys to values")
    return root or {}


@contextmanager
def naming(path: str) -> Iterator[None]:
    """Turn the Fault of a step into a ConfigError that begins with the file's name."""
    try:
        yield
    except Fault as fault:
        raise ConfigError(f"{path}: {fault}" if path else str(fault)) from None


def _apply_flags(root: dict[str, Node], role: str, inventory_file: str) -> dict[str, Node]:
    flags: dict[str, Node] = {"role": _text(role)} if role else {}
    section = root.get("inventory", {})
    if inventory_file and isinstance(section, dict):
        named = {"source": SourceKind.FILE, "file": inventory_file, "kubeconfig": ""}
        flags["inventory"] = section | {key: _text(value) for key, value in named.items()}
    return root | flags


def _text(value: str) -> Scalar:
    return Scalar(value, ScalarType.TEXT)


def _complete(config: Config, root: dict[str, Node], path: str) -> Config:
    """Fill in the defaults that depend on other values, and make file names absolute."""
    return replace(
        _fit_times(config, root),
        inventory=_imply_source(config.inventory, path),
        targets=tuple(replace(target, ca_file=resolve_file(target.ca_file, path)) for target in config.targets),
    )


def _imply_source(inventory: InventoryConfig, path: str) -> InventoryConfig:
    file, kubeconfig = resolve_file(inventory.file, path), resolve_file(inventory.kubeconfig, path)
    source = inventory.source
    if source is SourceKind.AUTO and (file or kubeconfig):
        source = SourceKind.FILE if file else SourceKind.KUBERNETES
    return InventoryConfig(source=source, file=file, kubeconfig=kubeconfig)


def _fit_times(config: Config, root: dict[str, Node]) -> Config:
    """Deadlines left to their defaults shrink with a shorter interval; those in the file stay as they are."""
    whole = config.round.timeout
    if _find(root, "round", "timeout") is None:
        whole = min(whole, round(config.round.interval * 5 / 6, 3))
    timeouts = {
        name: seconds if _find(root, "timeouts", name) else min(seconds, whole)
        for name, seconds in config.timeouts.items()
    }
    return replace(config, round=replace(config.round, timeout=whole), timeouts=timeouts)


def _find(root: Node, *keys: str) -> Node | None:
    node: Node | None = root
    for key in keys:
        node = node.get(key) if isinstance(node, dict) else None
    return node


def _find_node_name(environment: Mapping[str, str], hostname: str) -> str:
    named = environment.get("NODE_NAME", "")
    if named:
        return NODE_NAME.decode(_text(named), "$NODE_NAME")
    # sethostname(2) takes any bytes; characters that no Node's name has are replaced.
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", hostname).strip("-_.")[:253] or "localhost"
