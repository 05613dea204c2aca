"""What stands beside Calico's rules, odd rules, other dataplanes: on the real kernel, in single namespaces."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_network

import pytest

from exporter.broker.protocol.messages import TopicAnswer
from exporter.broker.server.kernel.topics import read_topics
from exporter.kernel.decode import legacy
from exporter.kernel.decode.links import without_counters
from exporter.kernel.read import requests
from exporter.model.facts import Backend, SourceMatch
from exporter.model.family import Family
from tests.kernel.calico_host import (
    POOL,
    RULES,
    host_namespace,
    legacy_names,
    live,
    look,
    nat_of,
    restore,
    write_calico,
)
from tests.kernel.calico_rules import calico_nft
from tests.kernel.namespaces import batch, call_inside, run, run_inside

pytestmark = pytest.mark.real


@pytest.fixture
def ns() -> Iterator[str]:
    with host_namespace() as name:
        yield name


async def test_looking_creates_no_table_and_loads_nothing(ns: str) -> None:
    await look(ns)
    facts, readings = await look(ns)
    assert all(r.success for r in readings.values()), readings
    assert facts.nat is not None
    assert facts.nat.backends == ()
    assert facts.kube_proxy is not None
    assert facts.kube_proxy.mode == "none"
    assert legacy_names(ns) == b""
    assert run_inside(ns, "nft", "list", "ruleset") == ""
    (asked,) = call_inside(ns, read_topics, (requests.LEGACY_CHAINS[Family.V6],))
    assert asked == TopicAnswer(0, b"")
    assert legacy_names(ns) == b""


def test_traffic_alone_does_not_change_the_links_that_are_compared(ns: str) -> None:
    def links(*argv: str) -> bytes:
        run(*argv)
        (answer,) = read_topics((requests.LINKS,))
        return answer.data

    def thrice() -> tuple[bytes, bytes, bytes]:
        return (
            links("ip", "link", "set", "lo", "up"),
            links("ping", "-c1", "::1"),
            links("ip", "link", "set", "lo", "down"),
        )

    up, used, down = call_inside(ns, thrice)
    assert used != up
    assert without_counters(used) == without_counters(up) != without_counters(down)


@pytest.mark.parametrize("variant", ["nft", "legacy"])
async def test_rules_of_others_do_not_count(ns: str, variant: str) -> None:
    restore(
        ns,
        variant,
        """*nat
:cali-nat-outgoing-not - [0:0]
:MINE - [0:0]
-A POSTROUTING -s fd00:10:244::/48 -j MASQUERADE
-A POSTROUTING -m comment --comment "cali-nat-outgoing" -j MINE
-A MINE -m comment --comment "cali-POSTROUTING" -j MASQUERADE
-A cali-nat-outgoing-not -j MASQUERADE
COMMIT
*mangle
:cali-nat-outgoing - [0:0]
-A POSTROUTING -j cali-nat-outgoing
COMMIT
""",
    )
    assert (await nat_of(ns)).backends == ()


@pytest.mark.parametrize("variant", ["nft", "legacy"])
async def test_odd_but_right_rules_are_read_for_what_they_do(ns: str, variant: str) -> None:
    run_inside(ns, "ipset", "restore", text="create weird.set-name:31chars_long_abc hash:net family inet6\n")
    run_inside(
        ns, "ipset", "restore", text=f"add weird.set-name:31chars_long_abc {POOL}\ncreate ips hash:ip family inet6\n"
    )
    run_inside(ns, "ipset", "restore", text="add ips fd00::7\ncreate list list:set\n")
    restore(
        ns,
        variant,
        """*nat
:cali-POSTROUTING - [0:0]
:cali-nat-outgoing - [0:0]
-A POSTROUTING -j cali-POSTROUTING
-A cali-POSTROUTING -g cali-nat-outgoing
-A cali-nat-outgoing -p tcp -m set --match-set ips src -j MASQUERADE --to-ports 4000-5000
-A cali-nat-outgoing -o eth7 -m set --match-set weird.set-name:31chars_long_abc src -j SNAT --to-source 2001:db8::1
-A cali-nat-outgoing -s fd00:1::/32 -j MASQUERADE
-A cali-nat-outgoing -m set --match-set list src -j MASQUERADE
-A cali-nat-outgoing -m set ! --match-set ips src -j MASQUERADE
-A cali-nat-outgoing -j MASQUERADE --random
-A cali-nat-outgoing -s fd99::/16 -j MASQUERADE
COMMIT
""",
    )
    found = await live(ns)
    assert found.hooked
    assert found.rules == (
        SourceMatch(set_name="ips", members=(ip_network("fd00::7/128"),), protocol=6),
        SourceMatch(set_name="weird.set-name:31chars_long_abc", members=(ip_network(POOL),), target="SNAT"),
        SourceMatch(set_name="", members=(ip_network("fd00:1::/32"),)),
        SourceMatch(set_name="list", members=None),
        SourceMatch(set_name="ips", members=None),
        SourceMatch(set_name="", members=None, everything=True),
    )


@pytest.mark.parametrize("variant", ["nft", "legacy"])
async def test_a_rule_that_ends_every_packets_way_cuts_the_chain_off(ns: str, variant: str) -> None:
    write_calico(ns, variant)
    assert (await live(ns)).hooked
    run_inside(ns, f"ip6tables-{variant}", "-t", "nat", "-I", "POSTROUTING", "-j", "ACCEPT")
    assert not (await live(ns)).hooked


@pytest.mark.parametrize("backend", list(Backend))
async def test_the_mark_rule_of_ebpf_is_known_on_every_backend(ns: str, backend: Backend) -> None:
    rules = replace(RULES, mark_rule=True)
    if backend is Backend.NFTABLES:
        run_inside(ns, "nft", "-f", "-", text=calico_nft(rules))
    else:
        write_calico(ns, backend.value.removeprefix("iptables-"), rules)
    batch(
        {
            ns: [
                "link add bpfin.cali type veth peer name bpfout.cali",
                "link add vxlan.calico type vxlan external dstport 4789",
            ]
        }
    )
    facts, _ = await look(ns)
    assert facts.nat is not None
    found = facts.nat.live(Family.V6)
    assert found is not None
    assert (found.hooked, found.mark_rule, found.masquerades(ip_network(POOL))) == (True, True, True)
    assert facts.vxlan is not None
    assert facts.vxlan.bpf
    device = facts.vxlan.devices["vxlan.calico"]
    assert (device.flow_based, device.vni, device.local, device.parent) == (True, None, None, "")


async def test_leftovers_of_a_switched_backend_are_reported_beside_the_live_one(ns: str) -> None:
    write_calico(ns, "legacy")
    run_inside(ns, "ip6tables-legacy", "-t", "nat", "-F", "POSTROUTING")
    run_inside(ns, "nft", "-f", "-", text=calico_nft(RULES))
    nat = await nat_of(ns)
    assert {(b.backend, b.hooked) for b in nat.of(Family.V6)} == {
        (Backend.IPTABLES_LEGACY, False),
        (Backend.NFTABLES, True),
    }
    found = nat.live(Family.V6)
    assert found is not None
    assert found.backend is Backend.NFTABLES


async def test_an_empty_chain_masquerades_nothing_and_is_no_failure(ns: str) -> None:
    write_calico(ns, "nft", replace(RULES, pools=()))
    found = await live(ns)
    assert (found.chain, found.hooked, found.rules, found.masquerades(ip_network(POOL))) == (True, True, (), False)


async def test_intervals_of_native_sets_become_networks(ns: str) -> None:
    pools = ("fd00:1::/64", "fd00:2::1", "fd00:3::-fd00:3::ffff", "ffff::/16", "::/64")
    run_inside(ns, "nft", "-f", "-", text=calico_nft(replace(RULES, pools=pools)))
    (rule,) = (await live(ns)).rules
    expected = {ip_network(p) for p in ("fd00:1::/64", "fd00:2::1/128", "fd00:3::/112", "ffff::/16", "::/64")}
    assert set(rule.members or ()) == expected


async def test_a_big_chain_leaves_the_broker_as_a_number(ns: str) -> None:
    lines = "\n".join(f"-A KUBE-SERVICES -d fd00:96::{i:x}/128 -j KUBE-SVC" for i in range(300))
    text = f"*nat\n:KUBE-SERVICES - [0:0]\n:KUBE-SVC - [0:0]\n-A PREROUTING -j KUBE-SERVICES\n{lines}\nCOMMIT\n"
    restore(ns, "legacy", text)
    (answer,) = call_inside(ns, read_topics, (requests.LEGACY_CHAINS[Family.V6],))
    chain = legacy.parse_chains(answer.data, Family.V6)["KUBE-SERVICES"]
    assert (chain.total, len(chain.rules)) == (65, 64), "counting ends behind what is handed on"
    assert {r.chain for r in chain.rules} == {"KUBE-SVC"}
    restore(ns, "nft", text)
    facts, _ = await look(ns)
    assert facts.kube_proxy is not None
    assert facts.kube_proxy.services[Family.V6] is True


@pytest.mark.parametrize("variant", ["nft", "legacy"])
async def test_services_need_a_hooked_chain_with_rules(ns: str, variant: str) -> None:
    for text, expected in (
        (":KUBE-SERVICES - [0:0]\n-A PREROUTING -j KUBE-SERVICES\n-A OUTPUT -j KUBE-SERVICES", False),
        (":KUBE-SERVICES - [0:0]\n-A KUBE-SERVICES -j RETURN", False),
        (":KUBE-SERVICES - [0:0]\n-A KUBE-SERVICES -j RETURN\n-A OUTPUT -j KUBE-SERVICES", True),
    ):
        restore(ns, variant, f"*nat\n{text}\nCOMMIT\n")
        facts, _ = await look(ns)
        assert facts.kube_proxy is not None
        assert facts.kube_proxy.services[Family.V6] is expected, text
