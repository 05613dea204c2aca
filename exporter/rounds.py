"""One round: inspect, resolve, plan, ask, judge. Between the sources and the exposition; holds what is kept from round to round.

Every decision is taken by a pure module (discovery.pods, plan, diagnosis); this file only fetches their inputs and hands on their
results. A round has one deadline; what it cut is reported as cut. It never raises for what the world does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from exporter.asking import Asker, Deadline
from exporter.config.schema import Config, Place
from exporter.diagnosis.dns import aaaa_blocks, predictions
from exporter.diagnosis.expectation import families_expected
from exporter.diagnosis.explain import Found
from exporter.diagnosis.families import family_reports
from exporter.diagnosis.rules import RULES
from exporter.diagnosis.verdict import Memory, judge
from exporter.diagnosis.view import Expectations, ServicePolicy, View
from exporter.inspection import Inspection, Inspector
from exporter.model.dns import ResolvConf
from exporter.model.family import FAMILIES, Family
from exporter.model.inventory import Inventory
from exporter.model.probe import Check, Lookup, Observation, Outcome, Question, Target, Timeouts
from exporter.model.report import PodView, Report, Role, Snapshot
from exporter.model.vantage import PodState, Vantage
from exporter.plan import kept
from exporter.plan.checks import SPREAD, host_checks, pod_checks
from exporter.plan.policies import under_policy
from exporter.plan.questions import Asking, plan_questions, plan_service_questions, service_rotation
from exporter.plan.servers import Known, known_servers, servers_of
from exporter.plan.targets import inside, outside, with_addresses
from exporter.resolution import Resolution

PROBED = frozenset({PodState.ELIGIBLE, PodState.INTERCEPTED})


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast and how long: the daemon's from the configuration, a check's own (contract section 2)."""

    interval: float
    timeout: float
    whole: float = 10.0
    spread: float = SPREAD
    bounded: bool = True  # whether the DNS budget binds


@dataclass(frozen=True, slots=True)
class Scene:
    """What the plan of one round starts from."""

    inspection: Inspection
    inventory: Inventory
    families: tuple[Family, ...]
    sample: tuple[Vantage, ...]
    known: Known
    now: float


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
    ) -> None:
        self._config = config
        self._pace = pace
        self._inspector = inspector
        self._asker = asker
        self._resolution = resolution
        self._clock = clock
        self._store = kept.EMPTY
        self._answers = kept.NO_ANSWERS
        self._memory = Memory()
        self._previous: Snapshot | None = None
        self._number = 0

    def configure(self, config: Config, pace: Pace) -> None:
        """Use this configuration from the next round on; what was kept stays."""
        self._config = config
        self._pace = pace
        self._resolution.forget([t.host for t in config.targets])
        if self._inspector is not None:
            self._inspector.configure(config)

    async def run(self, source: Callable[[], Inventory], elsewhere: tuple[Found, ...] = ()) -> Report:
        """One round. `source` gives the inventory of the moment; it is asked again at the end, for pods that went meanwhile.

        `elsewhere`: the cluster role's found causes, for explanation.
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
            inspection = await self._inspector.inspect(inventory)
        eligible = [p.vantage for p in inspection.pods if p.vantage.state in PROBED]
        expected = families_expected(inventory, self._config.families)
        return Scene(
            inspection=inspection,
            inventory=inventory,
            families=tuple(f for f in FAMILIES if expected.get(f) is not False),
            sample=kept.choose_sample(eligible, self._store, self._config.pods.sample),
            known=known_servers(inventory, self._config, inspection.host_resolv_conf),
            now=self._clock(),
        )

    async def _probe(self, scene: Scene, deadline: Deadline) -> tuple[tuple[Observation, ...], tuple[Lookup, ...]]:
        """Dials to what has an address start at once; those to names wait for their own resolution only."""
        questions = self._questions(scene)
        if self._inspector is None:
            return (), await self._asker.ask_all(questions, deadline)
        direct, asked, named = await asyncio.gather(
            self._asker.check_all(self._direct(scene), deadline),
            self._asker.ask_all(questions, deadline),
            self._named(scene, deadline),
        )
        return (*direct, *named[0]), (*asked, *named[1])

    def _questions(self, scene: Scene) -> tuple[Question, ...]:
        """Those of a node, from its pods; those of the cluster, from a cluster role that really runs in one."""
        asking = Asking(
            config=self._config,
            inventory=scene.inventory,
            known=scene.known,
            number=self._number,
            now=scene.now,
            budget=int(2 * self._pace.interval) if self._pace.bounded else None,
            timeout=self._timeouts().dns,
        )
        host = scene.inspection.host
        questions: list[Question] = []
        if self._inspector is not None:
            questions += plan_questions(host, self._views(scene), scene.inspection.host_resolv_conf, asking)
        if self._config.role is not Role.NODE and scene.inventory.source == "kubernetes":
            questions += plan_service_questions(host, asking)
        return tuple(questions)

    def _direct(self, scene: Scene) -> tuple[Check, ...]:
        within = inside(scene.inventory, self._config, scene.families, scene.now)
        literal = [(t, made) for t, made in outside(self._config, scene.families) if made is not None]
        return (
            *self._host_checks(scene, [*within, *(made for t, made in literal if Place.HOST in t.vantages)]),
            *self._pod_checks(
                scene, scene.sample, [*within, *(made for t, made in literal if Place.POD in t.vantages)]
            ),
        )

    async def _named(self, scene: Scene, deadline: Deadline) -> tuple[tuple[Observation, ...], tuple[Lookup, ...]]:
        """Targets that are names: resolved once per distinct resolv.conf, then dialled from all vantages that share it."""
        named = [t for t, made in outside(self._config, scene.families) if made is None]
        if not named:
            return (), ()
        results = await asyncio.gather(*(self._named_from(scene, group, deadline) for group in self._groups(scene)))
        return tuple(o for made, _ in results for o in made), tuple(q for _, asked in results for q in asked)

    async def _named_from(
        self, scene: Scene, group: tuple[Vantage, ...], deadline: Deadline
    ) -> tuple[tuple[Observation, ...], tuple[Lookup, ...]]:
        asker, conf = self._resolver_of(scene, group[0])
        servers = [s for s, allowed in servers_of(conf, scene.known) if allowed]
        kinds = {Place(v.kind) for v in group}
        named = [t for t, made in outside(self._config, scene.families) if made is None and kinds & set(t.vantages)]
        resolved = await asyncio.gather(
            *(self._resolution.resolve(t.host, asker, conf, servers, deadline) for t in named)
        )
        targets = [(t, with_addresses(t, r.addresses, scene.families)) for t, r in zip(named, resolved, strict=True)]
        checks = (
            *self._host_checks(scene, [m for t, m in targets if Place.HOST in t.vantages and group[0].kind == "host"]),
            *self._pod_checks(
                scene, [v for v in group if v.kind == "pod"], [m for t, m in targets if Place.POD in t.vantages]
            ),
        )
        return await self._asker.check_all(checks, deadline), tuple(q for r in resolved for q in r.lookups)

    def _groups(self, scene: Scene) -> list[tuple[Vantage, ...]]:
        """The host by itself, and the sampled pods by resolv.conf."""
        confs = {p.vantage.key: p.resolv_conf for p in scene.inspection.pods}
        groups: dict[ResolvConf | None, list[Vantage]] = {}
        for vantage in scene.sample:
            groups.setdefault(confs.get(vantage.key), []).append(vantage)
        return [(scene.inspection.host,), *(tuple(g) for g in groups.values())]

    def _resolver_of(self, scene: Scene, vantage: Vantage) -> tuple[Vantage, ResolvConf]:
        """From where and with which file names are resolved for a vantage: its own, else (nothing in it may be asked) the host's."""
        own = next((p.resolv_conf for p in scene.inspection.pods if p.vantage.key == vantage.key), None)
        if own is not None and any(allowed for _, allowed in servers_of(own, scene.known)):
            return vantage, own
        return scene.inspection.host, scene.inspection.host_resolv_conf or ResolvConf()

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
        return pod_checks(pods, targets, scene.families, self._timeouts(), turn=self._number, spread=self._pace.spread)

    def _snapshot(
        self,
        scene: Scene,
        inventory: Inventory,
        started: float,
        observations: tuple[Observation, ...],
        lookups: tuple[Lookup, ...],
    ) -> Snapshot:
        gone = _gone(inventory, self._config.node_name) | {
            o.vantage.key for o in observations if o.outcome is Outcome.VANISHED
        }
        restricted = under_policy(inventory)
        made = tuple(
            replace(o, policy=True) if (o.vantage.subject, o.family) in restricted else o
            for o in observations
            if o.vantage.key not in gone
        )
        pods = tuple(p for p in scene.inspection.pods if p.vantage.key not in gone)
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
            readings=scene.inspection.readings,
            families=families_expected(inventory, self._config.families),
        )

    def _keep(
        self, scene: Scene, pods: Sequence[PodView], made: Iterable[Observation], lookups: Iterable[Lookup]
    ) -> None:
        now = self._clock()
        probed = [p.vantage.key for p in pods if p.vantage.state in PROBED]
        keep = 2 * kept.rotation(len(probed), self._config.pods.sample, self._pace.interval) + self._pace.interval
        by_vantage: dict[str, tuple[Observation, ...]] = {}
        for o in made:
            by_vantage[o.vantage.key] = (*by_vantage.get(o.vantage.key, ()), o)
        present = [*probed, scene.inspection.host.key]
        self._store = kept.fold(self._store, by_vantage, present=present, now=now, keep=keep)
        keep = max(keep, 2 * service_rotation(scene.inventory) * self._pace.interval)
        self._answers = kept.fold_answers(self._answers, lookups, now=now, keep=keep)

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


def _gone(inventory: Inventory, node: str) -> set[str]:
    """Keys of pods that are terminating by now."""
    return {p.uid for p in inventory.local_pods(node) if p.deleting and p.uid}
