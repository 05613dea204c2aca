"""What getaddrinfo returns to an application: candidates of a name, predictions per libc, and fixes for a failure.

Between the prediction lookups of a round (or of `resolve NAME`) and the report. Pure; the two libcs are in glibc.py and
musl.py. Not modelled: the hosts file, an nsswitch other than "files dns", AI_ADDRCONFIG; ai_flags is 0.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from enum import StrEnum
from ipaddress import IPv6Address

from exporter.libc import glibc, musl
from exporter.libc.numeric import has_link, read_address
from exporter.libc.replies import Answer, Answers, NoReply, Result, UnaskedError, nameservers
from exporter.model.dns import NOERROR, NXDOMAIN, Reply, ResolvConf
from exporter.model.dns_name import casefold, is_encodable
from exporter.model.family import Address
from exporter.model.report import Prediction


class Libc(StrEnum):
    """The libcs that are predicted; the label `libc`. `musl` is 1.2.4 and later."""

    GLIBC = "glibc"
    MUSL = "musl"
    MUSL_1_2_3 = "musl_1_2_3"


class Request(StrEnum):
    """The family asked for (AF_UNSPEC, AF_INET, AF_INET6); the label `request`."""

    ANY = "any"
    V4 = "4"
    V6 = "6"


# What glibc asks nobody for (nss/digits_dots.c): of IPv4's form where IPv4 alone is asked for, and of IPv6's.
DIGITS, COLONS = re.compile(r"[0-9][0-9.]*(?<!\.)"), re.compile(r"(?=[^:]*:)[0-9a-fA-F:.]*(?<!\.)")
LOOPBACK_LINK = "lo"  # which every network namespace has
SLOW = 1.0  # seconds of waiting from which on a fix is suggested for a name that resolves


def candidates(libc: str, name: str, conf: ResolvConf) -> tuple[str, ...]:
    """The names that this libc asks for `name`, in order, until one ends the search."""
    return glibc.candidates(name, conf) if libc == Libc.GLIBC else musl.candidates(name, conf.for_musl)


def all_candidates(name: str, conf: ResolvConf) -> tuple[str, ...]:
    """The candidates of all libcs, in order, as far as they fit into a query: what a prediction needs to be asked.

    None for an address, for which no libc asks.
    """
    if read_address(name) is not None:
        return ()
    names = (candidate for libc in Libc for candidate in candidates(libc, name, conf) if is_encodable(candidate))
    return tuple(dict.fromkeys(map(casefold, names)))


def predict(libc: str, name: str, conf: ResolvConf, answers: Answers, *, request: str = "any") -> Prediction | None:
    """What that libc's getaddrinfo returns for `name`; None if it would need an answer that was not asked for."""
    try:
        result = _literal(libc, name, request)
        if result is None and libc == Libc.GLIBC:
            result = glibc.getaddrinfo(name, conf, answers, request)
        elif result is None:
            result = musl.getaddrinfo(name, conf.for_musl, answers, request, since_1_2_4=libc == Libc.MUSL)
    except UnaskedError:
        return None
    return Prediction(
        libc=libc,
        name=name,
        request=request,
        code=result.code,
        addresses=tuple(str(address) for address in sorted(set(result.addresses), key=lambda a: (a.version, int(a)))),
        seconds=result.seconds,
        candidate=result.candidate,
        why=result.why,
    )


def _literal(libc: str, name: str, request: str) -> Result | None:
    """An address as name needs no nameserver; with a request for the other family it is an error of its own."""
    found = read_address(name)
    if found is None:
        if libc == Libc.GLIBC and (COLONS.fullmatch(name) or (request == Request.V4 and DIGITS.fullmatch(name))):
            return Result(code="EAI_NONAME", why="glibc takes the name for a broken address")
        return None
    address, scope = found
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    if libc == Libc.GLIBC and request == Request.V4 and mapped is not None:
        address = mapped
    if request not in {Request.ANY, str(address.version)}:
        code = {Libc.GLIBC: "EAI_ADDRFAMILY", Libc.MUSL: "EAI_NODATA"}.get(Libc(libc), "EAI_NONAME")
        return Result(code=code, why="the name is an address of the other family")
    if scope is not None and isinstance(address, IPv6Address):
        if not has_link(address, scope, musl=libc != Libc.GLIBC):
            return Result(code="EAI_NONAME", why="the name is an address with a link that such an address cannot have")
        if not scope.isdigit() and scope != LOOPBACK_LINK:
            raise UnaskedError(f"whether there is a link {scope}")
    return Result(code="OK", addresses=(address,), why="the name is an address")


def all_nameservers(conf: ResolvConf) -> tuple[Address, ...]:
    """Those that some libc asks, in order."""
    return tuple(dict.fromkeys((*nameservers(conf), *nameservers(conf.for_musl))))


@dataclass(frozen=True, slots=True)
class Fix:
    """One change, and the libcs for which it turns a failure into an answer or saves a wait."""

    change: str
    libcs: tuple[str, ...]


def suggest_fixes(name: str, conf: ResolvConf, answers: Answers, *, request: str = "any") -> tuple[Fix, ...]:
    """The changes that would help, found by predicting again with each of them; empty if nothing fails or waits."""
    bare = name.removesuffix(".")
    searched = {candidate for candidate in all_candidates(name, conf) if candidate != casefold(name)}
    honest = {key: _like_a(key, answer, answers) for key, answer in answers.items()}
    missing = {key: _missing(answer) if key[0] in searched else answer for key, answer in answers.items()}
    changes = (
        (f"write the name with a final dot: {bare}.", f"{bare}.", conf, answers),
        ("options ndots:1 (in a pod: spec.dnsConfig.options)", name, _with_ndots(conf, 1), answers),
        ("let the resolver answer AAAA as honestly as A", name, conf, honest),
        ("let the search domains' servers answer NXDOMAIN for names they do not have", name, conf, missing),
        ("options no-aaaa (glibc 2.36 and later)", name, replace(conf, options=conf.options | {"no-aaaa"}), answers),
        (
            "options single-request-reopen (glibc)",
            *(name, replace(conf, options=conf.options | {"single-request-reopen"}), answers),
        ),
    )
    before = {libc: predict(libc, name, conf, answers, request=request) for libc in Libc}
    found = []
    for change, changed_name, changed_conf, changed_answers in changes:
        after = {libc: predict(libc, changed_name, changed_conf, changed_answers, request=request) for libc in Libc}
        helped = tuple(libc.value for libc in Libc if _helps(before[libc], after[libc]))
        if helped:
            found.append(Fix(change, helped))
    return tuple(found)


def _with_ndots(conf: ResolvConf, ndots: int) -> ResolvConf:
    return replace(conf, ndots=ndots, musl=replace(conf.for_musl, ndots=ndots))


def _helps(before: Prediction | None, after: Prediction | None) -> bool:
    if before is None or after is None or after.code != "OK":
        return False
    return before.code != "OK" or after.seconds + SLOW <= before.seconds


def _like_a(key: tuple[str, str, Address], answer: Answer, answers: Answers) -> Answer:
    """An AAAA answer as it would be if the resolver treated both types alike: with the rcode of its A answer."""
    name, qtype, server = key
    twin = answers.get((name, "A", server))
    if qtype != "AAAA" or twin is None or not isinstance(twin.datagram, Reply):
        return answer
    rcode, reply = twin.datagram.rcode, answer.over_tcp
    if rcode not in {NOERROR, NXDOMAIN} or (isinstance(reply, Reply) and reply.rcode == rcode):
        return answer
    return Answer(Reply(rcode=rcode, soa_authority=True))


def _missing(answer: Answer) -> Answer:
    reply = answer.over_tcp
    if isinstance(reply, NoReply) or reply.rcode != NOERROR or reply.addresses:
        return answer
    return Answer(Reply(rcode=NXDOMAIN, soa_authority=True))
