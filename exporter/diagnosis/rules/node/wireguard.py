"""Cause of WireGuard over IPv6 on a node: the kernel's device against Felix's setting and the nodes' public keys. Pure.

A node without a public key takes no part: Felix sends to it without encryption (felix/wireguard/wireguard.go).
"""

from __future__ import annotations

from collections.abc import Iterator

from exporter.diagnosis.endpoints import services_on
from exporter.diagnosis.engine.preconditions import bounded, lacking
from exporter.diagnosis.engine.rule_input import Judgement, RuleInput
from exporter.diagnosis.felix import uses_wireguard
from exporter.diagnosis.rules.judging import changed_lately, found, reader_reason, this_node
from exporter.model.cause import Cause
from exporter.model.cluster.inventory import ResourceKind
from exporter.model.cluster.node import Node
from exporter.model.cni.calico import WIREGUARD_V6
from exporter.model.facts import Reader, WireguardFacts
from exporter.model.family import Family, Net, contains, family_of
from exporter.model.reason import Reason
from exporter.model.subject import Subject, SubjectKind

ANNOTATION = "projectcalico.org/WireguardPublicKeyV6"
NO_KEY = f"the node has no annotation {ANNOTATION}, as where its kernel has no WireGuard"


def wireguard_v6_incomplete(view: RuleInput) -> Judgement:
    """The device is missing or down, has another key than the node says, lacks a peer, or no rule leads to it."""
    reason = lacking(view.inventory, ResourceKind.FELIX, ResourceKind.NODES, ResourceKind.BLOCK_AFFINITIES)
    own = view.inventory.node(view.node)
    if reason is not None:
        return reason
    if own is None or changed_lately(own, view.now) or not uses_wireguard(view.inventory, view.node):
        return Reason.NOT_APPLICABLE
    facts = view.snapshot.kernel.wireguard
    if facts is None:
        return reader_reason(view, Reader.WIREGUARD)
    wrong = dict(_of_device(view, own, facts) or _of_peers(view, own, facts))
    return found(
        Cause.WIREGUARD_V6_INCOMPLETE,
        wrong,
        evidence=bounded(wrong.values()),
        command=f"ip -d link show {WIREGUARD_V6}; wg show {WIREGUARD_V6}; ip -6 rule",
        affects_destinations=services_on(view.inventory, {s.name for s in wrong if s.kind is SubjectKind.PEER}),
    )


def _of_device(view: RuleInput, own: Node, facts: WireguardFacts) -> tuple[tuple[Subject, str], ...]:
    """What is wrong with the device as a whole."""
    if not facts.exists:
        wrong = f"{WIREGUARD_V6} does not exist" + ("" if own.wireguard_key else f"; {NO_KEY}")
    elif not facts.up:
        wrong = f"{WIREGUARD_V6} is down"
    elif own.wireguard_key and own.wireguard_key != facts.key:
        wrong = f"{WIREGUARD_V6} has another public key than the node's annotation, for which the peers encrypt"
    else:
        return ()
    return ((this_node(view), wrong),)


def _of_peers(view: RuleInput, own: Node, facts: WireguardFacts) -> Iterator[tuple[Subject, str]]:
    """Ready nodes with a key and an address that are not, or not wholly, peers of the device."""
    known = {peer.key: peer for peer in facts.peers}
    led = False
    for node in view.inventory.nodes or ():
        at = node.calico_address(Family.V6)
        if node.name == own.name or not node.wireguard_key or at is None or not node.ready:
            continue
        blocks = tuple(_blocks(view, node))
        if changed_lately(node, view.now) or not blocks:  # a peer without networks is not made
            continue
        peer, subject = known.get(node.wireguard_key), Subject.of(SubjectKind.PEER, node.name)
        lost = next((b for b in blocks if peer is not None and not any(contains(a, b) for a in peer.allowed)), None)
        if peer is None:
            yield subject, f"peer/{node.name}: {WIREGUARD_V6} has no peer with the key of its annotation {ANNOTATION}"
        elif lost is not None:
            yield subject, f"peer/{node.name}: {lost} is not among the peer's allowed IPs"
        elif peer.endpoint is not None and peer.endpoint != at.ip:
            yield subject, f"peer/{node.name}: the peer's endpoint is {peer.endpoint}, the node's address is {at.ip}"
        elif not led and not any(contains(net, block) for block in blocks for net in facts.routed):
            led = True
            yield this_node(view), f"no rule leads to a route to {blocks[0]} through {WIREGUARD_V6} (ip -6 rule)"


def _blocks(view: RuleInput, node: Node) -> Iterator[Net]:
    for block in view.inventory.block_affinities or ():
        settled = block.confirmed and not block.deleted and not changed_lately(block, view.now)
        if block.node == node.name and settled and family_of(block.cidr) is Family.V6:
            yield block.cidr
