"""Policies of every kind, reduced to the pods they select and what they do to each family. Pure; for objects.py.

A draft still has its selectors: selection.py evaluates them once pods and namespaces are known. A policy restricts a
family if it does not allow the pods it selects to send everything everywhere (model.policy.Policy).
The parsers raise SelectorError where a selector is not valid.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from exporter.inventory.parse.fields import items, mapping, name_of, number, objects, text, texts
from exporter.inventory.parse.selectors import NAMESPACE_LABEL, parse_calico, parse_labels
from exporter.model.cluster.policy import Gap, Policy, PolicyKind
from exporter.model.cluster.selector import EVERYTHING, LabelExpression, Some
from exporter.model.family import FAMILIES, Family, family_of, parse_net

MAX_RULES = 1_000
INGRESS, EGRESS = "ingress", "egress"
Families: TypeAlias = frozenset[Family]
Gaps: TypeAlias = tuple[tuple[str, Family, Gap], ...]
BOTH: Families = frozenset(FAMILIES)
NONE: Families = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyDraft:
    """A policy before its selectors are evaluated; `pods` None: it selects no pod.

    `namespaces` limits a cluster-wide one to some namespaces, `accounts` one of Calico's to some service accounts.
    """

    policy: Policy
    pods: LabelExpression | None = EVERYTHING
    namespaces: LabelExpression = EVERYTHING
    accounts: LabelExpression = EVERYTHING

    @property
    def key(self) -> str:
        return f"{self.policy.kind}/{self.policy.namespace}/{self.policy.name}"


# Helpers for every kind of policy

_NAMESPACED = frozenset({PolicyKind.KUBERNETES, PolicyKind.CALICO, PolicyKind.CILIUM})


def _policy(source: Mapping[str, Any], kind: PolicyKind, restricts_egress: Families, gaps: Gaps) -> Policy:
    metadata = mapping(source.get("metadata"))
    namespace = name_of(metadata.get("namespace")) if kind in _NAMESPACED else ""
    name = name_of(metadata.get("name"))
    return Policy(kind=kind, namespace=namespace, name=name, restricts_egress=restricts_egress, gaps=gaps)


def rules_of(spec: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    """The rules of one direction."""
    return objects(spec.get(key))[:MAX_RULES]


def families_of(cidrs: Iterable[object]) -> Families:
    """The families that a list of CIDR texts names."""
    return frozenset(family_of(net) for net in map(parse_net, cidrs) if net is not None)


def part_families(cidrs: Iterable[object]) -> Families:
    """The families of which the CIDRs name a part."""
    return frozenset(family_of(net) for net in map(parse_net, cidrs) if net is not None and net.prefixlen > 0)


def whole_families(cidrs: Iterable[object]) -> Families:
    """The families of which the CIDRs cover every address in one piece (0.0.0.0/0, ::/0)."""
    return frozenset(family_of(net) for net in map(parse_net, cidrs) if net is not None and net.prefixlen == 0)


def decide(rules: Iterable[tuple[bool, Families]]) -> tuple[Families, Families]:
    """The families that ordered rules allow and deny. A rule is whether it allows, and the families it decides."""
    allowed, denied = NONE, NONE
    for allows, families in rules:
        if allows:
            allowed |= families - denied
        else:
            denied |= families - allowed
    return allowed, denied


def family_gaps(
    direction: str,
    *,
    named: Families = NONE,
    excepted: Families = NONE,
    opened: Families = NONE,
    denied: Families = NONE,
    refused: Families = NONE,
) -> Gaps:
    """What happens to one family alone: the one that a rule denies as a whole (`refused`), or that CIDRs leave out.

    The latter is denied where allow rules name one family (`named`) and no rule allows the other as a whole (`opened`),
    open where exceptions name one (`excepted`) and the other is allowed as a whole, or deny rules name one (`denied`).
    """
    if len(refused) == 1:
        return ((direction, next(iter(refused)), Gap.REFUSED),)
    left_out = _left_out(named)
    if left_out is not None and left_out not in opened:
        return ((direction, left_out, Gap.DENIED),)
    for families, allowed in ((excepted, opened), (denied, BOTH)):
        left_out = _left_out(families)
        if left_out is not None and left_out in allowed:
            return ((direction, left_out, Gap.OPEN),)
    return ()


def _left_out(named: Families) -> Family | None:
    """The other family where exactly one is named."""
    return next(iter(named)).other if len(named) == 1 else None


# Kubernetes: allow lists that add up


def parse_network_policy(source: Mapping[str, Any]) -> PolicyDraft:
    """A networking.k8s.io/v1 NetworkPolicy; a direction is closed by naming it in policyTypes."""
    spec = mapping(source.get("spec"))
    ingress, egress = rules_of(spec, INGRESS), rules_of(spec, EGRESS)
    types = texts(spec.get("policyTypes")) or (("Ingress", "Egress") if egress else ("Ingress",))
    gaps: Gaps = ()
    if "Ingress" in types:
        gaps += _allow_list_gaps(INGRESS, [objects(rule.get("from")) for rule in ingress])
    if "Egress" in types:
        gaps += _allow_list_gaps(EGRESS, [objects(rule.get("to")) for rule in egress])
    restricts = BOTH - _allowed_outwards(egress) if "Egress" in types else NONE
    policy = _policy(source, PolicyKind.KUBERNETES, restricts, gaps)
    return PolicyDraft(policy=policy, pods=parse_labels(spec.get("podSelector")))


def _allowed_outwards(rules: list[Mapping[str, Any]]) -> Families:
    """The families in which some rule allows every destination and port."""
    allowed: Families = NONE
    for rule in rules:
        if items(rule.get("ports")):
            continue
        peers = objects(rule.get("to"))
        if not peers:
            return BOTH
        blocks = (mapping(peer.get("ipBlock")) for peer in peers)
        allowed |= whole_families(block.get("cidr") for block in blocks if not items(block.get("except")))
    return allowed


def _allow_list_gaps(direction: str, peer_lists: list[list[Mapping[str, Any]]]) -> Gaps:
    """Gaps of one direction's ipBlocks; none where a rule without peers allows everybody anyway."""
    if not all(peer_lists):
        return ()
    blocks = [mapping(peer.get("ipBlock")) for peers in peer_lists for peer in peers]
    cidrs = [block.get("cidr") for block in blocks]
    excepted = families_of(each for block in blocks for each in items(block.get("except")))
    return family_gaps(direction, named=families_of(cidrs), excepted=excepted, opened=whole_families(cidrs))


# AdminNetworkPolicy with its Baseline twin, and ClusterNetworkPolicy with tiers in their place
# (policy.networking.k8s.io): ordered rules, and what none decides is allowed


def parse_admin_policy(source: Mapping[str, Any], kind: PolicyKind) -> PolicyDraft:
    """Only its Deny rules restrict."""
    spec = mapping(source.get("spec"))
    subject = mapping(spec.get("subject"))
    pods = mapping(subject.get("pods"))
    namespaces = pods.get("namespaceSelector") if pods else subject.get("namespaces")
    rules = rules_of(spec, EGRESS)
    denied = part_families(net for rule in rules if rule.get("action") == "Deny" for net in _networks(rule))
    refused = decide((rule.get("action") != "Deny", _whole_networks(rule)) for rule in rules)[1]
    gaps = family_gaps(EGRESS, denied=denied, refused=refused)
    policy = _policy(source, kind, decide(_admin_decisions(rules))[1], gaps)
    return PolicyDraft(policy=policy, pods=parse_labels(pods.get("podSelector")), namespaces=parse_labels(namespaces))


def _networks(rule: Mapping[str, Any]) -> list[str]:
    return [net for peer in objects(rule.get("to")) for net in texts(peer.get("networks"))]


def _admin_decisions(rules: list[Mapping[str, Any]]) -> Iterator[tuple[bool, Families]]:
    for rule in rules:
        if rule.get("action") == "Deny":
            # A selector of pods, namespaces or nodes can mean either family.
            selects = any("networks" not in peer for peer in objects(rule.get("to")))
            yield False, BOTH if selects else families_of(_networks(rule))
        else:
            yield True, _whole_networks(rule)


def _whole_networks(rule: Mapping[str, Any]) -> Families:
    """The families of which a rule decides every destination and port; v1alpha2 calls ports protocols."""
    return NONE if items(rule.get("ports")) or items(rule.get("protocols")) else whole_families(_networks(rule))


# Cilium: allow lists, deny lists and entities

_CILIUM_NAMESPACE = "io.kubernetes.pod.namespace"
_CILIUM_NAMESPACE_LABEL = "io.cilium.k8s.namespace.labels."


def _cilium_key(key: str) -> str:
    """A label key as the pod has it, from Cilium's form of it; the pod's namespace under Calico's name for it."""
    key = key.removeprefix("k8s:").removeprefix("any:")
    return NAMESPACE_LABEL if key == _CILIUM_NAMESPACE else key.replace(_CILIUM_NAMESPACE_LABEL, "pcns.")


def parse_cilium_policy(source: Mapping[str, Any], kind: PolicyKind) -> PolicyDraft:
    """A CiliumNetworkPolicy or its cluster-wide form; several specs count as one that selects what any selects."""
    given = [source.get("spec"), *items(source.get("specs"))[:MAX_RULES]]
    # A spec with a nodeSelector is about hosts.
    specs = [each for each in given if isinstance(each, dict) and "nodeSelector" not in each]
    selectors = tuple(parse_labels(spec.get("endpointSelector"), _cilium_key) for spec in specs)
    gaps = tuple(
        gap
        for spec in specs
        for direction, prefix in ((INGRESS, "from"), (EGRESS, "to"))
        for gap in _cilium_gaps(spec, direction, prefix)
    )
    policy = _policy(source, kind, NONE.union(*map(_cilium_restricts, specs)), gaps)
    pods = selectors[0] if len(selectors) == 1 else Some(selectors)
    return PolicyDraft(policy=policy, pods=pods if selectors else None)


def _cilium_restricts(spec: Mapping[str, Any]) -> Families:
    """An egress section closes the direction unless enableDefaultDeny.egress is false; entity `all` opens it again."""
    if items(spec.get("egressDeny")):
        return BOTH
    if "egress" not in spec or mapping(spec.get("enableDefaultDeny")).get("egress") is False:
        return NONE
    allowed = NONE
    for rule in rules_of(spec, EGRESS):
        entities = texts(rule.get("toEntities"))
        if not items(rule.get("toPorts")) and not items(rule.get("icmps")) and {"all", "cluster"} & {*entities}:
            allowed |= _opened(entities)
    return BOTH - allowed


def _opened(entities: Iterable[str]) -> Families:
    """The families in which entities mean everything outside the cluster."""
    by_entity = {"all": BOTH, "world": BOTH, "world-ipv4": {Family.V4}, "world-ipv6": {Family.V6}}
    return frozenset(family for entity in entities for family in by_entity.get(entity, ()))


def _cilium_gaps(spec: Mapping[str, Any], direction: str, prefix: str) -> Gaps:
    rules, denies = rules_of(spec, direction), rules_of(spec, direction + "Deny")
    cidrs, sets = _cilium_cidrs(rules, prefix)
    whole = whole_families(each.get("cidr") for each in sets)
    return family_gaps(
        direction,
        named=families_of(cidrs),
        excepted=families_of(net for each in sets for net in texts(each.get("except"))),
        opened=whole | _opened(entity for rule in rules for entity in texts(rule.get(prefix + "Entities"))),
        denied=part_families(_cilium_cidrs(denies, prefix)[0]),
        refused=frozenset(family for rule in denies for family in _cilium_refused(rule, prefix)),
    )


def _cilium_refused(rule: Mapping[str, Any], prefix: str) -> Families:
    """The families of which a deny rule takes everything outside the cluster."""
    if items(rule.get("toPorts")) or items(rule.get("icmps")):
        return NONE
    cidrs, sets = _cilium_cidrs([rule], prefix)
    whole = NONE if any(items(each.get("except")) for each in sets) else whole_families(cidrs)
    return whole | _opened(texts(rule.get(prefix + "Entities")))


def _cilium_cidrs(rules: list[Mapping[str, Any]], prefix: str) -> tuple[list[object], list[Mapping[str, Any]]]:
    """Every CIDR of the rules, and their CIDR sets."""
    sets = [each for rule in rules for each in objects(rule.get(prefix + "CIDRSet"))]
    plain = [net for rule in rules for net in texts(rule.get(prefix + "CIDR"))]
    return [*plain, *(each.get("cidr") for each in sets)], sets


# Calico: ordered rules, and what none allows is denied. A rule whose nets are of one family applies to that family
# only; exclusions (notNets) of one family leave the other unlimited.

_VERSIONS = {4: frozenset({Family.V4}), 6: frozenset({Family.V6})}
_ALLOWS = ("Allow", "Pass")
_NARROWING = ("protocol", "notProtocol", "icmp", "notICMP", "http")
_SELECTING = ("selector", "notSelector", "namespaceSelector", "domains", "services", "serviceAccounts")
_NARROWING_PEER = (*_SELECTING, "ports", "notPorts")


def parse_calico_policy(source: Mapping[str, Any], kind: PolicyKind) -> PolicyDraft | None:
    """A Calico policy; None for one of host endpoints alone, and for the view of a Kubernetes one (knp.default.*).

    Service accounts are not read: a serviceAccountSelector is evaluated by their names, and counts as matching where it
    asks for other labels.
    """
    spec = mapping(source.get("spec"))
    if name_of(mapping(source.get("metadata")).get("name")).startswith("knp."):
        return None
    if spec.get("doNotTrack") is True or spec.get("preDNAT") is True:
        return None
    ingress, egress = rules_of(spec, INGRESS), rules_of(spec, EGRESS)
    types = texts(spec.get("types")) or tuple(t for t, rules in (("Ingress", ingress), ("Egress", egress)) if rules)
    gaps: Gaps = ()
    if "Ingress" in types:
        gaps += _calico_gaps(INGRESS, ingress, "source")
    if "Egress" in types:
        gaps += _calico_gaps(EGRESS, egress, "destination")
    restricts = BOTH - decide(_calico_decisions(egress))[0] if "Egress" in types else NONE
    in_namespace = kind is PolicyKind.CALICO
    return PolicyDraft(
        policy=_policy(source, kind, restricts, gaps),
        pods=parse_calico(text(spec.get("selector"))),
        namespaces=EVERYTHING if in_namespace else parse_calico(text(spec.get("namespaceSelector"))),
        accounts=parse_calico(text(spec.get("serviceAccountSelector"))),
    )


def _versions(rule: Mapping[str, Any]) -> Families:
    return _VERSIONS.get(number(rule.get("ipVersion")) or 0, BOTH)


def _calico_decisions(rules: list[Mapping[str, Any]]) -> Iterator[tuple[bool, Families]]:
    for rule in rules:
        action = text(rule.get("action"))
        if action in _ALLOWS:
            yield True, _whole(rule, "destination")
        elif action == "Deny":
            nets = texts(mapping(rule.get("destination")).get("nets"))
            yield False, _versions(rule) & (families_of(nets) if nets else BOTH)


_OTHER_SIDE = {"source": "destination", "destination": "source"}


def _whole(rule: Mapping[str, Any], side: str) -> Families:
    """The families of which the rule decides everything, whatever the peer on that side."""
    peer, own = mapping(rule.get(side)), mapping(rule.get(_OTHER_SIDE[side]))
    if any(rule.get(key) for key in _NARROWING) or any(own.values()) or any(peer.get(key) for key in _NARROWING_PEER):
        return NONE
    nets = texts(peer.get("nets"))
    return _versions(rule) & (whole_families(nets) if nets else BOTH) - families_of(texts(peer.get("notNets")))


def _calico_gaps(direction: str, rules: list[Mapping[str, Any]], side: str) -> Gaps:
    allows = [(rule, mapping(rule.get(side))) for rule in rules if rule.get("action") in _ALLOWS]
    denies = [mapping(rule.get(side)) for rule in rules if rule.get("action") == "Deny"]
    opened = NONE
    for rule, peer in allows:
        opened |= _whole(rule, side)
        if not texts(peer.get("nets")) and not any(peer.get(key) for key in _SELECTING):
            opened |= _versions(rule)  # exclusions and ports aside
    excepted = families_of(net for _, peer in allows for net in texts(peer.get("notNets")))
    return family_gaps(
        direction,
        named=families_of(net for _, peer in allows for net in texts(peer.get("nets"))),
        excepted=excepted | part_families(net for peer in denies for net in texts(peer.get("nets"))),
        opened=opened,
        refused=decide((rule.get("action") != "Deny", _whole(rule, side)) for rule in rules if _decides(rule))[1],
    )


def _decides(rule: Mapping[str, Any]) -> bool:
    return rule.get("action") in (*_ALLOWS, "Deny")
