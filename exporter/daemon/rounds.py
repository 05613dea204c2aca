"""Runs a round: inspect, plan, probe, diagnose. Between inventory and exposition; remembers results between rounds.

Every decision is made by a pure module (vantage/pod_namespaces, plan, diagnosis); this file fetches their inputs and
passes on their results. A round has one deadline; probes cut by it are reported as cut. The only failure it raises is
a broker that does not answer at all: then there is nothing to report.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from math import ceil, inf

from exporter.config.schema import Config
from exporter.diagnosis.engine.rule_input import RuleInput
from exporter.diagnosis.engine.verdict import Memory, judge
from exporter.diagnosis.expectation import expectations, families_expected, family_evidence
from exporter.diagnosis.families import family_reports
from exporter.diagnosis.rules.dns.searchlist import predictions
from exporter.diagnosis.rules.dns.servers import aaaa_blocks
from exporter.diagnosis.rules.registry import RULES
from exporter.inventory.kubernetes.watch_state import api_readings
from exporter.model.cluster.inventory import Inventory, InventoryOrigin
from exporter.model.grouping import grouped
from exporter.model.probe import Check, Group, Lookup, Observation, Purpose, Question, Together
from exporter.model.report import Found, PodView, Report, Snapshot
from exporter.model.vantage import Vantage
from exporter.plan import parallel, repeats, result_history
from exporter.plan.answer_history import NO_HISTORY, AnswerHistory, all_told, remember
from exporter.plan.checks import direct_checks, named_checks
from exporter.plan.name_resolution import ResolutionGroup, failed_hosts, resolution_groups
from exporter.plan.questions import answer_lifetime, known_names, questions
from exporter.plan.result_history import StillPresent, drop_vanished
from exporter.plan.round_plan import PROBED, Pace, RoundPlan, dial_lifetime, result_lifetime, round_context
from exporter.plan.targets import with_addresses
from exporter.probes.resolution.target_resolver import TargetResolver, question_timeout
from exporter.probes.runner import Deadline, ProbeRunner
from exporter.vantage import Inspection, Inspector
from exporter.vantage.pod_namespaces import departures

AT_THE_END = 0.4  # seconds of a round that no answer may take: those over which repeats are sent, and a sweep
API_SERVER = "apiserver"  # the key of its results: it is not dialled in every round


class UnfinishedError(Exception):
    """A round without any result: the broker did not answer."""


@dataclass(slots=True, kw_only=True, eq=False)
class Rounds:
    """Runs rounds one after the other; keeps results, answers and the memory of the diagnosis between them."""

    config: Config
    pace: Pace
    inspector: Inspector | None
    runner: ProbeRunner
    target_resolver: TargetResolver
    clock: Callable[[], float]
    steady: Callable[[], float]
    _results: result_history.ResultHistory = result_history.EMPTY
    _answers: result_history.AnswerPairs = result_history.NO_ANSWERS
    _history: AnswerHistory = field(default_factory=lambda: NO_HISTORY)
    _doubts: int = 0  # doubtful questions of the last round
    _memory: Memory = field(default_factory=Memory)
    _previous: Snapshot | None = None
    _number: int = 0

    def configure(self, config: Config, pace: Pace) -> None:
        """Use this configuration from the next round on; forget results of targets and names that were removed."""
        if config.targets != self.config.targets:
            self._results = result_history.of_targets(self._results, {t.name for t in config.targets})
        if config.dns != self.config.dns:
            self._history = NO_HISTORY
        self._memory = replace(self._memory, severities={})  # what is wrong may now be intended
        self.config = config
        self.pace = pace
        self.target_resolver.configure(
            [t.host for t in config.targets], question_timeout(config, pace.whole, pace.timeout)
        )
        if self.inspector is not None:
            self.inspector.configure(config)

    @property
    def undecided(self) -> bool:
        """Whether the kernel contradicts the inventory in a way that needs another round to confirm."""
        found = {(c, s) for c, trace in self._memory.traces.items() for f in trace.findings for s in f.subjects}
        return any((c, s) not in found for c, subjects in self._memory.suspected.items() for s in subjects)

    async def run(self, source: Callable[[], Inventory], remote_findings: tuple[Found, ...] = ()) -> Report:
        """One round. `source` returns the current inventory, which is read again at the end, for pods that ended.

        `remote_findings`: the causes found by the cluster role, for explanation. Raises UnfinishedError where the
        broker does not answer.
        """
        deadline = Deadline.after(self.pace.timeout)
        started = self.clock()
        self.runner.overrun = False
        inventory = source()
        inspection = await self._inspect(inventory)
        inspected = self.clock()
        plan = self._plan(inspection, inventory)
        observations, lookups = await self._probe(plan, deadline)
        now = source()
        left = departures(inventory, now, self.config.node_name)
        present = drop_vanished(inspection.pods, observations, lookups, left=left, inventory=now)
        self._remember(plan, present)
        snapshot = self._snapshot(inspection, now, (started, inspected), present)
        report = self._judge(snapshot, remote_findings)
        self._previous = snapshot
        self._number += 1
        return report

    async def _inspect(self, inventory: Inventory) -> Inspection:
        if self.inspector is None:
            return Inspection(
                host=Vantage(kind="host", namespace="", name=self.config.node_name, netns=None),
                pods=(),
                host_facts=None,
                host_resolv_conf=None,
                readings=(),
            )
        try:
            async with asyncio.timeout(self.pace.patience):
                return await self.inspector.inspect(inventory, anew=bool(self._memory.suspected))
        except TimeoutError:
            raise UnfinishedError(f"no answer from the broker within {self.pace.patience:g} s") from None

    def _plan(self, inspection: Inspection, inventory: Inventory) -> RoundPlan:
        context = round_context(
            PodView(vantage=inspection.host, resolv_conf=inspection.host_resolv_conf),
            inspection.pods,
            inventory,
            config=self.config,
            expected=families_expected(inventory, self.config.families),
            history=self._results,
            now=self.clock(),
            probes_locally=self.inspector is not None,
        )
        return RoundPlan(number=self._number, config=self.config, pace=self.pace, context=context)

    async def _probe(self, plan: RoundPlan, deadline: Deadline) -> tuple[tuple[Observation, ...], tuple[Lookup, ...]]:
        """Dials to addresses start at once, those to names after the resolution of that name."""
        if not plan.context.probes_locally:
            return (), await self.runner.ask_all(questions(plan, plan.pace.queries), deadline)
        named = resolution_groups(plan)
        planned, allowance = self._share(plan, named)
        direct, asked, resolved = await asyncio.gather(
            self.runner.check_all(direct_checks(plan), deadline),
            self._ask(plan, planned, allowance, deadline),
            asyncio.gather(*(self._resolve_and_dial(plan, group, deadline) for group in named)),
        )
        observations = (o for made, _ in resolved for o in made)
        return (*direct, *observations), (*asked, *(lookup for _, made in resolved for lookup in made))

    async def _ask(
        self, plan: RoundPlan, planned: Sequence[Question], allowance: int | None, deadline: Deadline
    ) -> tuple[Lookup, ...]:
        """Ask the planned questions, and those with doubtful answers again."""
        asked = await self.runner.ask_all(planned, deadline)
        history = remember(self._history, asked, now=self.clock())
        doubts = repeats.doubtful(asked, history, known_names(plan))
        self._doubts = len(doubts)
        left = deadline.left - AT_THE_END
        more = repeats.asked_again(doubts, allowance=allowance, seconds=left)
        spare = None if allowance is None else allowance - len(more)
        pairs = parallel.pairs(asked, number=plan.number, allowance=spare, seconds=left)
        again, paired = await asyncio.gather(
            self.runner.ask_all(more, deadline), self._ask_together(pairs, spare, deadline)
        )
        return (*asked, *again, *paired)

    async def _ask_together(
        self, pairs: Sequence[Together], allowance: int | None, deadline: Deadline
    ) -> tuple[Lookup, ...]:
        """What becomes of A and AAAA from one socket; where a reply is missing, once more, and then alone."""
        first = await self.runner.ask_together(pairs, deadline)
        spare = inf if allowance is None else allowance - parallel.COST * len(pairs)
        lookups: list[Lookup] = []
        for pair, made in zip(pairs, first, strict=True):
            more: tuple[tuple[Lookup, ...], ...] = ()
            alone: tuple[Lookup, ...] = ()
            if parallel.missing(made) is not None:
                self._doubts += ceil(parallel.CONFIRMING / repeats.TIMES)  # the next round sets it aside
                spare -= parallel.CONFIRMING
                if spare < 0:
                    continue
                more = await self.runner.ask_together([pair] * parallel.MORE, deadline)
                alone = await self.runner.ask_all(parallel.asked_alone((made, *more)), deadline)
            lookups += (*parallel.shown((made, *more), alone), *alone)
        return tuple(lookups)

    def _share(self, plan: RoundPlan, named: Sequence[ResolutionGroup]) -> tuple[tuple[Question, ...], int | None]:
        """The round's questions, and how many may be asked again.

        Part of the DNS budget is reserved for target names that are due, at most half, and for the doubtful questions
        of the last round. The names get what they are due of the rest, or half of it if that is more.
        """
        budget = self.pace.queries
        if budget is None:
            self.target_resolver.allow(None, named)
            return questions(plan, None), None
        aside = min(parallel.COST + repeats.set_aside(self._doubts, budget), budget // repeats.SHARE)
        due = self.target_resolver.due(named)
        asking = questions(plan, budget - aside - min((budget - aside) // 2, due))
        left = budget - sum(q.allowed for q in asking)
        names = min(left - aside, max(due, left // 2)) if named else 0
        self.target_resolver.allow(names, named)
        return asking, left - names

    async def _resolve_and_dial(
        self, plan: RoundPlan, group: ResolutionGroup, deadline: Deadline
    ) -> tuple[tuple[Observation, ...], tuple[Lookup, ...]]:
        """Resolve target names for the vantages that share a resolv.conf, then dial them from these."""
        hosts = tuple(dict.fromkeys(t.host for t in group.targets))
        answers = await asyncio.gather(*(self.target_resolver.resolve_for(h, group, deadline) for h in hosts))
        resolved = {host: by_vantage for host, (by_vantage, _) in zip(hosts, answers, strict=True)}
        checks: list[Check] = []
        for vantage in group.vantages:
            known = {host: by_vantage[vantage.key] for host, by_vantage in resolved.items()}
            answered = [(t, known[t.host]) for t in group.targets if not known[t.host].waits]
            families, refused = plan.context.families, group.refused
            targets = [(t, with_addresses(t, r.addresses, families, r.others, refused=refused)) for t, r in answered]
            checks += named_checks(plan, vantage, targets)
        observations = await self.runner.check_all(checks, deadline)
        self.target_resolver.doubt(group, failed_hosts(observations))
        return observations, tuple(lookup for _, made in answers for lookup in made)

    def _remember(self, plan: RoundPlan, present: StillPresent) -> None:
        """Keep results by vantage, those of the API server under a key of their own, and answers by question."""
        probed = [p.vantage.key for p in present.pods if p.vantage.state in PROBED]
        self._results = result_history.keep_results(
            self._results,
            _by_key(present.observations),
            present=[*probed, plan.context.host.vantage.key, API_SERVER],
            now=self.steady(),
            keep=result_lifetime(plan, len(probed)),
            remember=dial_lifetime(plan, len(probed)),
        )
        keep = answer_lifetime(plan, len(probed))
        once = [o for o in present.lookups if o.question.purpose is not Purpose.AGAIN]
        self._answers = result_history.keep_answers(self._answers, once, now=self.clock(), keep=keep)
        self._history = remember(self._history, present.lookups, now=self.clock())

    def _snapshot(
        self, inspection: Inspection, inventory: Inventory, times: tuple[float, float], present: StillPresent
    ) -> Snapshot:
        """`times`: when the round began, and when the inspection of this machine ended."""
        started, inspected = times
        last, before_last = self._results.last_two()
        probes_here = self.inspector is not None or inventory.source is InventoryOrigin.KUBERNETES
        evidence = family_evidence(inventory, self.config.families)
        return Snapshot(
            node=self.config.node_name,
            role=self.config.role,
            started=started,
            finished=self.clock(),
            complete=not self.runner.overrun,
            inventory=inventory,
            host=inspection.host if probes_here else None,
            pods=present.pods,
            observations=present.observations,
            last=last,
            before_last=before_last,
            dials=self._results.dials(),
            lookups=present.lookups,
            lookups_kept=tuple(self._answers.last.values()),
            lookups_before=tuple(self._answers.before.values()),
            told=all_told(self._history),
            inspected=inspected,
            host_facts=inspection.host_facts,
            host_resolv_conf=inspection.host_resolv_conf,
            readings=(*inspection.readings, *api_readings(inventory)),
            families=families_expected(inventory, self.config.families, evidence),
            family_evidence=evidence,
        )

    def _judge(self, snapshot: Snapshot, remote_findings: tuple[Found, ...]) -> Report:
        rule_input = RuleInput(
            now=snapshot.finished, snapshot=snapshot, previous=self._previous, expect=expectations(self.config)
        )
        verdict, self._memory = judge(rule_input, self._memory, rules=RULES, elsewhere=remote_findings)
        synced = snapshot.inventory.synced
        return Report(
            snapshot=snapshot,
            families=family_reports(snapshot),
            network=rule_input.network,
            causes=verdict.causes,
            checked=verdict.checked,
            unchecked=verdict.unchecked,
            aaaa_blocks=aaaa_blocks(rule_input),
            predictions=predictions(rule_input),
            inventory_age=None if synced is None else max(0.0, snapshot.finished - synced),
        )


def _by_key(observations: Sequence[Observation]) -> dict[str, tuple[Observation, ...]]:
    made = grouped(observations, lambda o: API_SERVER if o.target.group is Group.APISERVER else o.vantage.key)
    return {key: tuple(each) for key, each in made.items()}
