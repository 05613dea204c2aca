"""The cause that component arguments show: not dual-stack, not agreeing, removed. A pure rule for both roles.

A node judges the files mounted on it, the cluster exporter what pods and ConfigMaps show. Nothing is assumed of
components that are not visible.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from exporter.diagnosis.engine.preconditions import bounded, listed, pod_nodes, unread
from exporter.diagnosis.engine.rule_input import Judgement, RuleInput
from exporter.diagnosis.expectation import families_of_pods
from exporter.diagnosis.rules.judging import found, needs
from exporter.model.cause import Cause, Severity
from exporter.model.cluster.component import CniConfig, ComponentFlags, release_of
from exporter.model.cluster.inventory import Inventory, ResourceKind
from exporter.model.family import FAMILIES, Family, Net, family_of, parse_address, parse_net
from exporter.model.grouping import grouped
from exporter.model.subject import Subject, SubjectKind

SERVICE_RANGE = "service-cluster-ip-range"
RANGES = {
    "kube-apiserver": (SERVICE_RANGE,),
    "kube-controller-manager": (SERVICE_RANGE, "cluster-cidr"),
    "kube-proxy": ("cluster-cidr",),
}
AGREEING = (SERVICE_RANGE, "cluster-cidr")
# Feature gates about address families that are gone, and since which Kubernetes version; a component refuses to start
# with them.
REMOVED_GATES = {"IPv6DualStack": (1, 25), "MultiCIDRRangeAllocator": (1, 29), "CloudDualStackNodeIPs": (1, 32)}
MICROK8S = "/snap/microk8s/"  # in the path of its components' arguments
TRUE = frozenset({"true", "t", "1"})  # strconv.ParseBool, in lower case
_OBJECTS = (SubjectKind.POD, SubjectKind.CONFIGMAP)  # kinds of objects that show arguments


@dataclass(frozen=True, slots=True)
class _Problem:
    """What is wrong with one component's arguments. `harmless`: what is there shows that it has no effect."""

    flags: ComponentFlags
    text: str
    harmless: bool = False


@needs()
def control_plane_flags(view: RuleInput) -> Judgement:
    """Visible arguments that leave out an expected family, disagree, or no longer exist.

    Those of kube-controller-manager are info where what is there contradicts them: Services, nodes or pods have the
    family that the argument leaves out, or, in MicroK8s, pods have their addresses from pools and need no podCIDRs.
    """
    components = view.inventory.components
    if not components:
        return unread(view.inventory, ResourceKind.PODS)
    wanted = frozenset(family for family in FAMILIES if view.expected(family))
    present = _Present.of(view)
    problems = [problem for each in components for problem in _problems(each, wanted, present)]
    problems += _disagreements(components)
    if not problems:
        return ()
    harmless = all(problem.harmless for problem in problems)
    evidence = dict.fromkeys(problem.text for problem in problems)
    return found(
        Cause.CONTROL_PLANE_FLAGS,
        (source_subject(problem.flags, problem.flags.node) for problem in problems),
        evidence=bounded((*evidence, *(("Services, nodes and pods have what these leave out",) if harmless else ()))),
        command=_command(problems[0].flags),
        severity=Severity.INFO if harmless else None,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Present:
    """The families that are there, whatever arguments say."""

    inventory: Inventory
    services: frozenset[Family]
    pods: frozenset[Family]  # that pods have and for which no podCIDRs are needed
    nodes: frozenset[Family]  # of which every node has a podCIDR

    @classmethod
    def of(cls, view: RuleInput) -> _Present:
        inventory = view.inventory
        nodes = pod_nodes(inventory) if inventory.nodes is not None else []
        have = [{family_of(net) for net in node.pod_cidrs} for node in nodes]
        ranges = (net for each in inventory.service_cidrs or () if each.ready for net in each.cidrs)
        addresses = (address for each in inventory.services or () for address in each.cluster_ips)
        return cls(
            inventory=inventory,
            services=frozenset(map(family_of, (*ranges, *addresses))),
            pods=families_of_pods(inventory) if view.network.uses_pod_cidrs is False else frozenset(),
            nodes=frozenset(FAMILIES).intersection(*have) if have else frozenset(),
        )


def source_subject(shown: CniConfig | ComponentFlags, node: str) -> Subject:
    """The object that shows a setting; the node, where it is a file."""
    return shown.subject or Subject.of(SubjectKind.NODE, node)


def allocates(flags: ComponentFlags) -> bool:
    """Whether kube-controller-manager gives nodes their podCIDRs."""
    return flags.arguments.get("allocate-node-cidrs", "").lower() in TRUE


def networks(flags: ComponentFlags, name: str) -> list[Net]:
    """The networks that an argument names."""
    return [net for net in map(parse_net, flags.arguments.get(name, "").split(",")) if net is not None]


def _problems(flags: ComponentFlags, wanted: frozenset[Family], present: _Present) -> Iterator[_Problem]:
    where = f"{flags.component} ({flags.source})"
    for name in RANGES.get(flags.component, ()):
        nets = networks(flags, name)
        missing = wanted - {family_of(net) for net in nets}
        if nets and missing and not _is_ignored(flags, name):
            there = present.services if name == SERVICE_RANGE else present.nodes | present.pods
            text = f"{where}: --{name}={flags.arguments[name]} names no {listed(sorted(missing))}"
            # What is there may be older than arguments of kube-apiserver, and does not show what kube-proxy does.
            yield _Problem(flags, text, harmless=flags.component == "kube-controller-manager" and missing <= there)
    if flags.component == "kube-controller-manager":
        yield from _manager_problems(flags, where, wanted, present)
    if flags.component == "kubelet":
        yield from (_Problem(flags, f"{where}: {text}") for text in _kubelet_problems(flags, wanted, present.inventory))
    release = _release_of(flags, present.inventory)
    for gate in flags.arguments.get("feature-gates", "").split(","):
        removed = REMOVED_GATES.get(name := gate.partition("=")[0].strip())
        if removed is not None and release is not None and release >= removed:
            text = f"{where}: feature gate {name} does not exist since Kubernetes {removed[0]}.{removed[1]}"
            yield _Problem(flags, text)


def _is_ignored(flags: ComponentFlags, name: str) -> bool:
    """kube-proxy reads cluster-cidr only where it recognises pods' traffic by it, which is the default."""
    mode = flags.arguments.get("detect-local-mode", "")
    return flags.component == "kube-proxy" and name == "cluster-cidr" and mode not in {"", "ClusterCIDR"}


def _release_of(flags: ComponentFlags, inventory: Inventory) -> tuple[int, int] | None:
    """By its image, else at least that of its node's kubelet, else of the oldest kubelet: none is older than those."""
    node = inventory.node(flags.node)
    kubelets = (release_of(n.kubelet_version) for n in ([node] if node is not None else inventory.nodes or ()))
    return release_of(flags.version) or min(filter(None, kubelets), default=None)


def _lack_pod_cidrs(wanted: frozenset[Family], inventory: Inventory) -> bool:
    """Whether some node has no podCIDR of an expected family; where nodes were not read, it may be so."""
    return inventory.nodes is None or any(
        wanted - {family_of(net) for net in node.pod_cidrs} for node in pod_nodes(inventory)
    )


def _manager_problems(
    flags: ComponentFlags, where: str, wanted: frozenset[Family], present: _Present
) -> Iterator[_Problem]:
    nets = networks(flags, "cluster-cidr")
    if nets and not allocates(flags) and _lack_pod_cidrs(wanted, present.inventory):
        given = flags.arguments.get("allocate-node-cidrs")
        shown = f"--allocate-node-cidrs={given}" if given is not None else "no --allocate-node-cidrs"
        text = f"{where}: --cluster-cidr is given and {shown}: nodes get no podCIDR"
        yield _Problem(flags, text, harmless=MICROK8S in flags.source and wanted <= present.pods)
    if len(set(map(family_of, nets))) == 2 and flags.arguments.get("node-cidr-mask-size", "0") != "0":
        text = "--node-cidr-mask-size is refused with two families; -ipv4 and -ipv6 take its place"
        yield _Problem(flags, f"{where}: {text}")


def _kubelet_problems(flags: ComponentFlags, wanted: frozenset[Family], inventory: Inventory) -> Iterator[str]:
    """A node-ip of one family makes the node single-stack, unless a cloud provider completed its addresses."""
    parsed = map(parse_address, flags.arguments.get("node-ip", "").split(","))
    given = [address for address in parsed if address is not None]
    if not given or any(address.is_unspecified for address in given):
        return
    node = inventory.node(flags.node)
    known = {family_of(address) for address in (*given, *(node.internal_ips if node is not None else ()))}
    if wanted - known:
        yield f"--node-ip={flags.arguments['node-ip']} names no {listed(sorted(wanted - known))}"


def _disagreements(components: tuple[ComponentFlags, ...]) -> Iterator[_Problem]:
    """Arguments that must be the same everywhere and are not; the order of the families does not matter here."""
    for name in AGREEING:
        read = [flags for flags in components if not _is_ignored(flags, name)]
        stated = [(flags, nets) for flags in read if (nets := frozenset(networks(flags, name)))]
        by_value = grouped(stated, lambda item: item[1])
        if len(by_value) > 1:
            values = (
                f"{each[0][0].arguments[name]} in {listed((f'{f.component} ({f.source})' for f, _ in each), 3)}"
                for each in by_value.values()
            )
            line = f"--{name} differs: {'; '.join(values)}"
            yield from (_Problem(flags, line) for each in by_value.values() for flags, _ in each)


def _command(flags: ComponentFlags) -> str:
    shown = flags.subject
    if shown is None:
        return f"cat {flags.source}"
    if shown.is_a(SubjectKind.NODE):  # k3s and RKE2 write their own arguments into annotations
        return f"kubectl get node {flags.node} -o jsonpath='{{.metadata.annotations}}'"
    form = "-o jsonpath='{.spec.containers[*].command}'" if shown.is_a(SubjectKind.POD) else "-o yaml"
    return f"kubectl -n {shown.namespace} get {shown.kind} {shown.name} {form}"
