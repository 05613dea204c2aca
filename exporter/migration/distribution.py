"""Which Kubernetes distribution a cluster runs, by evidence in its objects. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from enum import StrEnum

from exporter.diagnosis.ranges import KUBEADM
from exporter.diagnosis.rules.cluster.control_plane import MICROK8S
from exporter.model.cluster.inventory import Inventory
from exporter.model.cluster.node import Node


class Distribution(StrEnum):
    """What decides where arguments and switches are written."""

    MICROK8S = "MicroK8s"
    K3S = "k3s"
    RKE2 = "RKE2"
    EKS = "EKS"
    OPENSHIFT = "OpenShift"
    KUBEADM = "kubeadm"
    UNKNOWN = "unknown"


_LABELS: Mapping[str, Distribution] = {
    "microk8s.io/": Distribution.MICROK8S,
    "node.kubernetes.io/microk8s-": Distribution.MICROK8S,
    "eks.amazonaws.com/": Distribution.EKS,
    "node.openshift.io/": Distribution.OPENSHIFT,
}
_VERSIONS: Mapping[str, Distribution] = {
    "+k3s": Distribution.K3S,
    "+rke2": Distribution.RKE2,
    "-eks-": Distribution.EKS,
}


def recognise(inventory: Inventory) -> tuple[Distribution, str]:
    """The distribution and what shows it, the first sign that is there; what nodes say counts before objects."""
    signs: tuple[Callable[[Inventory], Iterator[tuple[Distribution, str]]], ...] = (_nodes, _objects)
    return next((found for sign in signs for found in sign(inventory)), (Distribution.UNKNOWN, ""))


def _nodes(inventory: Inventory) -> Iterator[tuple[Distribution, str]]:
    nodes = inventory.nodes or ()
    yield from (found for node in nodes for found in _version(node))
    for node in nodes:
        for label in sorted(node.labels):
            yield from (
                (distribution, f"{node.subject} has the label {label}")
                for prefix, distribution in _LABELS.items()
                if label.startswith(prefix)
            )


def _version(node: Node) -> Iterator[tuple[Distribution, str]]:
    for part, distribution in _VERSIONS.items():
        if part in node.kubelet_version:
            yield distribution, f"{node.subject} has the kubelet {node.kubelet_version}"


def _objects(inventory: Inventory) -> Iterator[tuple[Distribution, str]]:
    components = inventory.components or ()
    yield from ((Distribution.MICROK8S, each.source) for each in components if MICROK8S in each.source)
    for space in inventory.namespaces or ():
        if space.name == "openshift-dns":
            yield Distribution.OPENSHIFT, "there is the namespace openshift-dns"
    if inventory.cluster_service_cidrs or any(each.subject == KUBEADM for each in components):
        yield Distribution.KUBEADM, f"there is {KUBEADM}"
