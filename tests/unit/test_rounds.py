"""One round after the other, with the world's answers given: what is dropped, kept, excused, counted, and given up."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from ipaddress import ip_address
from typing import Any, cast

import pytest

from exporter.config.schema import Config
from exporter.daemon.rounds import Rounds, UnfinishedError
from exporter.model.cause import Cause
from exporter.model.cluster.inventory import Inventory
from exporter.model.cluster.policy import Policy, PolicyKind
from exporter.model.cluster.service import Endpoint, EndpointSlice
from exporter.model.dns import REFUSED, Reply
from exporter.model.family import Family
from exporter.model.probe import Check, Layer, Lookup, LookupOutcome, Observation, Outcome, Purpose, Question, Together
from exporter.model.reason import Reason
from exporter.model.report import PodView, Report
from exporter.model.subject import Subject
from exporter.model.vantage import PodState, Vantage
from exporter.plan.repeats import TIMES
from exporter.plan.round_plan import Pace
from exporter.probes.dns_reply import judge
from exporter.probes.outcome import without_address
from exporter.probes.resolution.target_resolver import TargetResolver
from exporter.probes.runner import Deadline, ProbeRunner
from exporter.report.document import document_of
from exporter.report.text import write
from exporter.vantage import Inspection, Inspector
from tests.unit.plan_scene import OWN, a_node, a_pod, cluster, conf, config
from tests.unit.scene import HOST, V4, V6, pod

TARGET = "targets: [{name: web, host: web.test, addresses: ['2001:db8::80', 192.0.2.80], port: 80}]\n"
NAMED = "targets: [{name: web, host: web.test, port: 80}]\n"


class World:
    """An Inspector and an ProbeRunner whose answers are given."""

    def __init__(self, text: str = TARGET, *, pods: Sequence[str] = ("web", "db"), pace: Pace | None = None) -> None:
        self.config: Config = config(f"families: [IPv4, IPv6]\npeers: {{count: 0}}\n{text}")
        self.inventory = cluster(pods=tuple(a_pod(name) for name in pods), policies=())
        self.after: Inventory | None = None
        self.views = tuple(PodView(vantage=pod(name), resolv_conf=conf()) for name in pods)
        self.outcome: Callable[[Check], Outcome] = lambda _: Outcome.OK
        self.answer: Callable[[Question], Lookup] = lambda q: Lookup(question=q, outcome=LookupOutcome.TIMEOUT)
        self.checks: list[Check] = []
        self.questions: list[Question] = []
        self.together: list[int] = []
        self.anew: list[bool] = []
        self.overrun = False
        self.interval = pace.interval if pace else 30.0
        self.now, self.ticks = 1_000_000.0, 0.0
        self.hangs = False
        target_resolver = TargetResolver(cast("ProbeRunner", self), timeout=1.0, clock=lambda: self.ticks)
        self.rounds = Rounds(
            config=self.config, pace=pace or Pace(interval=30.0, timeout=25.0), inspector=cast("Inspector", self),
            runner=cast("ProbeRunner", self), target_resolver=target_resolver, clock=lambda: self.now,
            steady=lambda: self.ticks,
        )  # fmt: skip

    # As Inspector.

    def configure(self, _: Config) -> None:
        """Nothing to do."""

    async def inspect(self, _: Inventory, *, anew: bool = False) -> Inspection:
        self.anew.append(anew)
        if self.hangs:
            await asyncio.Event().wait()
        return Inspection(
            host=HOST, pods=self.views, host_facts=None, host_resolv_conf=conf("192.0.2.1", search=()), readings=()
        )

    # As ProbeRunner.

    async def check_all(self, checks: Sequence[Check], _: Deadline) -> tuple[Observation, ...]:
        self.checks += checks
        return tuple(self._observe(c) for c in checks)

    def _observe(self, check: Check) -> Observation:
        return Observation(
            vantage=check.vantage,
            target=check.target,
            layer=check.target.deepest,
            family=check.family,
            outcome=self.outcome(check),
            seconds=0.001,
            time=self.now,
        )

    async def ask_all(self, questions: Sequence[Question], _: Deadline) -> tuple[Lookup, ...]:
        self.questions += questions
        await asyncio.sleep(0)
        return tuple(replace(self.answer(q), time=self.now) for q in questions)

    async def ask_together(self, asked: Sequence[Together], deadline: Deadline) -> tuple[tuple[Lookup, ...], ...]:
        self.together.append(len(asked))
        return tuple([await self.ask_all(one.questions, deadline) for one in asked])

    async def run(self) -> Report:
        inventories = iter([self.inventory, self.after or self.inventory])
        report = await self.rounds.run(lambda: next(inventories))
        self.now += self.interval
        self.ticks += self.interval
        return report


def dialled(check: Check) -> Outcome:
    """What comes of a dial in a world where every address can be reached."""
    return Outcome.OK if check.address is not None else without_address(check, Layer.TCP).outcome


async def after_rounds(world: World, number: int = 4) -> Report:
    reports = [await world.run() for _ in range(number)]
    return reports[-1]


def causes_of(report: Report) -> set[Cause]:
    return {item.finding.cause for item in report.causes}


def subjects(report: Report) -> Counter[str]:
    return Counter(o.vantage.subject for o in report.snapshot.observations)


@pytest.mark.parametrize(
    ("change", "state"),
    [({"deleting": True}, PodState.TERMINATING), ({"phase": "Succeeded"}, PodState.NOT_RUNNING), (None, None)],
)
async def test_what_was_seen_of_a_pod_that_ended_meanwhile_is_dropped(
    change: dict[str, Any] | None, state: PodState | None
) -> None:
    world = World()
    web, db = world.inventory.pods or ()
    world.outcome = lambda c: Outcome.TIMEOUT if c.vantage.name == "web" else Outcome.OK
    world.after = replace(world.inventory, pods=(db, *((replace(web, **change),) if change else ())))
    report = await world.run()
    assert "pod/default/web" not in subjects(report)
    assert not [q for q in report.snapshot.lookups if q.question.vantage.name == "web"]
    assert [o for o in report.snapshot.kept if o.vantage.name == "web"] == []
    states = {p.vantage.name: p.vantage.state for p in report.snapshot.pods}
    assert states == {"db": PodState.ELIGIBLE, **({"web": state} if state else {})}


async def test_a_namespace_that_vanished_takes_all_of_its_pods_results_along() -> None:
    world = World()
    world.outcome = lambda c: Outcome.VANISHED if (c.vantage.name, c.family) == ("web", V6) else Outcome.OK
    report = await world.run()
    assert "pod/default/web" not in subjects(report)
    assert [p.vantage.name for p in report.snapshot.pods] == ["db"]


async def test_a_pod_that_was_terminating_all_along_is_shown_as_such() -> None:
    world = World()
    going = replace(world.views[0], vantage=replace(world.views[0].vantage, state=PodState.TERMINATING))
    web, db = world.inventory.pods or ()
    world.inventory = replace(world.inventory, pods=(replace(web, deleting=True), db))
    world.views = (going, world.views[1])
    report = await world.run()
    assert {p.vantage.name: p.vantage.state for p in report.snapshot.pods}["web"] is PodState.TERMINATING
    assert "pod/default/web" not in subjects(report)


async def test_an_egress_policy_excuses_failures_of_its_family_alone() -> None:
    world = World()
    policy = Policy(
        kind=PolicyKind.KUBERNETES,
        namespace="default",
        name="deny",
        selected=frozenset({"default/web"}),
        restricts_egress=frozenset({V6}),
    )
    world.inventory = replace(world.inventory, policies=(policy,))
    world.outcome = lambda c: Outcome.TIMEOUT if c.vantage.name == "web" and c.target.name == "web" else Outcome.OK
    report = await world.run()
    excused = {(o.vantage.name, o.family, o.target.name) for o in report.snapshot.observations if o.policy}
    assert excused == {("web", V6, "web")}
    assert report.families[V6].ok is True


async def test_the_api_server_is_dialled_in_its_turn_and_its_last_two_dials_are_kept() -> None:
    world = World(pace=Pace(interval=10.0, timeout=8.0))
    world.inventory = replace(world.inventory, services=tuple(
        replace(s, cluster_ips=(ip_address("10.96.0.1"), ip_address("fd00:96::1"))) if s.name == "kubernetes" else s
        for s in world.inventory.services or ()
    ))  # fmt: skip
    dialled: list[int] = []
    report = None
    for _ in range(6):
        before = len(world.checks)
        report = await world.run()
        dialled.append(sum(c.target.name == "apiserver" for c in world.checks[before:]))
        assert sum(o.target.name == "apiserver" for o in report.snapshot.kept) == 2
    assert dialled == [2, 0, 2, 0, 2, 0]
    assert report is not None
    assert sum(o.target.name == "apiserver" for d in report.snapshot.before_last for o in d.observations) == 2


@pytest.mark.parametrize("text", [TARGET, NAMED])
async def test_all_questions_of_a_round_together_keep_to_the_budget(text: str) -> None:
    names = "dns: {names: [{name: pypi.org}, {name: debian.org}], servers: [pod, {name: corp, address: 192.0.2.53}]}\n"
    pods = [f"p{n}" for n in range(20)]
    world = World(text + names, pods=pods)
    world.views = tuple(
        replace(v, resolv_conf=conf(search=(f"n{n}.svc.cluster.local", "svc.cluster.local")))
        for n, v in enumerate(world.views)
    )
    for _ in range(5):
        before = len(world.questions)
        await world.run()
        made = world.questions[before:]
        assert 0 < len([q for q in made if q.allowed]) <= 60
        assert any(q.purpose is Purpose.TARGET for q in made) == (text is NAMED)


async def test_what_is_doubtful_is_asked_again_even_where_the_plan_fills_the_budget() -> None:
    names = "dns: {names: [{name: pypi.org}, {name: debian.org}]}\n"
    world = World(names, pods=[f"p{n}" for n in range(20)])
    world.views = tuple(
        replace(v, resolv_conf=conf(search=(f"n{n}.svc.cluster.local", "svc.cluster.local")))
        for n, v in enumerate(world.views)
    )
    data = Reply(answers=1, addresses=(ip_address("192.0.2.80"),))
    refused = Reply(rcode=REFUSED)

    async def refusing(questions: Sequence[Question], _: Deadline) -> tuple[Lookup, ...]:
        world.questions += questions
        made = ((q, data if q.qtype == "A" else refused) for q in questions)
        return tuple(
            Lookup(question=q, outcome=judge(reply), seconds=0.001, reply=reply, time=world.now) for q, reply in made
        )

    world.ask_all = refusing  # type: ignore[method-assign]  # AAAA is refused in every round
    for number in range(4):
        before = len(world.questions)
        await world.run()
        made = world.questions[before:]
        assert len([q for q in made if q.allowed]) <= 60
        again = Counter((q.name, q.qtype) for q in made if q.purpose is Purpose.AGAIN)
        assert bool(again) is (number > 0)
        assert set(again.values()) <= {TIMES}


async def test_a_reply_lost_of_two_questions_from_one_socket_is_found_within_the_budget() -> None:
    names = "dns: {names: [{name: pypi.org}, {name: debian.org}]}\n"
    world = World(names, pods=[f"p{n}" for n in range(20)])
    data = Reply(answers=1, addresses=(ip_address("192.0.2.80"),))
    world.answer = lambda q: Lookup(question=q, outcome=LookupOutcome.ANSWER, reply=data)

    async def racing(asked: Sequence[Together], _: Deadline) -> tuple[tuple[Lookup, ...], ...]:
        world.questions += (q for one in asked for q in one.questions)
        return tuple(
            (
                replace(world.answer(a), time=world.now),
                Lookup(question=b, outcome=LookupOutcome.TIMEOUT, seconds=1.0, time=world.now),
            )
            for a, b in (one.questions for one in asked)
        )

    world.ask_together = racing  # type: ignore[assignment, method-assign]  # the second of each pair gets no reply
    found = []
    for _ in range(5):
        before = len(world.questions)
        report = await world.run()
        assert len([q for q in world.questions[before:] if q.allowed]) <= 60
        found.append(Cause.DNS_PARALLEL_QUERIES_LOST in {c.finding.cause for c in report.causes})
    assert found[-1], "the first round sets aside what the second needs"


async def test_a_change_of_the_names_asked_about_takes_what_was_said_of_the_old_ones_along() -> None:
    world = World()
    assert (await world.run()).snapshot.told
    renamed = replace(world.config, dns=replace(world.config.dns, names=()))
    world.rounds.configure(renamed, Pace(interval=30.0, timeout=25.0))
    report = await world.run()
    assert {one.round for one in report.snapshot.told} == {report.snapshot.finished}


async def test_twenty_names_without_a_lifetime_fit_the_budget_and_are_dialled_every_round() -> None:
    listed = ", ".join(f"{{name: t{n}, host: n{n}.test, port: 80}}" for n in range(20))
    world = World(f"targets: [{listed}]\ndns: {{names: []}}\n")
    found = {"A": ip_address("192.0.2.80"), "AAAA": ip_address("2001:db8::80")}
    world.answer = lambda q: Lookup(
        question=q, outcome=LookupOutcome.ANSWER, reply=Reply(addresses=(found.get(q.qtype, found["A"]),), ttl=0)
    )
    asked: list[set[tuple[str, str]]] = []
    for number in range(9):
        questions, checks = len(world.questions), len(world.checks)
        await world.run()
        made = world.questions[questions:]
        assert len([q for q in made if q.allowed]) <= 60
        asked.append({(q.server.label, q.name) for q in made if q.purpose is Purpose.TARGET})
        dialled = {(c.vantage.kind, c.target.host) for c in world.checks[checks:] if c.target.host}
        assert len(dialled) == 40 or number < 3, "what waits is dialled by what was known"
    for three in zip(asked, asked[1:], asked[2:], strict=False):
        assert len(set().union(*three)) == 40, "the host's and the pods', each at least in every third round"


async def test_a_target_whose_name_waits_for_the_budget_is_not_told_as_failing() -> None:
    world = World(NAMED, pace=Pace(interval=1.0, timeout=0.9))
    first = await world.run()
    assert [o for o in first.snapshot.observations if o.target.name == "web"] == []
    for _ in range(12):
        await world.run()
    dialled = {c.address is None for c in world.checks if c.target.name == "web"}
    assert dialled == {True}, "in the end it was asked, nobody answered, and that is a failure"


async def test_where_a_pods_nameservers_may_not_be_asked_a_missing_address_shows_nothing() -> None:
    """The host's resolver does not know the name; the pods' own, which only their files name, may."""
    world = World(f"{NAMED}dns: {{names: []}}\n")
    world.views = tuple(replace(view, resolv_conf=conf("10.9.9.9")) for view in world.views)
    world.answer = lambda q: Lookup(
        question=q,
        outcome=LookupOutcome.NXDOMAIN if q.allowed else LookupOutcome.NOT_ALLOWED,
        reply=Reply(addresses=(), negative_ttl=30) if q.allowed else None,
    )
    world.outcome = dialled
    report = await after_rounds(world)
    told = {(o.vantage.kind, o.outcome) for o in report.snapshot.kept if o.target.name == "web"}
    assert told == {("host", Outcome.NO_ADDRESS), ("pod", Outcome.NOT_ALLOWED)}
    assert {str(q.server.address) for q in world.questions if q.allowed} == {"192.0.2.1"}
    assert {c.target.refused for c in world.checks if c.vantage.kind == "pod" and c.target.name == "web"} == {
        "its nameservers may not be asked (10.9.9.9): dns.allow"
    }
    assert Cause.TARGET_DOWN not in causes_of(report)
    allowed = World(f"{NAMED}dns: {{names: [], allow: [10.9.9.9/32]}}\n")
    allowed.views, allowed.answer, allowed.outcome = world.views, world.answer, world.outcome
    assert Cause.TARGET_DOWN in causes_of(await after_rounds(allowed)), (
        "where they are asked and have none, it is a failure"
    )


async def test_causes_that_only_names_nobody_may_ask_for_could_show_are_unchecked() -> None:
    world = World(
        "targets: [{name: web, host: web.test, port: 443, layers: [icmp, tcp, tls], vantages: [pod]}]\n"
        "dns: {names: [{name: web.test}]}\n"
    )
    world.inventory = cluster(pods=world.inventory.pods, policies=(), services=())
    world.views = tuple(replace(view, resolv_conf=conf("10.9.9.9")) for view in world.views)
    world.answer = lambda q: Lookup(
        question=q, outcome=LookupOutcome.TIMEOUT if q.allowed else LookupOutcome.NOT_ALLOWED
    )
    world.outcome = dialled
    report = await after_rounds(world)
    unchecked = {item.cause for item in report.unchecked if item.reason is Reason.NOT_ALLOWED}
    paths = {Cause.IPV6_UNREACHABLE, Cause.IPV6_TCP_BLOCKED, Cause.IPV6_TLS_FAILED, Cause.TARGET_DOWN}
    assert paths <= unchecked
    text = write([document_of(report)])
    assert re.search(r"not_allowed +\d+ .*only pods name these nameservers, dns.allow", " ".join(text.split()))


async def test_after_a_restart_on_a_single_node_the_own_service_fails_nobody() -> None:
    """kube-proxy rejects it until the exporter is ready, which takes its first round."""
    world = World("dns: {names: []}\n")
    own = a_node("ra")
    ends = tuple(Endpoint(addresses=(address,), ready=True) for address in own.internal_ips)
    slices = tuple(
        EndpointSlice(namespace=OWN.namespace, name=f, service=OWN.name, family=f, endpoints=(end,))
        for f, end in zip((V4, V6), ends, strict=True)
    )
    world.inventory = replace(world.inventory, nodes=(own,), endpoint_slices=slices)
    world.outcome = lambda c: Outcome.REFUSED if c.target.name == "service" and world.ticks < 60 else Outcome.OK
    reports = [await world.run() for _ in range(4)]
    assert [any(o.target.name == "service" for o in r.snapshot.observations) for r in reports] == [False] * 2 + [
        True
    ] * 2
    assert {state.ok for report in reports for state in report.families.values()} == {True}
    assert not set().union(*map(causes_of, reports)) & {Cause.TARGET_DOWN, Cause.TARGET_REFUSES_IPV6}


async def test_a_reload_takes_the_results_of_targets_that_are_no_more() -> None:
    world = World()
    await world.run()
    renamed = replace(
        world.config,
        targets=(replace(world.config.targets[0], name="other"),),
        pods=replace(world.config.pods, sample=0),
    )
    world.rounds.configure(renamed, Pace(interval=30.0, timeout=25.0))
    report = await world.run()
    assert {o.target.name for o in report.snapshot.kept if o.target.group.value == "outside"} == {"other"}


@pytest.mark.parametrize("step", [86_400.0, -86_400.0])
async def test_a_step_of_the_clock_neither_loses_results_nor_anybodys_turn(step: float) -> None:
    world = World("pods: {sample: 1}\n" + TARGET, pods=("a", "b", "c"))
    for _ in range(3):
        await world.run()
    world.now += step
    report = await world.run()
    assert {o.vantage.name for o in report.snapshot.kept if o.vantage.kind == "pod"} == {"a", "b", "c"}
    asked = [c.vantage.name for c in world.checks if c.vantage.kind == "pod"]
    assert asked[-1] == "a"
    await world.run()
    assert world.checks[-1].vantage.name == "b"


async def test_a_broker_that_does_not_answer_ends_the_round_and_the_next_one_goes_on() -> None:
    world = World(pace=Pace(interval=1.0, timeout=0.02))
    world.hangs = True
    with pytest.raises(UnfinishedError, match=r"no answer from the broker within 0\.04 s"):
        await world.run()
    world.hangs = False
    assert (await world.run()).snapshot.observations


async def test_what_was_cut_is_said() -> None:
    world = World()

    async def overrunning(checks: Sequence[Check], _: Deadline) -> tuple[Observation, ...]:
        world.overrun = True
        return tuple(world._observe(c) for c in checks)

    world.check_all = overrunning  # type: ignore[method-assign]  # this round alone is cut
    assert (await world.run()).snapshot.complete is False
    del world.check_all  # the class's own again
    assert (await world.run()).snapshot.complete is True


def a_vantage(name: str, family: Family) -> Vantage:
    return pod(name, families=(family,))


async def test_a_pod_that_opted_out_of_a_family_is_not_dialled_from_over_it() -> None:
    world = World()
    world.views = (PodView(vantage=a_vantage("web", V4), resolv_conf=conf()), world.views[1])
    await world.run()
    assert {c.family for c in world.checks if c.vantage.name == "web"} == {V4}


async def test_what_contradicts_the_inventory_is_read_anew_in_the_next_round() -> None:
    """A copy of the legacy tables from before a change would contradict it in two rounds running."""
    world = World()
    world.rounds._memory = replace(
        world.rounds._memory, suspected={Cause.NAT_MASQUERADE_MISSING: {Subject("pool/v6"): world.now}}
    )
    await world.run()
    await world.run()
    assert world.anew == [True, False]
