"""Yesterday's reads by other rules: what they would have cost, and how old their replies would have been.

The recorded lines (`telling.Told`) hold ids, fingerprints and hashes alone, so nothing here knows a token or a body.
What a rule would have done is decided by the `caching.plan` and the rule book that serve.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from proxy.core import caching, lasting
from proxy.core.messages import Credential, Held, Mode, Request
from proxy.core.normal import join_pairs
from proxy.core.rules import Rule, RuleBook
from proxy.core.telling import Told

_SHOWS_GRAPHS = frozenset({Mode.MISS, Mode.CHANGED, Mode.REVALIDATED})
"""Modes whose body is what Graph held at that moment."""

_PROOFS = (b"",)


@dataclass(frozen=True, slots=True)
class Recorded:
    """A line of the log and when it was written, epoch seconds: the time of the answer."""

    answered: float
    told: Told

    @property
    def asked(self) -> float:
        """When the read came in."""
        return self.answered - self.told.total_ms / 1000


@dataclass(slots=True)
class Tally:
    """What one route, or everything, comes to by the rules that are tried; calls as Meta counts them."""

    asked: int = 0
    recorded: int = 0  # avoided when it was recorded
    counted: int = 0
    avoided: Counter[str] = field(default_factory=Counter)
    bytes_avoided: int = 0
    outdated: int = 0  # replies that Graph is known to have said otherwise by then
    oldest_s: float = 0.0

    def add(self, other: Tally) -> None:
        """Take *other* in."""
        self.asked += other.asked
        self.recorded += other.recorded
        self.counted += other.counted
        self.avoided += other.avoided
        self.bytes_avoided += other.bytes_avoided
        self.outdated += other.outdated
        self.oldest_s = max(self.oldest_s, other.oldest_s)


@dataclass(slots=True)
class _Entry:
    held: Held
    lands: float


class Replay:
    """Plays recorded reads in the order in which they came in."""

    def __init__(self, rules: RuleBook) -> None:
        """Answer by *rules*, with nothing held."""
        self.routes: dict[str, Tally] = {}
        self._rules = rules
        self._entries: dict[str, _Entry] = {}
        self._truths: dict[str, str] = {}  # the body that Graph was last seen to hold, by entry

    def play(self, lines: Iterable[Recorded]) -> None:
        """Answer all of *lines* that are reads."""
        for line in sorted((line for line in lines if line.told.key), key=lambda line: line.asked):
            told, tally = line.told, self.routes.setdefault(line.told.route, Tally())
            tally.asked += told.calls
            tally.recorded += told.avoided
            if told.mode in _SHOWS_GRAPHS:
                self._truths[told.key] = told.body
            self._answer(line, tally)

    def _answer(self, line: Recorded, tally: Tally) -> None:
        told, now, entry = line.told, line.asked, self._entries.get(line.told.key)
        if entry is not None and now < entry.lands:
            tally.avoided["collapsed"] += told.calls
            return
        request = _request(told)
        rule = self._rules.of(request)
        plan = caching.plan(request, entry.held if entry else None, caching.Terms(rule), now)
        if isinstance(plan, caching.Reuse) and entry is not None:
            tally.avoided["stale" if plan.behind else "fresh"] += told.calls
            tally.oldest_s = max(tally.oldest_s, now - entry.held.asked)
            tally.outdated += entry.held.etag != self._truths.get(told.key, entry.held.etag)
            if not plan.behind:
                return
        self._ask(line, request, rule, tally)

    def _ask(self, line: Recorded, request: Request, rule: Rule, tally: Tally) -> None:
        """Ask Graph, which says 304 if it holds what it was last seen to hold."""
        told, entry = line.told, self._entries.get(line.told.key)
        truth = self._truths.get(told.key, told.body)
        tally.counted += told.calls
        if entry is not None and entry.held.etag == truth:
            tally.bytes_avoided += told.size
        if told.status == 200 and rule.cache:
            held = Held(truth, request.channel.value, line.asked, not lasting.is_poll(request), _PROOFS)
            self._entries[told.key] = _Entry(held, line.answered)


def total(tallies: Iterable[Tally]) -> Tally:
    """All of them as one."""
    whole = Tally()
    for tally in tallies:
        whole.add(tally)
    return whole


def _request(told: Told) -> Request:
    """The read of a line, as far as rules look at it."""
    query = join_pairs((("fields", told.fields),)) if told.fields else ""
    return Request(told.host, told.version, told.path, query, credential=Credential(told.app))
