"""One round: inspect, resolve, plan, ask, judge. Between the sources and the exposition; holds what is kept from round to round.

Every decision is taken by a pure module (discovery.pods, plan, diagnosis); this file only fetches their inputs and hands on their
results. A round has one deadline; what it cut is reported as cut. It raises for nothing that the world does, but for a broker that
does not answer at all: then there is nothing to report.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from exporter.asking import Asker, Deadline
from exporter.config.schema import Config, Place
from exporter.diagnosis.dns import aaaa_blocks, predictions
from exporter.diagnosis.expectation import families_expected
from exporter.diagnosis.families import family_reports
from exporter.diagnosis.rules import RULES
from exporter.diagnosis.verdict import Memory, judge
from exporter.diagnosis.view import Expectations, ServicePolicy, View
from exporter.discovery.pods import departures
from exporter.discovery.standing import api_readings
from exporter.inspection import Inspection, Inspector
from exporter.model.family import FAMILIES, Family
from exporter.model.inventory import Inventory
from exporter.model.probe import Check, Group, Lookup, Observation, Outcome, Question, Target, Timeouts
from exporter.model.report import Found, PodView, Report, Role, Snapshot
from exporter.model.vantage import PodState, Vantage
from exporter.plan import kept
from exporter.plan.checks import SPREAD, host_checks, pod_checks, rounds_between
from exporter.plan.naming import Naming, plan_namings
from exporter.plan.policies import under_policy
from exporter.plan.questions import Asking, plan_questions, plan_service_questions, service_rotation
from exporter.plan.servers import Known, known_servers
from exporter.plan.spoken import unspoken
from exporter.plan.targets import inside, outside, with_addresses
from exporter.resolution import Resolution, question_timeout

PROBED = frozenset({PodState.ELIGIBLE, PodState.INTERCEPTED})
QUERIES, CONNECTS = 2.0, 0.1  # a second: DNS questions, connections to the API server (contract section 3, budget)
API_SERVER = "apiserver"  # what its results are kept under: it is dialled in turns of its own


class UnfinishedError(Exception):
    """A round that saw nothing: the broker did not answer."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast and how long: the daemon's from the configuration, a check's own (contract section 2)."""

    interval: float
    timeout: float
    whole: float = 10.0
    spread: float = SPREAD
    bounded: bool = True  # whether the budget binds
    configured: float | None = None  # the interval that the budget goes by, where a large cluster makes rounds rarer

    @property
    def queries(self) -> int | None:
        """DNS questions of one round; None where the budget does not bind."""
        return int(QUERIES * (self.configured or self.interval)) if self.bounded else None

    @property
    def connects(self) -> float | None:
        """Connections to the API server in one round, on average; None where the budget does not bind."""
        return CONNECTS * (self.configured or self.interval) if self.bounded else None

    @property
    def patience(self) -> float:
        """Seconds that looking at this machine may take before the round is given up."""
        return min(self.interval, 2 * self.timeout)


@dataclass(frozen=True, slots=True)
class Scene:
    """What the plan of one round starts from."""

    inspection: Inspection
    inventory: Inventory
    families: tuple[Family, ...]
    sample: tuple[Vantage, ...]
    known: Known
    now: float
    unspoken: frozenset[tuple[str, Family]] = frozenset()


class Rounds:
    """Runs rounds one after the other; keeps results, answers and the verdict's memory between them."""

    def __init__(
        self,
        config: Config,
        pace: Pace,
        *,
        inspector: Inspector | None,
        asker: Asker,
        resolution: Resolution,
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
        self._memory = Memory()
        self._previous: Snapshot | None = None
        self._number = 0

    def configure(self, config: Config, pace: Pace) -> None:
        """Use this configuration from the next round on; what was kept stays, but for targets that are no more."""
        if config.targets != self._config.targets:
            self._store = kept.of_targets(self._store, {t.name for t in config.targets})
        self._config = config
        self._pace = pace
        self._resolution.configure([t.host for t in config.targets], question_timeout(config, pace.whole, pace.timeout))
        if self._inspector is not None:
            self._inspector.configure(config)

    async def run(self, source: Callable[[], Inventory], elsewhere: tuple[Found, ...] = ()) -> Report:
        """One round. `source` gives the inventory of the moment; it is asked again at the end, for pods that went meanwhile.

        `elsewhere`: the cluster role's found causes, for explanation. Raises UnfinishedError where the broker does not answer.
        """
        deadline = Deadline(asyncio.get_running_loop().time() + self._pace.timeout)
        started = self._clock()
        self._asker.overrun = False
        scene = await self._look(source())
        observations, lookups = await self._probe(scene, deadline)
        snapshot = self._snapshot(scene, source(), started, observations, lookups)
        report = self._judge(snapshot, elsewhere)
        self._previous = snapshot
        self._number += 1
        return report

    async def _look(self, inventory: Inventory) -> Scene:
        if self._inspector is None:
            inspection = Inspection(Vantage("host", "", self._config.node_name, None), (), None, None, ())
        else:
            try:
                async with asyncio.timeout(self._pace.patience):
                    inspection = await self._inspector.inspect(inventory)
            except TimeoutError:
                raise UnfinishedError(f"no answer from the broker within {self._pace.patience:g} s") from None
        eligible = [p.vantage for p in inspection.pods if p.vantage.state in PROBED]
        expected = families_expected(inventory, self._config.families)
        return Scene(
            inspection=inspection,
            inventory=inventory,
            families=tuple(f for f in FAMILIES if expected.get(f) is not False),
            sample=kept.choose_sample(eligible, self._store, self._config.pods.sample),
            known=known_servers(inventory, self._config, inspection.host_resolv_conf),
            now=self._clock(),
            unspoken=unspoken(inventory, self._config.node_name),
        )

    async def _probe(self, scene: Scene, deadline: Deadline) -> tuple[tuple[Observation, ...], tuple[Lookup, ...]]:
        """Dials to what has an address start at once; those to names wait for their own resolution only."""
        if self._inspector is None:
            return (), await self._asker.ask_all(self._questions(scene, self._pace.queries), deadline)
        namings = self._namings(scene)
        left = self._reserve(namings)
        direct, asked, named = await asyncio.gather(
            self._asker.check_all(self._direct(scene), deadline),
            self._asker.ask_all(self._questions(scene, left), deadline),
            asyncio.gather(*(self._named_from(scene, naming, deadline) for naming in namings)),
        )
        observations = (o for made, _ in named for o in made)
        return (*direct, *observations), (*asked, *(lookup for _, made in named for lookup in made))

    def _reserve(self, namings: Iterable[Naming]) -> int | None:
        """Sets aside, of the round's DNS budget, what names that are due may need, at most half; what is left."""
        budget = self._pace.queries
        if budget is None:
            self._resolution.allow(None)
            return None
        reserved = min(
            budget // 2, sum(self._resolution.due([t.host for t in n.targets], n.conf, n.servers) for n in namings)
        )
        self._resolution.allow(reserved)
        return budget - reserved

    def _questions(self, scene: Scene, budget: int | None) -> tuple[Question, ...]:
        """Those of a node, from its pods; those of the cluster, from a cluster role that really runs in one. Together in the budget."""
        asking = Asking(
            config=self._config,
            inventory=scene.inventory,
            known=scene.known,
            number=self._number,
            now=scene.now,
            budget=budget,
            timeout=self._timeouts().dns,
        )
        host = scene.inspection.host
        of_cluster: tuple[Question, ...] = ()
        if self._config.role is not Role.NODE and scene.inventory.source == "kubernetes":
            of_cluster = plan_service_questions(host, replace(asking, budget=self._service_budget(budget)))
        if self._inspector is None:
            return of_cluster
        rest = None if budget is None else budget - len(of_cluster)
        own = plan_questions(host, self._views(scene), scene.inspection.host_resolv_conf, replace(asking, budget=rest))
        return (*own, *of_cluster)

    def _service_budget(self, budget: int | None) -> int | None:
        """For questions about Services: all of it in role cluster; half where a node's own questions share it."""
        return budget if budget is None or self._inspector is None else budget // 2

    def _direct(self, scene: Scene) -> tuple[Check, ...]:
        within = inside(scene.inventory, self._config, scene.families, scene.now)
        if self._number % self._rounds_between_api_dials(scene.families):
            within = tuple(t for t in within if t.group is not Group.APISERVER)
        literal = [(t, made) for t, made in outside(self._config, scene.families) if made is not None]
        return (
            *self._host_checks(scene, [*within, *(made for t, made in literal if Place.HOST in t.vantages)]),
            *self._pod_checks(
                scene, scene.sample, [*within, *(made for t, made in literal if Place.POD in t.vantages)]
            ),
        )

    def _rounds_between_api_dials(self, families: Sequence[Family]) -> int:
        return rounds_between(len(families), self._pace.connects)

    async def _named_from(
        self, scene: Scene, naming: Naming, deadline: Deadline
    ) -> tuple[tuple[Observation, ...], tuple[Lookup, ...]]:
        """Targets that are names: resolved once per distinct resolv.conf, then dialled from all vantages that share it."""
        resolved = await asyncio.gather(
            *(
                self._resolution.resolve(t.host, naming.asker, naming.conf, naming.servers, deadline)
                for t in naming.targets
            )
        )
        targets = [
            (t, with_addresses(t, r.addresses, scene.families))
            for t, r in zip(naming.targets, resolved, strict=True)
            if not r.waits
        ]
        from_host = naming.vantages[0].kind == "host"
        checks = (
            *self._host_checks(scene, [m for t, m in targets if from_host and Place.HOST in t.vantages]),
            *self._pod_checks(
                scene,
                [v for v in naming.vantages if v.kind == "pod"],
                [m for t, m in targets if Place.POD in t.vantages],
            ),
        )
        return await self._asker.check_all(checks, deadline), tuple(q for r in resolved for q in r.lookups)

    def _namings(self, scene: Scene) -> tuple[Naming, ...]:
        inspection = scene.inspection
        return plan_namings(
            PodView(inspection.host, resolv_conf=inspection.host_resolv_conf),
            self._views(scene),
            [t for t, made in outside(self._config, scene.families) if made is None],
            known=scene.known,
            pods={p.uid: p for p in scene.inventory.local_pods(self._config.node_name) if p.uid},
            turn=self._number,
        )

    def _views(self, scene: Scene) -> tuple[PodView, ...]:
        sampled = {v.key for v in scene.sample}
        return tuple(p for p in scene.inspection.pods if p.vantage.key in sampled)

    def _timeouts(self) -> Timeouts:
        t, whole = self._config.timeouts, self._pace.whole
        icmp, dns, tcp, tls, http = (min(seconds, whole) for seconds in (t.icmp, t.dns, t.tcp, t.tls, t.http))
        return Timeouts(icmp, dns, tcp, tls, http, whole)

    def _host_checks(self, scene: Scene, targets: Iterable[Target]) -> tuple[Check, ...]:
        return host_checks(scene.inspection.host, targets, scene.families, self._timeouts(), spread=self._pace.spread)

    def _pod_checks(self, scene: Scene, pods: Sequence[Vantage], targets: Sequence[Target]) -> tuple[Check, ...]:
        return pod_checks(
            pods,
            targets,
            scene.families,
            self._timeouts(),
            turn=self._number,
            spread=self._pace.spread,
            unspoken=scene.unspoken,
        )

    def _snapshot(
        self,
        scene: Scene,
        inventory: Inventory,
        started: float,
        observations: tuple[Observation, ...],
        lookups: tuple[Lookup, ...],
    ) -> Snapshot:
        left = departures(scene.inventory, inventory, self._config.node_name)
        vanished = {o.vantage.key for o in observations if o.outcome is Outcome.VANISHED}
        gone = {*left, *vanished}
        restricted = under_policy(inventory)
        made = tuple(
            replace(o, policy=True) if not o.passed and (o.vantage.subject, o.family) in restricted else o
            for o in observations
            if o.vantage.key not in gone
        )
        lookups = tuple(one for one in lookups if one.question.vantage.key not in gone)
        pods = tuple(_as_left(p, left) for p in scene.inspection.pods if _stays(p.vantage.key, left, vanished))
        self._keep(scene, pods, made, lookups)
        return Snapshot(
            node=self._config.node_name,
            role=self._config.role,
            started=started,
            finished=self._clock(),
            complete=not self._asker.overrun,
            inventory=inventory,
            host=scene.inspection.host if self._inspector is not None or inventory.source == "kubernetes" else None,
            pods=pods,
            observations=made,
            kept=self._store.observations(),
            kept_before=self._store.before(),
            lookups=lookups,
            lookups_kept=tuple(self._answers.last.values()),
            lookups_before=tuple(self._answers.before.values()),
            host_facts=scene.inspection.host_facts,
            host_resolv_conf=scene.inspection.host_resolv_conf,
            readings=(*scene.inspection.readings, *api_readings(inventory)),
            families=families_expected(inventory, self._config.families),
        )

    def _keep(
        self, scene: Scene, pods: Sequence[PodView], made: Iterable[Observation], lookups: Iterable[Lookup]
    ) -> None:
        now, interval = self._steady(), self._pace.interval
        probed = [p.vantage.key for p in pods if p.vantage.state in PROBED]
        turn = max(
            kept.rotation(len(probed), self._config.pods.sample, interval),
            self._rounds_between_api_dials(scene.families) * interval,
        )
        by_key: dict[str, tuple[Observation, ...]] = {}
        for o in made:
            key = API_SERVER if o.target.group is Group.APISERVER else o.vantage.key
            by_key[key] = (*by_key.get(key, ()), o)
        present = [*probed, scene.inspection.host.key, API_SERVER]
        keep = 2 * turn + interval
        self._store = kept.fold(self._store, by_key, present=present, now=now, keep=keep)
        services = service_rotation(scene.inventory, self._service_budget(self._pace.queries))
        keep = max(keep, 2 * services * interval)
        self._answers = kept.fold_answers(self._answers, lookups, now=self._clock(), keep=keep)

    def _judge(self, snapshot: Snapshot, elsewhere: tuple[Found, ...]) -> Report:
        view = View(snapshot.finished, snapshot, self._previous, expectations(self._config))
        verdict, self._memory = judge(view, self._memory, rules=RULES, elsewhere=elsewhere)
        return Report(
            snapshot=snapshot,
            families=family_reports(snapshot),
            causes=verdict.causes,
            checked=verdict.checked,
            unchecked=verdict.unchecked,
            aaaa_blocks=aaaa_blocks(view),
            predictions=predictions(view),
            inventory_age=None
            if snapshot.inventory.synced is None
            else max(0.0, snapshot.finished - snapshot.inventory.synced),
        )


def expectations(config: Config) -> Expectations:
    """What the operator said is meant to be, as rules read it."""
    return Expectations(
        services=tuple(ServicePolicy(s.namespaces, s.policy.value) for s in config.expect.services),
        aaaa=config.dns.aaaa.value,
        control_names=tuple((n.name, tuple(e.value for e in n.expect)) for n in config.dns.names or ()),
    )


def _stays(key: str, left: Mapping[str, PodState | None], vanished: Container[str]) -> bool:
    """Whether a pod is still to be told of: it is in the inventory, if only as one that ends."""
    return left[key] is not None if key in left else key not in vanished


def _as_left(view: PodView, left: Mapping[str, PodState | None]) -> PodView:
    """A pod that ended meanwhile in its new state, without what was read of it."""
    state = left.get(view.vantage.key)
    return view if state is None else PodView(replace(view.vantage, state=state))
