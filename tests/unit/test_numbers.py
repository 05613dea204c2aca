"""Source ports and ICMP ids: none twice within 180 s, per namespace and kind of socket."""

from __future__ import annotations

import errno

import pytest

from exporter.broker.protocol.messages import NUMBERS, SocketKind
from exporter.probes.ports import SPAN, UNUSED_FOR, NoSocketError, PortAllocator

HERE, THERE = (1, 10), (1, 11)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def numbers(clock: Clock) -> PortAllocator:
    return PortAllocator(clock, lambda span: span - 3)


def test_numbers_go_round_from_the_drawn_start(numbers: PortAllocator) -> None:
    taken = [numbers.take(HERE, SocketKind.TCP6) for _ in range(5)]
    assert taken == [NUMBERS[-1] - 2, NUMBERS[-1] - 1, NUMBERS[-1], NUMBERS[0], NUMBERS[0] + 1]


def test_the_start_is_random() -> None:
    assert len({PortAllocator().take(HERE, SocketKind.UDP4) for _ in range(50)}) > 10


def test_every_number_is_taken_once_and_then_none_until_180_seconds_have_passed(
    clock: Clock, numbers: PortAllocator
) -> None:
    first = numbers.take(HERE, SocketKind.TCP6)
    clock.now += 1
    rest = {numbers.take(HERE, SocketKind.TCP6) for _ in range(SPAN - 1)}
    assert {first, *rest} == set(NUMBERS)
    with pytest.raises(NoSocketError) as refused:
        numbers.take(HERE, SocketKind.TCP6)
    assert refused.value.number == errno.EADDRNOTAVAIL
    clock.now += UNUSED_FOR - 1
    assert numbers.take(HERE, SocketKind.TCP6) == first
    with pytest.raises(NoSocketError):
        numbers.take(HERE, SocketKind.TCP6)


def test_another_namespace_and_another_kind_have_their_own(clock: Clock, numbers: PortAllocator) -> None:
    for _ in range(SPAN):
        numbers.take(HERE, SocketKind.UDP6)
    assert numbers.take(THERE, SocketKind.UDP6)
    assert numbers.take(HERE, SocketKind.UDP4)


def test_namespaces_that_are_gone_are_forgotten(clock: Clock, numbers: PortAllocator) -> None:
    for inode in range(10_000):
        clock.now += 1
        numbers.take((1, inode), SocketKind.TCP4)
    assert len(numbers._rotations) <= UNUSED_FOR + 1
