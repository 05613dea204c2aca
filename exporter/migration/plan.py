"""The table of phases and steps, in the order in which they are done, and the Migration that it makes. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache

from exporter.diagnosis.expectation import CONFIGURED
from exporter.migration import infrastructure, workloads
from exporter.migration.advice import OBSTACLES, WAY_BACK, filled, for_shell, how
from exporter.migration.step import Judged, Migration, Phase, Step, StepState
from exporter.migration.view import BOTH, MigrationView, NodeFindings
from exporter.model.cluster.inventory import Came, Inventory, InventoryOrigin
from exporter.model.cni.profile import Cni
from exporter.model.family import Family
from exporter.model.report import Snapshot


@dataclass(frozen=True, slots=True, kw_only=True)
class StepSpec:
    """One row. `only`: of a migration that adds this family; `alone`: only towards a single family."""

    phase: Phase
    judge: Callable[[MigrationView], Judged]
    title: str
    why: str
    breaks: str
    only: Family | None = None
    alone: bool = False

    @property
    def key(self) -> str:
        return self.judge.__name__


_V6 = Family.V6
STEPS: tuple[StepSpec, ...] = (
    StepSpec(
        phase=Phase.NODE_ADDRESSES, judge=infrastructure.addresses,
        title="Each node has an %FAMILY% address on its own link",
        why="Tunnels, NodePorts and pods on the host's network use it.",
        breaks="Nothing of %FAMILY% leaves the node.",
    ),
    StepSpec(
        phase=Phase.NODE_ADDRESSES, judge=infrastructure.internal_ips,
        title="Each Node object has an %FAMILY% InternalIP",
        why="The CNI, kube-proxy and pods on the host's network take the node's address from there.",
        breaks="Pods on the host's network and NodePorts stay %OTHER% only; Cilium and flannel refuse to start.",
    ),
    StepSpec(
        phase=Phase.NODE_KERNEL, judge=infrastructure.stack_enabled, only=_V6,
        title="No sysctl disables IPv6", why="disable_ipv6 removes every IPv6 address.",
        breaks="Neither nodes nor pods get IPv6.",
    ),
    StepSpec(
        phase=Phase.NODE_KERNEL, judge=infrastructure.forwarding, title="Nodes forward %FAMILY%",
        why="A node is the router of its pods.", breaks="Pods reach nothing outside their node over %FAMILY%.",
    ),
    StepSpec(
        phase=Phase.NODE_KERNEL, judge=infrastructure.default_route, title="Nodes have an %FAMILY% default route",
        why="Pods leave the cluster through it. With forwarding on, router advertisements count only with accept_ra 2.",
        breaks="Pods reach no destination outside over %FAMILY%; kubelets may not start.",
    ),
    StepSpec(
        phase=Phase.CONTROL_PLANE, judge=infrastructure.service_range,
        title="The API server has a Service range of %FAMILY%",
        why="ClusterIPs of %FAMILY% come from it. The first range never changes: append, do not reorder.",
        breaks="Every Service stays %OTHER%; RequireDualStack is refused.",
    ),
    StepSpec(
        phase=Phase.CONTROL_PLANE, judge=infrastructure.control_plane_flags,
        title="kube-apiserver and kube-controller-manager have ranges of both families",
        why="They must agree, or endpoints and podCIDRs of %FAMILY% are missing.",
        breaks="New nodes get no podCIDR of %FAMILY%.",
    ),
    StepSpec(
        phase=Phase.CONTROL_PLANE, judge=infrastructure.pod_cidrs, title="Each node has a podCIDR of %FAMILY%",
        why="This CNI gives pods their addresses out of it.", breaks="Pods of such a node get %OTHER% only.",
    ),
    StepSpec(
        phase=Phase.KUBELET, judge=infrastructure.node_ip, title="Kubelets declare both addresses (--node-ip)",
        why="With a --node-ip of one family the node and its pods on the host's network are single-stack.",
        breaks="status.podIPs of pods on the host's network has %OTHER% only.",
    ),
    StepSpec(
        phase=Phase.CNI, judge=infrastructure.pools, title="A pool of %FAMILY% serves every node",
        why="Calico takes pods' addresses from pools.",
        breaks="With the CNI's switch on and no pool, new pods do not start at all: the pool comes first.",
    ),
    StepSpec(
        phase=Phase.CNI, judge=infrastructure.encapsulation, only=_V6, title="Both families are encapsulated alike",
        why="The network between the nodes must carry what is not in a tunnel.",
        breaks="Pods of different nodes reach each other over one family only.",
    ),
    StepSpec(
        phase=Phase.CNI, judge=infrastructure.felix, only=_V6, title="Felix handles IPv6",
        why="Felix programs routes, NAT and policies of IPv6 only with ipv6Support.",
        breaks="Pods have IPv6 addresses and neither tunnel nor policies for them.",
    ),
    StepSpec(
        phase=Phase.CNI, judge=infrastructure.calico_node_addresses, only=_V6,
        title="Calico knows an IPv6 address of each node", why="Its tunnels and routes end there.",
        breaks="Pods of that node and of others do not reach each other over IPv6.",
    ),
    StepSpec(
        phase=Phase.CNI, judge=infrastructure.masquerading, only=_V6,
        title="Unique local addresses of pods are masqueraded", why="The Internet has no route back to fd00::/8.",
        breaks="Pods reach nothing outside over IPv6.",
    ),
    StepSpec(
        phase=Phase.CNI, judge=infrastructure.cni_switch, title="The CNI gives pods %FAMILY%",
        why="Ranges alone change nothing: the CNI has a switch of its own.", breaks="New pods get %OTHER% only.",
    ),
    StepSpec(
        phase=Phase.CNI, judge=infrastructure.mtu, only=_V6, title="The MTU leaves room for the larger header",
        why="VXLAN over IPv6 takes 70 bytes, over IPv4 50.", breaks="Large packets vanish while small ones pass.",
    ),
    StepSpec(
        phase=Phase.KUBE_PROXY, judge=infrastructure.kube_proxy, title="kube-proxy handles both families",
        why="It takes its families from its arguments when it starts.",
        breaks="ClusterIPs of %FAMILY% are refused or lead nowhere.",
    ),
    StepSpec(
        phase=Phase.DNS, judge=infrastructure.dns_service, title="The Service of the cluster's DNS has %FAMILY%",
        why="Pods of %FAMILY% alone have no other nameserver.", breaks="Only pods with %OTHER% can resolve names.",
    ),
    StepSpec(
        phase=Phase.DNS, judge=infrastructure.dns_aaaa, only=_V6, title="The Corefile withholds no AAAA records",
        why="Such templates are often set while a cluster has IPv4 only.", breaks="Nobody uses IPv6 by name.",
    ),
    StepSpec(
        phase=Phase.DNS, judge=infrastructure.upstream, only=_V6, title="Upstream resolvers serve AAAA records",
        why="They may filter them for networks that had no IPv6.", breaks="Outside names resolve to IPv4 only.",
    ),
    StepSpec(
        phase=Phase.DNS, judge=infrastructure.nat64, alone=True, title="IPv4-only destinations are reached by NAT64",
        why="Without IPv4 in pods, names without AAAA need dns64 and a gateway.",
        breaks="Every destination that has IPv4 only is unreachable.",
    ),
    StepSpec(
        phase=Phase.PODS, judge=workloads.pods, title="Pods have been made anew since",
        why="A pod keeps the addresses that it got when it was made.",
        breaks="Old pods stay %OTHER% only and are no endpoints of %FAMILY%.",
    ),
    StepSpec(
        phase=Phase.SERVICES, judge=workloads.services, title="Services have both families",
        why="Existing Services stay SingleStack until somebody changes ipFamilyPolicy.",
        breaks="Clients of %FAMILY% do not reach them; nothing else breaks, so they can wait.",
    ),
    StepSpec(
        phase=Phase.SERVICES, judge=workloads.endpoints, only=_V6, title="Dual-stack Services have IPv6 endpoints",
        why="A ClusterIP without endpoints refuses connections.",
        breaks="Clients that try IPv6 first get errors or delays.",
    ),
    StepSpec(
        phase=Phase.LOAD_BALANCERS, judge=workloads.load_balancers, title="Load balancers have an %FAMILY% address",
        why="The Service's policy alone gives none.", breaks="Clients outside reach them over %OTHER% only.",
    ),
    StepSpec(
        phase=Phase.LOAD_BALANCERS, judge=workloads.ingress, title="Ingresses and Gateways have an %FAMILY% address",
        why="Clients outside follow A and AAAA records.",
        breaks="An AAAA record that comes before the address makes clients wait.",
    ),
    StepSpec(
        phase=Phase.NETWORK_POLICIES, judge=workloads.network_policies,
        title="No network policy names %OTHER% ranges only",
        why="An ipBlock of one family says nothing about the other.",
        breaks="%FAMILY% is denied where a range is allowed, and open where a range is an exception.",
    ),
    StepSpec(
        phase=Phase.APPLICATIONS, judge=workloads.applications, title="Applications listen on %FAMILY%",
        why="0.0.0.0 is IPv4 only.", breaks="Dual-stack Services refuse connections of %FAMILY% to them.",
    ),
    StepSpec(
        phase=Phase.CLIENTS, judge=workloads.clients, title="Clients work with the address that they now try first",
        why="With both families a client's libc sorts addresses by RFC 6724.",
        breaks="Allow lists, certificates or slow paths of the other family show only now.",
    ),
)  # fmt: skip


def plan(
    inventory: Inventory,
    goal: frozenset[Family] = BOTH,
    on_nodes: NodeFindings = NodeFindings(),  # noqa: B008 - frozen
) -> Migration:
    """Every step that applies, judged. `goal`: both families, or the one that is to be alone."""
    view = MigrationView(inventory=inventory, goal=goal, on_nodes=on_nodes)
    rows = [row for row in STEPS if row.only in (None, view.family) and (not row.alone or len(goal) == 1)]
    steps = tuple(_step(row, view) for row in rows)
    return Migration(
        family=view.family,
        goal=goal,
        distribution=view.distribution,
        known_by=view.recognised[1],
        network=view.network.described,
        steps=steps,
        notes=tuple(_notes(view, steps)),
        way_back=for_shell(filled(WAY_BACK, view), view),
        states={phase: _state([s.state for s in steps if s.phase is phase]) for phase in Phase},
    )


@lru_cache(maxsize=2)
def plan_of(snapshot: Snapshot) -> Migration | None:
    """That of a round; None where there is no inventory, or IPv4 alone is configured. Once for all that show it."""
    inventory, families = snapshot.inventory, snapshot.families
    configured = any(CONFIGURED in lines for lines in snapshot.family_evidence.values())
    if inventory.source is InventoryOrigin.NONE or inventory.came is Came.NOTHING:
        return None
    if configured and not families.get(Family.V6):
        return None
    alone = configured and not families.get(Family.V4)
    return plan(inventory, frozenset({Family.V6}) if alone else BOTH)


def _step(row: StepSpec, view: MigrationView) -> Step:
    judged = row.judge(view)
    title, why, breaks = filled((row.title, row.why, row.breaks), view)
    return Step(
        key=row.key,
        phase=row.phase,
        title=title,
        judged=judged,
        why=why,
        breaks=breaks,
        how=for_shell((*how(row.key, view, next(iter(judged.objects), "")), *judged.commands), view),
    )


def _state(states: list[StepState]) -> StepState:
    """Of a phase: the worst of its steps."""
    order = (StepState.MISSING, StepState.UNSEEN, StepState.DONE)
    return next((state for state in order if state in states), StepState.NOT_APPLICABLE)


def _notes(view: MigrationView, steps: tuple[Step, ...]) -> Iterator[str]:
    missing = any(step.state is StepState.MISSING for step in steps)
    obstacle = OBSTACLES.get(view.distribution) or OBSTACLES.get(view.network.cni)
    if missing and obstacle and view.goal == BOTH:
        yield obstacle
    if view.inventory.stale:
        yield "The inventory is stale: what follows was true when it was read."
    if view.network.cni is Cni.UNKNOWN and view.inventory.cni_signs is not None:
        yield f"The CNI is not known: {'; '.join(view.network.evidence[:2])}."
    if missing and view.goal == BOTH and view.primary is Family.V6:
        yield "This cluster's first family is IPv6. If IPv6 alone is intended: --to=ipv6."
    if len(view.goal) == 1 and view.primary is Family.V4:
        yield (
            "The API server's own Service is IPv4, which cannot be changed in place: dual-stack with IPv6 everywhere is"
            " the way, or a new cluster."
        )
