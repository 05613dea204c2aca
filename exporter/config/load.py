"""From a configuration file's text to a Config, or to one line that says what is wrong with it.

First thing that happens in every subcommand: document.py (YAML) -> kinds and schema (values) -> defaults that depend on
other values -> consistency.py -> the CA files that it names. Nothing is started, resolved or sent here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, replace

from exporter.config.consistency import find_faults
from exporter.config.document import ConfigError, Entries, Fault, Node, Scalar, ScalarType, parse_document
from exporter.config.files import check_authorities, read_bounded, resolve_file
from exporter.config.kinds import show
from exporter.config.network_kinds import NODE_NAME
from exporter.config.schema import Config, InventoryConfig, SourceKind
from exporter.config.sections import Section

_SECTION = Section(Config)


def load_config_file(
    path: str, *, environment: Mapping[str, str], hostname: str, role: str = "", inventory_file: str = ""
) -> Config:
    """The configuration in that file; an empty path means defaults. Raises ConfigError, also for a file that cannot be read."""
    with naming(""):
        source = read_bounded(path) if path else b""
    return load_config(
        source, path=path, environment=environment, hostname=hostname, role=role, inventory_file=inventory_file
    )


def load_config(
    source: str | bytes,
    *,
    path: str,
    environment: Mapping[str, str],
    hostname: str,
    role: str = "",
    inventory_file: str = "",
) -> Config:
    """The configuration that this YAML spells; raises ConfigError with one line and nothing else.

    `path` names the file in errors, and relative file names start at its directory. `role` and `inventory_file` are the
    flags of those names and stand above the file (--inventory.file implies source file). NODE_NAME is looked up in
    `environment`.
    """
    with naming(path):
        root = parse_document(source)
        if root is None:
            root = Entries(())
        if not isinstance(root, Entries):
            raise Fault("", f"{show(root)} is not a mapping of keys to values")
        root = _apply_flags(root, role, resolve_file(inventory_file, ""))
        config = _complete(_SECTION.decode(root, ""), root, path)
        config = replace(config, node_name=config.node_name or _find_node_name(environment, hostname))
        for fault in find_faults(config):
            raise fault
        for index, target in enumerate(config.targets):
            if target.ca_file:
                check_authorities(target.ca_file, key=f"targets[{index}].ca_file")
        return config


@contextmanager
def naming(path: str) -> Iterator[None]:
    """Turn the Fault of a step into a ConfigError that begins with the file's name."""
    try:
        yield
    except Fault as fault:
        raise ConfigError(f"{path}: {fault}" if path else str(fault)) from None


def _apply_flags(root: Entries, role: str, inventory_file: str) -> Entries:
    if role:
        root = root.put("role", _text(role))
    section = root.get("inventory") or Entries(())
    if inventory_file and isinstance(section, Entries):
        section = section.put("source", _text(SourceKind.FILE)).put("file", _text(inventory_file))
        root = root.put("inventory", section.put("kubeconfig", _text("")))
    return root


def _text(value: str) -> Scalar:
    return Scalar(value, ScalarType.TEXT)


def _complete(config: Config, root: Entries, path: str) -> Config:
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


def _fit_times(config: Config, root: Entries) -> Config:
    """Deadlines that were left to their defaults shrink with a shorter interval; those that were written stay as written."""
    whole = config.round.timeout
    if _find(root, "round", "timeout") is None:
        whole = min(whole, round(config.round.interval * 5 / 6, 3))
    shrunk = {
        field.name: min(getattr(config.timeouts, field.name), whole)
        for field in fields(config.timeouts)
        if _find(root, "timeouts", field.name) is None
    }
    return replace(config, round=replace(config.round, timeout=whole), timeouts=replace(config.timeouts, **shrunk))


def _find(root: Node, *keys: str) -> Node | None:
    node: Node | None = root
    for key in keys:
        node = node.get(key) if isinstance(node, Entries) else None
    return node


def _find_node_name(environment: Mapping[str, str], hostname: str) -> str:
    named = environment.get("NODE_NAME", "")
    if named:
        return NODE_NAME.decode(_text(named), "$NODE_NAME")
    # A host's name is whatever sethostname(2) was given; what cannot stand in a Node's name cannot be one.
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", hostname).strip("-_.")[:253] or "localhost"
