"""When the processor is overloaded, how many requests may wait then, and which messages may be refused unparsed.

A queue is played with drawn lengths of the beats: requests come as a test says, and so many a second are taken up.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.core.http.admission import Admission, Beat, is_last, is_plain
from proxy.core.http.pacing import LEAST

LIMIT_S = 1.0
BEATS = st.lists(st.floats(0.05, 0.15), min_size=7, max_size=7)
"""Seconds from one measurement to the next, which turn."""

TURNS = 10
"""Turns of the event loop in a beat."""

FEW = settings(max_examples=25)

Comes = Callable[[float, float], float]
"""How many come from one moment to another."""


@dataclass
class Queue:
    """A queue in front of a processor that takes up *rate* requests a second."""

    rate: float
    admission: Admission = field(default_factory=lambda: Admission(LIMIT_S))
    now: float = 0.0
    waiting: deque[float] = field(default_factory=deque)  # since when
    waits: list[tuple[float, float]] = field(default_factory=list)  # of those taken up: at what time, for how long
    refused: list[float] = field(default_factory=list)  # at what time
    _rest: float = 0.0
    _due: float = 0.0

    def beat(self, seconds: float, comes: Comes) -> None:
        """Let *seconds* pass, a turn of the event loop at a time."""
        before, beat, was_empty = len(self.refused), Beat(seconds), not self.waiting
        for _ in range(TURNS):
            beat.taken += self._take(seconds / TURNS)
            was_empty = was_empty or not self.waiting
            beat.came += self._let_in(comes(self.now, self.now + seconds / TURNS))
            self.now += seconds / TURNS
        beat.waiting = 0 if was_empty or not self.waiting else len(self.waiting)
        beat.inside = len(self.waiting)
        beat.refused = len(self.refused) - before
        self.admission.measured(beat)
        while len(self.waiting) > self.admission.most:
            self.waiting.pop()
            self.refused.append(self.now)

    def _let_in(self, due: float) -> int:
        self._due += due
        came = int(self._due)
        self._due -= came
        for _ in range(came):
            if len(self.waiting) >= self.admission.most:
                self.refused.append(self.now)
            else:
                self.waiting.append(self.now)
        return came

    def _take(self, seconds: float) -> int:
        self._rest += self.rate * seconds
        count = min(int(self._rest), len(self.waiting))
        self._rest = self._rest - count if self.waiting else 0.0
        for _ in range(count):
            since = self.waiting.popleft()
            self.waits.append((self.now, max(0.0, self.now - since)))
        return count

    def play(self, until: float, beats: Iterator[float], comes: Comes) -> None:
        """Let time pass."""
        while self.now < until:
            self.beat(next(beats), comes)


def endless(beats: list[float]) -> Iterator[float]:
    """*beats* again and again."""
    while True:
        yield from beats


def at_rate(rate: float) -> Comes:
    """So many a second come."""
    return lambda start, end: rate * (end - start)


def at_once(count: int) -> Comes:
    """So many come in the first moment, and nobody afterwards."""
    return lambda start, _end: 0 if start else count


@given(BEATS, st.floats(50, 2000), st.integers(1, 5000), st.floats(0, 0.5))
@FEW
def test_a_burst_is_let_in_whole(beats: list[float], rate: float, count: int, share: float) -> None:
    """However many come at once and however long that takes, nobody is refused, nor who comes meanwhile."""
    queue, others = Queue(rate), at_rate(rate * share)
    burst = at_once(count)
    queue.play(20.0, endless(beats), lambda start, end: burst(start, end) + others(start, end))
    assert not queue.refused


@given(BEATS, st.floats(1.5, 10), st.floats(100, 1000))
@FEW
def test_under_overload_those_let_in_wait_for_a_short_time(beats: list[float], times: float, rate: float) -> None:
    """Few wait for more than half of the limit, at first; soon it is a small fraction of it; the processor is busy."""
    queue = Queue(rate)
    queue.play(20.0, endless(beats), at_rate(times * rate))
    assert max(wait for _at, wait in queue.waits) <= 0.7 * LIMIT_S
    assert max(wait for at, wait in queue.waits if at > 1.5) <= max(0.1 * LIMIT_S, 2 * LEAST / rate)
    assert len(queue.waits) >= 0.9 * 20 * rate
    ended = queue.now
    queue.play(ended + 5, endless(beats), at_rate(rate / 2))
    assert not [at for at in queue.refused if at > ended + LIMIT_S]
    assert not queue.admission.is_overloaded


@given(BEATS, st.floats(100, 1000), st.floats(0.1, 0.9))
@FEW
def test_callers_that_wait_for_their_answers_may_all_wait(beats: list[float], rate: float, wait: float) -> None:
    """A queue that stands is no overload where it does not grow, and is short enough."""
    queue, count = Queue(rate), int(rate * wait)
    queue.play(20.0, endless(beats), lambda _start, _end: count - len(queue.waiting))
    assert not queue.refused


@given(BEATS, st.floats(100, 1000))
@FEW
def test_a_queue_that_grows_slowly_is_bounded_too(beats: list[float], rate: float) -> None:
    """At a tenth more than can be taken up, nobody waits for much longer than the limit."""
    queue = Queue(rate)
    queue.play(40.0, endless(beats), at_rate(1.1 * rate))
    assert max(wait for _at, wait in queue.waits) <= 1.5 * LIMIT_S


@given(st.floats(1, 20), st.floats(100, 1000))
@FEW
def test_a_lone_stall_is_no_overload(stall: float, rate: float) -> None:
    """What has come while the process stood still is a burst."""
    queue, usual = Queue(rate), at_rate(rate / 2)
    queue.play(5.0, endless([0.06]), usual)
    queue.beat(stall, usual)
    queue.play(queue.now + 5, endless([0.06]), usual)
    assert not queue.refused


HEAD = b"GET /me HTTP/1.1\r\nHost: a\r\n"


@pytest.mark.parametrize(
    "data, plain",
    [
        (HEAD + b"\r\n", True),
        (HEAD + b"Connection: keep-alive\r\nAccept: */*\r\n\r\n", True),
        (HEAD + b"connection:Close\r\n\r\n", True),
        (HEAD, False),
        (HEAD + b"\r\n" + HEAD + b"\r\n", False),
        (b"GET /me HTTP/1.0\r\nHost: a\r\n\r\n", False),
        (b"GET /me HTTP/1.1\r\nHost: a\n\nGET /me HTTP/1.1\r\n\r\n", False),
        (HEAD + b"Content-Length: 2\r\n\r\n", False),
        (HEAD + b"content-length : 2\r\n\r\n", False),
        (HEAD + b"TRANSFER-ENCODING: chunked\r\n\r\n", False),
        (HEAD + b"Connection: upgrade\r\n\r\n", False),
        (HEAD + b"Connection: close, upgrade\r\n\r\n", False),
        (HEAD + b"Connection : upgrade\r\n\r\n", False),
        (HEAD + b"Connection:\r\n close, upgrade\r\n\r\n", False),
        (HEAD + b"Expect: 100-continue\r\n\r\n", False),
        (b"POST /me HTTP/1.1\r\nHost: a\r\n\r\n", False),
        (b"get /me HTTP/1.1\r\nHost: a\r\n\r\n", False),
        (b"GET http://graph.facebook.com/me HTTP/1.1\r\nHost: a\r\n\r\n", False),
        (b"", False),
    ],
)
def test_only_a_plain_get_is_refused_unread(data: bytes, *, plain: bool) -> None:
    """What has a body, wants more of its connection, or is not the only message is read as ever."""
    assert is_plain(data) is plain


def test_who_wants_the_connection_to_end_is_told_so() -> None:
    """A refusal ends the connection where its request does."""
    assert is_last(HEAD + b"connection:  Close\r\n\r\n")
    assert is_last(HEAD + b"Proxy-Connection: close\r\n\r\n")
    assert not is_last(HEAD + b"Connection: keep-alive\r\n\r\n")
    assert not is_last(b"GET /?a=Connection:close HTTP/1.1\r\nHost: a\r\n\r\n")
