"""What the pods' own resolv.conf and nameservers make of names: predictions per libc, and search lists that break musl.

Between the prediction lookups and the report; libc/ has the models of the libcs. A file is judged once for all pods
that share it. Pure.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import replace
from itertools import product
from typing import TypeAlias

from exporter.diagnosis.engine.rule_input import Judgement, RuleInput
from exporter.diagnosis.rules.dns.samples import (
    Samples,
    is_sent,
    latest,
    nothing_asked,
    resolve_command,
    samples,
)
from exporter.diagnosis.rules.judging import found
from exporter.libc.replies import Answers, answers_of
from exporter.libc.resolver import Libc, Request, predict, suggest_fixes
from exporter.model.cause import Cause, Severity
from exporter.model.dns import ResolvConf
from exporter.model.dns_name import casefold
from exporter.model.family import Address
from exporter.model.grouping import grouped
from exporter.model.probe import Lookup, LookupOutcome, Lost, Purpose
from exporter.model.reason import Reason
from exporter.model.report import PodView, Prediction, Snapshot
from exporter.model.vantage import PodState
from exporter.plan.aaaa_questions import CANARY
from exporter.plan.servers import HOST, OTHER

MUSLS = (Libc.MUSL, Libc.MUSL_1_2_3)
SHOWN = 4


# Names that glibc resolves and musl does not, because of a candidate before the name itself, by file, name and reason:
# two rounds must agree on the reason as well, since answers lost by chance give different ones.
Breaks: TypeAlias = dict[tuple[ResolvConf, str, str], Prediction]


def predictions(view: RuleInput) -> Mapping[tuple[str, str, str, str], int]:
    """(libc, name label, request, code) -> pods for which that libc would return it; the host without pods.

    A pod that does not use the cluster's DNS (dnsPolicy Default) need not resolve a name of the cluster.
    """
    lookups = tuple(latest(view))
    clustered = {o.question.server.address for o in lookups if o.question.server.label not in {HOST, OTHER}}
    lost = {(o.question.server.address, o.question.qtype) for o in lookups if _is_lost_beside_the_other(o)}
    answers = answers_of(
        replace(one, lost=Lost.AT_ONCE) if (one.question.server.address, one.question.qtype) in lost else one
        for one in lookups
        if one.question.purpose is Purpose.PREDICTION and is_sent(one)
    )
    count: Counter[tuple[str, str, str, str]] = Counter()
    files, names = _files(view.snapshot), _names(view)
    for (conf, users), (label, name), libc, request in product(files.items(), names.items(), Libc, Request):
        expected = label != CANARY or _uses_cluster_dns(conf, clustered)
        made = predict(libc, name, conf, answers, request=request) if expected else None
        if made is not None:
            count[libc.value, label, request.value, made.code] += len(users)
    return dict(count)


def _uses_cluster_dns(conf: ResolvConf, servers: AbstractSet[Address]) -> bool:
    return not servers.isdisjoint(conf.nameservers) or any(domain.startswith("svc.") for domain in conf.search)


def _is_lost_beside_the_other(one: Lookup) -> bool:
    return one.question.purpose is Purpose.PARALLEL and one.outcome is LookupOutcome.TIMEOUT


def dns_search_breaks_musl(view: RuleInput) -> Judgement:
    """A search candidate before the name itself makes musl fail for a name that glibc resolves, in two rounds."""
    asked = samples(view, Purpose.PREDICTION)
    if not asked:
        return nothing_asked(view)
    if not any(one.before for one in asked):
        return Reason.TOO_FEW_SAMPLES
    now = answers_of(lookup for one in asked for lookup in _steady(one, one.now))
    before = answers_of(lookup for one in asked for lookup in _steady(one, one.before))
    names, files = tuple(_names(view).values()), _files(view.snapshot)
    breaks, earlier = _breaks(files, names, now), _breaks(files, names, before)
    lasting = [(conf, breaks[conf, name, why]) for conf, name, why in earlier if (conf, name, why) in breaks]
    if not lasting:
        return ()
    pods = [pod for conf in {conf for conf, _ in lasting} for pod in files[conf]]
    hit = [pod for pod in pods if "musl" in (pod.libc or ())]
    evidence = [_evidence(conf, made, now) for conf, made in lasting[:SHOWN]]
    return found(
        Cause.DNS_SEARCH_BREAKS_MUSL,
        [pod.vantage.subject for pod in hit or pods],
        evidence=evidence if hit else [*evidence, "no pod of this node is known to have a musl loader"],
        command=resolve_command((hit or pods)[0].vantage, lasting[0][1].name),
        severity=None if hit else Severity.INFO,
    )


def _steady(asked: Samples, lookups: Iterable[Lookup]) -> Iterable[Lookup]:
    """Without answers that were lost, or denied the name, only some of the time: a libc may get either."""
    return (o for o in lookups if asked.steadiness.is_steady(casefold(o.question.name), o.question.qtype))


def _breaks(files: Iterable[ResolvConf], names: Iterable[str], answers: Answers) -> Breaks:
    found: Breaks = {}
    for conf, name in product(files, names):
        good = predict(Libc.GLIBC, name, conf, answers)
        if good is None or good.code != "OK":
            continue
        for made in (predict(libc, name, conf, answers) for libc in MUSLS):
            if made is not None and made.code != "OK" and casefold(made.candidate) != casefold(name):
                found[conf, name, made.why] = made
                break
    return found


def _evidence(conf: ResolvConf, made: Prediction, answers: Answers) -> str:
    fix = next((f"; a cure: {fix.change}" for fix in suggest_fixes(made.name, conf, answers)), "")
    return f"{made.name}: glibc OK, {made.libc} {made.code}: {made.why}{fix}"


def _files(snapshot: Snapshot) -> dict[ResolvConf, list[PodView]]:
    """The files of this node's pods with the pods that use them; the host's where there are no pods."""
    inspected = [p for p in snapshot.pods if p.vantage.state in {PodState.ELIGIBLE, PodState.INTERCEPTED}]
    files = {conf: pods for conf, pods in grouped(inspected, lambda pod: pod.resolv_conf).items() if conf is not None}
    if not snapshot.pods and snapshot.host is not None and snapshot.host_resolv_conf is not None:
        files[snapshot.host_resolv_conf] = [PodView(vantage=snapshot.host, resolv_conf=snapshot.host_resolv_conf)]
    return files


def _names(view: RuleInput) -> dict[str, str]:
    """The names whose resolution is predicted, by label: those that exist, for which the verdict set asks MX."""
    asked = (one.question for one in latest(view))
    return {q.label: casefold(q.name) for q in asked if q.purpose is Purpose.VERDICT and q.qtype == "MX"}
