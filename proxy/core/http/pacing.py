"""How many requests are taken up while the processor is overloaded: so many that turns of the event loop stay short.

A request that was taken up needs several turns until it is answered, and each turn takes all that has come from Graph
since the last one. Taking up is cheap, and answering is not: who takes up as many as a turn has time for has a long
turn when their answers come. So the pace is judged by how long turns are, as in congestion control: it grows while they
are short, the faster the shorter they are, and becomes less where they are long, once in a round trip; and a long turn
is not made up for. A lone long turn, as of a processor that was taken away, so costs a few intervals of a lower pace.
"""

from __future__ import annotations

LEAST = 16.0
"""The requests that may be taken up at once, or in a second, at least."""

TURN_S = 0.002
"""Seconds from one taking up to the next, if the processor is in time."""

_GOOD_TURN_S = 0.007
"""Seconds of a turn as a request meets it that comes at any moment: the mean over time, and not over turns."""

_INTERVAL_S = 0.1
"""Seconds after which the pace is judged; what was taken up has to come back from Graph before it costs its most."""

_CREDIT_S = 0.01
"""Seconds of the pace that are made up for after a long turn."""

_SLOWER, _FASTER = 0.85, 1.1
"""By how much the pace changes in an interval at most."""

_STEP = 0.15
"""The part of the way to good turns by which the pace grows in an interval: what it leads to is seen later."""


class Pace:
    """Requests that are taken up in a second."""

    def __init__(self) -> None:
        """Begin with the least."""
        self.begin(0.0)

    def begin(self, rate: float) -> None:
        """Take up *rate* requests a second at first."""
        self.rate, self._credit = max(LEAST, rate), 0.0
        self._seconds = self._squares = 0.0
        self._trip = 0  # requests still to be taken up until turns show what the last change has led to

    def due(self, elapsed: float, waiting: int, under_way: int) -> int:
        """Returns how many of those *waiting* are taken up now, *elapsed* seconds after the last time.

        So many more are *under_way* that have been taken up and are not answered.
        """
        self._judge(elapsed, waiting, under_way)
        self._credit = min(self._credit + elapsed * self.rate, max(LEAST, self.rate * _CREDIT_S))
        count = min(int(self._credit), waiting)
        self._credit -= count
        self._trip -= count
        return count

    def _judge(self, elapsed: float, waiting: int, under_way: int) -> None:
        self._seconds += elapsed
        self._squares += elapsed * elapsed
        if self._seconds < _INTERVAL_S:
            return
        change = max(_SLOWER, (_GOOD_TURN_S * self._seconds / self._squares) ** 0.5)
        if change < 1:
            self._slow_down(change, under_way)
        elif waiting:
            self.rate *= min(_FASTER, 1 + (change - 1) * _STEP)
        self._seconds = self._squares = 0.0

    def _slow_down(self, change: float, under_way: int) -> None:
        if self._trip <= 0:
            self.rate, self._trip = max(LEAST, self.rate * change), under_way
