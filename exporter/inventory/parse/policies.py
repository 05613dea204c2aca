"""Policies of every kind, reduced to whom they select and what they do with each address family. Pure; called by objects.py.

A draft still holds its selectors: selection.py evaluates them once pods and namespaces are known. What "restricts"
means here: the policy, for pods it selects, does not allow everything outwards in that family (model.policy.Policy).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from exporter.inventory.parse.fields import items, mapping, name_of, texts
from exporter.inventory.parse.selectors import EVERYTHING, Selector, Some, parse_labels
from exporter.model.family import FAMILIES, Family, Net, family_of, parse_net
from exporter.model.policy import Gap, PolicyKind

MAX_RULES = 1_000
INGRESS, EGRESS = "ingress", "egress"
BOTH = frozenset(FAMILIES)
NONE: frozenset[Family] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyDraft:
    """A policy before its selectors are evaluated; `pods` None: it selects no pod.

    `namespaces` narrows a cluster-wide one to some namespaces, `accounts` any of Calico's to pods of some service
    accounts.
    """

    kind: PolicyKind
    namespace: str
    name: str
    pods: Selector | None = EVERYTHING
    namespaces: Selector = EVERYTHING
    accounts: Selector = EVERYTHING
    restricts: frozenset[Family] = NONE
    gaps: tuple[tuple[str, Family, Gap], ...] = ()

    @property
    def key(self) -> str:
        return f"{self.kind}/{self.namespace}/{self.name}"


def families_of(cidrs: Iterable[object]) -> frozenset[Family]:
    """The families that a list of CIDR texts names."""
    return frozenset(family_of(net) for net in map(parse_net, cidrs) if net is not None)


def whole_families(cidrs: Iterable[object]) -> frozenset[Family]:
    """The families of which the CIDRs cover every address in one piece (0.0.0.0/0, ::/0)."""
    found: Iterable[Net] = (net for net in map(parse_net, cidrs) if net is not None)
    return frozenset(family_of(net) for net in found if net.prefixlen == 0)


def lone(direction: str, named: frozenset[Family], gap: Gap) -> tuple[tuple[str, Family, Gap], ...]:
    """A gap where exactly one family is named: the other one's fate."""
    return ((direction, next(iter(named)).other, gap),) if len(named) == 1 else ()


def parse_network_policy(source: Mapping[str, Any]) -> PolicyDraft:
    """A networking.k8s.io/v1 NetworkPolicy: allow lists, added up; a direction is closed by naming it.

    Raises:
        SelectorError: its podSelector cannot be read.
    """
    metadata, spec = mapping(source.get("metadata")), mapping(source.get("spec"))
    types = texts(spec.get("policyTypes")) or (("Ingress", "Egress") if items(spec.get("egress")) else ("Ingress",))
    rules = [mapping(each) for each in items(spec.get("egress"))[:MAX_RULES]]
    gaps: tuple[tuple[str, Family, Gap], ...] = ()
    if "Ingress" in types:
        gaps += _allow_list_gaps(INGRESS, [mapping(r).get("from") for r in items(spec.get("ingress"))[:MAX_RULES]])
    if "Egress" in types:
        gaps += _allow_list_gaps(EGRESS, [rule.get("to") for rule in rules])
    return PolicyDraft(
        kind=PolicyKind.KUBERNETES,
        namespace=name_of(metadata.get("namespace")),
        name=name_of(metadata.get("name")),
        pods=parse_labels(spec.get("podSelector")),
        restricts=BOTH - _allowed_outwards(rules) if "Egress" in types else NONE,
        gaps=gaps,
    )


def _allowed_outwards(rules: list[Mapping[str, Any]]) -> frozenset[Family]:
    """The families in which some rule allows every destination and port."""
    allowed: frozenset[Family] = NONE
    for rule in rules:
        if items(rule.get("ports")):
            continue
        peers = items(rule.get("to"))
        if not peers:
            return BOTH
        blocks = (mapping(mapping(peer).get("ipBlock")) for peer in peers)
        allowed |= whole_families(block.get("cidr") for block in blocks if not items(block.get("except")))
    return allowed


def _allow_list_gaps(direction: str, peer_lists: list[object]) -> tuple[tuple[str, Family, Gap], ...]:
    """Gaps of one direction's ipBlocks; none where a rule without peers allows everybody anyway."""
    if any(not items(peers) for peers in peer_lists):
        return ()
    blocks = [mapping(mapping(peer).get("ipBlock")) for peers in peer_lists for peer in items(peers)]
    named = families_of(block.get("cidr") for block in blocks)
    if len(named) == 1:
        return lone(direction, named, Gap.DENIED)
    excepted = families_of(each for block in blocks for each in items(block.get("except")))
    return _open_beside(direction, excepted, whole_families(block.get("cidr") for block in blocks))


def _open_beside(
    direction: str, excepted: frozenset[Family], whole: frozenset[Family]
) -> tuple[tuple[str, Family, Gap], ...]:
    """A gap where exceptions name one family and the other is allowed as a whole."""
    return tuple(gap for gap in lone(direction, excepted, Gap.OPEN) if gap[1] in whole)


def parse_admin_policy(source: Mapping[str, Any], kind: PolicyKind) -> PolicyDraft:
    """An AdminNetworkPolicy or its Baseline twin (policy.networking.k8s.io): only its Deny rules take something away.

    Raises:
        SelectorError: its subject cannot be read.
    """
    metadata, spec = mapping(source.get("metadata")), mapping(source.get("spec"))
    subject = mapping(spec.get("subject"))
    narrowed = mapping(subject.get("pods"))
    namespaces = narrowed.get("namespaceSelector") if narrowed else subject.get("namespaces")
    rules = [mapping(each) for each in items(spec.get("egress"))[:MAX_RULES]]
    denied = _admin_denied(rules)
    named = families_of(
        net
        for rule in rules
        if rule.get("action") == "Deny"
        for peer in items(rule.get("to"))
        for net in texts(mapping(peer).get("networks"))
    )
    return PolicyDraft(
        kind=kind,
        namespace="",
        name=name_of(metadata.get("name")),
        pods=parse_labels(narrowed.get("podSelector")),
        namespaces=parse_labels(namespaces),
        restricts=denied,
        gaps=lone(EGRESS, named, Gap.OPEN),
    )


def _admin_denied(rules: list[Mapping[str, Any]]) -> frozenset[Family]:
    """The families in which a Deny rule may act before an unconditional Allow or Pass."""
    denied, settled = NONE, NONE
    for rule in rules:
        peers = [mapping(peer) for peer in items(rule.get("to"))]
        networks = [net for peer in peers for net in texts(peer.get("networks"))]
        if rule.get("action") == "Deny":
            # A selector of pods, namespaces or nodes can mean either family.
            reach = BOTH if any("networks" not in peer for peer in peers) else families_of(networks)
            denied |= reach - settled
        elif not items(rule.get("ports")):
            settled |= whole_families(networks)
    return denied


_CILIUM_NAMESPACE = "io.kubernetes.pod.namespace"
_CILIUM_NAMESPACE_LABEL = "io.cilium.k8s.namespace.labels."


def cilium_key(key: str) -> str:
    """A label key as Cilium writes it, as the pod has it; the pod's namespace under Calico's name for it."""
    key = key.removeprefix("k8s:").removeprefix("any:")
    return "projectcalico.org/namespace" if key == _CILIUM_NAMESPACE else key.replace(_CILIUM_NAMESPACE_LABEL, "pcns.")


def parse_cilium_policy(source: Mapping[str, Any], kind: PolicyKind) -> PolicyDraft:
    """A CiliumNetworkPolicy or its cluster-wide form; several specs count as one that selects what any of them selects.

    Raises:
        SelectorError: an endpointSelector cannot be read.
    """
    metadata = mapping(source.get("metadata"))
    given = [source.get("spec"), *items(source.get("specs"))[:MAX_RULES]]
    specs = [
        mapping(each) for each in given if isinstance(each, dict) and "nodeSelector" not in each
    ]  # that one is of hosts
    selectors = tuple(parse_labels(spec.get("endpointSelector"), cilium_key) for spec in specs)
    return PolicyDraft(
        kind=kind,
        namespace=name_of(metadata.get("namespace")) if kind is PolicyKind.CILIUM else "",
        name=name_of(metadata.get("name")),
        pods=(selectors[0] if len(selectors) == 1 else Some(selectors)) if selectors else None,
        restricts=frozenset(family for spec in specs for family in _cilium_restricts(spec)),
        gaps=tuple(
            gap
            for spec in specs
            for direction, prefix in ((INGRESS, "from"), (EGRESS, "to"))
            for gap in _cilium_gaps(spec, direction, prefix)
        ),
    )


def _cilium_restricts(spec: Mapping[str, Any]) -> frozenset[Family]:
    """An egress section closes the direction unless enableDefaultDeny.egress is false; entity `all` opens it again."""
    if items(spec.get("egressDeny")):
        return BOTH
    closes = mapping(spec.get("enableDefaultDeny")).get("egress")
    if "egress" not in spec or closes is False:
        return NONE
    allowed = NONE
    for rule in map(mapping, items(spec.get("egress"))[:MAX_RULES]):
        if not items(rule.get("toPorts")) and not items(rule.get("icmps")):
            entities = frozenset(texts(rule.get("toEntities")))
            allowed |= BOTH if "all" in entities else NONE
            if "cluster" in entities or "all" in entities:
                allowed |= _world(entities)
    return BOTH - allowed


def _world(entities: frozenset[str]) -> frozenset[Family]:
    if "world" in entities:
        return BOTH
    return frozenset(f for f, name in ((Family.V4, "world-ipv4"), (Family.V6, "world-ipv6")) if name in entities)


def _cilium_gaps(spec: Mapping[str, Any], direction: str, prefix: str) -> tuple[tuple[str, Family, Gap], ...]:
    rules = [mapping(each) for each in items(spec.get(direction))[:MAX_RULES]]
    sets = [mapping(each) for rule in rules for each in items(rule.get(prefix + "CIDRSet"))]
    named = families_of(
        [*(net for rule in rules for net in texts(rule.get(prefix + "CIDR"))), *(each.get("cidr") for each in sets)]
    )
    entities = frozenset(entity for rule in rules for entity in texts(rule.get(prefix + "Entities")))
    opened = BOTH if "all" in entities else _world(entities)
    if len(named) == 1 and next(iter(named)).other not in opened:
        return lone(direction, named, Gap.DENIED)
    excepted = families_of(net for each in sets for net in texts(each.get("except")))
    found = _open_beside(direction, excepted, opened | whole_families(each.get("cidr") for each in sets))
    denies = [mapping(each) for each in items(spec.get(direction + "Deny"))[:MAX_RULES]]
    denied = families_of(net for rule in denies for net in texts(rule.get(prefix + "CIDR")))
    denied |= families_of(mapping(each).get("cidr") for rule in denies for each in items(rule.get(prefix + "CIDRSet")))
    return found or lone(direction, denied, Gap.OPEN)
