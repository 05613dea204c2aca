"""Causes in the settings of Calico and CoreDNS: CNI configuration, Felix, Corefile. Pure rules of role cluster.

cni_not_assigning_ipv6 serves both roles: a node judges its own file, role cluster the ConfigMap that the file is made
from.
"""

from __future__ import annotations

from exporter.diagnosis.engine.preconditions import bounded, counted, has_calico, lacking, pod_nodes, unread
from exporter.diagnosis.engine.rule_input import Judgement, Rule, RuleInput, finding
from exporter.diagnosis.felix import Setting, ipv6_support, sets_ipv6_support, unseen_environment
from exporter.model.component import CniConfig
from exporter.model.corefile import AaaaBlock, AaaaTreatment, Corefile
from exporter.model.family import Family, family_of
from exporter.model.inventory import ResourceKind
from exporter.model.reason import Reason
from exporter.model.report import Cause, Severity
from exporter.model.subject import Subject, SubjectKind

CALICO_IPAM = "calico-ipam"
DNS64_ANSWERS = frozenset(
    {AaaaTreatment.NODATA, AaaaTreatment.FILTERED, AaaaTreatment.REFUSED, AaaaTreatment.REWRITTEN}
)


def cni_not_assigning_ipv6(view: RuleInput) -> Judgement:
    """Calico's assign_ipv6 is not the string "true" while an IPv6 pool exists."""
    reason = lacking(view.inventory, ResourceKind.IP_POOLS)
    if reason is not None:
        return reason
    if not view.inventory.cni:
        return unread(view.inventory, ResourceKind.CONFIG_MAPS)
    ours = [
        config for config in view.inventory.cni if config.main_plugin == "calico" and config.ipam in ("", CALICO_IPAM)
    ]
    if not ours:
        broken = any(config.error and not config.main_plugin for config in view.inventory.cni)
        return Reason.READER_FAILED if broken else Reason.NOT_APPLICABLE
    pool = next((p for p in view.inventory.pools or () if family_of(p.cidr) is Family.V6), None)
    off = [config for config in ours if not config.assign_ipv6]
    if pool is None or not off:
        return ()
    return (
        finding(
            Cause.CNI_NOT_ASSIGNING_IPV6,
            (_cni_subject(config, view.node) for config in off),
            evidence=[*bounded(map(_cni_evidence, off)), f"pool/{pool.name}: cidr {pool.cidr}"],
            command=_cni_command(off[0]),
        ),
    )


def _cni_subject(config: CniConfig, node: str) -> Subject:
    source = Subject(config.source)
    return source if source.is_a(SubjectKind.CONFIGMAP) else Subject.of(SubjectKind.NODE, node)


def _cni_evidence(config: CniConfig) -> str:
    text = config.assign_ipv6_text
    written = "absent (off)" if text is None else f'"{text}"'
    return f"{config.source}: ipam.assign_ipv6 {written}{f'; {config.error}' if config.error else ''}"


def _cni_command(config: CniConfig) -> str:
    source = Subject(config.source)
    if not source.is_a(SubjectKind.CONFIGMAP):
        return f"grep -A5 ipam {source}"
    return f"kubectl -n {source.namespace} get configmap {source.name} -o jsonpath='{{.data.cni_network_config}}'"


def felix_ipv6_off(view: RuleInput) -> Judgement:
    """Nodes on which Felix's effective ipv6Support is off. An environment that cannot be seen counts as unset, and is mentioned."""
    reason = lacking(view.inventory, ResourceKind.NODES)
    if reason is None and not sets_ipv6_support(view.inventory.calico_node):
        reason = lacking(view.inventory, ResourceKind.FELIX)
    if reason is not None:
        return reason
    if has_calico(view.inventory) is False:
        return Reason.NOT_APPLICABLE
    nodes = tuple(node.name for node in pod_nodes(view.inventory) if not node.windows)
    off = {name: setting for name, setting in ipv6_support(view.inventory, nodes).items() if not setting.value}
    if not off:
        return ()
    unseen = unseen_environment(view.inventory.calico_node)
    return (
        finding(
            Cause.FELIX_IPV6_OFF,
            (Subject.of(SubjectKind.NODE, name) for name in off),
            evidence=[*_felix_evidence(off), *([unseen] if unseen else [])],
            command="kubectl get felixconfigurations -o custom-columns=NAME:.metadata.name,IPV6:.spec.ipv6Support",
        ),
    )


def _felix_evidence(off: dict[str, Setting]) -> tuple[str, ...]:
    by_origin: dict[str, list[str]] = {}
    for name, setting in off.items():
        by_origin.setdefault(setting.origin, []).append(name)
    return bounded(f"{origin} (decides for {counted(len(names), 'node')})" for origin, names in by_origin.items())


def coredns_template_blocks_aaaa(view: RuleInput) -> Judgement:
    """The Corefile, as CoreDNS runs it, withholds AAAA: critical for all names. NodeLocal DNSCache's own counts as well.

    Inline hosts of IPv4 alone are data somebody wrote, not a filter, and make no finding. Where the operator says that
    AAAA is blocked on purpose (dns.aaaa: blocked), it is only information.
    """
    reason = lacking(view.inventory)
    if reason is not None:
        return reason
    corefiles = [each for each in (view.inventory.corefile, view.inventory.node_local) if each is not None]
    if not corefiles:
        return unread(view.inventory, ResourceKind.CONFIG_MAPS)
    found = [(corefile, block) for corefile in corefiles for block in corefile.blocks if _withholds(block, view)]
    if not found:
        return Reason.READER_FAILED if any(corefile.errors for corefile in corefiles) else ()
    severity = Severity.CRITICAL if any(block.all_names for _, block in found) else Severity.WARNING
    corefile, block = found[0]
    namespace, name = _config_map(corefile, block)
    return (
        finding(
            Cause.COREDNS_TEMPLATE_BLOCKS_AAAA,
            (Subject.of(SubjectKind.CONFIGMAP, *_config_map(corefile, block)) for corefile, block in found),
            evidence=bounded(_block_evidence(corefile, block) for corefile, block in found),
            command=f"kubectl -n {namespace} get configmap {name} -o yaml",
            severity=Severity.INFO if view.expect.aaaa == "blocked" else severity,
        ),
    )


def _withholds(block: AaaaBlock, view: RuleInput) -> bool:
    if block.plugin == "hosts":
        return False
    # In a cluster of IPv6 alone every client asks over IPv6, and dns64 gives it AAAA.
    answered = block.ipv4_clients_only and block.fate in DNS64_ANSWERS and view.expected(Family.V4) is False
    return not answered


def _config_map(corefile: Corefile, block: AaaaBlock) -> tuple[str, str]:
    """Where the directive stands: an imported file lies in a ConfigMap of its own."""
    name, slash, _ = block.file.partition("/")
    return corefile.namespace, name if slash else corefile.name


def _block_evidence(corefile: Corefile, block: AaaaBlock) -> str:
    reach = "all names" if block.zone == "." else f"names under {block.zone}"
    reach += f" but those under {', '.join(block.except_zones)}" if block.except_zones else ""
    limits = "" if block.all_names or block.zone != "." else ", limited to some names or clients"
    where = (
        f"{corefile.namespace}/{corefile.name} {block.file}"
        if "/" not in block.file
        else f"{corefile.namespace}/{block.file}"
    )
    return f"{where} line {block.line}: {block.text}: AAAA of {reach} becomes {block.fate}{limits}"


SETTING_RULES: dict[Cause, Rule] = {
    Cause.CNI_NOT_ASSIGNING_IPV6: cni_not_assigning_ipv6,
    Cause.FELIX_IPV6_OFF: felix_ipv6_off,
    Cause.COREDNS_TEMPLATE_BLOCKS_AAAA: coredns_template_blocks_aaaa,
}
