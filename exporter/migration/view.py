"""What the functions of steps are given, and how they ask the rules of diagnosis/. Pure.

A rule is asked with the goal's families as the expected ones: before a migration nothing names the family to be added.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from hashlib import sha256
from ipaddress import IPv6Network
from itertools import chain

from exporter.diagnosis.endpoints import API
from exporter.diagnosis.engine.preconditions import bounded, pod_nodes
from exporter.diagnosis.engine.rule_input import RuleInput
from exporter.diagnosis.expectation import families_of_pods
from exporter.diagnosis.network import pod_network
from exporter.diagnosis.ranges import service_ranges
from exporter.diagnosis.rules.cluster import CLUSTER_RULES
from exporter.migration.distribution import Distribution, recognise
from exporter.migration.step import SHOWN, Judged, StepState
from exporter.model.cause import Cause, Role, Severity
from exporter.model.cluster.inventory import Inventory, InventoryOrigin, ResourceKind
from exporter.model.cluster.node import Node
from exporter.model.cni.network import PodNetwork
from exporter.model.family import FAMILIES, Family, Net, family_of
from exporter.model.reason import Reason
from exporter.model.report import Snapshot

BOTH = frozenset(FAMILIES)
EVIDENCE = 5
DONE = Judged(state=StepState.DONE)


@dataclass(frozen=True, slots=True)
class NodeFindings:
    """What node exporters report: the nodes on which a cause was found, and the causes that all of them checked."""

    found: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    checked: frozenset[str] = frozenset()


@dataclass(frozen=True, eq=False, kw_only=True)
class MigrationView:
    inventory: Inventory
    goal: frozenset[Family] = BOTH
    on_nodes: NodeFindings = NodeFindings()

    @cached_property
    def network(self) -> PodNetwork:
        return pod_network(self.inventory)

    @cached_property
    def recognised(self) -> tuple[Distribution, str]:
        return recognise(self.inventory)

    @property
    def distribution(self) -> Distribution:
        return self.recognised[0]

    @cached_property
    def primary(self) -> Family | None:
        """The family of the API server's own Service, which no migration changes; else of the first address.

        Of ServiceCIDRs its own comes first: a further one may have the other family alone.
        """
        inventory = self.inventory
        own = (s.cluster_ips for s in inventory.services or () if s.key == API)
        ranges = sorted(inventory.service_cidrs or (), key=lambda each: not API.endswith(f"/{each.name}"))
        first = chain(
            *own,
            (net for each in ranges for net in each.cidrs),
            (s.families[0] for s in inventory.services or () if s.families),
            (pod.ips[0] for pod in inventory.pods or () if pod.ips),
            (node.internal_ips[0] for node in inventory.nodes or () if node.internal_ips),
        )
        found = next(first, None)
        return found if isinstance(found, Family) or found is None else family_of(found)

    @cached_property
    def family(self) -> Family:
        """The one that is added."""
        return Family.V6 if len(self.goal) == 1 or self.primary is None else self.primary.other

    @cached_property
    def nodes(self) -> tuple[Node, ...]:
        return pod_nodes(self.inventory)

    @cached_property
    def pods_have_it(self) -> bool:
        """Whether some pod of the pod network has an address of the family."""
        return self.family in families_of_pods(self.inventory)

    @cached_property
    def pod_ranges(self) -> tuple[Net, ...]:
        """The IPv6 ranges of pods, as pools, nodes and kubeadm have them."""
        inventory = self.inventory
        found = [pool.cidr for pool in inventory.pools or () if pool.assigns_by_itself]
        found += inventory.cluster_pod_cidrs
        found += [net for node in self.nodes for net in (*node.pod_cidrs, *node.subnets)]
        return tuple(net for net in found if family_of(net) is Family.V6)

    def opted_out(self, namespace: str) -> bool:
        """Whether the namespace has the annotation dualstack-exporter/families without the family."""
        return namespace in self._opted_out

    @cached_property
    def _opted_out(self) -> frozenset[str]:
        spaces = self.inventory.namespaces or ()
        return frozenset(s.name for s in spaces if s.families and self.family not in s.families)

    # The rules of diagnosis

    def by_cause(self, cause: Cause, *kinds: ResourceKind, inventory: Inventory | None = None) -> Judged:
        """What the cause's rule finds; a finding about what has no effect is none. `kinds`: what it needs."""
        judgement = CLUSTER_RULES[cause](self._rule_input(inventory or self.inventory))
        if isinstance(judgement, Reason):
            if judgement in {Reason.NOT_APPLICABLE, Reason.SINGLE_STACK}:
                return not_applicable("does not apply to this cluster")
            unread = next((kind for kind in kinds if kind in self.inventory.unread), None)
            return self.unread(unread) if unread is not None else unseen(f"what shows it was not read ({judgement})")
        findings = [each for each in judgement if not (cause in HARMLESS and each.severity is Severity.INFO)]
        return missing(
            (subject for each in findings for subject in each.subjects),
            (line for each in judgement for line in each.evidence),
        )

    def _rule_input(self, inventory: Inventory) -> RuleInput:
        now = inventory.current_at or inventory.synced or 0.0
        families = {family: family in self.goal for family in FAMILIES}
        return RuleInput(
            now=now,
            snapshot=Snapshot(
                node="",
                role=Role.CLUSTER,
                started=now,
                finished=now,
                complete=True,
                inventory=replace(inventory, stale=False),
                host=None,
                families=families,
            ),
        )

    def unread(self, kind: ResourceKind) -> Judged:
        """A kind of objects that was not read."""
        reason = self.inventory.unread.get(kind, Reason.NO_INVENTORY)
        if reason is Reason.NO_PERMISSION:
            return unseen(f"no permission to read {kind}")
        where = "the file has" if self.inventory.source is InventoryOrigin.FILE else "the API gave"
        return unseen(f"{where} no {kind}" if reason is Reason.NO_INVENTORY else f"{kind} were not read ({reason})")

    def on_node(self, cause: Cause | None) -> Judged:
        """What the API does not show. `cause`: where node exporters report it (about IPv6)."""
        if cause is None or self.family is Family.V4:
            return unseen("only a node shows it", on_node=True)
        if nodes := self.on_nodes.found.get(cause, ()):
            return missing((f"node/{node}" for node in nodes), [f"node exporters report {cause}"])
        if cause in self.on_nodes.checked:
            return replace(DONE, evidence=(f"every node exporter checked {cause}",))
        return unseen(f"only a node shows it: cause {cause} of its node exporter", on_node=True)

    # Ranges to write into commands

    @cached_property
    def pod_range(self) -> str:
        """The pods' ranges as arguments have them, the primary family first."""
        pools = [p.cidr for p in self.inventory.pools or () if not p.disabled and p.assigns_by_itself]
        flags = list(self.inventory.cluster_pod_cidrs)
        return self._both([*flags, *pools], {Family.V6: self._own(0x1000, 52), Family.V4: "10.244.0.0/16"})

    @cached_property
    def service_range(self) -> str:
        ranges = [each.where for each in service_ranges(self.inventory) if not each.is_address]
        found: list[Net] = [net for net in ranges if hasattr(net, "prefixlen")]  # type: ignore[misc]
        return self._both(found, {Family.V6: self._own(0x2000, 108), Family.V4: "10.96.0.0/16"})

    @property
    def new_pod_range(self) -> str:
        return self.pod_range.split(",")[-1]

    def _both(self, known: Iterable[Net], chosen: Mapping[Family, str]) -> str:
        first: dict[Family, str] = {}
        for net in known:
            first.setdefault(family_of(net), str(net))
        order = (self.family.other, self.family)
        return ",".join(first.get(family) or (chosen[family] if family is self.family else "") or f"{family}_RANGE"
                        for family in order)  # fmt: skip

    def _own(self, offset: int, length: int) -> str:
        """A range of unique local addresses of this cluster (RFC 4193): the same at every call, not that of another."""
        name = self.inventory.uid or "\n".join(sorted(node.uid or node.name for node in self.nodes))
        prefix = bytes((0xFD, *sha256(name.encode()).digest()[:5], offset >> 8, offset & 0xFF))
        return str(IPv6Network((prefix + bytes(8), length)))


# What is found only as info for a person: with the families of a migration expected, it changes nothing.
HARMLESS = frozenset({Cause.CONTROL_PLANE_FLAGS})


def missing(objects: Iterable[str], evidence: Iterable[str] = (), *, commands: Iterable[str] = ()) -> Judged:
    """Missing of these objects; done where there are none."""
    found = tuple(dict.fromkeys(map(str, objects)))
    return Judged(
        state=StepState.MISSING if found else StepState.DONE,
        objects=found[:SHOWN],
        total=len(found),
        evidence=bounded(evidence, EVIDENCE),
        commands=tuple(commands),
    )


def unseen(reason: str, *, on_node: bool = False) -> Judged:
    return Judged(state=StepState.UNSEEN, reason=reason, on_node=on_node)


def not_applicable(reason: str) -> Judged:
    return Judged(state=StepState.NOT_APPLICABLE, reason=reason)
