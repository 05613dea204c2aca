"""`resolve NAME` as JSON and in words: what A and AAAA said per search candidate, what each libc makes of it, and what would cure it.

Between the lookups of that command and its output. Pure: it predicts and words, asks nothing. Answers are foreign text
and cleaned.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from exporter.diagnosis.rules.dns.answer_signs import describe
from exporter.libc.replies import answers_of, fold_case
from exporter.libc.resolver import Libc, all_candidates, predict, suggest_fixes
from exporter.model.dns import ResolvConf
from exporter.model.family import Address, parse_address
from exporter.model.probe import Lookup
from exporter.model.report import Prediction
from exporter.report.text import Style

QTYPES = ("A", "AAAA")
RCODES = ("NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED")
CALLED: Mapping[str, str] = {Libc.GLIBC: "glibc", Libc.MUSL: "musl >= 1.2.4", Libc.MUSL_1_2_3: "musl 1.2.3"}
COLUMN = 15
SHOWN = 4  # addresses spelt out
# What gai_strerror says: the words in which people report it.
GLIBC_SAYS = {
    "EAI_NONAME": "Name or service not known",
    "EAI_NODATA": "No address associated with hostname",
    "EAI_AGAIN": "Temporary failure in name resolution",
    "EAI_ADDRFAMILY": "Address family for hostname not supported",
}
MUSL_SAYS = {
    "EAI_NONAME": "Name does not resolve",
    "EAI_NODATA": "Name has no usable address",
    "EAI_AGAIN": "Try again",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolving:
    """The name, the family asked for (any, 4, 6), the file it went by, what the nameservers said, and from where (a subject)."""

    name: str
    request: str
    conf: ResolvConf
    lookups: tuple[Lookup, ...]
    place: str = ""

    def prediction(self, libc: Libc) -> Prediction | None:
        return predict(libc, self.name, self.conf, answers_of(self.lookups), request=self.request)

    def answers(self, candidate: str, qtype: str) -> list[Lookup]:
        """The answers to one question, in the order of the file's nameservers."""
        order: list[Address] = list(self.conf.nameservers)
        found = [
            one for one in self.lookups if fold_case(one.question.name) == candidate and one.question.qtype == qtype
        ]
        return sorted(
            found,
            key=lambda one: (
                order.index(one.question.server.address) if one.question.server.address in order else len(order)
            ),
        )


def candidates(name: str, conf: ResolvConf) -> tuple[str, ...]:
    """Every name that some libc would ask nameservers about: none for an address, which each of them takes as it is."""
    return () if parse_address(name) is not None else tuple(all_candidates(name, conf))


def document(resolving: Resolving) -> dict[str, object]:
    """The JSON of contract section 6. A libc that cannot be predicted from what was asked is null, as is the rcode of no reply."""
    return {
        "name": resolving.name,
        "family": resolving.request,
        "candidates": [
            {"name": name, **{qtype: _answer(resolving.answers(name, qtype)) for qtype in QTYPES}}
            for name in candidates(resolving.name, resolving.conf)
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
    """The text, ending in a newline."""
    style = style or Style()
    parts = (_head(resolving, style), _candidates(resolving, style), _libcs(resolving, style), _cures(resolving, style))
    return "\n\n".join("\n".join(lines) for lines in map(list, parts) if lines) + "\n"


def _head(resolving: Resolving, style: Style) -> Iterator[str]:
    conf = resolving.conf
    place = f", from {resolving.place}" if resolving.place else ""
    yield style.clean(f"{resolving.name}, as getaddrinfo asks for it (family {resolving.request}){place}")
    servers = ", ".join(map(str, conf.nameservers)) or "none"
    options = [f"ndots:{conf.ndots}", f"timeout:{conf.timeout}", f"attempts:{conf.attempts}", *sorted(conf.options)]
    yield from _wrapped(
        f"nameservers {servers}; search {' '.join(conf.search) or 'nothing'}; {' '.join(options)}", style, "  "
    )
    if conf.musl_search != conf.search:
        yield from _wrapped(
            f"musl searches {' '.join(conf.musl_search) or 'nothing'}: it ignores lines of 256 octets and more",
            style,
            "  ",
        )


def _candidates(resolving: Resolving, style: Style) -> Iterator[str]:
    decided = {libc: made.candidate for libc in Libc if (made := resolving.prediction(libc)) is not None}
    several = len({one.question.server.address for one in resolving.lookups}) > 1
    for name in candidates(resolving.name, resolving.conf):
        by = ", ".join(CALLED[libc] for libc, candidate in decided.items() if fold_case(candidate) == name)
        yield style.clean(name) + (style.paint(f"  <- decides {by}", "2") if by else "")
        for qtype in QTYPES:
            for one in resolving.answers(name, qtype):
                where = f"{one.question.server.address}: " if several else ""
                yield style.clean(f"    {qtype:<5} {where}{_said(one)}")


def _said(one: Lookup) -> str:
    waited = f" after {one.seconds:.2g} s" if one.reply is None and one.seconds else ""
    if one.reply is None or not one.reply.addresses:
        return describe(one).replace("_", " ") + waited
    addresses = [str(address) for address in one.reply.addresses]
    more = f" and {len(addresses) - SHOWN} more" if len(addresses) > SHOWN else ""
    return ", ".join(addresses[:SHOWN]) + more + (" (truncated, over TCP)" if one.truncated else "")


def _libcs(resolving: Resolving, style: Style) -> Iterator[str]:
    for libc in Libc:
        made = resolving.prediction(libc)
        if made is None:
            yield f"{CALLED[libc]:<{COLUMN}}? cannot be told: a nameserver that it would ask was not asked"
            continue
        waits = f", after waiting {made.seconds:.2g} s" if made.seconds >= 1 else ""
        outcome = style.paint(made.code, "32;1" if made.code == "OK" else "31;1")
        yield f"{CALLED[libc]:<{COLUMN}}{outcome} {style.clean(_result(libc, made))}{waits}"
        yield from _wrapped(made.why, style, " " * COLUMN)


def _result(libc: Libc, made: Prediction) -> str:
    if made.code == "OK":
        more = f" and {len(made.addresses) - SHOWN} more" if len(made.addresses) > SHOWN else ""
        return ", ".join(made.addresses[:SHOWN]) + more
    says = GLIBC_SAYS if libc is Libc.GLIBC else MUSL_SAYS
    return f'"{says.get(made.code, "error")}"'


def _cures(resolving: Resolving, style: Style) -> Iterator[str]:
    found = suggest_fixes(resolving.name, resolving.conf, answers_of(resolving.lookups), request=resolving.request)
    if found:
        yield style.paint("What would cure it", "1")
    for cure in found:
        helped = ", ".join(CALLED[libc] for libc in cure.libcs)
        yield from _wrapped(f"{cure.change} (helps {helped})", style, "    ", first="  - ")


def _wrapped(text: str, style: Style, indent: str, *, first: str | None = None) -> list[str]:
    return textwrap.wrap(
        style.clean(text),
        width=style.width,
        initial_indent=indent if first is None else first,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
