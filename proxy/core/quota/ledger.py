"""The ledger: what callers asked for, what Graph counted, what was avoided and why; all in Meta's units.

At Meta each slot of a batch, each id of `ids=` and each 304 is one call (developers.facebook.com, "Batch Requests",
"Rate Limits" and "Marketing API: ETags"). At every moment

    asked - avoided - unsent + own = counted + uncertain

where *unsent* was asked for and neither sent nor avoided (it waits, is on its way, was refused here, was given up), and
*own* was sent beyond what was asked for: again after trouble, or behind a reply. *Counted* are calls that Graph
answered in its own words, a throttle among them. *Uncertain* are those that left and were not answered so: cut off,
late, refused with their whole batch, left null or aborted in it, or met by trouble on Graph's side. Nothing that Meta
has published says whether it counts them. What could not leave, for no connection came about, is neither.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from proxy.core.graph.errors import ABORTED, TRANSIENT, GraphError, is_clean, read_error
from proxy.core.model import Mode, Reply

CAUSES = ("collapsed", "fresh", "stale", "merged", "superset", "throttle")
"""Why a call to Graph was not made."""

OTHER_CAUSE = "other"
"""The line of everything for which there is no line of its own any more."""

_UNTOLD = TRANSIENT | {0, ABORTED}
"""Codes of trouble on Graph's side, of a slot that was not answered, and of an error that has none."""

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


def avoided(reply: Reply, calls: int) -> Mapping[str, int]:
    """The calls that *reply* made unnecessary, by cause, where asking Graph would have been so many *calls*."""
    if reply.avoided:
        return dict(reply.avoided)
    cause = _BY_DETAIL.get((reply.mode, reply.detail), _BY_MODE.get(reply.mode, ""))
    return {cause: calls} if cause else {}


def is_counted(status: int, error: GraphError | None) -> bool:
    """Whether Graph, which answered so, has counted the call for certain: it looked at it, and was not in trouble."""
    return status < 500 and (error is None or error.code not in _UNTOLD)


def was_counted(reply: Reply) -> bool:
    """The same of the *reply* to a call of its own; a page of somebody before Graph tells nothing."""
    if 300 <= reply.status < 400:
        return True
    error = read_error(reply.body)
    return (error is not None or is_clean(reply.body)) and is_counted(reply.status, error)


def was_counted_unread(status: int, calls: int) -> bool:
    """The same of a message of so many *calls* whose answer nobody here reads: a batch may have been refused."""
    return 0 < status < (500 if calls == 1 else 400)


@dataclass(slots=True, eq=False)
class Line:
    """What one route, application or account comes to."""

    asked: int = 0
    counted: int = 0
    uncertain: int = 0
    avoided: int = 0
    bytes_avoided: int = 0

    def add(self, other: Line) -> None:
        """Take in what *other* has come to."""
        for name in self.__slots__:
            setattr(self, name, getattr(self, name) + getattr(other, name))


@dataclass(slots=True, eq=False)
class Ledger:
    """The sums, as a whole and by route, application and account."""

    asked: int = 0
    counted: int = 0
    uncertain: int = 0
    unsent: int = 0
    own: int = 0
    avoided: Counter[str] = field(default_factory=Counter)
    bytes_avoided: int = 0
    routes: dict[str, Line] = field(default_factory=dict)
    apps: dict[str, Line] = field(default_factory=dict)
    accounts: dict[str, Line] = field(default_factory=dict)

    def open(self, calls: int, *, route: str = "", app: str = "", account: str = "") -> RequestCost:
        """The bill of a caller who asks for so many *calls*; what has no name is on no line."""
        named = ((self.routes, route), (self.apps, app), (self.accounts, account))
        bill = RequestCost(self, tuple(_line(lines, name) for lines, name in named if name), app)
        bill.ask(calls)
        return bill

    def rename_route(self, route: str, other: str) -> None:
        """Let *other* have what *route* has come to."""
        if (line := self.routes.pop(route, None)) is not None:
            _line(self.routes, other).add(line)


class RequestCost:
    """What one caller asked for, until each call of it was sent or avoided; what is sent beyond that is our own."""

    __slots__ = ("_ledger", "_lines", "app", "asked", "owed", "sent", "span", "spared", "uncertain")

    def __init__(self, ledger: Ledger, lines: tuple[Line, ...], app: str = "") -> None:
        """Owe nothing yet."""
        self._ledger = ledger
        self._lines = lines
        self.app = app
        self.sent = self.uncertain = 0
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

    def correct_asked(self, calls: int) -> None:
        """What was asked for is *calls* in all, as is known only now: a list of ids may be another read's answer."""
        self.ask(max(0, calls - self.asked))

    def send(self, calls: int, *, is_counted: bool = True) -> None:
        """So many calls were sent to Graph, and counted for certain or perhaps."""
        self.sent += calls
        self._ledger.own += calls - self._cover(calls)
        if is_counted:
            self._ledger.counted += calls
        else:
            self.uncertain += calls
            self._ledger.uncertain += calls
        for line in self._lines:
            if is_counted:
                line.counted += calls
            else:
                line.uncertain += calls

    def avoid(self, causes: Mapping[str, int]) -> None:
        """Calls were avoided; not those that were sent all the same."""
        for cause, calls in causes.items():
            spared = self._cover(calls)
            self.spared += spared
            self._ledger.avoided[cause] += spared
            for line in self._lines:
                line.avoided += spared

    def avoid_bytes(self, size: int) -> None:
        """A body of *size* did not have to come."""
        self._ledger.bytes_avoided += size
        for line in self._lines:
            line.bytes_avoided += size

    def for_background(self) -> RequestCost:
        """The bill of what is asked behind this one's reply: on the same lines, and nobody's."""
        return RequestCost(self._ledger, self._lines, self.app)

    def _cover(self, calls: int) -> int:
        covered = max(0, min(calls, self.owed))
        self.owed -= covered
        self._ledger.unsent -= covered
        return covered


def _line(lines: dict[str, Line], name: str) -> Line:
    line = lines.get(name)
    if line is None:
        kept = name if len(lines) < PLACES else OTHER_CAUSE
        line = lines.setdefault(kept, Line())
    return line
