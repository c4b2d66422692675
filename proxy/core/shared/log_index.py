"""What a replica knows of the log: how far it has read, in which log, and where each name was last changed."""

from __future__ import annotations

from collections.abc import Iterable

from proxy.core.memory.memo import MEMO_BYTES, Recent
from proxy.core.shared.wire import BEGIN, Id, Position


class LogIndex:
    """The last record of each name, for a bounded number of names; a forgotten name counts as changed last of all."""

    PLACES = 20_000

    def __init__(self) -> None:
        """Know no log."""
        self.lineage = b""
        self.cursor = self.horizon = self.latest = self._floor = BEGIN
        self._last = Recent[str, Id](self.PLACES, 4 * MEMO_BYTES)
        self._numbers: dict[bytes, int] = {}

    @property
    def position(self) -> Position:
        """How far the log is read."""
        return Position(self.lineage, self.cursor)

    def begin(self, lineage: bytes, horizon: Id) -> None:
        """Read another log from its beginning; records up to *horizon* are gone from it."""
        self.lineage, self.horizon = lineage, horizon
        self.cursor = self.latest = self._floor = BEGIN
        self._last = Recent[str, Id](self.PLACES, 4 * MEMO_BYTES)
        self._numbers.clear()

    def note(self, names: Iterable[str], at: Id) -> None:
        """What goes by *names* was changed by the record *at*; without a name it may have been anything."""
        named = tuple(names)
        self.latest = max(self.latest, at)
        for name in named:
            for _, when in self._last.put(name, max(at, self._last.get(name) or BEGIN)):
                self._floor = max(self._floor, when)
        if not named:
            self._floor = max(self._floor, at)

    def last(self, names: Iterable[str]) -> Id:
        """The last record that changed any of *names*; without a name, anything."""
        named = tuple(names)
        if not named:
            return self.latest
        return max([self._floor, *(self._last.get(name) or BEGIN for name in named)])

    def knows(self, position: Position) -> bool:
        """Whether all that was recorded since *position* is known here."""
        return position.lineage == self.lineage and self.horizon <= position.last

    def missed(self, sender: bytes, number: int) -> bool:
        """Whether a record of *sender* before its *number* is missing; asked for each record, in order."""
        before = self._numbers.get(sender)
        self._numbers[sender] = max(number, before or 0)
        return before is not None and number > before + 1
