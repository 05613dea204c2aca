"""What is refused, missing, half-written or changing while it is read: on the real kernel, in single namespaces."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
from collections.abc import Iterator
from ipaddress import ip_network

import pytest

from exporter.broker.protocol.messages import HOME, KernelState, NamespaceRef, ReadTopic, Topic, TopicAnswer
from exporter.broker.server.kernel.topics import read_topics
from exporter.kernel.decode import legacy
from exporter.kernel.read import requests
from exporter.kernel.read.readers import read_addresses, read_host
from exporter.model.facts import Backend, HostFacts
from exporter.model.family import Family
from exporter.model.reason import Reason
from tests.kernel.calico_host import MASQ, POOL, host_namespace, write_calico
from tests.kernel.direct_broker import DirectBroker, drop_capabilities
from tests.kernel.namespaces import call_inside, run_inside, start_inside
from tests.unit.kernel_recordings import read_pod

pytestmark = pytest.mark.real


@pytest.fixture
def ns() -> Iterator[str]:
    with host_namespace() as name:
        yield name


async def test_reading_keeps_up_with_a_table_that_changes_all_the_time(ns: str) -> None:
    write_calico(ns, "legacy")
    change = "ip6tables-legacy -w -t nat"
    loop = f"while :; do {change} -A PREROUTING -j ACCEPT; {change} -D PREROUTING 1; done"
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
    facts, reading = await read_pod(DirectBroker(ns, prepare=drop_capabilities))
    assert reading.success
    assert facts is not None
    assert facts.intercepted is None


class Gone:
    """A broker whose place cannot be entered."""

    def __init__(self, code: int) -> None:
        self.code = code

    async def read_kernel(
        self,
        places: tuple[NamespaceRef, ...],
        topics: tuple[ReadTopic, ...],  # noqa: ARG002  # as the client
    ) -> tuple[KernelState, ...]:
        return (KernelState(self.code, ()),) * len(places)


@pytest.mark.parametrize(
    ("code", "lsm", "reason"),
    [
        (errno.ESTALE, False, None),
        (errno.ENOENT, False, None),
        (errno.ESRCH, False, None),
        (errno.EPERM, False, Reason.NO_PERMISSION),
        (errno.EACCES, False, Reason.NO_PERMISSION),
        (errno.EACCES, True, Reason.LSM),
        (errno.EMFILE, False, Reason.READER_FAILED),
    ],
)
async def test_a_pod_that_cannot_be_entered_says_why(code: int, lsm: bool, reason: Reason | None) -> None:
    facts, reading = await read_pod(Gone(code), lsm=lsm)
    assert facts is None
    assert (reading.success, reading.reason, reading.vanished) == (False, reason, reason is None)
    assert await read_addresses(Gone(code), (HOME, HOME)) == ((), ())


async def test_a_host_that_cannot_be_read_has_no_facts_and_reasons_for_all() -> None:
    facts, readings = await read_host(Gone(errno.EACCES), lsm=True, settle=0)
    assert {r.reason for r in readings} == {Reason.LSM}
    assert (facts.links, facts.addresses, facts.routes, facts.nat, facts.kube_proxy, facts.vxlan) == (None,) * 6
    assert facts.limits.conntrack_max is None


async def test_a_half_written_chain_is_looked_at_again_before_it_is_reported(ns: str) -> None:
    write_calico(ns, "nft")
    outgoing = requests.nft_rules(Family.V6, "nat", "cali-nat-outgoing")
    spoiled: list[ReadTopic] = []

    def spoil_once(topic: ReadTopic, answer: TopicAnswer) -> TopicAnswer:
        if topic == outgoing and not spoiled:
            spoiled.append(topic)
            return TopicAnswer(0, b"")
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
    def interrupt(topic: ReadTopic, answer: TopicAnswer) -> TopicAnswer:
        return answer._replace(interrupted=True) if topic.topic is Topic.ROUTES6 else answer

    facts, readings = await read_host(DirectBroker(ns, spoil=interrupt), settle=0)
    by_name = {r.reader: r for r in readings}
    assert facts.routes is None
    assert facts.vxlan is None
    assert by_name["routes"].reason == by_name["vxlan"].reason == Reason.READER_FAILED
    assert by_name["addresses"].success


async def test_rules_that_change_between_the_visits_are_read_again(ns: str) -> None:
    write_calico(ns, "nft")
    broker: DirectBroker

    def change_once(topic: ReadTopic, answer: TopicAnswer) -> TopicAnswer:
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
        ReadTopic(Topic.IPSET, b"", 70000),
    )
    for topic, answer in zip(topics, call_inside("", read_topics, topics), strict=True):
        assert answer == TopicAnswer(errno.EINVAL), topic


def test_what_does_not_exist_is_said_by_errno(ns: str) -> None:
    topics = (
        ReadTopic(Topic.NFT_CHAIN, b"nat\0cali-nat-outgoing", 10),
        ReadTopic(Topic.IPSET, b"", 9),
        ReadTopic(Topic.IPVS),
    )
    codes = [answer.errno for answer in call_inside(ns, read_topics, topics)]
    assert codes == [errno.ENOENT] * 3
