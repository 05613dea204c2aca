"""A target whose name has no address is down because of the nameserver that does not give one, not beside it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from exporter.diagnosis.engine.explain import explain
from exporter.diagnosis.engine.rule_input import RuleInput
from exporter.diagnosis.rules.dns import DNS_RULES
from exporter.diagnosis.rules.path import PATH_RULES
from exporter.model.cause import Cause
from exporter.model.dial import dials_of
from exporter.model.probe import Lookup, Observation, Purpose
from exporter.model.reason import Reason
from exporter.model.report import Finding
from tests.unit import scene
from tests.unit.test_dns_causes import ABSENT, CANARY, DATA, EMPTY, RANDOM, Said, answers, asked, view

HOST_NAME = "shop.example"
SHOP = replace(scene.target("shop"), host=HOST_NAME, addresses=dict.fromkeys((scene.V4, scene.V6)))
PATH = replace(scene.target("path"), host="path.example")
NOWHERE = "tcp4=no_address tcp6=no_address"
SILENT = [asked(name, qtype, None) for name in (CANARY, RANDOM) for qtype in ("A", "AAAA")]


def of_target(qtype: str, reply: Said) -> Lookup:
    made = asked(HOST_NAME, qtype, reply)
    return replace(made, question=replace(made.question, purpose=Purpose.TARGET))


def with_dials(seen: RuleInput, kept: list[Observation]) -> RuleInput:
    made = replace(seen.snapshot, last=dials_of(kept), before_last=dials_of(kept), dials=scene.dials((kept, kept)))
    return replace(seen, snapshot=made)


def findings(seen: RuleInput, *causes: Cause) -> tuple[Finding, ...]:
    said = [(DNS_RULES | PATH_RULES)[cause](seen) for cause in causes]
    return tuple(finding for made in said if not isinstance(made, Reason) for finding in made)


def down_by(seen: RuleInput, cause: Cause) -> Cause | None:
    """What explains target_down, where both it and this cause are found."""
    found = {item.finding.cause: item for item in explain(findings(seen, Cause.TARGET_DOWN, cause))}
    assert set(found) == {Cause.TARGET_DOWN, cause}
    assert found[cause].by is None
    return found[Cause.TARGET_DOWN].by


def test_a_silent_nameserver_explains_that_a_name_has_no_address() -> None:
    seen = view([*SILENT, of_target("A", None), of_target("AAAA", None)])
    dead = with_dials(seen, scene.seen(scene.HOST, SHOP, NOWHERE))
    assert down_by(dead, Cause.DNS_UNREACHABLE) is Cause.DNS_UNREACHABLE


@pytest.mark.parametrize(
    ("lookups", "dials"),
    [
        ([], scene.seen(scene.HOST, SHOP, NOWHERE)),  # it was never asked for the name
        ([of_target("A", ABSENT), of_target("AAAA", None)], scene.seen(scene.HOST, SHOP, NOWHERE)),  # another answers
        ([of_target("A", None)], scene.seen(scene.HOST, SHOP, "tcp4=timeout tcp6=no_address")),  # it was dialled
    ],
)
def test_it_explains_nothing_else(lookups: list[Lookup], dials: list[Observation]) -> None:
    seen = with_dials(view([*SILENT, *lookups]), dials)
    found = findings(seen, Cause.DNS_UNREACHABLE, Cause.TARGET_DOWN)
    down = next(item for item in explain(found) if item.finding.cause is Cause.TARGET_DOWN)
    assert down.by is None


def test_a_target_that_was_dialled_stays_beside_one_without_an_address() -> None:
    seen = view([*SILENT, of_target("A", None), of_target("AAAA", None)])
    dials = [*scene.seen(scene.HOST, SHOP, NOWHERE), *scene.seen(scene.HOST, PATH, "tcp4=timeout tcp6=timeout")]
    found = explain(findings(with_dials(seen, dials), Cause.TARGET_DOWN, Cause.DNS_UNREACHABLE))
    down = next(item for item in found if item.finding.cause is Cause.TARGET_DOWN)
    assert down.by is None
    assert down.finding.subjects == ("target/path",)


@pytest.mark.parametrize(
    ("qtype", "other", "cause"), [("AAAA", "A", Cause.DNS_AAAA_BLOCKED), ("A", "AAAA", Cause.DNS_A_BLOCKED)]
)
def test_a_resolver_that_filters_the_only_records_of_a_name_explains_it(qtype: str, other: str, cause: Cause) -> None:
    lookups = [*answers(qtype, EMPTY, EMPTY), of_target(qtype, EMPTY), of_target(other, ABSENT)]
    seen = with_dials(view(lookups), scene.seen(scene.HOST, SHOP, NOWHERE))
    assert down_by(seen, cause) is cause
    served = [*answers(qtype, EMPTY, EMPTY), of_target(other, DATA[other])]
    reached = with_dials(view(served), scene.seen(scene.HOST, PATH, "tcp4=timeout tcp6=timeout"))
    assert down_by(reached, cause) is None
