"""What the pods' own files and nameservers make of names: predictions per libc, and the search list that breaks musl. Pure.

Between the prediction lookups and the report; the libcs stand in resolver.py. A file is judged once for all pods that
share it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from exporter.diagnosis.engine.rule_input import Judgement, RuleInput, finding
from exporter.diagnosis.rules.dns.samples import UNSENT, nothing_asked, samples, steadiness
from exporter.libc.replies import Answers, answers_of
from exporter.libc.resolver import Libc, Request, predict, suggest_fixes
from exporter.model.dns import ResolvConf
from exporter.model.dns_name import casefold
from exporter.model.family import Address
from exporter.model.probe import Lookup, Purpose
from exporter.model.reason import Reason
from exporter.model.report import Cause, PodView, Prediction, Severity, Snapshot
from exporter.model.vantage import PodState

MUSLS = (Libc.MUSL, Libc.MUSL_1_2_3)
SHOWN = 4


@dataclass(frozen=True, slots=True)
class Break:
    """A name that glibc resolves and musl does not, because of a candidate before the name itself, under one file."""

    conf: ResolvConf
    name: str
    prediction: Prediction

    @property
    def key(self) -> tuple[ResolvConf, str, str]:
        """What must be the same in two rounds: also the reason, as two answers that got lost by chance are none."""
        return self.conf, self.name, self.prediction.why


def predictions(view: RuleInput) -> Mapping[tuple[str, str, str, str], int]:
    """(libc, name label, request, code) -> pods for which that libc would return it; without pods the host stands in."""
    answers = answers_of(_latest(view.snapshot))
    names = _names(view.snapshot)
    count: Counter[tuple[str, str, str, str]] = Counter()
    for conf, users in _files(view.snapshot).items():
        for label, name in names.items():
            for libc in Libc:
                for request in Request:
                    made = predict(libc, name, conf, answers, request=request)
                    if made is not None:
                        count[libc.value, label, request.value, made.code] += len(users)
    return dict(count)


def dns_search_breaks_musl(view: RuleInput) -> Judgement:
    """A search candidate before the name itself makes musl fail for a name that glibc resolves, in two rounds."""
    asked = samples(view, Purpose.PREDICTION)
    if not asked:
        return nothing_asked(view)
    now = answers_of(lookup for one in asked for lookup in _lasting(view, one.server.address, one.now))
    before = answers_of(lookup for one in asked for lookup in _lasting(view, one.server.address, one.before))
    if not any(one.before for one in asked):
        return Reason.TOO_FEW_SAMPLES
    names = _names(view.snapshot).values()
    files = _files(view.snapshot)
    breaks = {found.key: found for found in _breaks(files, names, now)}
    lasting = [breaks[found.key] for found in _breaks(files, names, before) if found.key in breaks]
    if not lasting:
        return ()
    pods = [pod for conf in {found.conf for found in lasting} for pod in files[conf]]
    hit = [pod for pod in pods if "musl" in (pod.libc or ())]
    return (
        finding(
            Cause.DNS_SEARCH_BREAKS_MUSL,
            [pod.vantage.subject for pod in hit or pods],
            evidence=[*(_evidence(found, now) for found in lasting[:SHOWN]), *_without_musl(hit)],
            command=_command((hit or pods)[0], lasting[0].name),
            severity=None if hit else Severity.INFO,
        ),
    )


def _lasting(view: RuleInput, server: Address, lookups: Iterable[Lookup]) -> Iterable[Lookup]:
    """Without answers that were lost, or said that the name is missing, and at other times were not: a libc may get either."""
    steady = steadiness(view, server)
    return (one for one in lookups if steady.is_steady(casefold(one.question.name), one.question.qtype))


def _breaks(files: Iterable[ResolvConf], names: Iterable[str], answers: Answers) -> Iterable[Break]:
    wanted = tuple(names)
    for conf in files:
        for name in wanted:
            good = predict(Libc.GLIBC, name, conf, answers)
            if good is None or good.code != "OK":
                continue
            for libc in MUSLS:
                made = predict(libc, name, conf, answers)
                if made is not None and made.code != "OK" and casefold(made.candidate) != casefold(name):
                    yield Break(conf, name, made)
                    break


def _evidence(found: Break, answers: Answers) -> str:
    cure = next((f"; a cure: {cure.change}" for cure in suggest_fixes(found.name, found.conf, answers)), "")
    return f"{found.name}: glibc OK, {found.prediction.libc} {found.prediction.code}: {found.prediction.why}{cure}"


def _without_musl(hit: list[PodView]) -> tuple[str, ...]:
    return () if hit else ("no pod of this node is known to hold a musl loader",)


def _command(pod: PodView, name: str) -> str:
    vantage = pod.vantage
    place = f" --pod={vantage.namespace}/{vantage.name}" if vantage.kind == "pod" and vantage.namespace else ""
    return f"dualstack-exporter resolve {name}{place}"


def _files(snapshot: Snapshot) -> dict[ResolvConf, list[PodView]]:
    """The files of this node's pods with those that use them; without pods the host's."""
    files: dict[ResolvConf, list[PodView]] = {}
    for pod in snapshot.pods:
        if pod.resolv_conf is not None and pod.vantage.state in {PodState.ELIGIBLE, PodState.INTERCEPTED}:
            files.setdefault(pod.resolv_conf, []).append(pod)
    if not snapshot.pods and snapshot.host is not None and snapshot.host_resolv_conf is not None:
        files[snapshot.host_resolv_conf] = [PodView(vantage=snapshot.host, resolv_conf=snapshot.host_resolv_conf)]
    return files


def _names(snapshot: Snapshot) -> dict[str, str]:
    """The names whose resolution is predicted, by label: those that the verdict set asks for MX, which are those that exist."""
    asked = (one.question for one in (*snapshot.lookups_kept, *snapshot.lookups))
    return {q.label: casefold(q.name) for q in asked if q.purpose is Purpose.VERDICT and q.qtype == "MX"}


def _latest(snapshot: Snapshot) -> Iterable[Lookup]:
    return (
        one
        for one in (*snapshot.lookups_kept, *snapshot.lookups)
        if one.question.purpose is Purpose.PREDICTION and one.outcome not in UNSENT
    )
