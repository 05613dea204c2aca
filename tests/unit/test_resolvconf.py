"""resolv.conf as glibc and musl read it, hostile content included."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.libc.resolv_conf import parse_resolv_conf
from exporter.model.dns import ResolvConf

POD = b"""search default.svc.cluster.local svc.cluster.local cluster.local lan
nameserver 10.152.183.10
nameserver fd98::a
options ndots:5
"""


def test_a_pods_file() -> None:
    search = ("default.svc.cluster.local", "svc.cluster.local", "cluster.local", "lan")
    servers = (ip_address("10.152.183.10"), ip_address("fd98::a"))
    assert parse_resolv_conf(POD) == ResolvConf(nameservers=servers, search=search, ndots=5)


@pytest.mark.parametrize("content", [b"", b"\n\n", b"# nameserver 10.0.0.1\n;nameserver 10.0.0.2\n", b"\0" * 100])
def test_nothing_in_it_gives_the_defaults_and_no_nameserver(content: bytes) -> None:
    assert parse_resolv_conf(content) == ResolvConf()


@pytest.mark.parametrize(
    ("line", "addresses"),
    [
        (b"nameserver 192.0.2.1", ["192.0.2.1"]),
        (b"nameserver\t2001:db8::1 \t", ["2001:db8::1"]),
        (b"nameserver   192.0.2.1 # the first", ["192.0.2.1"]),
        (b"nameserver 192.0.2.1#53", []),
        (b"nameserver 192.0.2.1;", []),
        (b"nameserver 192.0.2.1:53", []),
        (b"nameserver [2001:db8::1]", []),
        (b"nameserver 192.0.2.1\r", []),  # white space of musl alone
        (b"nameserver\v192.0.2.1", []),
        (b"nameserver 192.000.002.001", ["192.0.2.1"]),
        (b"nameserver 192.0.2.010", ["192.0.2.8"]),
        (b"nameserver 0xc0000201", ["192.0.2.1"]),
        (b"nameserver 192.513", ["192.0.2.1"]),
        (b"nameserver 192.0.2.08", []),
        (b"nameserver 192.0.2.1.", []),
        (b"nameserver 4294967296", []),
        (b"nameserver 192.0.2." + b"0" * 9000, []),
        (b"nameserver fe80::1%eth0", ["fe80::1%eth0"]),
        (b"nameserver fe80::1%3", ["fe80::1%3"]),
        (b"nameserver fe80::1", ["fe80::1"]),
        (b"nameserver fe80::1%a-name-that-is-too-long", ["fe80::1"]),
        (b"nameserver 2001:db8::1%eth0", ["2001:db8::1"]),  # only a link-local address has a link
        (b"nameserver ::ffff:192.0.2.1", ["192.0.2.1"]),
        (b" nameserver 192.0.2.1", []),  # a keyword stands at the line's beginning
        (b"nameserver192.0.2.1", []),
        (b"nameserver", []),
        (b"nameserver ", []),
        (b"nameserver dns.example", []),
        (b"nameserver 300.0.0.1", []),
        (b"nameserver 192.0.2.1\0", ["192.0.2.1"]),
        (b"NAMESERVER 192.0.2.1", []),
    ],
)
def test_nameserver_lines_of_glibc(line: bytes, addresses: list[str]) -> None:
    assert [str(a) for a in parse_resolv_conf(line).nameservers] == addresses


@pytest.mark.parametrize(
    ("content", "addresses"),
    [
        (b"nameserver 192.0.2.1\r\n", ["192.0.2.1"]),
        (b"nameserver\v\f192.0.2.1\n", ["192.0.2.1"]),
        (b"nameserver 192.0.2.1#53", []),
        (b"nameserver 192.000.002.001", ["192.0.2.1"]),
        (b"nameserver fe80::1%eth0", ["fe80::1%eth0"]),
        (b"nameserver fe80::1%a-name-that-is-too-long", []),
        (b"nameserver 2001:db8::1%eth0", []),  # glibc leaves the link away
        (b"nameserver 2001:db8::1%0", ["2001:db8::1"]),
        (b"nameserver 2001:db8::1%2", ["100::"]),  # no reply has that scope
        (b"nameserver ::ffff:192.0.2.1", ["192.0.2.1"]),
        (b"nameserver 192.0.2.1\0\nnameserver 192.0.2.2\nnameserver 192.0.2.3\n", ["192.0.2.3"]),
        (b"nameserver 192.0.2.1\0", ["192.0.2.1"]),
    ],
)
def test_nameserver_lines_of_musl(content: bytes, addresses: list[str]) -> None:
    assert [str(a) for a in parse_resolv_conf(content).for_musl.nameservers] == addresses


def test_only_the_first_three_nameservers_are_asked() -> None:
    content = b"".join(b"nameserver 192.0.2.%d\n" % number for number in range(250))
    assert [str(a) for a in parse_resolv_conf(content).nameservers] == ["192.0.2.0", "192.0.2.1", "192.0.2.2"]


@pytest.mark.parametrize(
    ("content", "glibc", "musl"),
    [
        (b"search a.test b.test\n", ("a.test", "b.test"), ("a.test", "b.test")),
        (b"search a.test.\n", ("a.test",), ("a.test",)),
        (b"search .\n", (".",), (".",)),
        (b"search a.test\nsearch b.test\n", ("b.test",), ("b.test",)),
        (b"domain a.test\n", ("a.test",), ("a.test",)),
        (b"domain a.test b.test\n", ("a.test",), ("a.test", "b.test")),
        (b"search a.test\ndomain b.test\n", ("b.test",), ("b.test",)),
        (b"domain b.test\nsearch a.test\n", ("a.test",), ("a.test",)),
        (b"search a.test\nsearch\n", ("a.test",), ()),
        (b"search a.test\nsearch", ("a.test",), ("a.test",)),
        (b"search a.test\r\n", ("a.test\\013",), ("a.test",)),
        (b"search a.test\vb.test\n", ("a.test\\011b.test",), ("a.test", "b.test")),
        (b"search a.test # here\n", ("a.test", "#", "here"), ("a.test", "#", "here")),
        (b"search \xff\xfe.test ok.test\n", ("\\255\\254.test", "ok.test"), ("\\255\\254.test", "ok.test")),
        (b"search " + b"x" * 300 + b" ok.test\n", ("x" * 254, "ok.test"), ()),
    ],
)
def test_search_lists(content: bytes, glibc: tuple[str, ...], musl: tuple[str, ...]) -> None:
    parsed = parse_resolv_conf(content)
    assert (parsed.search, parsed.for_musl.search) == (glibc, musl)


@pytest.mark.parametrize(("length", "kept"), [(254, True), (255, False), (4000, False)])
def test_musl_skips_a_line_that_does_not_fit_its_buffer_and_glibc_keeps_it(length: int, kept: bool) -> None:
    line = b"search a.test"
    line += b" " * (length - len(line) - 7) + b" b.test"
    assert len(line) == length
    parsed = parse_resolv_conf(b"nameserver 192.0.2.1\n" + line + b"\n")
    assert parsed.search == ("a.test", "b.test")
    assert parsed.for_musl.search == (("a.test", "b.test") if kept else ())


@pytest.mark.parametrize(
    ("content", "numbers"),
    [
        (b"options ndots:5 timeout:1 attempts:4", (5, 1, 4)),
        (b"options ndots:99 timeout:99 attempts:99", (15, 30, 5)),
        (b"options ndots:0", (0, 5, 2)),
        (b"options ndots:1\noptions timeout:3\noptions ndots:2", (2, 3, 2)),
        (b"options ndots: timeout:x attempts:-1", (0, 0, 0)),
        (b"options ndots: 3 timeout:+4", (3, 4, 2)),  # atoi
        (b"options ndots:-1", (15, 5, 2)),
        (b"options ndots:4294967298", (2, 5, 2)),
        (b"options xndots:3 ndots:2x", (2, 5, 2)),
        (b"options ndots:" + b"9" * 5000, (15, 5, 2)),
        (b"options ndots", (1, 5, 2)),
    ],
)
def test_numbers_as_glibc_reads_them(content: bytes, numbers: tuple[int, int, int]) -> None:
    parsed = parse_resolv_conf(content)
    assert (parsed.ndots, parsed.timeout, parsed.attempts) == numbers


@pytest.mark.parametrize(
    ("content", "numbers"),
    [
        (b"options ndots:5 timeout:1 attempts:4\n", (5, 1, 4)),
        (b"options ndots:99 timeout:99 attempts:99\n", (15, 60, 10)),
        (b"options\rndots:2\n", (2, 5, 2)),
        (b"options ndots: timeout:x attempts:-1 ndots:3\n", (1, 5, 2)),  # the first one, whatever follows it
        (b"options ndots: 3 timeout:.5\n", (1, 5, 2)),
        (b"options xndots:3 # attempts:1\n", (3, 5, 1)),
        (b"options ndots:" + b"9" * 200 + b"\n", (15, 5, 2)),
    ],
)
def test_numbers_as_musl_reads_them(content: bytes, numbers: tuple[int, int, int]) -> None:
    parsed = parse_resolv_conf(content).for_musl
    assert (parsed.ndots, parsed.timeout, parsed.attempts) == numbers


def test_flags_count_by_how_they_begin() -> None:
    parsed = parse_resolv_conf(b"options use-vc, single-request-reopens no_tld_query rotat xedns0\n")
    assert parsed.options == {"use-vc", "single-request-reopen", "no-tld-query"}


def test_flags_are_kept_when_known_and_add_up_over_lines() -> None:
    parsed = parse_resolv_conf(b"options edns0 single-request evil\noptions\ttrust-ad no-aaaa\n")
    assert parsed.options == {"edns0", "single-request", "trust-ad", "no-aaaa"}


def test_ten_thousand_search_domains_are_bounded() -> None:
    parsed = parse_resolv_conf(b"search " + b" ".join(b"d%d.test" % n for n in range(10_000)))
    assert len(parsed.search) == 32
    assert parsed.for_musl.search == ()


WORDS = st.sampled_from(
    [
        b"nameserver",
        b"search",
        b"domain",
        b"options",
        b" ",
        b"\t",
        b"\n",
        b"ndots:",
        b"9" * 30,
        b"::1",
        b"192.0.2.1",
        b".",
    ]
)


@given(st.lists(WORDS | st.binary(max_size=20), max_size=40).map(b"".join))
def test_anything_at_all_gives_a_bounded_value(content: bytes) -> None:
    parsed = parse_resolv_conf(content)
    for each, timeout, attempts in ((parsed, 30, 5), (parsed.for_musl, 60, 10)):
        assert len(each.nameservers) <= 3
        assert len(each.search) <= 32
        assert all(domain.isascii() and domain.isprintable() and 0 < len(domain) <= 4 * 254 for domain in each.search)
        assert 0 <= each.ndots <= 15
        assert 0 <= each.timeout <= timeout
        assert 0 <= each.attempts <= attempts
