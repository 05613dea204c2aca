"""Felix's effective settings on a node: its environment, then node.NAME, then default, then what is built in. Pure.

Order and names after felix/config: environment variables override the objects. Used by the rules about tunnels and
Felix itself; the digest projection keeps the VARIABLES.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from exporter.model.cluster.calico import CalicoNode, Felix
from exporter.model.cluster.inventory import Inventory

BUILT_IN_IPV6_SUPPORT = True  # felix/config/config_params.go; Calico's manifests set the environment variable to false
# The settings kept here, by their environment variables.
VARIABLES: Mapping[str, str] = {
    "ipv6_support": "FELIX_IPV6SUPPORT",
    "vxlan_vni": "FELIX_VXLANVNI",
    "vxlan_port": "FELIX_VXLANPORT",
    "wireguard_v6": "FELIX_WIREGUARDENABLEDV6",
}
IPV6_SUPPORT = VARIABLES["ipv6_support"]
BOOLEANS = frozenset({"ipv6_support", "wireguard_v6"})
TRUE = frozenset({"true", "1", "yes", "y", "t"})
FALSE = frozenset({"false", "0", "no", "n", "f"})


@dataclass(frozen=True, slots=True)
class Setting:
    """A boolean setting with what decides it."""

    value: bool
    origin: str


def effective(inventory: Inventory, node: str) -> Felix:
    """All settings for the node, None where nothing sets one and the built-in default applies."""
    objects = {each.name: each.felix for each in inventory.felix or ()}
    layers = (_environment(inventory.calico_node), objects.get(f"node.{node}"), objects.get("default"))
    merged = {
        field.name: next((v for v in (getattr(layer, field.name, None) for layer in layers) if v is not None), None)
        for field in fields(Felix)
    }
    return Felix(**merged)


def uses_wireguard(inventory: Inventory, node: str) -> bool:
    """Whether Felix encrypts IPv6 between nodes by WireGuard here (wireguardEnabledV6, off by default)."""
    return effective(inventory, node).wireguard_v6 is True


def ipv6_support(inventory: Inventory, nodes: tuple[str, ...]) -> dict[str, Setting]:
    """Whether Felix handles IPv6 on each of the nodes, and what decides it."""
    from_env = _environment(inventory.calico_node).ipv6_support
    if from_env is not None and inventory.calico_node is not None:
        where = f"daemonset {inventory.calico_node.namespace}/calico-node"
        return dict.fromkeys(nodes, Setting(from_env, f"{where}: env {IPV6_SUPPORT}={str(from_env).lower()}"))
    shared = Setting(BUILT_IN_IPV6_SUPPORT, f"built-in default {str(BUILT_IN_IPV6_SUPPORT).lower()}")
    objects = {
        each.name: Setting(value, f"felixconfiguration {each.name}: ipv6Support {str(value).lower()}")
        for each in inventory.felix or ()
        if (value := each.felix.ipv6_support) is not None
    }
    shared = objects.get("default", shared)
    return {node: objects.get(f"node.{node}", shared) for node in nodes}


def sets_ipv6_support(calico_node: CalicoNode | None) -> bool:
    """Whether the environment decides, and not the objects."""
    return _environment(calico_node).ipv6_support is not None


def unseen_environment(calico_node: CalicoNode | None) -> str:
    """A sentence where an environment variable could decide otherwise and cannot be seen, else ""."""
    if calico_node is None:
        return f"the environment of calico-node was not read; {IPV6_SUPPORT} counts as unset"
    if IPV6_SUPPORT in calico_node.env_unseen or (
        "*" in calico_node.env_unseen and IPV6_SUPPORT not in calico_node.env
    ):
        return f"{IPV6_SUPPORT} of calico-node comes from elsewhere and cannot be seen; it counts as unset"
    return ""


def _environment(calico_node: CalicoNode | None) -> Felix:
    env = calico_node.env if calico_node is not None else {}
    given = {name: env[variable].strip() for name, variable in VARIABLES.items() if env.get(variable, "").strip()}
    values: dict[str, Any] = {name: _value(name, text) for name, text in given.items()}
    return Felix(**values)


def _value(name: str, text: str) -> bool | int | None:
    if name in BOOLEANS:
        return True if text.lower() in TRUE else False if text.lower() in FALSE else None
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else None
