"""Causes that the CNI's own settings show: its switch for IPv6 and its masquerading. Pure; mostly cluster exporter.

Calico's switch is in its CNI configuration, which a node may have as a file; that of another CNI is in the objects that
diagnosis/network.py reads.
"""

from __future__ import annotations

from collections.abc import Sequence

from exporter.diagnosis.engine.preconditions import (
    bounded,
    counted,
    has_calico_ipam,
    lacking,
    listed,
    pod_nodes,
    unread,
)
from exporter.diagnosis.engine.rule_input import Judgement, RuleInput
from exporter.diagnosis.expectation import families_of_pods
from exporter.diagnosis.network import CALICO_IPAM
from exporter.diagnosis.rules.cluster.control_plane import source_subject
from exporter.diagnosis.rules.cluster.pools import UNIQUE_LOCAL
from exporter.diagnosis.rules.judging import found, needs
from exporter.model.cause import Cause, Role, Severity
from exporter.model.cluster.component import CniConfig
from exporter.model.cluster.inventory import Inventory, ResourceKind
from exporter.model.cni.network import SwitchState
from exporter.model.cni.profile import Effect
from exporter.model.family import Family, Net, contains, family_of
from exporter.model.reason import Reason
from exporter.model.report import Finding
from exporter.model.subject import Subject, SubjectKind

PODS_COMMAND = "kubectl get pods -A -o wide"


@needs()
def cni_not_assigning_ipv6(view: RuleInput) -> Judgement:
    """The CNI's own switch for IPv6 is off, or no pod has IPv6 although the nodes have podCIDRs of it.

    A node judges its own file of Calico only; the objects are the same for all of them.
    """
    network = view.network
    if network.profile is None and not view.inventory.cni and view.inventory.cni_signs is None:
        return unread(view.inventory, ResourceKind.CONFIG_MAPS)
    applies = has_calico_ipam(view.inventory, view.network) is not False
    judgement = _calico_not_assigning(view) if applies else Reason.NOT_APPLICABLE
    if network.ipam == CALICO_IPAM or view.role is Role.NODE:
        return judgement
    switched = _switched_off(view)
    other = _no_pod_has_ipv6(view) if switched is None else switched
    found_other = bool(other) and not isinstance(other, Reason)
    return other if found_other or judgement is Reason.NOT_APPLICABLE else judgement


def _calico_not_assigning(view: RuleInput) -> Judgement:
    """Calico's assign_ipv6 is not the string "true" while an IPv6 pool exists."""
    reason = lacking(view.inventory, ResourceKind.IP_POOLS)
    if reason is not None:
        return reason
    if not view.inventory.cni:
        return unread(view.inventory, ResourceKind.CONFIG_MAPS)
    calico = [c for c in view.inventory.cni if c.main_plugin == "calico" and c.ipam in ("", CALICO_IPAM)]
    if not calico:
        broken = any(config.error and not config.main_plugin for config in view.inventory.cni)
        return Reason.READER_FAILED if broken else Reason.NOT_APPLICABLE
    pool = next((p for p in view.inventory.pools or () if p.family is Family.V6), None)
    off = [config for config in calico if not config.assign_ipv6]
    if pool is None or not off:
        return ()
    return found(
        Cause.CNI_NOT_ASSIGNING_IPV6,
        (source_subject(config, view.node) for config in off),
        evidence=[*bounded(map(_cni_evidence, off)), f"{pool.subject}: cidr {pool.cidr}"],
        command=_cni_command(off[0]),
    )


def _cni_evidence(config: CniConfig) -> str:
    text = config.assign_ipv6_text
    written = "absent (off)" if text is None else f'"{text}"'
    return f"{config.source}: ipam.assign_ipv6 {written}{f'; {config.error}' if config.error else ''}"


def _cni_command(config: CniConfig) -> str:
    shown = config.subject
    if shown is None:
        return f"grep -A5 ipam {config.source}"
    return f"kubectl -n {shown.namespace} get configmap {shown.name} -o jsonpath='{{.data.cni_network_config}}'"


def _switched_off(view: RuleInput) -> Judgement | None:
    """The switch of another CNI, or the subnets that it gave its nodes; None where neither shows anything."""
    network, inventory = view.network, view.inventory
    state = network.switch(Effect.IPV6)
    present = _some_pod_has_ipv6(inventory)
    if state is not None and state.on is False:
        # A switch that contradicts what is there was changed after the pods, or counts for something else.
        return _finding_of(Cause.CNI_NOT_ASSIGNING_IPV6, state, view, severity=Severity.INFO if present else None)
    subnets = {node.name: node.subnets for node in pod_nodes(inventory) if node.subnets}
    without = [name for name, nets in subnets.items() if not any(family_of(net) is Family.V6 for net in nets)]
    if network.profile is None or not network.profile.subnet_annotations or not without or present:
        return () if state is not None and state.on and present else None
    key = network.profile.subnet_annotations[0]
    return found(
        Cause.CNI_NOT_ASSIGNING_IPV6,
        (Subject.of(SubjectKind.NODE, name) for name in without),
        evidence=bounded(f"node/{name} annotation {key}: {listed(map(str, subnets[name]))}" for name in without),
        command=f"kubectl get node {without[0]} -o jsonpath='{{.metadata.annotations}}'",
    )


def _finding_of(
    cause: Cause, state: SwitchState, view: RuleInput, *, severity: Severity | None, more: Sequence[str] = ()
) -> tuple[Finding, ...]:
    """About the ConfigMap with the switch, or about every node where an agent or the nodes themselves have it."""
    nodes = [node.subject for node in pod_nodes(view.inventory)]
    return found(
        cause,
        [state.subject] if state.subject is not None else nodes,
        evidence=[state.text, *more],
        command=_command_of(state),
        severity=severity,
    )


def _command_of(state: SwitchState) -> str:
    """How to see the object that has the switch."""
    kind, _, rest = state.source.partition(" ")[0].partition("/")
    if kind == "node":
        return f"kubectl get node {rest} -o jsonpath='{{.metadata.annotations}}'"
    namespace, _, name = (rest or state.source.partition(" ")[2]).partition("/")
    return f"kubectl -n {namespace} get {kind} {name} -o yaml"


def _some_pod_has_ipv6(inventory: Inventory) -> bool:
    """By its status, or by what its CNI noted on it, whether or not the API reports that."""
    noted = (address for pod in inventory.pods or () if not pod.host_network for address in pod.annotated_ips)
    return Family.V6 in families_of_pods(inventory) or any(family_of(address) is Family.V6 for address in noted)


def _no_pod_has_ipv6(view: RuleInput) -> Judgement:
    """Nodes have podCIDRs of IPv6, from which the CNI may give addresses, and no pod of the cluster has one."""
    inventory = view.inventory
    reason = lacking(inventory, ResourceKind.NODES, ResourceKind.PODS)
    if reason is not None:
        return reason
    ranges = [node for node in pod_nodes(inventory) if any(family_of(net) is Family.V6 for net in node.pod_cidrs)]
    pods = [p for p in inventory.pods or () if not p.host_network and p.ips and not p.address_choice and not p.families]
    if view.network.uses_pod_cidrs is False or not ranges or not pods:
        return Reason.NOT_APPLICABLE
    if _some_pod_has_ipv6(inventory):
        return ()
    shown = pods[0]
    return found(
        Cause.CNI_NOT_ASSIGNING_IPV6,
        (node.subject for node in ranges),
        evidence=[
            f"{counted(len(ranges), 'node')} with an IPv6 podCIDR: {ranges[0].subject} [{_v6(ranges[0].pod_cidrs)}]",
            f"none of {counted(len(pods), 'pod')} has an IPv6 address: {shown.subject} [{listed(map(str, shown.ips))}]",
        ],
        command=PODS_COMMAND,
    )


def _v6(nets: Sequence[Net]) -> str:
    return listed(str(net) for net in nets if family_of(net) is Family.V6)


@needs(ResourceKind.NODES)
def cni_ipv6_masquerade_off(view: RuleInput) -> Judgement:
    """Pods have unique local addresses and the CNI's switch to masquerade IPv6 is off. Not for Calico's own pools."""
    network = view.network
    state = network.switch(Effect.MASQUERADE_IPV6)
    if network.ipam == CALICO_IPAM or state is None:
        return Reason.NOT_APPLICABLE
    local = _unique_local(view.inventory)
    if state.on or not local:
        return ()
    more = [f"pods have unique local addresses (fc00::/7): {local}"]
    return _finding_of(Cause.CNI_IPV6_MASQUERADE_OFF, state, view, severity=Severity.INFO, more=more)


def _unique_local(inventory: Inventory) -> str:
    """A pod with such an address, else a node whose pods have them; empty where there is none."""
    for pod in inventory.pods or ():
        address = next((ip for ip in pod.ips if not pod.host_network and ip in UNIQUE_LOCAL), None)
        if address is not None:
            return f"{pod.subject} {address}"
    for node in pod_nodes(inventory):
        net = next((net for net in (*node.pod_cidrs, *node.subnets) if contains(UNIQUE_LOCAL, net)), None)
        if net is not None:
            return f"{node.subject} {net}"
    return ""
