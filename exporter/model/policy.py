"""Network policies of every kind, reduced to what they do to one family. Values of the inventory; does no I/O."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from exporter.model.family import Family
from exporter.model.pod import Pod


class PolicyKind(StrEnum):
    KUBERNETES = "NetworkPolicy"
    CALICO = "CalicoNetworkPolicy"
    CALICO_GLOBAL = "GlobalNetworkPolicy"
    CILIUM = "CiliumNetworkPolicy"
    CILIUM_CLUSTERWIDE = "CiliumClusterwideNetworkPolicy"
    ADMIN = "AdminNetworkPolicy"
    BASELINE_ADMIN = "BaselineAdminNetworkPolicy"


class Gap(StrEnum):
    """What happens to the family that a policy's ipBlocks leave out."""

    DENIED = "denied"  # an allow list names one family: the other is not allowed
    OPEN = "open"  # an except list names one family: the other is not excepted


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """A policy, reduced to what the diagnosis needs: whom it selects, and whether and how it restricts egress by family."""

    kind: PolicyKind
    namespace: str  # "" for cluster-wide kinds
    name: str
    selects_all: bool = False  # every pod of its namespace; of the cluster where that is empty
    selected: frozenset[str] = frozenset()  # namespace/name of the pods; evaluated only where it restricts egress
    restricts_egress: frozenset[Family] = frozenset()  # families in which it does not allow everything outwards
    gaps: tuple[
        tuple[str, Family, Gap], ...
    ] = ()  # (direction ingress|egress, the family left out, what becomes of it)

    @property
    def key(self) -> str:
        return f"{self.namespace}/{self.name}" if self.namespace else self.name

    def selects(self, pod: Pod) -> bool:
        """Whether an egress-restricting policy takes this pod; never one in the host's network, which policies do not reach."""
        if pod.host_network:
            return False
        if self.selects_all:
            return not self.namespace or self.namespace == pod.namespace
        return pod.key in self.selected
