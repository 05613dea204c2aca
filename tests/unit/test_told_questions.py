"""Which DNS questions a host without Kubernetes sends is told before and after they are sent."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address

import pytest

from exporter.model.cause import Role
from exporter.model.cluster.inventory import NO_INVENTORY, Inventory, InventoryOrigin
from exporter.model.probe import Lookup, LookupOutcome, Nameserver, Purpose, Question
from exporter.report.questions import planned_questions, sent_questions
from tests.unit.plan_scene import config
from tests.unit.sample import quiet_day
from tests.unit.sample_probes import HOST

SEARCHED = "; names also with each search domain of resolv.conf"
SERVER = Nameserver(ip_address("192.0.2.53"), "host")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", f"ipv4only.arpa (A, AAAA, MX), RANDOM.ipv4only.arpa (A, AAAA){SEARCHED}"),
        ("dns: {names: []}", "none"),
        ("dns: {servers: []}", "none"),
        ("dns: {names: []}\ntargets: [{name: a, host: a.test, port: 80}]", "a.test (A, AAAA)"),
        ("dns: {names: []}\ntargets: [{name: a, host: a.test, addresses: [192.0.2.1], port: 80}]", "none"),
        ("role: cluster", ""),
    ],
)
def test_what_will_be_asked_follows_the_configuration(text: str, told: str) -> None:
    assert planned_questions(config(text), NO_INVENTORY) == told


def test_with_an_inventory_nothing_is_told() -> None:
    assert planned_questions(config(""), Inventory(source=InventoryOrigin.KUBERNETES)) == ""
    assert sent_questions(quiet_day()) == ""


def asked(name: str, qtype: str, outcome: LookupOutcome) -> Lookup:
    question = Question(
        vantage=HOST, server=SERVER, name=name, qtype=qtype, label=name, purpose=Purpose.VERDICT,
    )  # fmt: skip
    return Lookup(question=question, outcome=outcome)


def test_what_was_sent_is_told_by_nameserver_and_what_was_not_sent_is_left_out() -> None:
    lookups = (
        asked("a.test", "AAAA", LookupOutcome.ANSWER),
        asked("a.test", "A", LookupOutcome.TIMEOUT),
        asked("a.test", "A", LookupOutcome.ANSWER),
        asked("b.test", "A", LookupOutcome.NOT_ASKED),
        asked("c.test", "A", LookupOutcome.NOT_ALLOWED),
    )
    day = quiet_day()
    snapshot = replace(day.snapshot, inventory=NO_INVENTORY, lookups=lookups)
    assert sent_questions(replace(day, snapshot=snapshot)) == "192.0.2.53 for a.test (A, AAAA)"
    assert sent_questions(replace(day, snapshot=replace(snapshot, lookups=()))) == "no nameserver"
    assert sent_questions(replace(day, snapshot=replace(snapshot, role=Role.CLUSTER))) == ""
