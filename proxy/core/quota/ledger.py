"""The ledger: calls that callers asked for, that Graph counted, and that were avoided, with the cause; in Meta's units.

At Meta each slot of a batch, each id of `ids=` and each 304 is one call (developers.facebook.com, "Batch Requests",
"Rate Limits" and "Marketing API: ETags"). At every moment

    asked - avoided - unsent + own = counted + uncertain

*Unsent* calls were asked for and neither sent nor avoided: they wait, are being sent, were refused here, or were given
up. *Own* calls were sent beyond what was asked for: retries, revalidation in the background, and direct calls for
comparison. *Counted* calls are those that Graph itself answered, also with a throttle. *Uncertain* calls were sent and
not answered in that way: cut off, late, refused with their whole batch, null or aborted in it, or answered with an
error on Graph's side. Nothing that Meta has published says whether these count. A call for which no connection was made
is neither.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from proxy.core.graph.errors import ABORTED, TRANSIENT, GraphError, is_clean, read_error
from proxy.core.model import Mode, Reply

REFUSED = "refused"
"""The cause where a caller got Graph's last refusal again, from here: a call was avoided and nothing was gained."""

SAVINGS = ("collapsed", "fresh", "stale", "merged", "superset", "throttle")
"""The causes where a caller got an answer without a call; `throttle`: from an entry, while a limit was reached."""

CAUSES = (*SAVINGS, REFUSED)
"""Why a call to Graph was avoided."""

OTHER_CAUSE = "other"
"""The line that takes the rest once there are `CAPACITY` lines."""

_UNCERTAIN_CODES = TRANSIENT | {0, ABORTED}
"""Error codes after which it is uncertain whether Graph counted the call: transient, aborted slot, no code."""

MOST_LINES = 1000
"""The most lines of one kind (apps, accounts): callers choose how many there are, so memory needs a bound."""

_BY_DETAIL = {
    (Mode.COALESCED, "merged"): "merged",
    (Mode.REUSED, "superset"): "superset",
    (Mode.REUSED, "throttled"): "throttle",
    (Mode.STALE, "throttled"): "throttle",
    (Mode.STALE, "stale-if-error"): "",  # Graph was asked, or could not be: nothing was saved
}
_BY_MODE = {Mode.COALESCED: "collapsed", Mode.REUSED: "fresh", Mode.STALE: "stale"}


def is_refused_here(reply: Reply) -> bool:
    """Returns whether *reply* is a refusal that Graph gave earlier and that is given again; an entry has an age."""
    return reply.detail == "throttled" and reply.age is None


def calls_avoided(reply: Reply, calls: int) -> Mapping[str, int]:
    """Returns the calls that *reply* avoided, by cause, where asking Graph would have cost so many *calls*."""
    if reply.avoided:
        return dict(reply.avoided)
    if is_refused_here(reply):
        return {REFUSED: calls}
    cause = _BY_DETAIL.get((reply.mode, reply.detail), _BY_MODE.get(reply.mode, ""))
    return {cause: calls} if cause else {}


def is_counted(status: int, error: GraphError | None) -> bool:
    """Returns whether Graph has certainly counted a call that it answered with this *status* and *error*."""
    return status < 500 and (error is None or error.code not in _UNCERTAIN_CODES)


def was_counted(reply: Reply) -> bool:
    """Returns whether Graph has certainly counted the call of *reply*; a page that is not Graph's proves nothing."""
    if 300 <= reply.status < 400:
        return True
    error = read_error(reply.body)
    return (error is not None or is_clean(reply.body)) and is_counted(reply.status, error)


def was_counted_unread(status: int, calls: int) -> bool:
    """Returns whether Graph has certainly counted a message of *calls* whose body is not read here.

    A status of 400 and more may mean that a batch was refused as a whole.
    """
    return 0 < status < (500 if calls == 1 else 400)


@dataclass(slots=True, eq=False)
class LedgerLine:
    """The sums of one route, application or account."""

    asked: int = 0
    counted: int = 0
    uncertain: int = 0
    avoided: int = 0
    refused: int = 0  # those of the avoided calls that got Graph's last refusal again
    bytes_avoided: int = 0

    def add(self, other: LedgerLine) -> None:
        """Add the sums of *other*."""
        for name in self.__slots__:
            setattr(self, name, getattr(self, name) + getattr(other, name))


@dataclass(slots=True, eq=False)
class Ledger:
    """The sums of all calls, and by route, application and account."""

    asked: int = 0
    counted: int = 0
    uncertain: int = 0
    unsent: int = 0
    own: int = 0
    avoided: Counter[str] = field(default_factory=Counter)
    bytes_avoided: int = 0
    routes: dict[str, LedgerLine] = field(default_factory=dict)
    apps: dict[str, LedgerLine] = field(default_factory=dict)
    accounts: dict[str, LedgerLine] = field(default_factory=dict)

    def open(self, calls: int, *, route: str = "", app: str = "", account: str = "") -> RequestCost:
        """Returns the cost record of a request for so many *calls*; an empty name means no line of that kind."""
        cost = RequestCost(self, self.lines(route, app, account), app)
        cost.ask(calls)
        return cost

    def add(self, sums: LedgerLine, avoided: Mapping[str, int], *, route: str, app: str, account: str) -> None:
        """Add what was counted elsewhere of requests that were sent once, were avoided, or are still to be sent."""
        self.asked += sums.asked
        self.counted += sums.counted
        self.unsent += sums.asked - sums.counted - sums.avoided
        self.bytes_avoided += sums.bytes_avoided
        for cause, calls in avoided.items():
            self.avoided[cause] += calls
        for line in self.lines(route, app, account):
            line.add(sums)

    def lines(self, route: str, app: str, account: str) -> tuple[LedgerLine, ...]:
        """Returns the lines of a request; an empty name means no line of that kind."""
        named = ((self.routes, route), (self.apps, app), (self.accounts, account))
        return tuple(_line(lines, name) for lines, name in named if name)

    def rename_route(self, route: str, other: str) -> None:
        """Add the sums of *route* to those of *other*, and forget *route*."""
        if (line := self.routes.pop(route, None)) is not None:
            _line(self.routes, other).add(line)


class Payer(Protocol):
    """What calls to Graph are charged to."""

    def send(self, calls: int, *, is_counted: bool = True) -> None:
        """Record that so many *calls* were sent to Graph; *is_counted*: whether Graph has certainly counted them."""


class GroupPayer(Protocol):
    """What the calls of several reads in one batch are charged to."""

    @property
    def slots(self) -> int:
        """How many reads there are."""

    def charge(self, counted: Sequence[bool], times: int) -> None:
        """Record that each of them was sent so many *times*.

        *counted* says for each whether Graph has certainly counted the last time; () if none of them.
        """


class RequestCost:
    """The cost record of one request: calls asked for, sent and avoided; those sent beyond are the sidecar's own."""

    __slots__ = ("_ledger", "_lines", "app", "asked", "avoided", "sent", "span", "uncertain", "unsent")

    def __init__(self, ledger: Ledger, lines: tuple[LedgerLine, ...], app: str = "") -> None:
        """Start with no calls."""
        self._ledger = ledger
        self._lines = lines
        self.app = app
        self.sent = self.uncertain = 0
        self.avoided = 0
        self.span: object = None  # the trace span of this request
        self.asked = 0
        self.unsent = 0

    def ask(self, calls: int) -> None:
        """Record that so many more *calls* are asked for."""
        self.asked += calls
        self.unsent += calls
        self._ledger.asked += calls
        self._ledger.unsent += calls
        for line in self._lines:
            line.asked += calls

    def correct_asked(self, calls: int) -> None:
        """Raise the calls asked for to *calls*: the ids of a reference are known only once it is filled in."""
        self.ask(max(0, calls - self.asked))

    def send(self, calls: int, *, is_counted: bool = True) -> None:
        """Record that so many *calls* were sent to Graph; *is_counted*: whether Graph has certainly counted them."""
        self.sent += calls
        self._ledger.own += calls - self._take_unsent(calls)
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
        """Record avoided calls by cause; calls that were sent nevertheless do not count as avoided."""
        for cause, calls in causes.items():
            taken = self._take_unsent(calls)
            self.avoided += taken
            self._ledger.avoided[cause] += taken
            for line in self._lines:
                line.avoided += taken
                line.refused += taken if cause == REFUSED else 0

    def avoid_bytes(self, size: int) -> None:
        """Record that a body of *size* bytes did not have to be fetched."""
        self._ledger.bytes_avoided += size
        for line in self._lines:
            line.bytes_avoided += size

    def for_background(self) -> RequestCost:
        """Returns a cost record for calls behind this request's reply: on the same lines, asked for by no caller."""
        return RequestCost(self._ledger, self._lines, self.app)

    def _take_unsent(self, calls: int) -> int:
        covered = max(0, min(calls, self.unsent))
        self.unsent -= covered
        self._ledger.unsent -= covered
        return covered


def _line(lines: dict[str, LedgerLine], name: str) -> LedgerLine:
    line = lines.get(name)
    if line is None:
        kept = name if len(lines) < MOST_LINES else OTHER_CAUSE
        line = lines.setdefault(kept, LedgerLine())
    return line
