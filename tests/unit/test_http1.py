"""Reply heads byte by byte: how the bytes are cut changes nothing, and nothing but a status or a protocol failure comes
out.
"""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.model.probe import Outcome
from exporter.probes.http1 import HEAD_LIMIT, ReplyHead
from exporter.probes.outcome import PhaseError

PIECES = [
    b"HTTP/1.1",
    b" ",
    b"200",
    b"103",
    b"\r\n",
    b"\n",
    b"\r",
    b"A",
    b":",
    b"b",
    b"\0",
    b"\xff",
    b"HTTP/1.0 204 No\r\n\r\n",
]
replies = st.lists(st.sampled_from(PIECES) | st.binary(max_size=8), max_size=20).map(b"".join)


def read(*parts: bytes) -> int | Outcome | None:
    head = ReplyHead()
    try:
        for part in parts:
            status = head.feed(part)
            if status is not None:
                return status
    except PhaseError as failure:
        return failure.outcome
    return None


@given(replies, st.lists(st.integers(0, 200), max_size=5))
def test_cuts_change_nothing(reply: bytes, cuts: list[int]) -> None:
    ends = sorted({0, len(reply), *(cut for cut in cuts if cut < len(reply))})
    parts = [reply[start:end] for start, end in pairwise(ends)]
    whole = read(*([reply] if reply else []))
    assert read(*parts) == whole
    assert whole in {None, Outcome.PROTOCOL} or whole in range(100, 1000)


@pytest.mark.parametrize(("excess", "status"), [(0, 200), (1, Outcome.PROTOCOL)])
def test_the_bound_of_a_head_is_exact_and_its_body_does_not_count(excess: int, status: int | Outcome) -> None:
    start, end = b"HTTP/1.1 200 OK\r\nA: ", b"\r\n\r\n"
    head = start + b"a" * (HEAD_LIMIT - len(start) - len(end) + excess) + end
    assert read(head + b"body" * 9999) == status
    assert read(*(head[i : i + 1000] for i in range(0, len(head), 1000))) == status


def test_the_end_of_the_connection_ends_it() -> None:
    assert read(b"") is Outcome.PROTOCOL
    assert read(b"HTTP/1.1 200 OK\r\n", b"") is Outcome.PROTOCOL
