"""How far a replica has read the log of the fleet, and which record last changed each tag."""

from __future__ import annotations

from collections.abc import Iterable

from proxy.core.memory.memo import MEMO_BYTES, Recent
from proxy.core.shared.wire import BEGIN, Id, Position


class LogIndex:
    """The last record by tag, for a bounded number of tags; for a forgotten tag the latest forgotten record counts."""

    PLACES = 20_000

    def __init__(self) -> None:
        """Start before any log is known."""
        self.lineage = b""
        self.cursor = self.horizon = self.latest = self._floor = BEGIN
        self._last = Recent[str, Id](self.PLACES, 4 * MEMO_BYTES)
        self._numbers: dict[bytes, int] = {}

    @property
    def position(self) -> Position:
        """How far the log has been read."""
        return Position(self.lineage, self.cursor)

    def begin(self, lineage: bytes, horizon: Id) -> None:
        """Start again with another log, at its beginning; records up to *horizon* were deleted from it."""
        self.lineage, self.horizon = lineage, horizon
        self.cursor = self.latest = self._floor = BEGIN
        self._last = Recent[str, Id](self.PLACES, 4 * MEMO_BYTES)
        self._numbers.clear()

    def note(self, names: Iterable[str], at: Id) -> None:
        """Note that the record *at* changed the tags *names*; without a tag it may have changed anything."""
        named = tuple(names)
        self.latest = max(self.latest, at)
        for name in named:
            for _, when in self._last.put(name, max(at, self._last.get(name) or BEGIN)):
                self._floor = max(self._floor, when)
        if not named:
            self._floor = max(self._floor, at)

    def last(self, names: Iterable[str]) -> Id:
        """Returns the last record that changed any of *names*; without a tag, the last record of all."""
        named = tuple(names)
        if not named:
            return self.latest
        return max([self._floor, *(self._last.get(name) or BEGIN for name in named)])

    def knows(self, position: Position) -> bool:
        """Returns whether every record since *position* is known here."""
        return position.lineage == self.lineage and self.horizon <= position.last

    def missed(self, sender: bytes, number: int) -> bool:
        """Returns whether a record of *sender* before *number* is missing; called for each record, in order."""
        before = self._numbers.get(sender)
        self._numbers[sender] = max(number, before or 0)
        return before is not None and number > before + 1
