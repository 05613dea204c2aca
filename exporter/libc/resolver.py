"""What getaddrinfo gives an application: the candidates of a name, the prediction per libc, and what would cure a failure.

Between the prediction lookups of a round (or of `resolve NAME`) and the report. Pure: the two libcs stand in glibc.py
and musl.py. The hosts file, nsswitch other than "files dns" and AI_ADDRCONFIG are outside the model; ai_flags is 0.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum

from exporter.libc import glibc, musl
from exporter.libc.replies import Answer, Answers, NoReply, Result, UnaskedError, encodable, fold_case
from exporter.model.dns import NOERROR, NXDOMAIN, Reply, ResolvConf
from exporter.model.family import Address, parse_address
from exporter.model.report import Prediction


class Libc(StrEnum):
    """The C libraries predicted; the label `libc`. `musl` is 1.2.4 and later."""

    GLIBC = "glibc"
    MUSL = "musl"
    MUSL_1_2_3 = "musl_1_2_3"


class Request(StrEnum):
    """The family asked for (AF_UNSPEC, AF_INET, AF_INET6); the label `request`."""

    ANY = "any"
    V4 = "4"
    V6 = "6"


QTYPES = {Request.ANY: ("A", "AAAA"), Request.V4: ("A",), Request.V6: ("AAAA",)}
SLOW = 1.0  # seconds of waiting from which on a name that resolves is worth a cure


def candidates(libc: str, name: str, conf: ResolvConf) -> tuple[str, ...]:
    """The names that libc asks for `name`, in order, until one ends the search."""
    return glibc.candidates(name, conf) if libc == Libc.GLIBC else musl.candidates(name, conf)


def all_candidates(name: str, conf: ResolvConf) -> tuple[str, ...]:
    """The candidates of every libc together, in order, as far as they can be asked: what a prediction must ask."""
    names = dict.fromkeys(
        fold_case(candidate) for libc in Libc for candidate in candidates(libc, name, conf) if encodable(candidate)
    )
    return tuple(names)


def predict(libc: str, name: str, conf: ResolvConf, answers: Answers, *, request: str = "any") -> Prediction | None:
    """What that libc's getaddrinfo gives for `name`; None where an answer that it would need was not asked for."""
    try:
        result = _literal(libc, name, request) or _call(libc, name, conf, answers, request)
    except UnaskedError:
        return None
    return Prediction(
        libc=libc,
        name=name,
        request=request,
        code=result.code,
        addresses=tuple(str(address) for address in sorted(set(result.addresses), key=_order)),
        seconds=result.seconds,
        candidate=result.candidate,
        why=result.why,
    )


def predict_all(name: str, conf: ResolvConf, answers: Answers, *, request: str = "any") -> tuple[Prediction, ...]:
    """The predictions of every libc, in the order of Libc, as far as they can be made."""
    made = (predict(libc, name, conf, answers, request=request) for libc in Libc)
    return tuple(prediction for prediction in made if prediction is not None)


def _order(address: Address) -> tuple[int, int]:
    return (address.version, int(address))


def _call(libc: str, name: str, conf: ResolvConf, answers: Answers, request: str) -> Result:
    if libc == Libc.GLIBC:
        return glibc.getaddrinfo(name, conf, answers, request)
    return musl.getaddrinfo(name, conf, answers, request, since_1_2_4=libc == Libc.MUSL)


def _literal(libc: str, name: str, request: str) -> Result | None:
    """An address as name needs no resolver; asked for the other family it is an error of its own."""
    address = parse_address(name)
    if address is None:
        return None
    if request in {Request.ANY, str(address.version)}:
        return Result(code="OK", addresses=(address,), why="the name is an address")
    code = {Libc.GLIBC: "EAI_ADDRFAMILY", Libc.MUSL: "EAI_NODATA"}.get(Libc(libc), "EAI_NONAME")
    return Result(code=code, why="the name is an address of the other family")


@dataclass(frozen=True, slots=True)
class Fix:
    """One change, what it gives, and for which libcs it turns a failure into an answer or spares a wait."""

    change: str
    libcs: tuple[str, ...]


def suggest_fixes(name: str, conf: ResolvConf, answers: Answers, *, request: str = "any") -> tuple[Fix, ...]:
    """The changes that would help, found by predicting again with each of them; empty where nothing fails or waits."""
    before = {libc: predict(libc, name, conf, answers, request=request) for libc in Libc}
    found = []
    for change, after in _changes(name, conf, answers):
        helped = tuple(libc.value for libc in Libc if _helps(before[libc], after(libc, request)))
        if helped:
            found.append(Fix(change, helped))
    return tuple(found)


Again = Callable[[str, str], Prediction | None]


def _changes(name: str, conf: ResolvConf, answers: Answers) -> tuple[tuple[str, Again], ...]:
    bare = name.removesuffix(".")

    def again(name: str = name, conf: ResolvConf = conf, answers: Answers = answers) -> Again:
        return lambda libc, request: predict(libc, name, conf, answers, request=request)

    names = all_candidates(name, conf)
    searched = tuple(candidate for candidate in names if candidate != fold_case(name))
    honest = {key: _mended(key, answer, answers) for key, answer in answers.items()}
    missing = {key: _missing(answer) if key[0] in searched else answer for key, answer in answers.items()}
    return (
        (f"write the name with a final dot: {bare}.", again(name=f"{bare}.")),
        ("options ndots:1 (in a pod: spec.dnsConfig.options)", again(conf=replace(conf, ndots=1))),
        ("let the resolver answer AAAA as honestly as A", again(answers=honest)),
        ("let the search domains' servers answer NXDOMAIN for names they do not have", again(answers=missing)),
        ("options no-aaaa (glibc 2.36 and later)", again(conf=replace(conf, options=conf.options | {"no-aaaa"}))),
    )


def _helps(before: Prediction | None, after: Prediction | None) -> bool:
    if before is None or after is None or after.code != "OK":
        return False
    return before.code != "OK" or after.seconds + SLOW <= before.seconds


def _mended(key: tuple[str, str, Address], answer: Answer, answers: Answers) -> Answer:
    """An AAAA answer as it would be if the resolver treated both types alike: no error and no NXDOMAIN of its own."""
    name, qtype, server = key
    twin = answers.get((name, "A", server))
    if (
        qtype != "AAAA"
        or twin is None
        or not isinstance(twin.datagram, Reply)
        or twin.datagram.rcode not in {NOERROR, NXDOMAIN}
    ):
        return answer
    reply = answer.over_tcp
    if isinstance(reply, Reply) and reply.rcode == twin.datagram.rcode:
        return answer
    return Answer(Reply(rcode=twin.datagram.rcode, soa_authority=True))


def _missing(answer: Answer) -> Answer:
    reply = answer.over_tcp
    if isinstance(reply, NoReply) or reply.rcode != NOERROR or reply.addresses:
        return answer
    return Answer(Reply(rcode=NXDOMAIN, soa_authority=True))
