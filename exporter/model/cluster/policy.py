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
    CLUSTER = "ClusterNetworkPolicy"


class Gap(StrEnum):
    """What happens to one family alone."""

    DENIED = "denied"  # an allow list names the other family: this one is not allowed
    OPEN = "open"  # an except list names the other family: this one is not excepted
    REFUSED = "refused"  # a rule denies all of this family


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    kind: PolicyKind
    namespace: str  # "" for cluster-wide kinds
    name: str
    selects_all: bool = False  # every pod of its namespace, or of the cluster
    selected: frozenset[str] = frozenset()  # namespace/name of the pods; evaluated only where it restricts egress
    restricts_egress: frozenset[Family] = frozenset()  # families in which not all egress is allowed
    gaps: tuple[tuple[str, Family, Gap], ...] = ()  # (ingress or egress, the family, what happens to it)

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
