"""`resolve NAME`: the JSON that programs read and the text that people read."""

from __future__ import annotations

from dataclasses import replace

import pytest

from exporter.libc.resolver import all_candidates
from exporter.model.dns import ResolvConf
from exporter.model.probe import Lookup, LookupOutcome, Nameserver, Purpose, Question
from exporter.probes.dns_reply import judge
from exporter.report.resolve import Resolving, document, write
from exporter.report.text import Style
from tests.unit.scene import HOST
from tests.worlds import address, messages

FIRST, SECOND = Nameserver(address("192.0.2.53"), "cluster_dns"), Nameserver(address("192.0.2.54"), "other")
CONF = ResolvConf(
    nameservers=(FIRST.address,),
    search=("svc.cluster.local", "lan"),
    ndots=5,
)
NAME = "pypi.example"
TRAP = {f"{NAME}.lan": ("nodata", "nodata_aa"), NAME: ("addr", "addr")}


def resolving(words: dict[str, tuple[str, str]], conf: ResolvConf = CONF, *servers: Nameserver) -> Resolving:
    lookups = []
    for candidate in all_candidates(NAME, conf):
        for qtype, word in zip(("A", "AAAA"), words.get(candidate, ("nx", "nx")), strict=True):
            for server in servers or (FIRST,):
                message = messages(word, candidate, qtype)[0]
                reply = message.reply() if message else None
                question = Question(
                    vantage=HOST,
                    server=server,
                    name=candidate,
                    qtype=qtype,
                    label=NAME,
                    purpose=Purpose.PREDICTION,
                    edns=False,
                )
                lookups.append(
                    Lookup(
                        question=question,
                        outcome=judge(reply) if reply else LookupOutcome.TIMEOUT,
                        seconds=0.01,
                        reply=reply,
                    )
                )
    return Resolving(name=NAME, request="any", conf=conf, lookups=tuple(lookups), place="node/ra")


def test_the_document_has_the_contracts_keys_and_values() -> None:
    made = document(resolving(TRAP))
    assert list(made) == ["name", "family", "candidates", "glibc", "musl", "musl_1_2_3"]
    assert made["candidates"] == [
        {"name": f"{NAME}.svc.cluster.local", **{q: {"rcode": "NXDOMAIN", "addresses": []} for q in ("A", "AAAA")}},
        {"name": f"{NAME}.lan", **{q: {"rcode": "NOERROR", "addresses": []} for q in ("A", "AAAA")}},
        {
            "name": NAME,
            "A": {"rcode": "NOERROR", "addresses": ["192.0.2.223"]},
            "AAAA": {"rcode": "NOERROR", "addresses": ["2001:db8::ad0f:1"]},
        },
    ]
    assert made["glibc"] == {"code": "OK", "addresses": ["192.0.2.223", "2001:db8::ad0f:1"], "seconds": 0.03}
    assert made["musl"] == {"code": "EAI_NODATA", "addresses": [], "seconds": 0.02}


def test_what_was_not_answered_or_cannot_be_told_is_null() -> None:
    silent = document(resolving({NAME: ("addr", "drop")}))
    assert isinstance(silent["candidates"], list)
    assert silent["candidates"][-1]["AAAA"] == {"rcode": None, "addresses": []}
    unasked = document(replace(resolving({}), lookups=()))
    assert (unasked["glibc"], unasked["musl"], unasked["musl_1_2_3"]) == (None, None, None)


def test_the_text_shows_candidates_verdicts_reasons_and_cures() -> None:
    text = write(resolving(TRAP))
    lines = text.splitlines()
    assert lines[0] == f"{NAME}, as getaddrinfo resolves it (family any), from node/ra"
    assert f"{NAME}.lan  <- decides musl >= 1.2.4, musl 1.2.3" in lines
    assert "    AAAA  NOERROR without an address or SOA" in lines
    assert any(line.startswith('musl >= 1.2.4  EAI_NODATA "Name has no usable address"') for line in lines)
    assert any(line.startswith("glibc          OK 192.0.2.223") for line in lines)
    assert f"  - write the name with a final dot: {NAME}. (helps musl >= 1.2.4, musl 1.2.3)" in lines
    assert text.endswith("\n")


def test_a_name_that_resolves_at_once_needs_no_cure_and_a_slow_one_shows_its_wait() -> None:
    quick = resolving({NAME: ("addr", "addr")})
    assert "Possible fixes" not in write(
        replace(quick, lookups=tuple(replace(one, seconds=0.01) for one in quick.lookups))
    )
    slow = write(resolving({NAME: ("addr", "drop")}))
    assert "after waiting" in slow
    assert "options no-aaaa" in slow


def test_each_nameserver_is_shown_where_there_are_several() -> None:
    conf = replace(CONF, nameservers=(SECOND.address, FIRST.address), search=())
    lines = write(resolving({NAME: ("addr", "addr")}, conf, FIRST, SECOND)).splitlines()
    shown = [line for line in lines if line.startswith("    A ")]
    assert [line.split()[1] for line in shown] == ["192.0.2.54:", "192.0.2.53:"]


@pytest.mark.parametrize("literal", ["192.0.2.1", "2001:db8::1"])
def test_an_address_is_asked_of_nobody(literal: str) -> None:
    assert all_candidates(literal, CONF) == ()
    said = document(Resolving(name=literal, request="any", conf=CONF, lookups=()))
    assert said["candidates"] == []
    for libc in ("glibc", "musl", "musl_1_2_3"):
        assert said[libc] == {"code": "OK", "addresses": [literal], "seconds": 0.0}


def test_a_list_that_musl_ignores_is_said() -> None:
    assert "search nothing" in write(resolving({NAME: ("addr", "addr")}, replace(CONF, musl=replace(CONF, search=()))))


def test_an_unanswerable_question_is_no_guess() -> None:
    assert "? unknown: it depends on what was not asked" in write(replace(resolving({}), lookups=()))


def test_foreign_names_cannot_drive_the_terminal_and_ascii_is_kept_where_needed() -> None:
    hostile = replace(resolving({}), name="\x1b[31mé", lookups=())
    text = write(hostile, Style(unicode=False))
    assert text.isascii()
    assert "\x1b" not in text
