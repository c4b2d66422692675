"""Answers that wait to be taken: who takes nothing makes room for those who do."""

from __future__ import annotations

from contextlib import ExitStack

from proxy.shell.http.outbox import GRACE_S, Outbox
from tests.shell.fakes import Clock


class Line:
    """A connection that may be ended."""

    def __init__(self) -> None:
        self.is_over = False

    def abort(self) -> None:
        self.is_over = True


def test_who_has_taken_nothing_for_longest_makes_room() -> None:
    """Over the bound the slowest connection ends, and no other; who takes a little stays."""
    clock = Clock()
    outbox, lines = Outbox(250, clock), [Line() for _each in range(3)]
    with ExitStack() as stack:
        took = stack.enter_context(outbox.waiting(lines[0], 100))  # type: ignore[arg-type]
        stack.enter_context(outbox.waiting(lines[1], 100))  # type: ignore[arg-type]
        clock.now += GRACE_S
        took()
        stack.enter_context(outbox.waiting(lines[2], 100))  # type: ignore[arg-type]
        assert [line.is_over for line in lines] == [False, True, False]
        assert outbox.bytes == 200
    assert outbox.bytes == 0


def test_those_who_come_at_once_are_bounded_as_well() -> None:
    """Nobody has been slow yet: then twice as much may wait, and no more."""
    outbox, lines = Outbox(250, Clock()), [Line() for _each in range(8)]
    with ExitStack() as stack:
        for line in lines:
            stack.enter_context(outbox.waiting(line, 100))  # type: ignore[arg-type]
            assert outbox.bytes <= 500
        assert [line.is_over for line in lines] == [True] * 3 + [False] * 5


def test_one_answer_may_be_larger_than_all() -> None:
    """The newest never makes room for itself."""
    outbox, line = Outbox(250, Clock()), Line()
    with outbox.waiting(line, 1000):  # type: ignore[arg-type]
        assert not line.is_over
