"""The cause that component arguments show: not dual-stack, not agreeing, removed. A pure rule for both roles.

A node judges the files mounted on it, the cluster exporter what pods and ConfigMaps show. Nothing is assumed of
components that are not visible.
"""

from __future__ import annotations

from collections.abc import Iterator

from exporter.diagnosis.engine.preconditions import bounded, listed, pod_nodes, unread
from exporter.diagnosis.engine.rule_input import Judgement, RuleInput
from exporter.diagnosis.expectation import families_of_pods
from exporter.diagnosis.network import CALICO_IPAM
from exporter.diagnosis.rules.judging import found, needs
from exporter.model.cause import Cause, Severity
from exporter.model.cluster.component import CniConfig, ComponentFlags, release_of
from exporter.model.cluster.inventory import Inventory, ResourceKind
from exporter.model.family import FAMILIES, Family, Net, family_of, parse_address, parse_net
from exporter.model.grouping import grouped
from exporter.model.subject import Subject, SubjectKind

RANGES = {
    "kube-apiserver": ("service-cluster-ip-range",),
    "kube-controller-manager": ("service-cluster-ip-range", "cluster-cidr"),
    "kube-proxy": ("cluster-cidr",),
}
AGREEING = ("service-cluster-ip-range", "cluster-cidr")
# Feature gates about address families that are gone, and since which Kubernetes version; a component refuses to start
# with them.
REMOVED_GATES = {"IPv6DualStack": (1, 25), "MultiCIDRRangeAllocator": (1, 29), "CloudDualStackNodeIPs": (1, 32)}
MICROK8S = "/snap/microk8s/"  # in the path of its components' arguments
NO_POD_CIDRS = ": nodes get no podCIDR"
TRUE = frozenset({"true", "t", "1"})  # strconv.ParseBool, in lower case
_OBJECTS = (SubjectKind.POD, SubjectKind.CONFIGMAP)  # kinds of objects that show arguments


@needs()
def control_plane_flags(view: RuleInput) -> Judgement:
    """Visible arguments that leave out an expected family, disagree, or no longer exist.

    MicroK8s gives nodes no podCIDRs by default. That alone is info where pods have their addresses from Calico's pools.
    """
    components = view.inventory.components
    if not components:
        return unread(view.inventory, ResourceKind.PODS)
    wanted = frozenset(family for family in FAMILIES if view.expected(family))
    problems = [(each, problem) for each in components for problem in _problems(each, wanted, view.inventory)]
    problems += _disagreements(components)
    if not problems:
        return ()
    by_pools = view.network.ipam == CALICO_IPAM and wanted <= families_of_pods(view.inventory)
    harmless = by_pools and all(
        MICROK8S in each.source and problem.endswith(NO_POD_CIDRS) for each, problem in problems
    )
    return found(
        Cause.CONTROL_PLANE_FLAGS,
        (source_subject(flags, flags.node) for flags, _ in problems),
        evidence=bounded(
            (
                *dict.fromkeys(problem for _, problem in problems),
                *(("pods have addresses of Calico's pools, for which no podCIDR is needed",) if harmless else ()),
            )
        ),
        command=_command(problems[0][0]),
        severity=Severity.INFO if harmless else None,
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


def _problems(flags: ComponentFlags, wanted: frozenset[Family], inventory: Inventory) -> Iterator[str]:
    where = f"{flags.component} ({flags.source})"
    for name in RANGES.get(flags.component, ()):
        nets = networks(flags, name)
        missing = wanted - {family_of(net) for net in nets}
        if nets and missing:
            yield f"{where}: --{name}={flags.arguments[name]} names no {listed(sorted(missing))}"
    if flags.component == "kube-controller-manager":
        yield from (f"{where}: {problem}" for problem in _manager_problems(flags, wanted, inventory))
    if flags.component == "kubelet":
        yield from (f"{where}: {problem}" for problem in _kubelet_problems(flags, wanted, inventory))
    release = _release_of(flags, inventory)
    for gate in flags.arguments.get("feature-gates", "").split(","):
        removed = REMOVED_GATES.get(name := gate.partition("=")[0].strip())
        if removed is not None and release is not None and release >= removed:
            yield f"{where}: feature gate {name} does not exist since Kubernetes {removed[0]}.{removed[1]}"


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


def _manager_problems(flags: ComponentFlags, wanted: frozenset[Family], inventory: Inventory) -> Iterator[str]:
    nets = networks(flags, "cluster-cidr")
    if nets and not allocates(flags) and _lack_pod_cidrs(wanted, inventory):
        given = flags.arguments.get("allocate-node-cidrs")
        shown = f"--allocate-node-cidrs={given}" if given is not None else "no --allocate-node-cidrs"
        yield f"--cluster-cidr is given and {shown}{NO_POD_CIDRS}"
    if len(set(map(family_of, nets))) == 2 and flags.arguments.get("node-cidr-mask-size", "0") != "0":
        yield "--node-cidr-mask-size is refused with two families; -ipv4 and -ipv6 take its place"


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


def _disagreements(components: tuple[ComponentFlags, ...]) -> Iterator[tuple[ComponentFlags, str]]:
    """Arguments that must be the same everywhere and are not; the order of the families does not matter here."""
    for name in AGREEING:
        stated = [(flags, nets) for flags in components if (nets := frozenset(networks(flags, name)))]
        by_value = grouped(stated, lambda item: item[1])
        if len(by_value) > 1:
            values = (
                f"{each[0][0].arguments[name]} in {listed((f'{f.component} ({f.source})' for f, _ in each), 3)}"
                for each in by_value.values()
            )
            line = f"--{name} differs: {'; '.join(values)}"
            yield from ((flags, line) for each in by_value.values() for flags, _ in each)


def _command(flags: ComponentFlags) -> str:
    shown = flags.subject
    if shown is None:
        return f"cat {flags.source}"
    if shown.is_a(SubjectKind.NODE):  # k3s and RKE2 write their own arguments into annotations
        return f"kubectl get node {flags.node} -o jsonpath='{{.metadata.annotations}}'"
    form = "-o jsonpath='{.spec.containers[*].command}'" if shown.is_a(SubjectKind.POD) else "-o yaml"
    return f"kubectl -n {shown.namespace} get {shown.kind} {shown.name} {form}"
