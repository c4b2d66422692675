"""Where a message ends, however its bytes come."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.http.framing import ChunkedPart, CountedPart, HeadPart, MessagePart

HEAD = b"POST / HTTP/1.1\r\nHost: a\r\n\r\n"
MAKERS: dict[str, Callable[[], MessagePart]] = {
    "head": HeadPart,
    "counted": lambda: CountedPart(9),
    "chunked": ChunkedPart,
}
PARTS = {
    "head": HEAD,
    "counted": b"\r\n\r\n0\r\n\r\n",
    "chunked": b"4;a=b\r\n\r\n0\r\r\n0A\r\n0123456789\r\n0\r\nX: 1\r\n\r\n",
}


def ends(part: MessagePart, data: bytes, cuts: list[int]) -> int:
    """Where *part* ends in *data* that comes in pieces."""
    start = 0
    for cut in [*sorted(cuts), len(data)]:
        end = part.end(data[:cut], start)
        if part.is_over:
            return end
        assert end == cut
        start = cut
    return -1


@pytest.mark.parametrize("kind", PARTS)
@given(cuts=st.lists(st.integers(0, 50), max_size=50), behind=st.sampled_from([b"", b"\r\n", b"0\r\n\r\n", HEAD]))
def test_a_part_ends_where_it_ends(kind: str, cuts: list[int], behind: bytes) -> None:
    """Neither the pieces in which it comes nor what stands behind it make a difference."""
    whole = PARTS[kind]
    assert ends(MAKERS[kind](), whole + behind, [min(cut, len(whole + behind)) for cut in cuts]) == len(whole)


@pytest.mark.parametrize("data", [b"zz\r\n", b"\r\n", b" 1\r\na\r\n", b"-1\r\n", b"1" * 70_000, b"1\r\na\r\n" * 10_000])
def test_whose_end_cannot_be_told(data: bytes) -> None:
    """What is no chunk, and more chunks at a time than are worth the time, are given up; no end is made up."""
    part = ChunkedPart()
    assert ends(part, data + b"0\r\n\r\n", []) == -1
    assert part.is_lost


def test_any_number_of_chunks_ends_if_they_come_in_their_time() -> None:
    """The bound is on what comes at once."""
    part = ChunkedPart()
    for _ in range(10_000):
        part.end(b"1\r\na\r\n", 0)
    assert part.end(b"0\r\n\r\n", 0) == 5
    assert (part.is_over, part.is_lost) == (True, False)


def test_no_body_is_over_at_once() -> None:
    """A body of no bytes takes none."""
    assert CountedPart(0).is_over
