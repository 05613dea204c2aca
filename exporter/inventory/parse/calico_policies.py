"""Calico's NetworkPolicy and GlobalNetworkPolicy, reduced to whom they select and what they do with each family. Pure.

Unlike Kubernetes' policies these are ordered rules: the first that applies decides, and what none allows is denied. A
rule whose nets are of one family applies to that family alone; exclusions (notNets) of one family leave the other
unlimited.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from exporter.inventory.parse.calico_selectors import parse_calico
from exporter.inventory.parse.fields import items, mapping, name_of, number, text, texts
from exporter.inventory.parse.policies import (
    BOTH,
    EGRESS,
    INGRESS,
    MAX_RULES,
    NONE,
    PolicyDraft,
    families_of,
    lone,
    whole_families,
)
from exporter.inventory.parse.selectors import EVERYTHING
from exporter.model.family import FAMILIES, Family
from exporter.model.policy import Gap, PolicyKind

VERSIONS = {4: Family.V4, 6: Family.V6}
NARROWING = ("protocol", "notProtocol", "icmp", "notICMP", "http")
NARROWING_PEER = (
    "selector",
    "notSelector",
    "namespaceSelector",
    "ports",
    "notPorts",
    "domains",
    "services",
    "serviceAccounts",
)


def parse_calico_policy(source: Mapping[str, Any], kind: PolicyKind) -> PolicyDraft | None:
    """A Calico policy; None for the read-only view of a Kubernetes one (knp.default.*), which is read by itself.

    Service accounts are not read: a serviceAccountSelector is evaluated by their names, and may be true where it asks
    for other labels.

    Raises:
        SelectorError: a selector cannot be read.
    """
    metadata, spec = mapping(source.get("metadata")), mapping(source.get("spec"))
    name = name_of(metadata.get("name"))
    if name.startswith("knp."):
        return None
    rules = {each: [mapping(r) for r in items(spec.get(each))[:MAX_RULES]] for each in (INGRESS, EGRESS)}
    types = texts(spec.get("types")) or tuple(
        t for t, r in (("Ingress", rules[INGRESS]), ("Egress", rules[EGRESS])) if r
    )
    gaps: tuple[tuple[str, Family, Gap], ...] = ()
    if "Ingress" in types:
        gaps += _gaps(INGRESS, rules[INGRESS], "source")
    if "Egress" in types:
        gaps += _gaps(EGRESS, rules[EGRESS], "destination")
    return PolicyDraft(
        kind=kind,
        namespace=name_of(metadata.get("namespace")) if kind is PolicyKind.CALICO else "",
        name=name,
        pods=parse_calico(text(spec.get("selector"))),
        namespaces=parse_calico(text(spec.get("namespaceSelector")))
        if kind is PolicyKind.CALICO_GLOBAL
        else EVERYTHING,
        accounts=parse_calico(text(spec.get("serviceAccountSelector"))),
        restricts=_restricted(rules[EGRESS]) if "Egress" in types else NONE,
        gaps=gaps,
    )


def _versions(rule: Mapping[str, Any]) -> frozenset[Family]:
    family = VERSIONS.get(number(rule.get("ipVersion")) or 0)
    return BOTH if family is None else frozenset({family})


def _restricted(rules: list[Mapping[str, Any]]) -> frozenset[Family]:
    """The families in which the rules, in order, do not simply let everything out."""
    free, decided = NONE, NONE
    for rule in rules:
        action = text(rule.get("action"))
        if action == "Log":
            continue
        for family in _versions(rule) - decided:
            whole = _whole(rule, family)
            if action in ("Allow", "Pass") and whole:
                free |= {family}
                decided |= {family}
            elif action == "Deny" and _touches(rule, family):
                decided |= {family}
    return BOTH - free


def _whole(rule: Mapping[str, Any], family: Family) -> bool:
    """Whether the rule takes every packet of the family outwards."""
    peer, origin = mapping(rule.get("destination")), mapping(rule.get("source"))
    if any(rule.get(key) for key in NARROWING) or any(origin.values()) or any(peer.get(key) for key in NARROWING_PEER):
        return False
    nets = texts(peer.get("nets"))
    return (not nets or family in whole_families(nets)) and family not in families_of(texts(peer.get("notNets")))


def _touches(rule: Mapping[str, Any], family: Family) -> bool:
    nets = texts(mapping(rule.get("destination")).get("nets"))
    return not nets or family in families_of(nets)


def _gaps(direction: str, rules: list[Mapping[str, Any]], side: str) -> tuple[tuple[str, Family, Gap], ...]:
    allows = [rule for rule in rules if rule.get("action") in ("Allow", "Pass")]
    peers = [(rule, mapping(rule.get(side))) for rule in allows]
    named = families_of(net for _, peer in peers for net in texts(peer.get("nets")))
    # What a rule without nets allows, selectors aside, it allows in every family of its ipVersion.
    general = frozenset(
        f for rule, peer in peers if not texts(peer.get("nets")) and not _selects(peer) for f in _versions(rule)
    )
    if len(named) == 1 and next(iter(named)).other not in general:
        return lone(direction, named, Gap.DENIED)
    excepted = families_of(net for _, peer in peers for net in texts(peer.get("notNets")))
    denies = (mapping(rule.get(side)) for rule in rules if rule.get("action") == "Deny")
    excepted |= families_of(net for peer in denies for net in texts(peer.get("nets")))
    opened = general | frozenset(f for f in FAMILIES for rule, _ in peers if _whole(rule, f))
    return tuple(gap for gap in lone(direction, excepted, Gap.OPEN) if gap[1] in opened)


def _selects(peer: Mapping[str, Any]) -> bool:
    return any(
        peer.get(key)
        for key in ("selector", "notSelector", "namespaceSelector", "domains", "services", "serviceAccounts")
    )
