"""One round: look, plan, ask, judge. Between the sources and the exposition; holds what is kept from round to round.

Every decision is taken by a pure module (discovery.pods, plan, diagnosis); this file only fetches their inputs and
hands on their results. A round has one deadline; what it cut is reported as cut. It raises for nothing that the world
does, but for a broker that does not answer at all: then there is nothing to report.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

from exporter.config.schema import Config
from exporter.diagnosis.engine.rule_input import RuleInput
from exporter.diagnosis.engine.verdict import Memory, judge
from exporter.diagnosis.expectation import expectations, families_expected
from exporter.diagnosis.families import family_reports
from exporter.diagnosis.rules.dns.servers import aaaa_blocks, predictions
from exporter.diagnosis.rules.registry import RULES
from exporter.inventory.kubernetes.watch_state import api_readings
from exporter.model.inventory import Inventory
from exporter.model.probe import Group, Lookup, Observation, Purpose, Question
from exporter.model.report import Found, PodView, Report, Snapshot
from exporter.model.vantage import Vantage
from exporter.plan import repeats as again
from exporter.plan import result_history as kept
from exporter.plan.answer_history import NO_HISTORY, all_told, remember
from exporter.plan.checks import direct_checks, named_checks
from exporter.plan.name_resolution import ResolutionGroup, failed_hosts, resolution_groups
from exporter.plan.pace import Pace
from exporter.plan.questions import answer_lifetime, known_names, questions
from exporter.plan.result_history import StillPresent, drop_vanished
from exporter.plan.round_plan import PROBED, RoundPlan, dial_lifetime, result_lifetime, round_context
from exporter.plan.targets import with_addresses
from exporter.probes.runner import Deadline, ProbeRunner
from exporter.probes.target_resolver import TargetResolver, question_timeout
from exporter.vantage import Inspection, Inspector
from exporter.vantage.pod_namespaces import departures

AT_THE_END = 0.3  # seconds of a round that no answer may take
API_SERVER = "apiserver"  # what its results are kept under: it is dialled in turns of its own


class UnfinishedError(Exception):
    """A round that saw nothing: the broker did not answer."""


class Rounds:
    """Runs rounds one after the other; keeps results, answers and the verdict's memory between them."""

    def __init__(
        self,
        config: Config,
        pace: Pace,
        *,
        inspector: Inspector | None,
        asker: ProbeRunner,
        resolution: TargetResolver,
        clock: Callable[[], float],
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self._config = config
        self._pace = pace
        self._inspector = inspector
        self._asker = asker
        self._resolution = resolution
        self._clock = clock
        self._steady = steady
        self._store = kept.EMPTY
        self._answers = kept.NO_ANSWERS
        self._history = NO_HISTORY
        self._doubts = 0  # doubtful questions of the last round
        self._memory = Memory()
        self._previous: Snapshot | None = None
        self._number = 0

    def configure(self, config: Config, pace: Pace) -> None:
        """Use this configuration from the next round on; what was kept stays, but for targets and names that are no more."""
        if config.targets != self._config.targets:
            self._store = kept.of_targets(self._store, {t.name for t in config.targets})
        if config.dns != self._config.dns:
            self._history = NO_HISTORY
        self._config = config
        self._pace = pace
        self._resolution.configure([t.host for t in config.targets], question_timeout(config, pace.whole, pace.timeout))
        if self._inspector is not None:
            self._inspector.configure(config)

    @property
    def undecided(self) -> bool:
        """Whether the kernel contradicts the inventory in a way that one more round would confirm or not."""
        return any(not self._memory.traces[cause].findings for cause in self._memory.suspected)

    async def run(self, source: Callable[[], Inventory], elsewhere: tuple[Found, ...] = ()) -> Report:
        """One round. `source` gives the inventory of the moment; it is asked again at the end, for pods that went meanwhile.

        `elsewhere`: the cluster role's found causes, for explanation. Raises UnfinishedError where the broker does not
        answer.
        """
        deadline = Deadline(asyncio.get_running_loop().time() + self._pace.timeout)
        started = self._clock()
        self._asker.overrun = False
        inventory = source()
        inspection = await self._look(inventory)
        inspected = self._clock()
        turn = self._turn(inspection, inventory)
        observations, lookups = await self._probe(turn, deadline)
        now = source()
        left = departures(inventory, now, self._config.node_name)
        seen = drop_vanished(inspection.pods, observations, lookups, left=left, inventory=now)
        self._keep(turn, seen)
        snapshot = self._snapshot(inspection, now, (started, inspected), seen)
        report = self._judge(snapshot, elsewhere)
        self._previous = snapshot
        self._number += 1
        return report

    async def _look(self, inventory: Inventory) -> Inspection:
        if self._inspector is None:
            return Inspection(
                host=Vantage(kind="host", namespace="", name=self._config.node_name, netns=None),
                pods=(),
                host_facts=None,
                host_resolv_conf=None,
                readings=(),
            )
        try:
            async with asyncio.timeout(self._pace.patience):
                return await self._inspector.inspect(inventory)
        except TimeoutError:
            raise UnfinishedError(f"no answer from the broker within {self._pace.patience:g} s") from None

    def _turn(self, inspection: Inspection, inventory: Inventory) -> RoundPlan:
        context = round_context(
            PodView(vantage=inspection.host, resolv_conf=inspection.host_resolv_conf),
            inspection.pods,
            inventory,
            config=self._config,
            expected=families_expected(inventory, self._config.families),
            history=self._store,
            now=self._clock(),
            probes_locally=self._inspector is not None,
        )
        return RoundPlan(number=self._number, config=self._config, pace=self._pace, context=context)

    async def _probe(self, turn: RoundPlan, deadline: Deadline) -> tuple[tuple[Observation, ...], tuple[Lookup, ...]]:
        """Dials to what has an address start at once; those to names wait for their own resolution only."""
        if not turn.context.probes_locally:
            return (), await self._asker.ask_all(questions(turn, turn.pace.queries), deadline)
        named = resolution_groups(turn)
        asking, allowance = self._share(turn, named)
        direct, asked, resolved = await asyncio.gather(
            self._asker.check_all(direct_checks(turn), deadline),
            self._ask(turn, asking, allowance, deadline),
            asyncio.gather(*(self._resolve_and_dial(turn, naming, deadline) for naming in named)),
        )
        observations = (o for made, _ in resolved for o in made)
        return (*direct, *observations), (*asked, *(lookup for _, made in resolved for lookup in made))

    async def _ask(
        self, turn: RoundPlan, planned: Sequence[Question], allowance: int | None, deadline: Deadline
    ) -> tuple[Lookup, ...]:
        """The round's questions, and again those whose answers leave doubt."""
        asked = await self._asker.ask_all(planned, deadline)
        history = remember(self._history, asked, now=self._clock())
        doubts = again.doubtful(asked, history, known_names(turn))
        self._doubts = len(doubts)
        more = again.asked_again(doubts, allowance=allowance, seconds=deadline.left - AT_THE_END)
        return (*asked, *await self._asker.ask_all(more, deadline))

    def _share(self, turn: RoundPlan, named: Sequence[ResolutionGroup]) -> tuple[tuple[Question, ...], int | None]:
        """The round's questions, and how many may be asked again.

        Of the DNS budget, what names that are due may need is set aside, at most half, and what doubts of the last
        round need. Of all that is left, the names get what is due, else half.
        """
        budget = self._pace.queries
        if budget is None:
            self._resolution.allow(None, named)
            return questions(turn, None), None
        aside = again.set_aside(self._doubts, budget)
        due = self._resolution.due(named)
        asking = questions(turn, budget - aside - min((budget - aside) // 2, due))
        left = budget - sum(q.allowed for q in asking)
        names = min(left - aside, max(due, left // 2)) if named else 0
        self._resolution.allow(names, named)
        return asking, left - names

    async def _resolve_and_dial(
        self, turn: RoundPlan, naming: ResolutionGroup, deadline: Deadline
    ) -> tuple[tuple[Observation, ...], tuple[Lookup, ...]]:
        """Targets that are names: resolved once per distinct resolv.conf, then dialled from all vantages that share it."""
        hosts = tuple(dict.fromkeys(t.host for t in naming.targets))
        resolved = dict(
            zip(
                hosts,
                await asyncio.gather(
                    *(
                        self._resolution.resolve(host, naming.asked_from, naming.conf, naming.servers, deadline)
                        for host in hosts
                    )
                ),
                strict=True,
            )
        )
        targets = [
            (t, with_addresses(t, resolved[t.host].addresses, turn.context.families))
            for t in naming.targets
            if not resolved[t.host].waits
        ]
        observations = await self._asker.check_all(named_checks(turn, naming, targets), deadline)
        self._resolution.doubt(naming, failed_hosts(observations))
        return observations, tuple(q for r in resolved.values() for q in r.lookups)

    def _keep(self, turn: RoundPlan, seen: StillPresent) -> None:
        """Results by vantage, those of the API server by themselves; answers by question."""
        probed = [p.vantage.key for p in seen.pods if p.vantage.state in PROBED]
        present = [*probed, turn.context.host.vantage.key, API_SERVER]
        self._store = kept.keep_results(
            self._store,
            _by_key(seen.observations),
            present=present,
            now=self._steady(),
            keep=result_lifetime(turn, len(probed)),
            remember=dial_lifetime(turn, len(probed)),
        )
        keep = answer_lifetime(turn, len(probed))
        once = [o for o in seen.lookups if o.question.purpose is not Purpose.AGAIN]
        self._answers = kept.keep_answers(self._answers, once, now=self._clock(), keep=keep)
        self._history = remember(self._history, seen.lookups, now=self._clock())

    def _snapshot(
        self, inspection: Inspection, inventory: Inventory, times: tuple[float, float], seen: StillPresent
    ) -> Snapshot:
        """`times`: when the round began, and when this machine had been looked at."""
        started, inspected = times
        return Snapshot(
            node=self._config.node_name,
            role=self._config.role,
            started=started,
            finished=self._clock(),
            complete=not self._asker.overrun,
            inventory=inventory,
            host=inspection.host if self._inspector is not None or inventory.source == "kubernetes" else None,
            pods=seen.pods,
            observations=seen.observations,
            kept=self._store.observations(),
            kept_before=self._store.before(),
            history=self._store.attempts(),
            lookups=seen.lookups,
            lookups_kept=tuple(self._answers.last.values()),
            lookups_before=tuple(self._answers.before.values()),
            told=all_told(self._history),
            inspected=inspected,
            host_facts=inspection.host_facts,
            host_resolv_conf=inspection.host_resolv_conf,
            readings=(*inspection.readings, *api_readings(inventory)),
            families=families_expected(inventory, self._config.families),
        )

    def _judge(self, snapshot: Snapshot, elsewhere: tuple[Found, ...]) -> Report:
        view = RuleInput(
            now=snapshot.finished, snapshot=snapshot, previous=self._previous, expect=expectations(self._config)
        )
        verdict, self._memory = judge(view, self._memory, rules=RULES, elsewhere=elsewhere)
        synced = snapshot.inventory.synced
        return Report(
            snapshot=snapshot,
            families=family_reports(snapshot),
            causes=verdict.causes,
            checked=verdict.checked,
            unchecked=verdict.unchecked,
            aaaa_blocks=aaaa_blocks(view),
            predictions=predictions(view),
            inventory_age=None if synced is None else max(0.0, snapshot.finished - synced),
        )


def _by_key(observations: Sequence[Observation]) -> dict[str, tuple[Observation, ...]]:
    grouped: dict[str, list[Observation]] = {}
    for o in observations:
        key = API_SERVER if o.target.group is Group.APISERVER else o.vantage.key
        grouped.setdefault(key, []).append(o)
    return {key: tuple(made) for key, made in grouped.items()}
