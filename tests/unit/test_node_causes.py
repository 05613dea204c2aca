"""Causes of the node's own kernel where only a part of it could be read."""

from __future__ import annotations

import pytest

from exporter.diagnosis.node import NODE_RULES
from exporter.model.facts import HostFacts, Inet6Conf, LinkFact, RouteFact
from exporter.model.family import parse_net
from exporter.model.inventory import Inventory
from exporter.model.report import Cause, Reason
from tests.unit.scene import view

INVENTORY = Inventory(source="kubernetes", nodes=(), pools=(), pods=())
OFF = Inet6Conf(forwarding=0, accept_ra=1, disable_ipv6=0)
ETH0 = LinkFact(2, "eth0", up=True, lower_up=True, mtu=1500, inet6=OFF)


def default(net: str) -> RouteFact:
    parsed = parse_net(net)
    assert parsed is not None
    return RouteFact(parsed, link="eth0")


@pytest.mark.parametrize(
    ("cause", "facts", "found"),
    [
        # Links unread: whether IPv6 is switched off cannot be told, and hides nothing.
        (Cause.NODE_NO_IPV6_ADDRESS, HostFacts(addresses=()), True),
        (Cause.NODE_NO_IPV6_DEFAULT_ROUTE, HostFacts(routes=(default("0.0.0.0/0"),)), True),
        (Cause.NODE_FORWARDING_OFF, HostFacts(all_conf=OFF), True),
        # Links read, and IPv6 off: the first cause says it all.
        (
            Cause.NODE_FORWARDING_OFF,
            HostFacts(links=(ETH0,), all_conf=Inet6Conf(forwarding=0, accept_ra=1, disable_ipv6=1)),
            False,
        ),
        (Cause.NODE_NO_IPV6_DEFAULT_ROUTE, HostFacts(routes=(default("0.0.0.0/0"), default("::/0"))), False),
        (Cause.NODE_NO_IPV6_DEFAULT_ROUTE, HostFacts(routes=()), False),
    ],
)
def test_what_was_not_read_hides_nothing_that_was(cause: Cause, facts: HostFacts, found: bool) -> None:
    said = NODE_RULES[cause](view(facts=facts, inventory=INVENTORY))
    assert isinstance(said, tuple)
    assert bool(said) is found


@pytest.mark.parametrize("cause", list(NODE_RULES))
def test_nothing_read_is_unchecked(cause: Cause) -> None:
    assert isinstance(NODE_RULES[cause](view(facts=HostFacts(), inventory=INVENTORY)), Reason)
