"""Causes in the settings of Felix and CoreDNS. Pure rules; cluster exporter."""

from __future__ import annotations

from exporter.config.schema import AaaaPolicy
from exporter.diagnosis.engine.preconditions import bounded, counted, has_calico, pod_nodes, unread
from exporter.diagnosis.engine.rule_input import Judgement, RuleInput
from exporter.diagnosis.felix import ipv6_support, sets_ipv6_support, unseen_environment
from exporter.diagnosis.rules.judging import found, needs
from exporter.model.cause import Cause, Severity
from exporter.model.cluster.corefile import AaaaBlock, AaaaTreatment, Corefile
from exporter.model.cluster.inventory import InventoryOrigin, ResourceKind
from exporter.model.family import Family
from exporter.model.reason import Reason
from exporter.model.subject import Subject, SubjectKind

DNS64_ANSWERS = frozenset(
    {AaaaTreatment.NODATA, AaaaTreatment.FILTERED, AaaaTreatment.REFUSED, AaaaTreatment.REWRITTEN}
)


@needs(ResourceKind.NODES)
def felix_ipv6_off(view: RuleInput) -> Judgement:
    """Nodes where Felix's effective ipv6Support is off. Environment that cannot be read counts as unset."""
    inventory = view.inventory
    if inventory.felix is None and not sets_ipv6_support(inventory.calico_node):
        return unread(inventory, ResourceKind.FELIX)
    if has_calico(inventory) is False:
        return Reason.NOT_APPLICABLE
    nodes = {node.name: node for node in pod_nodes(inventory) if not node.windows}
    by_origin: dict[str, list[Subject]] = {}
    for name, setting in ipv6_support(inventory, tuple(nodes)).items():
        if not setting.value:
            by_origin.setdefault(setting.origin, []).append(nodes[name].subject)
    if not by_origin:
        return ()
    unseen = unseen_environment(inventory.calico_node)
    return found(
        Cause.FELIX_IPV6_OFF,
        (subject for subjects in by_origin.values() for subject in subjects),
        evidence=[
            *bounded(f"{origin} (decides for {counted(len(off), 'node')})" for origin, off in by_origin.items()),
            *([unseen] if unseen else []),
        ],
        command="kubectl get felixconfigurations -o custom-columns=NAME:.metadata.name,IPV6:.spec.ipv6Support",
    )


@needs()
def coredns_template_blocks_aaaa(view: RuleInput) -> Judgement:
    """The Corefile, as CoreDNS runs it, or NodeLocal DNSCache's own withholds AAAA: critical for all names.

    Inline hosts with IPv4 only are data, not a filter, and make no finding. Where the operator configured that AAAA is
    blocked on purpose (dns.aaaa: blocked), it is only information.
    """
    corefiles = [each for each in (view.inventory.corefile, view.inventory.node_local) if each is not None]
    if not corefiles:
        return unread(view.inventory, ResourceKind.CONFIG_MAPS)
    blocks = [(corefile, block) for corefile in corefiles for block in corefile.blocks if _withholds(block, view)]
    if not blocks and view.inventory.corefiles_unread:
        return Reason.NO_PERMISSION if view.inventory.source is InventoryOrigin.KUBERNETES else Reason.NO_INVENTORY
    if not blocks:
        return Reason.READER_FAILED if any(corefile.errors for corefile in corefiles) else ()
    severity = Severity.CRITICAL if any(block.all_names for _, block in blocks) else Severity.WARNING
    first = _config_map(*blocks[0])
    return found(
        Cause.COREDNS_TEMPLATE_BLOCKS_AAAA,
        (_config_map(corefile, block) for corefile, block in blocks),
        evidence=bounded(_block_evidence(corefile, block) for corefile, block in blocks),
        command=f"kubectl -n {first.namespace} get configmap {first.name} -o yaml",
        severity=Severity.INFO if view.expect.aaaa is AaaaPolicy.BLOCKED else severity,
    )


def _withholds(block: AaaaBlock, view: RuleInput) -> bool:
    if block.plugin == "hosts":
        return False
    # In an IPv6-only cluster every client asks over IPv6, and dns64 gives it AAAA.
    answered = block.ipv4_clients_only and block.fate in DNS64_ANSWERS and view.expected(Family.V4) is False
    return not answered


def _config_map(corefile: Corefile, block: AaaaBlock) -> Subject:
    """The ConfigMap with the directive: an imported file is in one of its own."""
    name, slash, _ = block.file.partition("/")
    return Subject.of(SubjectKind.CONFIGMAP, corefile.namespace, name if slash else corefile.name)


def _block_evidence(corefile: Corefile, block: AaaaBlock) -> str:
    reach = "all names" if block.zone == "." else f"names under {block.zone}"
    reach += f" but those under {', '.join(block.except_zones)}" if block.except_zones else ""
    limits = "" if block.all_names or block.zone != "." else ", limited to some names or clients"
    where = block.file if "/" in block.file else f"{corefile.name} {block.file}"
    return f"{corefile.namespace}/{where} line {block.line}: {block.text}: AAAA of {reach} becomes {block.fate}{limits}"
