"""The libc models: the recorded worlds, and the rules that matter to people, one by one."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.libc.replies import Answer, NoReply, answers_of
from exporter.libc.resolver import Libc, all_candidates, candidates, predict, suggest_fixes
from exporter.model.dns import NXDOMAIN, REFUSED, SERVFAIL, Reply, ResolvConf
from exporter.model.family import Address
from exporter.model.probe import Lookup, LookupOutcome, Nameserver, Purpose, Question
from exporter.model.vantage import Vantage
from tests.worlds import address, answer

WORLDS = Path(__file__).parents[1] / "data" / "resolver" / "worlds.json.gz"
CODES = {0: "OK", -2: "EAI_NONAME", -3: "EAI_AGAIN", -5: "EAI_NODATA"}
FIRST, SECOND = address("127.0.53.1"), address("127.0.53.2")
KUBERNETES = ("default.svc.cluster.local", "svc.cluster.local", "cluster.local")
NAME = "pypi.example"
Answers = dict[tuple[str, str, Address], Answer]


def conf(*search: str, servers: tuple[Address, ...] = (FIRST,), ndots: int = 5, **given_values: Any) -> ResolvConf:
    values: dict[str, Any] = {
        "timeout": 1,
        "attempts": 1,
        **given_values,
    }
    return ResolvConf(nameservers=servers, search=search, ndots=ndots, **values)


def answers(file: ResolvConf, words: dict[str, tuple[str, str]], name: str = NAME) -> Answers:
    """What every nameserver says: (word of A, word of AAAA) per candidate, `nx` for both where none is given."""
    found: Answers = {}
    for candidate in all_candidates(name, file):
        for qtype, word in zip(("A", "AAAA"), words.get(candidate, ("nx", "nx")), strict=True):
            for server in file.nameservers:
                found[candidate, qtype, server] = answer(word, candidate, qtype)
    return found


def outcome(
    libc: str, file: ResolvConf, given_answers: Answers, name: str = NAME, request: str = "any"
) -> tuple[str, float]:
    prediction = predict(libc, name, file, given_answers, request=request)
    assert prediction is not None
    return prediction.code, prediction.seconds


def recorded() -> list[dict[str, Any]]:
    cases: list[dict[str, Any]] = json.loads(gzip.decompress(WORLDS.read_bytes()))["cases"]
    return cases


def recorded_conf(case: dict[str, Any]) -> ResolvConf:
    numbers = dict(option.split(":") for option in case["options"] if ":" in option)
    return conf(
        *case["search"],
        ndots=int(numbers.get("ndots", 1)),
        timeout=int(numbers.get("timeout", 5)),
        attempts=int(numbers.get("attempts", 2)),
        options=frozenset(option for option in case["options"] if ":" not in option),
    )


@pytest.mark.parametrize(("libc", "key"), [("glibc", "glibc"), ("musl", "musl125"), ("musl_1_2_3", "musl123")])
def test_every_recorded_world_is_predicted_with_code_addresses_and_seconds(libc: str, key: str) -> None:
    cases = recorded()
    assert len(cases) == 2000
    wrong = []
    for case in cases:
        file = recorded_conf(case)
        zone = {name: (words[0], words[1]) for name, words in case["zone"].items()}
        request = {"0": "any"}.get(case["family"], case["family"])
        prediction = predict(libc, case["name"], file, answers(file, zone, case["name"]), request=request)
        code, found, seconds = case["truth"][key]
        truth = (CODES[code], sorted(str(address(text)) for text in found))
        if (
            prediction is None
            or (prediction.code, sorted(prediction.addresses)) != truth
            or abs(prediction.seconds - seconds) > 0.5
        ):
            wrong.append((case, prediction))
    assert not wrong


def test_candidates_follow_the_dots_and_the_search_list_of_each_libc() -> None:
    file = conf(*KUBERNETES, ".")
    assert candidates("glibc", NAME, file) == (*(f"{NAME}.{domain}" for domain in KUBERNETES), NAME)
    assert candidates("musl", NAME, file) == (*(f"{NAME}.{domain}" for domain in KUBERNETES), f"{NAME}..", NAME)
    assert candidates("glibc", f"{NAME}.", file) == candidates("musl", f"{NAME}.", file) == (NAME,)
    few = conf("lan", ndots=1)
    assert candidates("glibc", NAME, few) == (NAME, f"{NAME}.lan")  # glibc searches after the name itself
    assert candidates("musl", NAME, few) == (NAME,)
    assert candidates("musl", "a..", few) == ()


def test_names_to_ask_leave_out_what_fits_into_no_query() -> None:
    long = ".".join(["a" * 60] * 4)
    assert all_candidates(NAME, conf(long, "lan")) == (f"{NAME}.lan", NAME)
    assert all_candidates(NAME, conf(".", "lan")) == (NAME, f"{NAME}.lan")


def test_a_template_alone_does_not_break_musl() -> None:
    file = conf(*KUBERNETES)
    said = answers(file, dict.fromkeys(all_candidates(NAME, file), ("nx", "nodata_aa")) | {NAME: ("addr", "nodata_aa")})
    assert {libc: outcome(libc, file, said)[0] for libc in Libc} == dict.fromkeys(Libc, "OK")


def test_a_search_candidate_without_address_ends_musl_but_not_glibc() -> None:
    file = conf(*KUBERNETES, "lan")
    trap = f"{NAME}.lan"
    said = answers(file, {trap: ("nodata", "nodata_aa"), NAME: ("addr", "addr")})
    prediction = predict("musl", NAME, file, said)
    assert prediction is not None
    assert (prediction.code, prediction.candidate) == ("EAI_NODATA", trap)
    assert trap in prediction.why
    assert outcome("musl_1_2_3", file, said)[0] == "EAI_NONAME"
    assert outcome("glibc", file, said)[0] == "OK"
    helped = {cure.change.split(" ")[0]: cure.libcs for cure in suggest_fixes(NAME, file, said)}
    assert helped == dict.fromkeys(("write", "options", "let"), ("musl", "musl_1_2_3"))
    assert not any("no-aaaa" in cure.change or "honestly" in cure.change for cure in suggest_fixes(NAME, file, said))


def test_an_nxdomain_template_breaks_musl_for_any_ndots() -> None:
    file = conf(*KUBERNETES)
    said = answers(file, dict.fromkeys(all_candidates(NAME, file), ("nx", "nx_aa")) | {NAME: ("addr", "nx_aa")})
    assert [outcome(libc, file, said)[0] for libc in Libc] == ["OK", "EAI_NONAME", "EAI_NONAME"]
    assert [cure.change for cure in suggest_fixes(NAME, file, said)] == [
        "let the resolver answer AAAA as honestly as A"
    ]


def test_silence_for_aaaa_delays_glibc_and_fails_musl() -> None:
    file = conf(*KUBERNETES, timeout=5, attempts=2)
    said = answers(file, dict.fromkeys(all_candidates(NAME, file), ("nx", "drop")) | {NAME: ("addr", "drop")})
    assert outcome("glibc", file, said) == ("OK", 30.0)
    assert outcome("musl", file, said) == ("EAI_AGAIN", 20.0)
    spared = [cure for cure in suggest_fixes(NAME, file, said) if "no-aaaa" in cure.change]
    assert [cure.libcs for cure in spared] == [("glibc",)]


def test_glibc_goes_to_the_next_nameserver_and_musl_takes_the_first_good_reply() -> None:
    file = conf(servers=(FIRST, SECOND))
    far = Reply(answers=1, addresses=(address("192.0.2.7"),))
    said = {(NAME, qtype, FIRST): Answer(Reply(rcode=REFUSED)) for qtype in ("A", "AAAA")}
    said |= {(NAME, "A", SECOND): Answer(far, seconds=0.2), (NAME, "AAAA", SECOND): Answer(Reply(soa_authority=True))}
    assert [outcome(libc, file, said)[0] for libc in Libc] == ["OK"] * 3
    said |= {(NAME, qtype, FIRST): Answer(Reply(rcode=NXDOMAIN), seconds=0.5) for qtype in ("A", "AAAA")}
    assert [outcome(libc, file, said)[0] for libc in Libc] == ["EAI_NONAME", "OK", "OK"]


def test_a_closed_first_nameserver_costs_glibc_nothing_and_a_silent_one_its_timeout() -> None:
    file = conf(servers=(FIRST, SECOND), timeout=5)
    good = {(NAME, qtype, SECOND): answer("addr", NAME, qtype) for qtype in ("A", "AAAA")}
    refused = good | {(NAME, qtype, FIRST): Answer(NoReply.REFUSED) for qtype in ("A", "AAAA")}
    silent = good | {(NAME, qtype, FIRST): Answer(NoReply.SILENT) for qtype in ("A", "AAAA")}
    assert outcome("glibc", file, refused) == ("OK", 0.0)
    assert outcome("glibc", file, silent) == ("OK", 5.0)
    assert outcome("musl", file, silent) == ("OK", 0.0)


def test_truncation_is_lost_on_musl_before_1_2_4_alone() -> None:
    file = conf()
    said = answers(file, {NAME: ("tc_addr", "tc_addr")})
    assert [outcome(libc, file, said)[0] for libc in Libc] == ["OK", "OK", "EAI_NONAME"]


def test_a_search_line_that_musl_ignores_is_searched_by_glibc_alone() -> None:
    file = conf("lan", musl=conf())
    said = answers(file, {"host.lan": ("addr", "nodata")}, "host")
    assert [outcome(libc, file, said, "host")[0] for libc in Libc] == ["OK", "EAI_NONAME", "EAI_NONAME"]


def test_no_aaaa_asks_a_alone_and_reads_silence_as_no_data() -> None:
    file = conf(options=frozenset({"no-aaaa"}))
    said = answers(file, {NAME: ("addr", "drop")})
    assert outcome("glibc", file, said) == ("OK", 0.0)
    assert outcome("glibc", file, said, request="6") == ("EAI_NODATA", 0.0)
    silent = answers(file, {NAME: ("drop", "drop")})
    assert outcome("glibc", file, silent, request="6") == ("EAI_NODATA", 1.0)


def test_an_answer_that_nobody_asked_for_gives_no_prediction() -> None:
    file = conf("lan")
    said = answers(file, {f"{NAME}.lan": ("addr", "addr")})
    asked = {key: value for key, value in said.items() if key[0] != NAME}
    assert None not in [predict(libc, NAME, file, asked) for libc in Libc]
    del said[f"{NAME}.lan", "AAAA", FIRST]
    assert [predict(libc, NAME, file, said) for libc in Libc] == [None] * 3


@pytest.mark.parametrize(
    ("name", "glibc", "musl"),
    [
        ("1234", "0.0.4.210", "0.0.4.210"),
        ("10.1", "10.0.0.1", "10.0.0.1"),
        ("0x7f.1", "127.0.0.1", "127.0.0.1"),
        ("127.000.000.001", "127.0.0.1", "127.0.0.1"),
        ("fe80::1%lo", "fe80::1", "fe80::1"),
        ("::1%1", "::1", "::1"),
        ("::1%lo", "EAI_NONAME", "EAI_NONAME"),
        ("fe80::1%4294967296", "EAI_NONAME", "EAI_NONAME"),
        ("ff01::1%lo", "ff01::1", "EAI_NONAME"),
        ("fe80::1%eth9", None, None),  # whether there is that link is not known
    ],
)
def test_a_number_as_name_is_asked_of_nobody(name: str, glibc: str | None, musl: str | None) -> None:
    assert all_candidates(name, conf("lan")) == ()
    for libc, expected in ((Libc.GLIBC, glibc), (Libc.MUSL, musl), (Libc.MUSL_1_2_3, musl)):
        made = predict(libc, name, conf("lan"), {})
        assert (made and (made.addresses[0] if made.addresses else made.code)) == expected


@pytest.mark.parametrize("name", ["[::1]", "a!b", "-a", "a b.c", "a\\.b"])
def test_glibc_asks_nobody_for_what_is_no_host_name(name: str) -> None:
    made = [predict(Libc.GLIBC, name, conf(), {}, request=request) for request in ("any", "4", "6")]
    assert [(one.code, one.seconds) for one in made if one] == [("EAI_NONAME", 0.0)] * 3
    assert predict(Libc.GLIBC, "a\\095b", conf(), {}) is None  # an underscore, which is asked for


@pytest.mark.parametrize("name", ["08", "1.2.3.4.5", "256.1.1.1", "4294967296", "1.2.3.4.", "0x", "1..2"])
def test_what_is_no_number_for_inet_aton_is_a_name(name: str) -> None:
    assert candidates(Libc.GLIBC, name, conf())
    assert predict(Libc.GLIBC, name, conf(), {}) is None or name == "1..2"
    made = predict(Libc.GLIBC, name, conf(), {}, request="4")  # gethostbyname2_r refuses digits and dots
    assert (made and made.code) == (None if name in {"1.2.3.4.", "0x"} else "EAI_NONAME")


@pytest.mark.parametrize(
    ("libc", "wrong_family"), [("glibc", "EAI_ADDRFAMILY"), ("musl", "EAI_NODATA"), ("musl_1_2_3", "EAI_NONAME")]
)
def test_an_address_as_name_is_asked_of_nobody(libc: str, wrong_family: str) -> None:
    assert outcome(libc, conf("lan"), {}, "2001:db8::1") == ("OK", 0.0)
    assert outcome(libc, conf("lan"), {}, "2001:db8::1", "4") == (wrong_family, 0.0)


def test_without_a_nameserver_the_loopback_is_asked() -> None:
    said = {(NAME, qtype, address("127.0.0.1")): answer("addr", NAME, qtype) for qtype in ("A", "AAAA")}
    assert [outcome(libc, conf(servers=()), said)[0] for libc in Libc] == ["OK"] * 3


def lookup(result: LookupOutcome, reply: Reply | None = None, **more: Any) -> Lookup:
    vantage = Vantage(kind="host", namespace="", name="node", netns=None)
    question = Question(
        vantage=vantage,
        server=Nameserver(FIRST, "cluster_dns"),
        name=NAME.upper(),
        qtype="A",
        label="canary",
        purpose=Purpose.PREDICTION,
    )
    return Lookup(question=question, outcome=result, seconds=0.1, reply=reply, **more)


def test_lookups_become_answers_and_what_was_not_sent_none() -> None:
    key = (NAME, "A", FIRST)
    assert answers_of([lookup(LookupOutcome.NOT_ALLOWED)]) == {}
    assert answers_of([lookup(LookupOutcome.TIMEOUT)])[key] == Answer(NoReply.SILENT, seconds=0.1)
    assert answers_of([lookup(LookupOutcome.MALFORMED)])[key].datagram is NoReply.SILENT
    assert answers_of([lookup(LookupOutcome.UNREACHABLE)])[key].datagram is NoReply.REFUSED
    whole, part = Reply(answers=60), Reply(tc=True, answers=10)
    truncated = answers_of([lookup(LookupOutcome.ANSWER, whole, truncated=True, datagram=part)])[key]
    assert (truncated.datagram, truncated.stream) == (part, whole)


names = st.text(alphabet="ab.-_é\x00", max_size=12) | st.sampled_from(["", ".", "..", "a" * 300, "a." * 130])
replies = st.builds(
    Reply,
    rcode=st.integers(0, 15),
    aa=st.booleans(),
    ra=st.booleans(),
    tc=st.booleans(),
    answers=st.integers(0, 2),
    addresses=st.sampled_from([(), (address("192.0.2.1"),), (address("::"),)]),
)
outcomes = st.sampled_from(list(NoReply)) | replies


@given(
    name=names,
    search=st.lists(st.text(alphabet="ab.", max_size=6), max_size=3).map(tuple),
    numbers=st.tuples(*[st.integers(0, 40)] * 3),
    option=st.sampled_from(["use-vc", "single-request", "no-aaaa", "no-tld-query", "edns0"]),
    script=st.lists(st.builds(Answer, outcomes, stream=st.none() | outcomes), min_size=1, max_size=6),
    request=st.sampled_from(["any", "4", "6"]),
)
def test_whatever_comes_the_prediction_is_one_of_the_closed_codes(
    name: str, search: tuple[str, ...], numbers: tuple[int, int, int], option: str, script: list[Answer], request: str
) -> None:
    ndots, timeout, attempts = numbers
    file = conf(
        *search, servers=(FIRST, SECOND), ndots=ndots, timeout=timeout, attempts=attempts, options=frozenset({option})
    )
    keys = [
        (asked, qtype, server)
        for asked in all_candidates(name, file)
        for qtype in ("A", "AAAA")
        for server in file.nameservers
    ]
    said = {key: script[index % len(script)] for index, key in enumerate(keys)}
    for libc in Libc:
        prediction = predict(libc, name, file, said, request=request)
        if prediction is None:
            assert libc is not Libc.GLIBC
            assert attempts == 0, "musl divides by it"
            continue
        assert prediction.code in {"OK", "EAI_NONAME", "EAI_NODATA", "EAI_AGAIN"}
        assert (prediction.code == "OK") == bool(prediction.addresses)
        assert prediction.why
        assert 0 <= prediction.seconds < 10_000


def test_servfail_of_one_search_candidate_is_passed_by_glibc_and_ends_musl() -> None:
    file = conf("lan")
    said = answers(file, {f"{NAME}.lan": ("servfail", "servfail"), NAME: ("addr", "addr")})
    assert said[f"{NAME}.lan", "A", FIRST].datagram == Reply(rcode=SERVFAIL)
    assert [outcome(libc, file, said)[0] for libc in Libc] == ["OK", "EAI_AGAIN", "EAI_AGAIN"]
