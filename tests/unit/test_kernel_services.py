"""kube-proxy's rules, from chains and bytes: the mode in use and each family's verdict."""

from __future__ import annotations

import struct

import pytest

from exporter.kernel.decode import ParseError
from exporter.kernel.decode.services import (
    ServiceRules,
    count_jumps,
    iptables_services,
    kube_proxy_facts,
    native_services,
    parse_ipvs,
)
from exporter.model.family import Family
from exporter.model.packet_filter import DROP, JUMP, Chain, Rule

V4, V6 = Family.V4, Family.V6


def attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(value), kind) + value + b"\0" * (-len(value) % 4)


def ipvs_service(family: int) -> bytes:
    """A message as `ipvsadm -Ln` receives it: IPVS_CMD_NEW_SERVICE with family, protocol, address and port
    (linux/ip_vs.h).
    """
    service = attribute(1, struct.pack("=H", family)) + attribute(2, struct.pack("=H", 6))
    service += attribute(3, bytes(16)) + attribute(4, struct.pack("!H", 80))
    body = struct.pack("=BBH", 1, 1, 0) + attribute(1 | 0x8000, service)
    return struct.pack("=IHHII", 16 + len(body), 0x24, 2, 1, 0) + body


def test_ipvs_services_are_counted_by_family() -> None:
    assert parse_ipvs(b"") == {V4: 0, V6: 0}
    assert parse_ipvs(ipvs_service(2) + ipvs_service(10) + ipvs_service(2)) == {V4: 2, V6: 1}
    with pytest.raises(ParseError):
        parse_ipvs(ipvs_service(7))


def test_ipvs_is_judged_by_its_own_table() -> None:
    chains_stand = {V4: ServiceRules(iptables=True, native=False), V6: ServiceRules(iptables=True, native=False)}
    facts = kube_proxy_facts(chains_stand, {V4: 3, V6: 0}, ipvs_link=True)
    assert (facts.mode, facts.services) == ("ipvs", {V4: True, V6: False})
    assert kube_proxy_facts(chains_stand, None, ipvs_link=True).services == {V4: None, V6: None}


CHAINS = ServiceRules(iptables=True, native=False)
NOTHING = ServiceRules(iptables=False, native=False)
UNREAD = ServiceRules()
TABLE = ServiceRules(iptables=True, native=True, native_table=True)
EMPTY_TABLE = ServiceRules(iptables=False, native=False, native_table=True)


@pytest.mark.parametrize(
    ("four", "six", "mode", "services"),
    [
        (CHAINS, NOTHING, "iptables", {V4: True, V6: False}),
        (NOTHING, NOTHING, "none", {V4: False, V6: False}),
        (UNREAD, UNREAD, "iptables", {V4: None, V6: None}),
        (CHAINS, UNREAD, "iptables", {V4: True, V6: None}),
        (TABLE, CHAINS, "nftables", {V4: True, V6: False}),
        (EMPTY_TABLE, NOTHING, "nftables", {V4: False, V6: False}),
    ],
)
def test_the_mode_is_the_one_that_carries_services(
    four: ServiceRules, six: ServiceRules, mode: str, services: dict[Family, bool | None]
) -> None:
    facts = kube_proxy_facts({V4: four, V6: six}, {}, ipvs_link=False)
    assert (facts.mode, facts.services) == (mode, services)


def test_a_hook_counts_only_where_its_jump_is_reached() -> None:
    jump = Rule(verdict=JUMP, chain="KUBE-SERVICES")
    services = Chain(name="KUBE-SERVICES", hook=None, rules=(), total=3)

    def judged(*rules: Rule, hook: int | None = 0) -> bool:
        return iptables_services(
            {"PREROUTING": Chain(name="PREROUTING", hook=hook, rules=rules), "KUBE-SERVICES": services}
        )

    assert judged(jump)
    assert judged(Rule(verdict=DROP, protocol=17), jump)
    assert not judged(Rule(verdict=DROP), jump)
    assert not judged(jump, hook=None)
    assert not judged()
    assert count_jumps({"PREROUTING": Chain(name="PREROUTING", hook=0, rules=(jump, jump))}, "KUBE-SERVICES") == 2


def test_native_rules_need_a_filled_map() -> None:
    chains = {"nat-output": Chain(name="nat-output", hook=3, rules=(Rule(verdict=JUMP, chain="services"),))}
    assert native_services(chains, filled=True)
    assert not native_services(chains, filled=False)
    assert not native_services({}, filled=True)
