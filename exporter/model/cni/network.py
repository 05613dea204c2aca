"""The pod network of one cluster, as diagnosis/network.py recognised it. Values; no I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from exporter.model.cni.profile import Cni, CniProfile, Effect
from exporter.model.family import Family
from exporter.model.subject import Subject


class ServiceProxy(StrEnum):
    """What translates the addresses of Services on the nodes."""

    IPTABLES = "kube-proxy iptables"
    NFTABLES = "kube-proxy nftables"
    IPVS = "kube-proxy ipvs"
    CILIUM = "cilium"
    EBPF = "ebpf"  # Calico's
    NONE = "none"  # no kube-proxy: the CNI does it in its own way
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class SwitchState:
    """A switch of the CNI as it stands in one object. `on` is None where its value cannot be seen or is not known."""

    on: bool | None
    text: str  # for people: the object, the setting, its value
    source: str = ""  # the object
    explicit: bool = False  # not the default
    subject: Subject | None = None
    value: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PodNetwork:
    """`ipam` is empty where it is not known. `evidence` says by what the CNI is known, or why it is not."""

    cni: Cni = Cni.UNKNOWN
    ipam: str = ""
    proxy: ServiceProxy = ServiceProxy.UNKNOWN
    evidence: tuple[str, ...] = ()
    profile: CniProfile | None = None  # None: unknown
    switches: Mapping[Effect, tuple[SwitchState, ...]] = field(default_factory=dict)
    calico_alone_for_policy: bool = False

    @property
    def uses_pod_cidrs(self) -> bool | None:
        """Whether pods get their addresses from the nodes' podCIDRs; None: not known."""
        if self.ipam in POD_CIDR_IPAMS:
            return True
        if self.profile is None or not self.ipam:
            return None
        return self.profile.uses_pod_cidrs if self.ipam == self.profile.ipam else False

    @property
    def described(self) -> str:
        """In one line for a person; empty where the CNI is not known."""
        if self.cni is Cni.UNKNOWN:
            return ""
        return f"{self.cni}, IPAM {self.ipam or 'unknown'}, by {'; '.join(self.evidence[:3])}"

    def switch(self, effect: Effect) -> SwitchState | None:
        """Of its switches whose state is known, one that is set before a default, and one that is off before one on."""
        known = [state for state in self.switches.get(effect, ()) if state.on is not None]
        return min(known, key=lambda state: (not state.explicit, bool(state.on)), default=None)

    def declaration(self, family: Family) -> str:
        """The CNI's switch for the family where somebody turned it on; else empty: a default declares nothing."""
        state = self.switch(Effect.IPV6 if family is Family.V6 else Effect.IPV4)
        return state.text if state is not None and state.explicit and state.on is True else ""


UNKNOWN_NETWORK = PodNetwork()
POD_CIDR_IPAMS = frozenset({"host-local", "kubernetes"})  # the latter is Cilium's ipam: kubernetes
