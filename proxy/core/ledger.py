"""The ledger: what callers asked for, what Graph counted, what was avoided and why; all in Meta's units.

At Meta each slot of a batch, each id of `ids=` and each 304 is one call (developers.facebook.com, "Batch Requests",
"Rate Limits" and "Marketing API: ETags"). At every moment

    asked - avoided - unsent + own = counted

where *unsent* was asked for and neither sent nor avoided (it waits, was refused here, was given up), and *own* was sent
beyond what was asked for: again after trouble, or behind a reply. What had left counts, whatever became of it; what
could not leave, for no connection came about, does not.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from proxy.core.messages import Mode, Reply
from proxy.core.normal import split_pairs

CAUSES = ("collapsed", "fresh", "stale", "merged", "superset", "throttle")
"""Why a call to Graph was not made."""

OTHER = "other"
"""The line of everything for which there is no line of its own any more."""

PLACES = 1000
"""Lines of one kind: applications, accounts. Their number is the callers' to choose, our memory is not."""

_BY_DETAIL = {
    (Mode.COALESCED, "merged"): "merged",
    (Mode.REUSED, "superset"): "superset",
    (Mode.REUSED, "throttled"): "throttle",
    (Mode.STALE, "throttled"): "throttle",
    (Mode.STALE, "stale-if-error"): "",  # Graph was asked, or could not be: nothing was saved
}
_BY_MODE = {Mode.COALESCED: "collapsed", Mode.REUSED: "fresh", Mode.STALE: "stale"}


def calls_of(query: str) -> int:
    """As how many calls a read with this *query* counts: each of its `ids` is one."""
    return _ids(query) if "ids=" in query else 1


@lru_cache(maxsize=1024)
def _ids(query: str) -> int:
    listed = dict(split_pairs(query)).get("ids", "")
    return max(1, sum(1 for each in listed.split(",") if each.strip()))


def avoided(reply: Reply, calls: int) -> Mapping[str, int]:
    """The calls that *reply* made unnecessary, by cause, where asking Graph would have been so many *calls*."""
    if reply.avoided:
        return dict(reply.avoided)
    cause = _BY_DETAIL.get((reply.mode, reply.detail), _BY_MODE.get(reply.mode, ""))
    return {cause: calls} if cause else {}


@dataclass(slots=True, eq=False)
class Line:
    """What one route, application or account comes to."""

    asked: int = 0
    counted: int = 0
    avoided: int = 0
    bytes_avoided: int = 0


@dataclass(slots=True, eq=False)
class Ledger:
    """The sums, as a whole and by route, application and account."""

    asked: int = 0
    counted: int = 0
    unsent: int = 0
    own: int = 0
    avoided: Counter[str] = field(default_factory=Counter)
    bytes_avoided: int = 0
    routes: dict[str, Line] = field(default_factory=dict)
    apps: dict[str, Line] = field(default_factory=dict)
    accounts: dict[str, Line] = field(default_factory=dict)

    def open(self, calls: int, *, route: str = "", app: str = "", account: str = "") -> Bill:
        """The bill of a caller who asks for so many *calls*; what has no name is on no line."""
        named = ((self.routes, route), (self.apps, app), (self.accounts, account))
        bill = Bill(self, tuple(_line(lines, name) for lines, name in named if name), app)
        bill.ask(calls)
        return bill


class Bill:
    """What one caller asked for, until each call of it was sent or avoided; what is sent beyond that is our own."""

    __slots__ = ("_ledger", "_lines", "app", "asked", "owed", "sent", "span", "spared")

    def __init__(self, ledger: Ledger, lines: tuple[Line, ...], app: str = "") -> None:
        """Owe nothing yet."""
        self._ledger = ledger
        self._lines = lines
        self.app = app
        self.sent = 0
        self.spared = 0
        self.span: object = None  # what traces hang on it
        self.asked = 0
        self.owed = 0

    def ask(self, calls: int) -> None:
        """So many more calls are asked for."""
        self.asked += calls
        self.owed += calls
        self._ledger.asked += calls
        self._ledger.unsent += calls
        for line in self._lines:
            line.asked += calls

    def turn_out(self, calls: int) -> None:
        """What was asked for is *calls* in all, as is known only now: a list of ids may be another read's answer."""
        self.ask(max(0, calls - self.asked))

    def send(self, calls: int) -> None:
        """So many calls have left for Graph."""
        self.sent += calls
        self._ledger.counted += calls
        self._ledger.own += calls - self._cover(calls)
        for line in self._lines:
            line.counted += calls

    def spare(self, causes: Mapping[str, int]) -> None:
        """Calls were avoided; not those that were sent all the same."""
        for cause, calls in causes.items():
            spared = self._cover(calls)
            self.spared += spared
            self._ledger.avoided[cause] += spared
            for line in self._lines:
                line.avoided += spared

    def spare_bytes(self, size: int) -> None:
        """A body of *size* did not have to come."""
        self._ledger.bytes_avoided += size
        for line in self._lines:
            line.bytes_avoided += size

    def behind(self) -> Bill:
        """The bill of what is asked behind this one's reply: on the same lines, and nobody's."""
        return Bill(self._ledger, self._lines, self.app)

    def _cover(self, calls: int) -> int:
        covered = max(0, min(calls, self.owed))
        self.owed -= covered
        self._ledger.unsent -= covered
        return covered


def _line(lines: dict[str, Line], name: str) -> Line:
    line = lines.get(name)
    if line is None:
        kept = name if len(lines) < PLACES else OTHER
        line = lines.setdefault(kept, Line())
    return line
