"""Random bytes that are drawn many at a time."""

from __future__ import annotations

from proxy.shell.valkey.random_bytes import RandomBytes


def test_no_bytes_are_given_twice() -> None:
    """Whatever sizes are asked for, each piece has its size and is new."""
    source = RandomBytes()
    pieces = [source.take(size) for _ in range(500) for size in (8, 12, 16)]
    assert [len(piece) for piece in pieces] == [8, 12, 16] * 500
    assert len(set(pieces)) == len(pieces)
    assert len({piece[:8] for piece in pieces}) == len(pieces)
    assert len(source.take(4096)) == 4096
