"""What stands beside Calico's rules, what is missing, refused or half-written: on the real kernel, in single namespaces."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_network

import pytest

from exporter.broker.kernel import read_topics
from exporter.broker.messages import HOME, Answer, KernelState, Place, ReadTopic, Topic
from exporter.kernel import legacy, requests
from exporter.kernel.readers import VANISHED, read_addresses, read_host, read_pod
from exporter.model.facts import Backend, HostFacts, NatBackend, NatFacts, Reading, SourceMatch
from exporter.model.family import Family
from exporter.model.report import Reason
from tests.kernel.calico_rules import NEW_ALL_POOLS, NatInput, calico_nft, ipset_restore, nat_restore
from tests.kernel.direct_broker import DirectBroker, drop_capabilities
from tests.kernel.namespaces import batch, call_inside, create, delete, run_inside, start_inside, unique_prefix

pytestmark = pytest.mark.real

POOL = "fd00:10:244::/48"
RULES = NatInput(
    six=True,
    pools=(POOL,),
    all_pools=(POOL,),
    all_set=NEW_ALL_POOLS,
    tunnel="vxlan-v6.calico",
    service="fd00:10:96::50",
    endpoints=("fd00:10:244:1::41",),
    pod_range=POOL,
)
MASQ = RULES.masq_set


@pytest.fixture
def ns() -> Iterator[str]:
    name = unique_prefix() + "host"
    create([name])
    batch({name: ["link set lo up"]})
    try:
        yield name
    finally:
        delete([name])


def restore(ns: str, variant: str, text: str) -> None:
    wait = ["-w", "30"] if variant == "legacy" else []
    run_inside(ns, f"ip6tables-{variant}-restore", *wait, text=text)


def write_calico(ns: str, variant: str, rules: NatInput = RULES) -> None:
    run_inside(ns, "ipset", "restore", text=ipset_restore(rules))
    restore(ns, variant, nat_restore(rules))


async def look(ns: str) -> tuple[HostFacts, dict[str, Reading]]:
    facts, readings = await read_host(DirectBroker(ns), settle=0)
    return facts, {r.reader: r for r in readings}


async def nat_of(ns: str) -> NatFacts:
    facts, readings = await look(ns)
    assert readings["nat"].success, readings["nat"]
    assert facts.nat is not None
    return facts.nat


async def live(ns: str) -> NatBackend:
    found = (await nat_of(ns)).live(Family.V6)
    assert found is not None
    return found


def legacy_names(ns: str) -> bytes:
    return call_inside(ns, read_topics, tuple(requests.LEGACY_TABLES.values()))[1].data


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
    assert asked == Answer(0, b"")
    assert legacy_names(ns) == b""


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
        SourceMatch("ips", (ip_network("fd00::7/128"),), protocol=6),
        SourceMatch("weird.set-name:31chars_long_abc", (ip_network(POOL),), target="SNAT"),
        SourceMatch("", (ip_network("fd00:1::/32"),)),
        SourceMatch("list", None),
        SourceMatch("ips", None),
        SourceMatch("", None, everything=True),
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


async def test_reading_keeps_up_with_a_table_that_changes_all_the_time(ns: str) -> None:
    write_calico(ns, "legacy")
    loop = "while :; do ip6tables-legacy -w -t nat -A PREROUTING -j ACCEPT; ip6tables-legacy -w -t nat -D PREROUTING 1; done"
    writer = start_inside(
        ns, "sh", "-c", loop, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        topics = (requests.LEGACY_CHAINS[Family.V6],) * 200
        for answer in call_inside(ns, read_topics, topics):
            assert answer.errno == 0
            assert "cali-nat-outgoing" in legacy.parse_chains(answer.data, Family.V6)
    finally:
        os.killpg(writer.pid, signal.SIGKILL)
        writer.wait()


async def test_without_capabilities_each_reader_says_so_and_the_rest_is_read(ns: str) -> None:
    write_calico(ns, "nft")
    facts, readings = await read_host(DirectBroker(ns, prepare=drop_capabilities), settle=0)
    by_name = {r.reader: r for r in readings}
    assert by_name["nat"].reason == Reason.NO_PERMISSION
    assert by_name["kube_proxy"].reason == Reason.NO_PERMISSION
    assert by_name["links"].success
    assert by_name["vxlan"].success
    assert facts.kube_proxy is None
    assert facts.nat is not None
    assert facts.nat.unread[Family.V6, Backend.IPTABLES_NFT] == Reason.NO_PERMISSION
    assert facts.nat.live(Family.V6) is None


async def test_a_pod_is_read_without_what_is_refused(ns: str) -> None:
    facts, reading = await read_pod(DirectBroker(ns, prepare=drop_capabilities), HOME)
    assert reading.success
    assert facts is not None
    assert facts.intercepted is None


class Gone:
    """A broker whose place cannot be entered."""

    def __init__(self, code: int) -> None:
        self.code = code

    async def read_kernel(self, place: Place, topics: tuple[ReadTopic, ...]) -> KernelState:  # noqa: ARG002  # as the client
        return KernelState(self.code, ())


@pytest.mark.parametrize(
    ("code", "lsm", "reason"),
    [
        (errno.ESTALE, False, VANISHED),
        (errno.ENOENT, False, VANISHED),
        (errno.ESRCH, False, VANISHED),
        (errno.EPERM, False, Reason.NO_PERMISSION),
        (errno.EACCES, False, Reason.NO_PERMISSION),
        (errno.EACCES, True, Reason.LSM),
        (errno.EMFILE, False, Reason.READER_FAILED),
    ],
)
async def test_a_pod_that_cannot_be_entered_says_why(code: int, lsm: bool, reason: str) -> None:
    facts, reading = await read_pod(Gone(code), HOME, lsm=lsm)
    assert facts is None
    assert (reading.success, reading.reason) == (False, reason)
    assert await read_addresses(Gone(code), HOME) == ()


async def test_a_host_that_cannot_be_read_has_no_facts_and_reasons_for_all() -> None:
    facts, readings = await read_host(Gone(errno.EACCES), lsm=True, settle=0)
    assert {r.reason for r in readings} == {Reason.LSM}
    assert (facts.links, facts.addresses, facts.routes, facts.nat, facts.kube_proxy, facts.vxlan) == (None,) * 6
    assert facts.limits.conntrack_max is None


async def test_a_half_written_chain_is_looked_at_again_before_it_is_reported(ns: str) -> None:
    write_calico(ns, "nft")
    outgoing = requests.nft_rules(Family.V6, "nat", "cali-nat-outgoing")
    spoiled: list[ReadTopic] = []

    def spoil_once(topic: ReadTopic, answer: Answer) -> Answer:
        if topic == outgoing and not spoiled:
            spoiled.append(topic)
            return Answer(0, b"")
        return answer

    broker = DirectBroker(ns, spoil=spoil_once)
    facts, _ = await read_host(broker, settle=0)
    assert spoiled
    assert len(broker.visits) == 6
    assert facts.nat is not None
    found = facts.nat.live(Family.V6)
    assert found is not None
    assert found.rules
    broker.visits.clear()
    run_inside(ns, "ip6tables-nft", "-t", "nat", "-F", "cali-nat-outgoing")
    now, _ = await read_host(broker, previous=facts, settle=0)
    assert len(broker.visits) == 6
    await read_host(broker, previous=now, settle=0)
    assert len(broker.visits) == 9, "a gap that stays is the truth: one look suffices"


async def test_dumps_that_stay_interrupted_are_not_believed(ns: str) -> None:
    def interrupt(topic: ReadTopic, answer: Answer) -> Answer:
        return replace(answer, interrupted=True) if topic.topic is Topic.ROUTES6 else answer

    facts, readings = await read_host(DirectBroker(ns, spoil=interrupt), settle=0)
    by_name = {r.reader: r for r in readings}
    assert facts.routes is None
    assert facts.vxlan is None
    assert by_name["routes"].reason == by_name["vxlan"].reason == Reason.READER_FAILED
    assert by_name["addresses"].success


async def test_rules_that_change_between_the_visits_are_read_again(ns: str) -> None:
    write_calico(ns, "nft")
    broker: DirectBroker

    def change_once(topic: ReadTopic, answer: Answer) -> Answer:
        if topic == requests.NFT_TABLES and len(broker.visits) == 1:
            run_inside(ns, "nft", "add", "table", "ip6", "foreign")
        return answer

    broker = DirectBroker(ns, spoil=change_once)
    await read_host(broker, settle=0)
    assert len(broker.visits) == 6


async def test_legacy_tables_are_copied_once_a_minute(ns: str) -> None:
    write_calico(ns, "legacy")
    now = 1000.0
    broker = DirectBroker(ns)
    facts: HostFacts | None = None
    copies = []
    for now in (1000.0, 1030.0, 1059.0, 1061.0):
        broker.visits.clear()
        facts, _ = await read_host(broker, previous=facts, settle=0, clock=lambda: now)  # noqa: B023  # called in this turn
        copies.append(sum(t.topic is Topic.LEGACY_CHAINS for topics in broker.visits for t in topics))
        assert facts.nat is not None
        found = facts.nat.live(Family.V6)
        assert found is not None
        assert found.masquerades(ip_network(POOL)) is True
    assert copies == [1, 0, 0, 1]


async def test_a_set_is_read_anew_even_where_the_legacy_copy_is_kept(ns: str) -> None:
    write_calico(ns, "legacy")
    facts, _ = await read_host(DirectBroker(ns), settle=0, clock=lambda: 1000.0)
    run_inside(ns, "ipset", "flush", MASQ)
    after, _ = await read_host(DirectBroker(ns), previous=facts, settle=0, clock=lambda: 1010.0)
    assert after.nat is not None
    found = after.nat.live(Family.V6)
    assert found is not None
    assert found.masquerades(ip_network(POOL)) is False


def test_a_request_out_of_range_is_refused_not_raised() -> None:
    topics = (
        ReadTopic(Topic.NFT_RULES, b"x" * 2000, 10),
        ReadTopic(Topic.NFT_RULES, b"", 10),
        ReadTopic(Topic.NFT_RULES, b"a\0b\0c", 10),
        ReadTopic(Topic.NFT_RULES, b"a\0b", 70000),
        ReadTopic(Topic.NEIGHBOURS, b"", -1),
        ReadTopic(Topic.NEIGHBOURS, b"", 1 << 40),
        ReadTopic(Topic.LEGACY_TABLES, b"", 3),
        ReadTopic(Topic.LEGACY_REACHABLE, b"filter\0INPUT", 10),
        ReadTopic(Topic.IPSET_NAME, b"", 70000),
        ReadTopic(Topic.IPSET, b"n" * 32, 0),
        ReadTopic(Topic.IPSET, b"a\0b", 0),
    )
    for topic, answer in zip(topics, call_inside("", read_topics, topics), strict=True):
        assert answer == Answer(errno.EINVAL), topic


def test_what_does_not_exist_is_said_by_errno(ns: str) -> None:
    topics = (
        ReadTopic(Topic.NFT_CHAIN, b"nat\0cali-nat-outgoing", 10),
        ReadTopic(Topic.IPSET, b"nothing", 0),
        ReadTopic(Topic.IPSET_NAME, b"", 9),
        ReadTopic(Topic.IPVS),
    )
    codes = [answer.errno for answer in call_inside(ns, read_topics, topics)]
    assert codes == [errno.ENOENT] * 4
