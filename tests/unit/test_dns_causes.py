"""What each kind of withholding is as a cause: which are, how severe each is, and that A is judged as AAAA is."""

from __future__ import annotations

from dataclasses import replace

import pytest

from exporter.config.schema import AaaaPolicy, ControlName
from exporter.diagnosis.engine.rule_input import Expectations, RuleInput
from exporter.diagnosis.rules.dns import DNS_RULES
from exporter.diagnosis.rules.dns.servers import aaaa_blocks
from exporter.model.cause import Cause, Role, Severity
from exporter.model.cluster.inventory import Inventory, InventoryOrigin
from exporter.model.cluster.service import Service
from exporter.model.dns import NXDOMAIN, REFUSED, SERVFAIL, Reply
from exporter.model.family import FAMILIES
from exporter.model.probe import Lookup, LookupOutcome, Nameserver, Purpose, Question
from exporter.model.reason import Reason
from exporter.model.report import Finding, Snapshot
from exporter.probes.dns_reply import judge
from tests.unit.said import remembered
from tests.unit.scene import HOST
from tests.worlds import address

CANARY, RANDOM = "web.default.svc.cluster.local", "x1.default.svc.cluster.local"
ONE, TWO, CONTROL = "one.example", "two.test", "ipv4only.arpa"
SERVER = Nameserver(address("10.152.183.10"), "cluster_dns")
OTHER = {"A": "AAAA", "AAAA": "A"}
DATA = {
    "A": Reply(answers=1, addresses=(address("192.0.2.80"),)),
    "AAAA": Reply(answers=1, addresses=(address("2001:db8::80"),)),
}
ZEROS = {"A": Reply(answers=1, addresses=(address("0.0.0.0"),)), "AAAA": Reply(answers=1, addresses=(address("::"),))}
ABSENT, MISSING = Reply(soa_authority=True), Reply(rcode=NXDOMAIN, soa_authority=True)
EMPTY = Reply(aa=True)
BOTH = (address("10.152.183.20"), address("fd98::20"))
Said = Reply | None  # None: silence


def asked(name: str, qtype: str, reply: Said) -> Lookup:
    label = {CANARY: "canary", RANDOM: "random"}.get(name, name)
    question = Question(vantage=HOST, server=SERVER, name=name, qtype=qtype, label=label, purpose=Purpose.VERDICT)
    return Lookup(
        question=question, outcome=LookupOutcome.TIMEOUT if reply is None else judge(reply), seconds=0.001, reply=reply
    )


def answers(qtype: str, of_names: Said, of_random: Said) -> list[Lookup]:
    """What the server says of that type; of the other it is honest."""
    made = [asked(RANDOM, qtype, of_random), asked(RANDOM, OTHER[qtype], MISSING)]
    for name in (CANARY, ONE, TWO):
        made += [asked(name, qtype, of_names), asked(name, OTHER[qtype], DATA[OTHER[qtype]]), asked(name, "MX", ABSENT)]
    return made


def view(lookups: list[Lookup], expect: Expectations | None = None) -> RuleInput:
    inventory = Inventory(
        source=InventoryOrigin.KUBERNETES,
        services=(Service(namespace="default", name="web", cluster_ips=BOTH),),
        pods=(),
    )

    told = remembered(lookups, lookups, now=1_000.0)

    def snapshot(made: tuple[Lookup, ...]) -> Snapshot:
        return Snapshot(
            node="ra", role=Role.NODE, started=0.0, finished=1.0, complete=True, inventory=inventory, host=HOST,
            lookups=made,
            lookups_kept=made, families=dict.fromkeys(FAMILIES, True), told=told,
        )  # fmt: skip

    again = tuple(replace(one) for one in lookups)
    return RuleInput(
        now=1_000.0, snapshot=snapshot(tuple(lookups)), previous=snapshot(again), expect=expect or Expectations()
    )


def found(cause: Cause, of: RuleInput) -> Finding | None:
    said = DNS_RULES[cause](of)
    assert not isinstance(said, Reason), said
    return said[0] if said else None


CAUSES = {"AAAA": Cause.DNS_AAAA_BLOCKED, "A": Cause.DNS_A_BLOCKED}
CRITICAL, WARNING = Severity.CRITICAL, Severity.WARNING


@pytest.mark.parametrize("qtype", CAUSES)
@pytest.mark.parametrize(
    ("of_names", "of_random", "kind", "severity"),
    [
        (EMPTY, EMPTY, "blanket_nodata", CRITICAL),
        (Reply(rcode=NXDOMAIN), Reply(rcode=NXDOMAIN), "blanket_nxdomain", CRITICAL),
        (Reply(rcode=REFUSED), Reply(rcode=REFUSED), "refused", CRITICAL),
        (Reply(rcode=SERVFAIL), Reply(rcode=SERVFAIL), "servfail", CRITICAL),
        (None, None, "dropped", CRITICAL),
        (Reply(), MISSING, "filtered", WARNING),
        ("zeros", "zeros", "sinkhole", WARNING),
    ],
)
def test_the_kind_decides_how_severe_it_is(
    qtype: str, of_names: Said | str, of_random: Said | str, kind: str, severity: Severity
) -> None:
    said = [ZEROS[qtype] if isinstance(reply, str) else reply for reply in (of_names, of_random)]
    seen = view(answers(qtype, *said))
    finding = found(CAUSES[qtype], seen)
    assert finding is not None
    assert (finding.severity, finding.subjects) == (severity, ("server/cluster_dns",))
    assert finding.evidence[0].startswith(f"server/cluster_dns (10.152.183.10), {kind}: ")
    assert finding.command.startswith("dig @10.152.183.10 ")
    assert found(CAUSES[OTHER[qtype]], seen) is None  # of the other type the server is honest


@pytest.mark.parametrize(
    ("of_names", "of_random"),
    [
        (DATA["AAAA"], MISSING),
        (ABSENT, MISSING),  # names that have A alone, by the server's word
        (DATA["AAAA"], ABSENT),  # an empty name, by chance
    ],
)
def test_honest_answers_are_no_cause(of_names: Reply, of_random: Reply) -> None:
    seen = view(answers("AAAA", of_names, of_random))
    if of_random is ABSENT:  # what A says of the same name agrees
        kept = [o for o in seen.snapshot.lookups if o.question.name != RANDOM]
        seen = view([*kept, asked(RANDOM, "A", ABSENT), asked(RANDOM, "AAAA", ABSENT)])
    assert found(Cause.DNS_AAAA_BLOCKED, seen) is None
    assert found(Cause.DNS_A_BLOCKED, seen) is None


def test_synthesised_addresses_are_dns64_and_no_cause() -> None:
    lookups = [o for o in answers("AAAA", DATA["AAAA"], MISSING) if o.question.name in {CANARY, RANDOM}]
    made = Reply(answers=1, addresses=(address("64:ff9b::c000:aa"),))
    seen = view([*lookups, asked(CONTROL, "AAAA", made)])
    assert found(Cause.DNS_AAAA_BLOCKED, seen) is None
    alone = view([asked(CONTROL, "AAAA", made)])
    assert aaaa_blocks(alone) == {"cluster_dns": "dns64"}
    assert found(Cause.DNS_AAAA_BLOCKED, alone) is None


def test_only_aaaa_may_be_withheld_on_purpose() -> None:
    purpose = Expectations(aaaa=AaaaPolicy.BLOCKED)
    blocked = found(Cause.DNS_AAAA_BLOCKED, view(answers("AAAA", EMPTY, EMPTY), purpose))
    assert blocked is not None
    assert blocked.severity is Severity.INFO
    other = found(Cause.DNS_A_BLOCKED, view(answers("A", EMPTY, EMPTY), purpose))
    assert other is not None
    assert other.severity is Severity.CRITICAL


@pytest.mark.parametrize(
    ("reply", "control", "kind"),
    [
        (None, None, "dropped"),
        (Reply(rcode=SERVFAIL), Reply(rcode=SERVFAIL), "servfail"),
        (MISSING, MISSING, "blanket_nxdomain"),
        (None, ABSENT, None),  # the zone's own servers are silent
        (Reply(rcode=SERVFAIL), ABSENT, None),
        (MISSING, ABSENT, None),
        (DATA["AAAA"], None, None),  # ipv4only.arpa alone has an odd server
        (DATA["AAAA"], MISSING, None),
    ],
)
def test_of_names_in_one_zone_ipv4only_arpa_decides(reply: Said, control: Said, kind: str | None) -> None:
    lookups = [asked(f"www.{ONE}", "A", DATA["A"]), asked(f"www.{ONE}", "AAAA", reply), asked(CONTROL, "A", DATA["A"])]
    names = (ControlName(name=f"www.{ONE}"),)
    seen = view([*lookups, asked(CONTROL, "AAAA", control)], Expectations(control_names=names))
    finding = found(Cause.DNS_AAAA_BLOCKED, seen)
    assert (finding is not None) is (kind is not None)
    assert finding is None or str(kind) in finding.evidence[0]


def test_what_accompanies_an_answer_is_no_other_record_in_its_place() -> None:
    """A CNAME made by a DNAME, with signatures, that leads to a name with A alone."""
    chain = Reply(answers=4, extras=3, chain=("www.else.test",), soa_authority=True)
    with_a = Reply(answers=5, extras=3, chain=("www.else.test",), addresses=DATA["A"].addresses)
    for more, blocked in ((0, False), (1, True)):
        said = replace(chain, answers=chain.answers + more)
        seen = view([one for n in (ONE, TWO) for one in (asked(n, "A", with_a), asked(n, "AAAA", said))])
        assert (found(Cause.DNS_AAAA_BLOCKED, seen) is not None) is blocked
