"""Readers and parsers over recorded bytes: the facts of a known cluster, and pyroute2 as the oracle of every decoder of
ours.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from ipaddress import ip_address, ip_interface, ip_network
from typing import Any

import pytest
from pyroute2.netlink.nfnetlink.nftsocket import nft_chain_msg, nft_rule_msg, nft_set_elem_list_msg
from pyroute2.netlink.rtnl.marshal import MarshalRtnl

from exporter.broker.protocol.messages import KernelState, ReadTopic, Topic, TopicAnswer
from exporter.kernel.decode.links import parse_addresses, split_links
from exporter.kernel.decode.netlink import split_messages
from exporter.kernel.decode.nft import parse_chains, parse_rules
from exporter.kernel.decode.routes import parse_routes
from exporter.kernel.decode.sets import parse_nft_set
from exporter.kernel.decode.vxlan import parse_fdb, parse_neighbours, parse_settings
from exporter.kernel.read.readers import read_host
from exporter.model.facts import Backend
from exporter.model.family import Family
from exporter.model.reason import Reason
from tests.unit.kernel_recordings import BACKENDS, Replay, data_of, read_pod, recorded

POOL6, POOL4 = ip_network("fd00:10:244::/48"), ip_network("10.244.0.0/16")


@pytest.mark.parametrize("backend", BACKENDS)
async def test_a_recorded_host_gives_the_facts_of_its_cluster(backend: str) -> None:
    facts, readings = await read_host(Replay(recorded(backend, "host")), settle=0)
    assert all(r.success for r in readings), readings
    assert facts.nat is not None
    for family, pool in ((Family.V6, POOL6), (Family.V4, POOL4)):
        live = facts.nat.live(family)
        assert live is not None
        assert (live.backend, live.hooked, live.masquerades(pool)) == (Backend(backend), True, True)
    assert facts.kube_proxy is not None
    assert facts.kube_proxy.services == {Family.V4: True, Family.V6: True}
    assert facts.vxlan is not None
    device = facts.vxlan.devices["vxlan-v6.calico"]
    assert (device.vni, device.port, device.mtu, device.parent_mtu, device.learning) == (4096, 4789, 1430, 1500, False)
    assert {str(a) for a in device.fdb.values()} == {"2001:db8:1::12", "2001:db8:1::13"}
    assert len([n for n in device.neighbours if n.permanent]) == 2


@pytest.mark.parametrize("backend", BACKENDS)
async def test_a_recorded_pod_gives_its_facts(backend: str) -> None:
    facts, reading = await read_pod(Replay(recorded(backend, "pod")))
    assert facts is not None, reading
    assert {str(a.interface) for a in facts.addresses if a.is_global} == {"fd00:10:244:1::41/128", "10.244.1.65/32"}
    assert {str(r.gateway) for r in facts.routes} == {"fe80::ecee:eeff:feee:eeee", "169.254.1.1"}
    assert facts.intercepted is (backend != "nftables")
    assert (facts.mtu, facts.disable_ipv6, facts.listeners) == (1430, False, ())


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (errno.EPERM, Reason.NO_PERMISSION),
        (errno.EACCES, Reason.LSM),
        (errno.EPROTONOSUPPORT, Reason.KERNEL),
        (errno.EOPNOTSUPP, Reason.KERNEL),
        (errno.ENOBUFS, Reason.READER_FAILED),
    ],
)
async def test_an_errno_of_one_topic_fails_its_reader_with_the_reason_and_no_other(code: int, reason: Reason) -> None:
    def refuse(topic: ReadTopic, answer: TopicAnswer) -> TopicAnswer:
        return TopicAnswer(code) if topic.topic is Topic.ADDRESSES else answer

    facts, readings = await read_host(Replay(recorded("iptables-nft", "host"), refuse), lsm=True, settle=0)
    failed = {r.reader: r.reason for r in readings if not r.success}
    assert failed == {"addresses": reason, "vxlan": reason}
    assert facts.addresses is None
    assert facts.vxlan is None
    assert facts.links
    assert facts.routes


async def test_without_nftables_in_the_kernel_legacy_is_read_and_nothing_is_missing() -> None:
    def without(topic: ReadTopic, answer: TopicAnswer) -> TopicAnswer:
        return TopicAnswer(errno.EPROTONOSUPPORT) if topic.topic.name.startswith("NFT") else answer

    facts, readings = await read_host(Replay(recorded("iptables-legacy", "host"), without), settle=0)
    assert all(r.success for r in readings), readings
    assert facts.nat is not None
    live = facts.nat.live(Family.V6)
    assert live is not None
    assert live.backend is Backend.IPTABLES_LEGACY


async def test_a_set_that_cannot_be_read_leaves_masquerading_unknown() -> None:
    def refuse(topic: ReadTopic, answer: TopicAnswer) -> TopicAnswer:
        return TopicAnswer(errno.EPERM) if topic.topic is Topic.IPSET else answer

    facts, readings = await read_host(Replay(recorded("iptables-nft", "host"), refuse), settle=0)
    assert {r.reader: r.reason for r in readings if not r.success} == {"nat": Reason.NO_PERMISSION}
    assert facts.nat is not None
    live = facts.nat.live(Family.V6)
    assert live is not None
    assert live.masquerades(POOL6) is None


async def test_a_broker_that_answers_less_than_asked_fails_the_readers_it_left_out() -> None:
    class Short(Replay):
        async def read_kernel(self, places: Any, topics: tuple[ReadTopic, ...]) -> tuple[KernelState, ...]:
            (state,) = await super().read_kernel(places, topics)
            return (KernelState(0, state.answers[:3]),)

    facts, readings = await read_host(Short(recorded("iptables-nft", "host")), settle=0)
    assert facts.links
    assert facts.addresses
    assert facts.routes is None
    assert {"routes", "nat", "vxlan", "conntrack"} <= {r.reader for r in readings if not r.success}


# pyroute2 as the oracle


def oracle(data: bytes) -> list[Any]:
    found = []
    for _, start, end in split_messages(data):  # one by one: MarshalRtnl takes a chunk with offsets of its own
        found += list(MarshalRtnl().parse(data[start - 16 : end]))
    return found


def messages(kind: Any, data: bytes) -> Iterator[Any]:
    for _, start, end in split_messages(data):
        message = kind(data[start - 16 : end])
        message.decode()
        yield message


def test_links_equal_pyroute2s() -> None:
    data = data_of(recorded("iptables-nft", "host"), Topic.LINKS)
    ours = list(split_links(data))
    theirs = oracle(data)
    assert len(ours) == len(theirs) > 3
    for (link, info), their in zip(ours, theirs, strict=True):
        name, mtu, mac = their.get_attr("IFLA_IFNAME"), their.get_attr("IFLA_MTU"), their.get_attr("IFLA_ADDRESS")
        assert (link.index, link.name, link.mtu, link.mac) == (their["index"], name, mtu, mac)
        assert (link.up, link.lower_up, link.loopback) == tuple(bool(their["flags"] & f) for f in (1, 0x10000, 8))
        assert link.kind == (their.get_nested("IFLA_LINKINFO", "IFLA_INFO_KIND") or "")
        conf = their.get_nested("IFLA_AF_SPEC", "AF_INET6").get_attr("IFLA_INET6_CONF")
        assert link.inet6 is not None
        assert link.inet6.forwarding == conf["forwarding"]
        assert (link.inet6.accept_ra, link.inet6.disable_ipv6) == (conf["accept_ra"], conf["disable_ipv6"])
        if link.kind == "vxlan":
            their_info = their.get_nested("IFLA_LINKINFO", "IFLA_INFO_DATA")
            settings = parse_settings(info)
            assert settings.vni == their_info.get_attr("IFLA_VXLAN_ID")
            assert settings.port == their_info.get_attr("IFLA_VXLAN_PORT")
            assert settings.parent == their_info.get_attr("IFLA_VXLAN_LINK")
            assert settings.learning == bool(their_info.get_attr("IFLA_VXLAN_LEARNING"))
            local = their_info.get_attr("IFLA_VXLAN_LOCAL6") or their_info.get_attr("IFLA_VXLAN_LOCAL")
            assert str(settings.local) == local


def test_addresses_equal_pyroute2s() -> None:
    data = data_of(recorded("iptables-nft", "host"), Topic.ADDRESSES)
    ours = parse_addresses(data, {})
    theirs = oracle(data)
    assert len(ours) == len(theirs) > 5
    for address, their in zip(ours, theirs, strict=True):
        value = their.get_attr("IFA_LOCAL") or their.get_attr("IFA_ADDRESS")
        assert address.interface == ip_interface(f"{value}/{their['prefixlen']}")
        assert address.link == f"#{their['index']}"
        flags = their.get_attr("IFA_FLAGS")
        assert (address.permanent, address.tentative, address.dadfailed) == tuple(
            bool(flags & f) for f in (0x80, 0x40, 0x08)
        )


def test_routes_equal_pyroute2s() -> None:
    answers = recorded("iptables-nft", "host")
    for topic, anywhere in ((Topic.ROUTES4, "0.0.0.0"), (Topic.ROUTES6, "::")):
        data = data_of(answers, topic)
        ours = parse_routes(data, {})
        theirs = oracle(data)
        assert len(ours) == len(theirs) > 4
        for route, their in zip(ours, theirs, strict=True):
            destination = f"{their.get_attr('RTA_DST') or anywhere}/{their['dst_len']}"
            assert route.destination == ip_network(destination)
            gateway = their.get_attr("RTA_GATEWAY")
            assert route.gateway == (ip_address(gateway) if gateway else None)
            assert route.protocol == their["proto"]
            assert route.type == {1: "unicast", 6: "blackhole"}[their["type"]]
            assert route.link == (f"#{their.get_attr('RTA_OIF')}" if their.get_attr("RTA_OIF") else "")


def test_neighbours_and_forwarding_entries_equal_pyroute2s() -> None:
    answers = recorded("iptables-nft", "host")
    for topic, answer in answers.items():
        if topic.topic is Topic.NEIGHBOURS:
            theirs = {
                (m.get_attr("NDA_DST"), m.get_attr("NDA_LLADDR"), m["state"] == 0x80)
                for m in oracle(answer.data)
                if m.get_attr("NDA_LLADDR") and m["state"] != 0x40
            }
            ours = parse_neighbours(answer.data, topic.number)
            assert {(str(n.address), n.mac, n.permanent) for n in ours} == theirs
            assert len([t for t in theirs if t[2]]) == 2
        elif topic.topic is Topic.FDB:
            found = {m.get_attr("NDA_LLADDR"): m.get_attr("NDA_DST") for m in oracle(answer.data)}
            entries = parse_fdb(answer.data, topic.number)
            assert len(entries) == 2
            assert {mac: str(address) for mac, address in entries.items()} == found


def test_chains_and_rules_equal_pyroute2s() -> None:
    for backend in ("iptables-nft", "nftables"):
        for topic, answer in recorded(backend, "host").items():
            if topic.topic is Topic.NFT_CHAIN and not answer.errno:
                (ours,) = parse_chains(answer.data)
                (their,) = [m for m in messages(nft_chain_msg, answer.data) if m.get_attr("NFTA_CHAIN_NAME")]
                assert (ours.table, ours.name) == (
                    their.get_attr("NFTA_CHAIN_TABLE"),
                    their.get_attr("NFTA_CHAIN_NAME"),
                )
                hook = their.get_attr("NFTA_CHAIN_HOOK")
                assert ours.hook == (hook.get_attr("NFTA_HOOK_HOOKNUM") if hook else None)
                assert ours.use == their.get_attr("NFTA_CHAIN_USE")
            elif topic.topic is Topic.NFT_RULES:
                compare_rules(answer.data)


def compare_rules(data: bytes) -> None:
    """Verdicts, chains jumped to and counters."""
    for ours, their in zip(parse_rules(data), messages(nft_rule_msg, data), strict=True):
        assert (ours.table, ours.chain) == (their.get_attr("NFTA_RULE_TABLE"), their.get_attr("NFTA_RULE_CHAIN"))
        names = []
        for expression in their.get_attr("NFTA_RULE_EXPRESSIONS"):
            name, found = expression.get_attr("NFTA_EXPR_NAME"), expression.get_attr("NFTA_EXPR_DATA")
            names.append(name)
            if name == "counter":
                assert ours.rule.packets == found.get_attr("NFTA_COUNTER_PACKETS")
                assert ours.rule.bytes == found.get_attr("NFTA_COUNTER_BYTES")
            elif name == "target":
                assert ours.rule.verdict == found.get_attr("NFTA_TARGET_NAME")
            elif name == "immediate":
                verdict = found.get_attr("NFTA_IMMEDIATE_DATA").get_attr("NFTA_DATA_VERDICT")
                assert ours.rule.verdict == verdict.get_attr("NFTA_VERDICT_CODE").removeprefix("NFT_").lower()
                assert ours.rule.chain == verdict.get_attr("NFTA_VERDICT_CHAIN")
        if "masq" in names:
            assert ours.rule.verdict == "MASQUERADE"


def test_elements_of_a_native_set_are_those_pyroute2_sees() -> None:
    answers = recorded("nftables", "host")
    data = next(a.data for t, a in answers.items() if t.topic is Topic.NFT_SET and t.number == 10)
    starts = set()
    for message in messages(nft_set_elem_list_msg, data):
        for element in message.get_attr("NFTA_SET_ELEM_LIST_ELEMENTS"):
            if not element.get_attr("NFTA_SET_ELEM_FLAGS"):
                starts.add(element.get_attr("NFTA_SET_ELEM_KEY").get_attr("NFTA_DATA_VALUE"))
    assert parse_nft_set(data) == (POOL6,)
    assert len(starts) == 1
