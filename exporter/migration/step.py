"""A migration as values: phases, steps, what is known of each. Between plan.py and those who show it; no logic."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from exporter.migration.distribution import Distribution
from exporter.model.family import Family

SHOWN = 10  # objects of a step by name


class Phase(StrEnum):
    """In the order in which they are done; also the label `phase`."""

    NODE_ADDRESSES = "node_addresses"
    NODE_KERNEL = "node_kernel"
    CONTROL_PLANE = "control_plane"
    KUBELET = "kubelet"
    CNI = "cni"
    KUBE_PROXY = "kube_proxy"
    DNS = "dns"
    PODS = "pods"
    SERVICES = "services"
    LOAD_BALANCERS = "load_balancers"
    NETWORK_POLICIES = "network_policies"
    APPLICATIONS = "applications"
    CLIENTS = "clients"


TITLES: Mapping[Phase, str] = {
    Phase.NODE_ADDRESSES: "Node addresses",
    Phase.NODE_KERNEL: "Sysctls and default routes of nodes",
    Phase.CONTROL_PLANE: "Control plane",
    Phase.KUBELET: "Kubelets",
    Phase.CNI: "Pod network (CNI)",
    Phase.KUBE_PROXY: "kube-proxy",
    Phase.DNS: "Cluster DNS and upstream resolvers",
    Phase.PODS: "Pods older than the change",
    Phase.SERVICES: "Services",
    Phase.LOAD_BALANCERS: "Load balancers, Ingress and Gateway",
    Phase.NETWORK_POLICIES: "Network policies",
    Phase.APPLICATIONS: "Applications",
    Phase.CLIENTS: "Clients",
}


class StepState(StrEnum):
    """What is known of a step or phase."""

    DONE = "done"
    MISSING = "missing"
    UNSEEN = "unseen"
    NOT_APPLICABLE = "not_applicable"


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """What a step's function found. `objects`: the first of those that lack something, `total` how many there are.

    `reason`: why it cannot be seen or does not apply. `on_node`: the API never shows it, a node exporter does.
    """

    state: StepState
    objects: tuple[str, ...] = ()
    total: int = 0
    evidence: tuple[str, ...] = ()
    reason: str = ""
    on_node: bool = False
    commands: tuple[str, ...] = ()  # where the objects decide them


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A judged step as people read it: why it matters, what to do here, what breaks without it."""

    key: str
    phase: Phase
    title: str
    judged: Judged
    why: str
    breaks: str
    how: tuple[str, ...]  # commands and fields for this distribution and CNI, in order

    @property
    def state(self) -> StepState:
        return self.judged.state


@dataclass(frozen=True, slots=True, kw_only=True)
class Migration:
    """All steps in order. `family` is the one that is added; with the goal of IPv6 alone always IPv6."""

    family: Family
    goal: frozenset[Family]
    distribution: Distribution
    known_by: str  # what the distribution is recognised by
    network: str  # the pod network, and by what it is known
    steps: tuple[Step, ...]
    notes: tuple[str, ...] = ()  # what stands in the way as a whole
    way_back: tuple[str, ...] = ()
    states: Mapping[Phase, StepState] = field(default_factory=dict)

    @property
    def next(self) -> Step | None:
        """The first missing step."""
        return next((step for step in self.steps if step.state is StepState.MISSING), None)

    @property
    def blind(self) -> bool:
        """Whether something that the API's objects would show was not read."""
        return any(step.state is StepState.UNSEEN and not step.judged.on_node for step in self.steps)

    @property
    def exit_code(self) -> int:
        """0: nothing is missing; 1: something is; 2: nothing that was seen is, and not all could be seen."""
        return 1 if self.next is not None else 2 if self.blind else 0
