"""Calico's WireGuard over IPv6: the kernel's messages, encoded by pyroute2, the broker's zeroing, and the cause."""

from __future__ import annotations

import struct
from base64 import b64decode, b64encode
from collections.abc import Iterable, Sequence
from dataclasses import replace
from ipaddress import ip_address, ip_network
from typing import Any

import pytest
from pyroute2.netlink.generic.wireguard import wgmsg
from pyroute2.netlink.rtnl.fibmsg import fibmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from exporter.broker.protocol.messages import WIREGUARD_LINK, ReadTopic, Topic, TopicAnswer
from exporter.broker.server.kernel.nfnetlink import zero_secrets
from exporter.diagnosis.engine.rule_input import RuleInput
from exporter.inventory.parse.core import parse_node
from exporter.kernel.decode import ParseError
from exporter.kernel.read.visits import VisitAnswers
from exporter.kernel.read.wireguard import read_wireguard, wireguard_topics
from exporter.model.cause import Cause
from exporter.model.cluster.calico import Felix, FelixConfiguration
from exporter.model.cluster.inventory import Inventory
from exporter.model.cluster.node import Node
from exporter.model.cni.calico import WIREGUARD_V6
from exporter.model.facts import LinkFact, Reader, ReaderStatus, WireguardFacts, WireguardPeer
from exporter.model.reason import Reason
from tests.unit.cluster_scene import NODES
from tests.unit.node_scene import BLOCKS, BORN, NUMBER, cluster, host, node_view, only, said

CAUSE = Cause.WIREGUARD_V6_INCOMPLETE
KEYS = {name: b64encode(bytes([number]) * 32).decode() for name, number in NUMBER.items()}
PRIVATE, PRESHARED = b64encode(b"p" * 32).decode(), b64encode(b"s" * 32).decode()
LINK = LinkFact(index=7, name=WIREGUARD_V6, up=True, lower_up=True, mtu=1420, kind="wireguard")
ON = (FelixConfiguration("default", Felix(wireguard_v6=True)),)


def message(*peers: dict[str, Any]) -> bytes:
    made = wgmsg()
    made["header"]["type"], made["cmd"], made["version"] = 0x25, 0, 1
    made["attrs"] = [
        ("WGDEVICE_A_IFNAME", "wg-v6.cali"),
        ("WGDEVICE_A_PRIVATE_KEY", {"value": PRIVATE}),
        ("WGDEVICE_A_PUBLIC_KEY", {"value": KEYS["ra"]}),
        ("WGDEVICE_A_LISTEN_PORT", 51821),
        ("WGDEVICE_A_PEERS", [{"attrs": _attributes(**peer)} for peer in peers]),
    ]
    made.encode()
    return bytes(made.data)


def _attributes(name: str, allowed: Sequence[str], endpoint: str = "") -> list[tuple[str, Any]]:
    nets = [ip_network(net) for net in allowed]
    return [
        ("WGPEER_A_PUBLIC_KEY", {"value": KEYS[name]}),
        ("WGPEER_A_PRESHARED_KEY", {"value": PRESHARED}),
        *([("WGPEER_A_ENDPOINT", {"addr": endpoint, "port": 51821})] if endpoint else []),
        (
            "WGPEER_A_ALLOWEDIPS",
            [
                {
                    "attrs": [
                        ("WGALLOWEDIP_A_FAMILY", 10 if net.version == 6 else 2),
                        ("WGALLOWEDIP_A_IPADDR", net.network_address.packed),
                        ("WGALLOWEDIP_A_CIDR_MASK", net.prefixlen),
                    ]
                }
                for net in nets
            ],
        ),
    ]


def rule(table: int, *, inverted: bool = True) -> bytes:
    made = fibmsg()
    made["header"]["type"], made["family"], made["action"], made["flags"] = 32, 10, 1, 2 if inverted else 0
    made["table"] = table if table < 256 else 0
    made["attrs"] = [("FRA_TABLE", table), ("FRA_PRIORITY", 99), ("FRA_FWMARK", 0x100000), ("FRA_FWMASK", 0x100000)]
    made.encode()
    return bytes(made.data)


def route(table: int, net: str) -> bytes:
    target = ip_network(net)
    made = rtmsg()
    made["header"]["type"], made["family"], made["dst_len"], made["type"] = 24, 10, target.prefixlen, 1
    made["table"] = table if table < 256 else 0
    made["attrs"] = [("RTA_DST", str(target.network_address)), ("RTA_OIF", 7), ("RTA_TABLE", table)]
    made.encode()
    return bytes(made.data)


def read(*answers: bytes, link: LinkFact | None = LINK) -> WireguardFacts:
    links = () if link is None else (link,)
    found = {topic: TopicAnswer(0, data) for topic, data in zip(wireguard_topics(links), answers, strict=True)}
    return read_wireguard(links, VisitAnswers(found=found, seconds=0.0))


def test_the_device_is_read_as_the_kernel_writes_it_and_a_peer_is_continued_in_the_next_message() -> None:
    first = message(
        {"name": "anubis", "allowed": ["fd01:0:0:11::/122"], "endpoint": "2001:db8:10::11"},
        {"name": "babel", "allowed": ["fd01:0:0:12::/122"]},
    )
    more = message({"name": "babel", "allowed": ["fd01:0:0:99::/122", "10.1.0.0/26"]})
    rules = rule(1) + rule(254, inverted=False) + rule(300)
    routes = route(1, "fd01:0:0:11::/122") + route(254, "fd01:0:0:77::/122") + route(300, "fd01:0:0:12::/122")
    facts = read(first + more, rules, routes)
    assert (facts.exists, facts.up, facts.key) == (True, True, KEYS["ra"])
    assert facts.peers == (
        WireguardPeer(
            key=KEYS["anubis"],
            endpoint=ip_address("2001:db8:10::11"),
            allowed=frozenset({ip_network("fd01:0:0:11::/122")}),
        ),
        WireguardPeer(
            key=KEYS["babel"],
            allowed=frozenset(map(ip_network, ("fd01:0:0:12::/122", "fd01:0:0:99::/122", "10.1.0.0/26"))),
        ),
    )
    assert facts.routed == {ip_network("fd01:0:0:11::/122"), ip_network("fd01:0:0:12::/122")}


def test_a_device_that_is_not_there_is_not_asked_for() -> None:
    assert wireguard_topics(()) == ()
    assert read(link=None) == WireguardFacts(exists=False, up=False)
    assert WIREGUARD_LINK == WIREGUARD_V6, "the broker reads the device that is looked for"
    assert wireguard_topics((LINK,))[2] == ReadTopic(Topic.LINK_ROUTES6, number=7)


def test_a_damaged_message_is_an_error_and_no_peer() -> None:
    whole = message({"name": "anubis", "allowed": ["fd01:0:0:11::/122"]})
    cut = struct.pack("=I", len(whole) - 8) + whole[4:-8]
    with pytest.raises(ParseError):
        read(cut, b"", b"")


def test_secret_keys_do_not_leave_the_broker() -> None:
    given = message({"name": "anubis", "allowed": ["fd01:0:0:11::/122"]}, {"name": "babel", "allowed": []})
    kept = bytearray(given)
    zero_secrets(kept, 20, len(kept))
    secrets = [b64decode(PRIVATE), b64decode(PRESHARED)]
    assert all(secret in given and secret not in kept for secret in secrets)
    blanked = given
    for secret in secrets:
        blanked = blanked.replace(secret, bytes(32))
    assert bytes(kept) == blanked, "nothing else changed"
    with pytest.raises(OSError, match="impossible length"):
        zero_secrets(bytearray(given[:-3]), 20, len(given) - 3)


@pytest.mark.parametrize(
    ("annotation", "key"),
    [(KEYS["ra"], KEYS["ra"]), (b64encode(bytes(32)).decode(), ""), ("not a key", ""), (None, "")],
)
def test_the_key_of_a_node_is_that_of_its_annotation(annotation: str | None, key: str) -> None:
    notes = {"projectcalico.org/WireguardPublicKeyV6": annotation} if annotation else {}
    assert parse_node({"metadata": {"name": "ra", "annotations": notes}}).wireguard_key == key


# The cause


def nodes(**changes: Any) -> tuple[Node, ...]:
    healthy = (replace(n, created=BORN, ready_since=BORN, wireguard=True, wireguard_key=KEYS[n.name]) for n in NODES)
    return tuple(replace(n, **changes.get(n.name, {})) for n in healthy)


def peer_of(name: str, **changes: Any) -> WireguardPeer:
    usual = WireguardPeer(
        key=KEYS[name],
        endpoint=ip_address(f"2001:db8:10::{NUMBER[name]}"),
        allowed=frozenset({BLOCKS[name]}),
    )
    return replace(usual, **changes)


ANUBIS, BABEL = peer_of("anubis"), peer_of("babel")
HEALTHY = WireguardFacts(
    key=KEYS["ra"],
    peers=(ANUBIS, BABEL),
    routed=frozenset({BLOCKS["anubis"], BLOCKS["babel"]}),
)


def seen(facts: WireguardFacts | None, inventory: Inventory | None = None) -> RuleInput:
    return node_view(host(wireguard=facts), inventory or cluster(nodes=nodes(), felix=ON))


def subjects(view: RuleInput) -> list[str]:
    found = said(CAUSE, view)
    assert isinstance(found, tuple), found
    return [str(subject) for each in found for subject in each.subjects]


def having(facts: WireguardFacts, peers: Iterable[WireguardPeer]) -> WireguardFacts:
    return replace(facts, peers=tuple(peers))


@pytest.mark.parametrize(
    ("facts", "expected", "evidence"),
    [
        (HEALTHY, [], ""),
        (WireguardFacts(exists=False, up=False), ["node/ra"], "does not exist"),
        (replace(HEALTHY, up=False), ["node/ra"], "is down"),
        (replace(HEALTHY, key=KEYS["babel"]), ["node/ra"], "another public key"),
        (having(HEALTHY, [ANUBIS]), ["peer/babel"], "no peer with the key"),
        (
            having(HEALTHY, [ANUBIS, replace(BABEL, allowed=frozenset())]),
            ["peer/babel"],
            "not among the peer's",
        ),
        (
            having(HEALTHY, [ANUBIS, replace(BABEL, endpoint=ip_address("2001:db8:10::99"))]),
            ["peer/babel"],
            "endpoint is 2001:db8:10::99, the node's address is 2001:db8:10::12",
        ),
        (replace(HEALTHY, routed=frozenset()), ["node/ra"], "no rule leads"),
        # A wider network, and an endpoint that was not learned yet, are well.
        (
            having(HEALTHY, [ANUBIS, replace(BABEL, endpoint=None, allowed=frozenset({ip_network("fd01::/48")}))]),
            [],
            "",
        ),
    ],
)
def test_what_is_missing_is_named(facts: WireguardFacts, expected: list[str], evidence: str) -> None:
    view = seen(facts)
    assert subjects(view) == expected
    if expected:
        assert evidence in only(CAUSE, view).evidence[0]


def test_a_kernel_without_wireguard_is_said_where_the_node_has_no_key() -> None:
    inventory = cluster(nodes=nodes(ra={"wireguard_key": ""}), felix=ON)
    (evidence,) = only(CAUSE, seen(WireguardFacts(exists=False, up=False), inventory)).evidence
    assert "kernel has no WireGuard" in evidence


@pytest.mark.parametrize(
    "babel",
    [{"wireguard_key": ""}, {"ready": False}, {"changed": 9_900.0}, {"calico_addresses": ()}],
    ids=lambda change: next(iter(change)),
)
def test_a_peer_that_takes_no_part_is_not_missed(babel: dict[str, Any]) -> None:
    assert subjects(seen(having(HEALTHY, [ANUBIS]), cluster(nodes=nodes(babel=babel), felix=ON))) == []


@pytest.mark.parametrize(
    ("felix", "reason"),
    [
        ((), Reason.NOT_APPLICABLE),
        ((FelixConfiguration("default", Felix(wireguard_v6=False)),), Reason.NOT_APPLICABLE),
        ((*ON, FelixConfiguration("node.ra", Felix(wireguard_v6=False))), Reason.NOT_APPLICABLE),
    ],
)
def test_it_applies_where_felix_uses_it(felix: tuple[FelixConfiguration, ...], reason: Reason) -> None:
    assert said(CAUSE, seen(None, cluster(nodes=nodes(), felix=felix))) is reason


def test_a_device_that_could_not_be_read_leaves_it_unchecked() -> None:
    status = ReaderStatus(reader=Reader.WIREGUARD.value, success=False, seconds=0.0, reason=Reason.NO_PERMISSION)
    view = seen(None)
    assert said(CAUSE, replace(view, snapshot=replace(view.snapshot, readings=(status,)))) is Reason.NO_PERMISSION
