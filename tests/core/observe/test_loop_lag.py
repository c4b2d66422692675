"""When the processor is called busy, and which messages are refused then."""

from __future__ import annotations

import pytest

from proxy.core.observe.loop_lag import Allowance, Lag, is_plain


def measured(*turns: float) -> Lag:
    """What is known after *turns* of so many seconds, the first of which began at 0."""
    lag, now = Lag(), 0.0
    lag.begin(now)
    for seconds in turns:
        now += seconds
        lag.turn(now)
    return lag


def test_a_lone_stall_is_not_overload() -> None:
    """One turn that takes long says nothing of the next; turns that all take long do."""
    stalled, busy = measured(0.01, 3.0, 0.01), measured(0.1, 0.1, 0.1, 0.1)
    stalled.end()
    busy.end()
    assert stalled.seconds(99.0) == pytest.approx(0.02)
    assert busy.seconds(99.0) == pytest.approx(0.3)


def test_turns_under_way_count() -> None:
    """What takes long is known before it has ended, the longest turn left out, be it the one under way."""
    lag = measured(0.2, 0.2)
    assert lag.seconds(0.5) == pytest.approx(0.3)
    assert lag.seconds(9.0) == pytest.approx(0.4)
    lag.end()
    lag.begin(10.0)
    assert lag.seconds(10.0) == pytest.approx(0.2)  # until these are over, the last ones hold


def let_in(allowance: Allowance, count: int) -> int:
    """How many of *count* are let in."""
    return sum(allowance.take() for _ in range(count))


def test_fewer_are_let_in_after_a_measurement_that_took_too_long() -> None:
    """A burst is taken in whole; behind it as many as would have kept the limit, then more and more, then everybody."""
    allowance = Allowance()
    assert let_in(allowance, 1000) == 1000
    allowance.measured(1.0, 0.25)
    assert let_in(allowance, 1000) == 250
    allowance.measured(0.1, 0.25)
    assert let_in(allowance, 1000) == 325
    for _ in range(20):
        allowance.measured(0.1, 0.25)
    assert let_in(allowance, 20_000) == 20_000


def test_some_are_always_let_in() -> None:
    """However long the turns are, the sidecar does not close."""
    allowance = Allowance()
    for _ in range(9):
        let_in(allowance, 100)
        allowance.measured(60.0, 0.25)
    assert let_in(allowance, 100) == 16


def test_nothing_is_known_at_first() -> None:
    """Who comes before anything was measured is let in."""
    assert Lag().seconds(99.0) == 0.0


@pytest.mark.parametrize(
    "data, plain",
    [
        (b"GET /me HTTP/1.1\r\nHost: a\r\n\r\n", True),
        (b"GET /me HTTP/1.1\r\nHost: a\r\n", False),
        (b"GET /me HTTP/1.0\r\nHost: a\r\n\r\n", False),
        (b"GET /me HTTP/1.1\r\nHost: a\r\n\r\nGET /me HTTP/1.1\r\nHost: a\r\n\r\n", False),
        (b"GET /me HTTP/1.1\r\nHost: a\n\nGET /me HTTP/1.1\r\n\r\n", False),
        (b"GET /me HTTP/1.1\r\nContent-Length: 2\r\n\r\n", False),
        (b"GET /me HTTP/1.1\r\nTRANSFER-ENCODING: chunked\r\n\r\n", False),
        (b"GET /me HTTP/1.1\r\nConnection: close\r\n\r\n", False),
        (b"GET /me HTTP/1.1\r\nExpect: 100-continue\r\n\r\n", False),
        (b"POST /me HTTP/1.1\r\nHost: a\r\n\r\n", False),
        (b"GET http://graph.facebook.com/me HTTP/1.1\r\nHost: a\r\n\r\n", False),
        (b"", False),
    ],
)
def test_only_a_plain_get_is_refused_unread(data: bytes, *, plain: bool) -> None:
    """What has a body, says something of its connection, or is not the only message is read as ever."""
    assert is_plain(data) is plain
