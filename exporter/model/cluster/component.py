"""How Kubernetes components were started: visible arguments and CNI configuration. Values of the inventory; no I/O."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from exporter.model import EMPTY
from exporter.model.subject import Subject


@dataclass(frozen=True, slots=True, kw_only=True)
class CniConfig:
    """A CNI configuration: the ConfigMap's cni_network_config or the node's conflist, as `source` shows."""

    source: str  # for people: a path, or the object
    subject: Subject | None = None  # the object; None for a file of the node
    main_plugin: str = ""
    assign_ipv4: bool = True  # on unless exactly the string "false"
    assign_ipv4_text: str | None = None  # as written, None when absent
    assign_ipv6: bool = False  # off unless exactly the string "true"
    assign_ipv6_text: str | None = None  # as written, None when absent
    mtu: int | None = None
    error: str = ""
    ipam: str = ""  # ipam.type of the main plugin: calico-ipam | host-local | ...
    pools: tuple[str, ...] = ()  # ipv4_pools and ipv6_pools of Calico: CIDRs, or names of pools


@dataclass(frozen=True, slots=True, kw_only=True)
class ComponentFlags:
    """The visible arguments of one Kubernetes component: mirror pod, kubeadm-config or a MicroK8s args file."""

    component: str  # kube-apiserver | kube-controller-manager | kube-proxy | kubelet
    source: str  # for people: a path, the object, or its annotation
    subject: Subject | None = None  # the object; None for a file of the node
    arguments: Mapping[str, str] = field(default_factory=lambda: EMPTY)  # name without dashes -> value
    node: str = ""
    version: str = ""  # the tag of the container's image, where that shows the arguments


_VERSION = re.compile(r"v?(\d{1,3})\.(\d{1,4})(?:\D|$)", re.ASCII)


def release_of(version: str) -> tuple[int, int] | None:
    """Major and minor version of v1.36.2+k3s1."""
    match = _VERSION.match(version)
    return None if match is None else (int(match[1]), int(match[2]))
