"""Nameservers that contradict themselves, each other, or the question: no false cause comes of it, and a true one still
does.

The verdict set is asked by the real probe, twice, of a real BIND with views and wildcards and of scripted servers; the
rules judge.
"""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import dns.edns
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset
import pytest

from exporter.config.schema import ControlName, RecordType
from exporter.diagnosis.engine.rule_input import Expectations, RuleInput
from exporter.diagnosis.rules.dns import DNS_RULES
from exporter.model.cause import Cause, Role
from exporter.model.cluster.inventory import Inventory, InventoryOrigin
from exporter.model.cluster.service import Service
from exporter.model.family import FAMILIES, Family, parse_address
from exporter.model.probe import Lookup, Nameserver, Purpose, Question
from exporter.model.report import Finding, Snapshot
from exporter.plan.aaaa_questions import WantedQuestion, verdict_set
from tests.unit.said import remembered
from tests.wire.loopback import HOST, LOOPBACK, ask
from tests.wire.nameserver import free_port, scripted

CANARY, RANDOM = "web.default.svc.cluster.local", "x1a2b3c4"
OUTSIDE = ("www.one.test", "www.two.test")
ADDRESSES = {"A": "192.0.2.80", "AAAA": "2001:db8::80"}
SOA = "ns.invalid. admin.invalid. 1 7200 900 1209600 30"
Known = dict[str, dict[str, str]]  # name -> type -> address; a name without any type exists without records


def records() -> Known:
    known: Known = {name: dict(ADDRESSES) for name in (CANARY, *OUTSIDE)}
    return {**known, "ipv4only.arpa": {"A": "192.0.0.170"}, "one.test": {}, "two.test": {}}


@dataclass
class Honest:
    """A resolver that tells what is known, an SOA with everything negative; `zones` are those it puts there."""

    known: Known = field(default_factory=records)
    round: int = 0

    def script(self, query: bytes) -> list[bytes]:
        asked = dns.message.from_wire(query)
        name, kind = asked.question[0].name.to_text().rstrip(".").lower(), asked.question[0].rdtype.name
        return [reply.to_wire() for reply in self.replies(asked, name, kind)]

    def replies(self, asked: dns.message.Message, name: str, kind: str) -> list[dns.message.Message]:
        return [self.reply(asked, name, kind)]

    def reply(self, asked: dns.message.Message, name: str, kind: str) -> dns.message.Message:
        reply = dns.message.make_response(asked, recursion_available=True)
        found = self.known.get(name)
        exists = found is not None or any(other.endswith(f".{name}") for other in self.known)
        if found is not None and kind in found:
            reply.answer = [dns.rrset.from_text(f"{name}.", 30, "IN", kind, found[kind])]
        else:
            reply.set_rcode(dns.rcode.NOERROR if exists else dns.rcode.NXDOMAIN)
            reply.authority = [dns.rrset.from_text(f"{'.'.join(name.split('.')[-2:])}.", 30, "IN", "SOA", SOA)]
        return reply


class Spoofed(Honest):
    """Before each answer come others: with another id, about another name, about another type; each of them denies."""

    def replies(self, asked: dns.message.Message, name: str, kind: str) -> list[dns.message.Message]:
        forged = []
        for change in ({"id": (asked.id + 1) % 65536}, {"name": "www.three.test."}, {"kind": "TXT"}):
            other = dns.message.make_query(
                str(change.get("name", f"{name}.")), str(change.get("kind", kind)), use_edns=asked.edns
            )
            other.id = int(change.get("id", asked.id))
            denied = dns.message.make_response(other, recursion_available=True)
            denied.set_rcode(dns.rcode.NXDOMAIN if kind == "AAAA" else dns.rcode.NOERROR)
            forged.append(denied)
        return [*forged, self.reply(asked, name, kind)]


@dataclass
class Odd(Honest):
    """What the servers of one foreign zone make of AAAA: `spoil` changes the honest reply of that zone's names, None is
    silence.
    """

    zone: str = "one.test"
    spoil: Callable[[dns.message.Message], dns.message.Message | None] = lambda reply: reply

    def replies(self, asked: dns.message.Message, name: str, kind: str) -> list[dns.message.Message]:
        reply = self.reply(asked, name, kind)
        spoilt = self.spoil(reply) if kind == "AAAA" and name.endswith(self.zone) else reply
        return [] if spoilt is None else [spoilt]


def emptied(reply: dns.message.Message, rcode: dns.rcode.Rcode = dns.rcode.NOERROR) -> dns.message.Message:
    reply.answer, reply.authority = [], []
    reply.set_rcode(rcode)
    return reply


def marked(reply: dns.message.Message) -> dns.message.Message:
    reply.use_edns(0, options=[dns.edns.EDEOption(dns.edns.EDECode.FILTERED)])
    return reply


class Forgetful(Honest):
    """A cache that changes between the rounds: in each the AAAA of another name is gone, without an SOA."""

    def reply(self, asked: dns.message.Message, name: str, kind: str) -> dns.message.Message:
        reply = super().reply(asked, name, kind)
        return emptied(reply) if kind == "AAAA" and name == OUTSIDE[self.round] else reply


class Restarting(Honest):
    """In the first round it withholds AAAA of all names, in the second no more."""

    def reply(self, asked: dns.message.Message, name: str, kind: str) -> dns.message.Message:
        reply = super().reply(asked, name, kind)
        return emptied(reply) if kind == "AAAA" and self.round == 0 else reply


class Wildcard(Honest):
    """A zone with a wildcard of one type: every name in it exists, with that type alone."""

    kind = "A"

    def reply(self, asked: dns.message.Message, name: str, kind: str) -> dns.message.Message:
        if name.endswith(".one.test") and name not in self.known:
            self.known[name] = {self.kind: ADDRESSES[self.kind]}
        return super().reply(asked, name, kind)


class WildcardOfIpv6(Wildcard):
    kind = "AAAA"


class Unspecified(Wildcard):
    """A zone whose owner wants no IPv6 and publishes :: for whatever is asked there."""

    def reply(self, asked: dns.message.Message, name: str, kind: str) -> dns.message.Message:
        reply = super().reply(asked, name, kind)
        if kind == "AAAA" and name.endswith("one.test"):
            reply = emptied(reply)
            reply.answer = [dns.rrset.from_text(f"{name}.", 30, "IN", "AAAA", "::")]
        return reply


class Template(Honest):
    """A true blocker among them: AAAA of every name is NOERROR and empty."""

    def reply(self, asked: dns.message.Message, name: str, kind: str) -> dns.message.Message:
        reply = super().reply(asked, name, kind)
        return emptied(reply) if kind == "AAAA" else reply


WEB = Service(
    namespace="default",
    name="web",
    cluster_ips=tuple(a for a in map(parse_address, ADDRESSES.values()) if a is not None),
)


def judged(rounds: Sequence[tuple[Lookup, ...]]) -> dict[Cause, Finding]:
    """What the rules find after these two rounds of lookups, in which what was asked again was answered alike."""
    told = remembered(*rounds, now=1_000.0)

    def snapshot(lookups: tuple[Lookup, ...]) -> Snapshot:
        return Snapshot(
            node="ra", role=Role.ALL, started=0.0, finished=1.0, complete=True, host=HOST, lookups=lookups,
            lookups_kept=lookups, told=told,
            inventory=Inventory(source=InventoryOrigin.KUBERNETES, services=(WEB,), pods=(), policies=()),
            families=dict.fromkeys(FAMILIES, True),
        )  # fmt: skip

    # Of the first, which some tests spoil, the operator knows no AAAA.
    expect = Expectations(
        control_names=(ControlName(name=OUTSIDE[0], expect=(RecordType.A,)), ControlName(name=OUTSIDE[1]))
    )
    view = RuleInput(now=1_000.0, snapshot=snapshot(rounds[1]), previous=snapshot(rounds[0]), expect=expect)
    said = {cause: rule(view) for cause, rule in DNS_RULES.items()}
    return {cause: found[0] for cause, found in said.items() if isinstance(found, tuple) and found}


async def asked(servers: Mapping[str, tuple[Family, int]], names: Sequence[str], patience: float) -> tuple[Lookup, ...]:
    """The verdict set, asked of every server by the host."""
    wanted = verdict_set(canary=CANARY, domain="cluster.local", names=names, random=RANDOM)
    questions = [_question(label, place, item, patience) for label, place in servers.items() for item in wanted]
    return tuple(await asyncio.gather(*(ask(question) for question in questions)))


def _question(label: str, place: tuple[Family, int], item: WantedQuestion, timeout: float) -> Question:
    server = Nameserver(LOOPBACK[place[0]], label, place[1])
    return Question(
        vantage=HOST,
        server=server,
        name=item.name,
        qtype=item.qtype,
        label=item.label,
        purpose=Purpose.VERDICT,
        timeout=timeout,
    )


PATIENCE = 20.0
SILENCE = 0.5  # only where a server never answers


async def look(servers: Mapping[Family, Honest], *, patience: float = PATIENCE) -> dict[Cause, Finding]:
    """Two rounds with scripted servers, one on each loopback address."""
    async with AsyncExitStack() as stack:
        places = {
            f"ns-{family}": (family, await stack.enter_async_context(scripted(family, server.script)))
            for family, server in servers.items()
        }
        rounds = []
        for number in range(2):
            for server in servers.values():
                server.round = number
            rounds.append(await asked(places, OUTSIDE, patience))
    return judged(rounds)


HONEST_ENOUGH: dict[str, Callable[[], Honest]] = {
    "honest": Honest,
    "forged replies before the true one": Spoofed,
    "a foreign zone that forgets the SOA of AAAA": lambda: Odd(spoil=emptied),
    "a foreign zone that denies names by type": lambda: Odd(spoil=lambda r: emptied(r, dns.rcode.NXDOMAIN)),
    "a foreign zone that fails for AAAA": lambda: Odd(spoil=lambda r: emptied(r, dns.rcode.SERVFAIL)),
    "a foreign zone that refuses AAAA": lambda: Odd(spoil=lambda r: emptied(r, dns.rcode.REFUSED)),
    "a foreign zone that does not know AAAA": lambda: Odd(spoil=lambda r: emptied(r, dns.rcode.NOTIMP)),
    "a foreign zone that publishes ::": Unspecified,
    "an extended error on one zone's names": lambda: Odd(spoil=marked),
    "a cache that forgets another name each time": Forgetful,
    "a nameserver that has just been mended": Restarting,
    "a wildcard of A": Wildcard,
    "a wildcard of AAAA": WildcardOfIpv6,
}


@pytest.mark.parametrize("which", HONEST_ENOUGH)
async def test_odd_answers_are_no_cause(which: str) -> None:
    assert await look({Family.V4: HONEST_ENOUGH[which]()}) == {}


async def test_a_foreign_zone_that_never_answers_aaaa_is_no_cause() -> None:
    assert await look({Family.V4: Odd(spoil=lambda _: None)}, patience=SILENCE) == {}


async def test_servers_that_contradict_each_other_are_judged_each_for_itself() -> None:
    inside = records()
    for name in OUTSIDE:
        inside[name] = {"A": "10.0.0.80"}  # split horizon: another site, and without IPv6
    assert await look({Family.V4: Honest(), Family.V6: Honest(inside)}) == {}
    found = await look({Family.V4: Honest(), Family.V6: Template()})
    assert set(found) == {Cause.DNS_AAAA_BLOCKED}
    assert found[Cause.DNS_AAAA_BLOCKED].subjects == ("server/ns-IPv6",)


async def test_forged_replies_hide_no_blocker() -> None:
    class Both(Spoofed, Template):
        """Forged replies, and then those of the template."""

    assert set(await look({Family.V4: Both()})) == {Cause.DNS_AAAA_BLOCKED}


async def test_replies_that_all_carry_another_id_are_none() -> None:
    class Deaf(Honest):
        """It answers everything, and nothing that was asked."""

        def reply(self, asked: dns.message.Message, name: str, kind: str) -> dns.message.Message:
            reply = super().reply(asked, name, kind)
            reply.id ^= 1
            return reply

    found = await look({Family.V4: Deaf()}, patience=SILENCE)
    assert set(found) == {Cause.DNS_UNREACHABLE}


# a real BIND

NAMED = """
options {{
  directory "{folder}"; pid-file none; session-keyfile none; recursion no; dnssec-validation no; empty-zones-enable no;
  listen-on port {port} {{ 127.0.0.1; }}; listen-on-v6 port {port} {{ ::1; }};
}};
controls {{ }};
view inside {{ match-clients {{ 127.0.0.1; }}; {inside} }};
view outside {{ match-clients {{ ::1; }}; {outside} }};
"""
ZONE = 'zone "{zone}" {{ type primary; file "{file}"; }};\n'
HEAD = "$TTL 30\n@ SOA ns.invalid. admin.invalid. 1 7200 900 1209600 30\n@ NS ns.invalid.\n"
BODIES = {
    "both": "{name} A 192.0.2.80\n{name} AAAA 2001:db8::80\n",
    "site": "{name} A 10.0.0.80\n",
    "wild A": "{name} A 192.0.2.80\n{name} AAAA 2001:db8::80\n* A 192.0.2.81\n",
    "wild AAAA": "{name} A 192.0.2.80\n{name} AAAA 2001:db8::80\n* AAAA 2001:db8::81\n",
    "wild MX": "{name} A 192.0.2.80\n{name} AAAA 2001:db8::80\n* MX 10 mail\n",
    "below": "{name} A 192.0.2.80\n{name} AAAA 2001:db8::80\nmail.x1a2b3c4 A 192.0.2.82\n",
}


@contextmanager
def views(folder: Path, inside: Mapping[str, str], outside: Mapping[str, str]) -> Iterator[int]:
    """A BIND that shows IPv4 clients other zones than IPv6 ones: zone -> body. The cluster's domain is in both."""

    def zones(view: str, bodies: Mapping[str, str]) -> str:
        made = []
        for zone, body in {**bodies, "cluster.local": "both"}.items():
            file = folder / f"{view}.{zone}"
            name = "www" if zone != "cluster.local" else "web.default.svc"
            file.write_text(HEAD + BODIES[body].format(name=name))
            made.append(ZONE.format(zone=zone, file=file))
        return "".join(made)

    port = free_port()
    configuration = folder / "named.conf"
    configuration.write_text(
        NAMED.format(folder=folder, port=port, inside=zones("inside", inside), outside=zones("outside", outside))
    )
    process = subprocess.Popen(["named", "-g", "-n", "1", "-c", str(configuration)], stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        log = []
        for line in process.stderr:
            log.append(line)
            if line.endswith(" running\n"):
                break
        assert process.poll() is None, "".join(log)
        yield port
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


@pytest.mark.real
@pytest.mark.parametrize(
    ("inside", "outside"),
    [
        ("both", "both"),
        ("site", "both"),  # split horizon
        ("wild A", "wild AAAA"),
        ("wild MX", "wild A"),
        ("below", "site"),  # the random name exists, for once, as an empty node
    ],
)
async def test_views_and_wildcards_of_a_real_server_are_no_cause(tmp_path: Path, inside: str, outside: str) -> None:
    zones = ("one.test", "two.test")
    with views(tmp_path, dict.fromkeys(zones, inside), dict.fromkeys(zones, outside)) as port:
        servers = {"ns-IPv4": (Family.V4, port), "ns-IPv6": (Family.V6, port)}
        rounds = [await asked(servers, OUTSIDE, PATIENCE) for _ in range(2)]
    assert any(one.reply is not None and one.reply.addresses for one in rounds[0])
    assert judged(rounds) == {}


@pytest.mark.real
async def test_a_reference_that_knows_another_site_proves_nothing(tmp_path: Path) -> None:
    """The pods' nameserver has an address of its own for the name, and none of IPv6: the reference's AAAA is another
    host's.
    """
    with views(
        tmp_path, dict.fromkeys(("one.test", "two.test"), "site"), dict.fromkeys(("one.test", "two.test"), "both")
    ) as port:
        rounds = []
        for _ in range(2):
            own = await asked({"ns": (Family.V4, port)}, OUTSIDE, PATIENCE)
            told = await asked({"reference": (Family.V6, port)}, OUTSIDE, PATIENCE)
            known = (replace(o, question=replace(o.question, purpose=Purpose.REFERENCE)) for o in told)
            rounds.append((*own, *(o for o in known if o.question.name in OUTSIDE)))
    assert judged(rounds) == {}
