"""Network policies of every kind, reduced to their effect on one family. Values of the inventory; no I/O."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from exporter.model.cluster.pod import Pod
from exporter.model.family import Family
from exporter.model.subject import Subject, SubjectKind


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
    kind: PolicyKind
    namespace: str  # "" for cluster-wide kinds
    name: str
    selects_all: bool = False  # every pod of its namespace, or of the cluster
    selected: frozenset[str] = frozenset()  # namespace/name of the pods; evaluated only where it restricts egress
    restricts_egress: frozenset[Family] = frozenset()  # families in which not all egress is allowed
    gaps: tuple[tuple[str, Family, Gap], ...] = ()  # (ingress or egress, the family left out, what happens to it)

    @property
    def key(self) -> str:
        return f"{self.namespace}/{self.name}" if self.namespace else self.name

    @property
    def subject(self) -> Subject:
        return Subject.of(SubjectKind.POLICY, self.key)

    def selects(self, pod: Pod) -> bool:
        """Whether an egress-restricting policy selects this pod; policies never apply in the host's network."""
        if pod.host_network:
            return False
        if self.selects_all:
            return not self.namespace or self.namespace == pod.namespace
        return pod.key in self.selected
