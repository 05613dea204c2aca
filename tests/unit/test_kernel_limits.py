"""Small files of /proc: numbers, absence, nonsense."""

from __future__ import annotations

import pytest

from exporter.kernel.decode import ParseError
from exporter.kernel.decode.counters import parse_all_conf, parse_checksum_errors, parse_conntrack
from exporter.model.facts import Inet6Conf


def test_switches_of_all_links_are_read() -> None:
    text = b"ipv6.forwarding 1\nipv6.accept_ra 2\nipv6.disable_ipv6 0\nipv4.forwarding 1\n"
    assert parse_all_conf(text) == (Inet6Conf(forwarding=1, accept_ra=2, disable_ipv6=0), True)


def test_a_kernel_without_ipv6_has_it_disabled() -> None:
    conf, forwarding = parse_all_conf(b"ipv4.forwarding 0\n")
    assert conf is not None
    assert (conf.disable_ipv6, forwarding) == (1, False)


def test_what_was_not_read_is_none() -> None:
    assert parse_all_conf(b"") == (None, None)
    assert parse_all_conf(b"ipv6.forwarding 1\nipv4.forwarding 1\n") == (None, True)
    assert parse_conntrack(b"") == (None, None)
    assert parse_checksum_errors(b"Ip6InReceives 3\n") is None


def test_conntrack_and_checksum_errors_are_numbers() -> None:
    assert parse_conntrack(b"count 12\nmax 262144\n") == (12, 262144)
    assert parse_checksum_errors(b"Udp6InDatagrams \t9\nUdp6InCsumErrors                \t41\n") == 41


@pytest.mark.parametrize("text", [b"count x\n", b"count\n", b"count 1 2\n", b"count " + b"9" * 30, b"max --1\n"])
def test_a_value_that_is_no_number_is_malformed(text: bytes) -> None:
    with pytest.raises(ParseError):
        parse_conntrack(text)
