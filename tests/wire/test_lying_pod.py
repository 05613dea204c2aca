"""One pod of three answers for the nameserver's address on its own loopback, in real namespaces: no other pod's
connections go where it says, in many rounds.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from ipaddress import ip_address
from typing import cast

import dns.message
import dns.rrset
import pytest

from exporter.broker.protocol.messages import SocketKind
from exporter.config.load import load_config
from exporter.daemon.rounds import Rounds
from exporter.model.cluster.inventory import NO_INVENTORY
from exporter.model.dns import ResolvConf
from exporter.model.family import Address
from exporter.model.probe import Outcome
from exporter.model.report import PodView
from exporter.model.vantage import Netns, Vantage
from exporter.plan.round_plan import Pace
from exporter.probes.engine.driver import EpollDriver
from exporter.probes.ports import Network, make_socket
from exporter.probes.resolution.target_resolver import TargetResolver
from exporter.probes.runner import ProbeRunner
from exporter.probes.tls import TlsContexts
from exporter.telemetry.logs import InternalErrors
from exporter.vantage import Inspection, Inspector
from tests.kernel.namespaces import configure, unique_prefix
from tests.wire.loopback import HOST
from tests.wire.namespaces import Namespace, execute

pytestmark = [pytest.mark.real, pytest.mark.attack]
DNS, WEB, ELSEWHERE = (ip_address(f"10.99.5.{last}") for last in (53, 80, 66))
PODS, LIAR = ("a", "b", "c"), "a"  # the first that is asked
PORT = 8080
CONFIG = f"""
families: [IPv4]
dns: {{names: []}}
targets: [{{name: web, host: web.test, port: {PORT}, layers: [tcp], vantages: [pod], timeout: 3s}}]
"""


class Places(Network):
    """Each vantage's sockets in its own namespace."""

    def __init__(self, namespaces: Mapping[str, Namespace]) -> None:
        super().__init__()
        self._namespaces = namespaces

    async def sockets(self, asked: Sequence[tuple[Vantage, SocketKind, int]]) -> Sequence[socket.socket | int]:
        return [self._namespaces[vantage.name].inside(make_socket, kind, number) for vantage, kind, number in asked]


@contextmanager
def wired() -> Iterator[dict[str, Namespace]]:
    """The server, the host and the pods on one link; the liar has the nameserver's address on its loopback."""
    prefix = unique_prefix()
    made = {name: Namespace(f"{prefix}{name[0]}") for name in ("server", HOST.name, *PODS)}
    try:
        for namespace in made.values():
            execute("ip", "netns", "add", namespace.name)
        made["server"].ip(
            "link set lo up",
            # Without an address of its own it takes that of its lowest port, which changes what the pods have learnt.
            "link add bridge address 02:00:00:00:00:53 type bridge",
            *(f"addr add {a}/24 dev bridge" for a in (DNS, WEB, ELSEWHERE)),
            "link set bridge up",
        )
        for number, name in enumerate((HOST.name, *PODS), 1):
            made["server"].ip(
                f"link add v{number} type veth peer name eth0 netns {made[name].name}",
                f"link set v{number} master bridge up",
            )
            made[name].ip("link set lo up", f"addr add 10.99.5.{number}/24 dev eth0", "link set eth0 up")
            execute("ip", "netns", "exec", made[name].name, "ping", "-c1", "-w9", "-i0.1", "-q", str(DNS))
        # Otherwise its kernel answers ARP requests for that address, and the others lose the nameserver.
        configure({made[LIAR].name: {"net/ipv4/conf/all/arp_ignore": 1}})
        made[LIAR].ip(f"addr add {DNS}/32 dev lo")
        yield made
    finally:
        for namespace in made.values():
            execute("ip", "netns", "delete", namespace.name)


@contextmanager
def answering(place: Namespace, address: Address) -> Iterator[None]:
    """A nameserver there that has this address for every name, and no AAAA."""

    def bound() -> socket.socket:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind((str(DNS), 53))
        return sock

    def serve() -> None:
        while wire := sock.recvfrom(4096):
            if not wire[0]:
                return
            query = dns.message.from_wire(wire[0])
            reply, (question,) = dns.message.make_response(query), query.question
            if question.rdtype.name == "A":
                reply.answer = [dns.rrset.from_text(question.name, 5, "IN", "A", str(address))]
            else:
                reply.authority = [dns.rrset.from_text("test.", 5, "IN", "SOA", "ns.test. a.test. 1 1 1 1 5")]
            sock.sendto(reply.to_wire(), wire[1])

    sock = place.inside(bound)
    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield
    finally:
        with place.inside(socket.socket, socket.AF_INET, socket.SOCK_DGRAM) as end:
            end.sendto(b"", (str(DNS), 53))
        thread.join()
        sock.close()


async def test_a_pod_that_lies_to_itself_leads_no_other_pods_connections() -> None:
    with ExitStack() as stack:
        places = stack.enter_context(wired())
        stack.enter_context(answering(places["server"], WEB))
        stack.enter_context(answering(places[LIAR], ELSEWHERE))
        for address in (WEB, ELSEWHERE):
            stack.enter_context(places["server"].inside(lambda a=str(address): socket.create_server((a, PORT))))
        pods = [
            Vantage(kind="pod", namespace="tests", name=name, netns=Netns(device=9, inode=number), uid=name)
            for number, name in enumerate(PODS, 1)
        ]
        conf = ResolvConf(nameservers=(DNS,), search=("pods.test",))
        seen = Inspection(
            host=HOST,
            pods=tuple(PodView(vantage=pod, resolv_conf=conf) for pod in pods),
            host_facts=None,
            host_resolv_conf=replace(conf, search=()),
            readings=(),
        )

        class Seeing:
            async def inspect(self, _: object, **__: bool) -> Inspection:
                return seen

        now = [1000.0]
        runner = ProbeRunner(EpollDriver(Places(places)), TlsContexts(), InternalErrors(), clock=time.time)
        rounds = Rounds(
            config=load_config(CONFIG, path="", environment={"NODE_NAME": "ra"}, hostname="ra"),
            pace=Pace(interval=30.0, timeout=20.0, spread=0.0),
            inspector=cast("Inspector", Seeing()),
            runner=runner,
            target_resolver=TargetResolver(runner, timeout=5.0, clock=lambda: now[0]),
            clock=time.time,
            steady=lambda: now[0],
        )
        dialled: dict[str, set[tuple[Address | None, Outcome]]] = {name: set() for name in PODS}
        asked: set[str] = set()
        for _ in range(6):
            report = await rounds.run(lambda: NO_INVENTORY)
            for o in report.snapshot.observations:
                dialled[o.vantage.name].add((o.address, o.outcome))
            asked |= {one.question.vantage.name for one in report.snapshot.lookups if one.reply is not None}
            now[0] += 30.0
    assert dialled["b"] == dialled["c"] == {(WEB, Outcome.OK)}
    assert (ELSEWHERE, Outcome.OK) in dialled[LIAR], "it was asked, and dials by its own answers"
    assert asked >= {*PODS, HOST.name}
