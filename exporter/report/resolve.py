"""`resolve NAME` as JSON and as text: A and AAAA per search candidate, each libc's result, and fixes.

It takes the lookups that the command made, and neither queries anything nor does other I/O. Answers come from outside
and are cleaned.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from exporter.diagnosis.rules.dns.answer_signs import describe
from exporter.libc.replies import answers_of, nameservers
from exporter.libc.resolver import Libc, all_candidates, all_nameservers, predict, suggest_fixes
from exporter.model.dns import ResolvConf
from exporter.model.dns_name import casefold
from exporter.model.probe import Lookup, Lost
from exporter.model.report import Prediction
from exporter.report.document import few
from exporter.report.text import BOLD, DIM, GREEN, RED, Style

QTYPES = ("A", "AAAA")
RCODES = ("NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED")
LIBC_NAMES: Mapping[str, str] = {Libc.GLIBC: "glibc", Libc.MUSL: "musl >= 1.2.4", Libc.MUSL_1_2_3: "musl 1.2.3"}
COLUMN = 15
SHOWN = 4  # addresses
# The texts of gai_strerror, which users quote.
GLIBC_TEXTS = {
    "EAI_NONAME": "Name or service not known",
    "EAI_NODATA": "No address associated with hostname",
    "EAI_AGAIN": "Temporary failure in name resolution",
    "EAI_ADDRFAMILY": "Address family for hostname not supported",
}
MUSL_TEXTS = {
    "EAI_NONAME": "Name does not resolve",
    "EAI_NODATA": "Name has no usable address",
    "EAI_AGAIN": "Try again",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolving:
    """One name that was resolved. `request` is the family (any, 4, 6), `place` the subject from which it was asked."""

    name: str
    request: str
    conf: ResolvConf
    lookups: tuple[Lookup, ...]
    place: str = ""

    def prediction(self, libc: Libc) -> Prediction | None:
        return predict(libc, self.name, self.conf, answers_of(self.lookups), request=self.request)

    def answers(self, candidate: str, qtype: str) -> list[Lookup]:
        """The answers to one question, in the order of the file's nameservers."""
        order = {address: place for place, address in enumerate(all_nameservers(self.conf))}
        asked = (one for one in self.lookups if one.question.qtype == qtype)
        found = (one for one in asked if casefold(one.question.name) == candidate)
        return sorted(found, key=lambda one: order.get(one.question.server.address, len(order)))


def document(resolving: Resolving) -> dict[str, object]:
    """The JSON of docs/specification.md section 6: null for a libc without a prediction and the rcode of no reply."""
    return {
        "name": resolving.name,
        "family": resolving.request,
        "candidates": [
            {"name": name, **{qtype: _answer(resolving.answers(name, qtype)) for qtype in QTYPES}}
            for name in all_candidates(resolving.name, resolving.conf)
        ],
        **{libc.value: _predicted(resolving.prediction(libc)) for libc in Libc},
    }


def _answer(lookups: list[Lookup]) -> dict[str, object]:
    """The answer of the first nameserver that gave one."""
    reply = next((one.reply for one in lookups if one.reply is not None), None)
    if reply is None:
        return {"rcode": None, "addresses": []}
    rcode = RCODES[reply.rcode] if reply.rcode < len(RCODES) else f"RCODE{reply.rcode}"
    return {"rcode": rcode, "addresses": [str(address) for address in reply.addresses]}


def _predicted(prediction: Prediction | None) -> dict[str, object] | None:
    if prediction is None:
        return None
    return {"code": prediction.code, "addresses": list(prediction.addresses), "seconds": round(prediction.seconds, 3)}


def write(resolving: Resolving, style: Style | None = None) -> str:
    style = style or Style()
    parts = (_head(resolving, style), _candidates(resolving, style), _libcs(resolving, style), _fixes(resolving, style))
    return "\n\n".join("\n".join(lines) for lines in map(list, parts) if lines) + "\n"


def _head(resolving: Resolving, style: Style) -> Iterator[str]:
    conf = resolving.conf
    place = f", from {resolving.place}" if resolving.place else ""
    yield style.clean(f"{resolving.name}, as getaddrinfo resolves it (family {resolving.request}){place}")
    yield from style.wrap(" ".join([_settings(conf), *sorted(conf.options)]), "  ")
    if _settings(conf) != _settings(conf.for_musl):
        yield from style.wrap(f"musl reads this file otherwise: {_settings(conf.for_musl)}", "  ")


def _settings(conf: ResolvConf) -> str:
    servers, search = ", ".join(map(str, nameservers(conf))), " ".join(conf.search) or "nothing"
    numbers = f"ndots:{conf.ndots} timeout:{conf.timeout} attempts:{conf.attempts}"
    return f"nameservers {servers}; search {search}; {numbers}"


def _candidates(resolving: Resolving, style: Style) -> Iterator[str]:
    decided = {libc: made.candidate for libc in Libc if (made := resolving.prediction(libc)) is not None}
    several = len({one.question.server.address for one in resolving.lookups}) > 1
    for name in all_candidates(resolving.name, resolving.conf):
        by = ", ".join(LIBC_NAMES[libc] for libc, candidate in decided.items() if casefold(candidate) == name)
        yield style.clean(name) + (style.paint(f"  <- decides {by}", DIM) if by else "")
        for qtype in QTYPES:
            for one in resolving.answers(name, qtype):
                where = f"{one.question.server.address}: " if several else ""
                yield style.clean(f"    {qtype:<5} {where}{_reply(one)}")


def _reply(one: Lookup) -> str:
    if one.lost is not Lost.NEVER:
        return f"{_reply(replace(one, lost=Lost.NEVER))}; lost if A and AAAA leave one socket together"
    waited = f" after {one.seconds:.2g} s" if one.reply is None and one.seconds else ""
    if one.reply is None or not one.reply.addresses:
        return describe(one).replace("_", " ") + waited
    addresses = [str(address) for address in one.reply.addresses]
    return few(addresses, SHOWN) + (" (truncated, over TCP)" if one.truncated else "")


def _libcs(resolving: Resolving, style: Style) -> Iterator[str]:
    for libc in Libc:
        made = resolving.prediction(libc)
        if made is None:
            yield f"{LIBC_NAMES[libc]:<{COLUMN}}? unknown: it depends on what was not asked"
            continue
        waits = f", after waiting {made.seconds:.2g} s" if made.seconds >= 1 else ""
        outcome = style.paint(made.code, GREEN if made.code == "OK" else RED)
        yield f"{LIBC_NAMES[libc]:<{COLUMN}}{outcome} {style.clean(_result(libc, made))}{waits}"
        yield from style.wrap(made.why, " " * COLUMN) if made.why else ()


def _result(libc: Libc, made: Prediction) -> str:
    if made.code == "OK":
        return few(made.addresses, SHOWN)
    texts = GLIBC_TEXTS if libc is Libc.GLIBC else MUSL_TEXTS
    return f'"{texts.get(made.code, "error")}"'


def _fixes(resolving: Resolving, style: Style) -> Iterator[str]:
    found = suggest_fixes(resolving.name, resolving.conf, answers_of(resolving.lookups), request=resolving.request)
    if found:
        yield style.paint("Possible fixes", BOLD)
    for fix in found:
        helped = ", ".join(LIBC_NAMES[libc] for libc in fix.libcs)
        yield from style.wrap(f"{fix.change} (helps {helped})", "  - ", "    ")
