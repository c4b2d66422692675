"""One call to Graph while it is counted: when it was sent, how often, and which of its reads Graph has counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, NamedTuple, Self

from proxy.core.observe.histogram import Histogram
from proxy.core.quota.ledger import GroupPayer, Payer, RequestCost

if TYPE_CHECKING:
    from opentelemetry.trace import Span

    from proxy.shell.observe.counters import Counters


class LaneCounts(NamedTuple):
    """The counts of batches of one lane."""

    sizes: Counter[int]  # by their slots
    upstream: Histogram  # seconds that Graph took


@dataclass(slots=True, eq=False)
class CountedCall:
    """One call to Graph; a context manager that lasts while the call is in flight."""

    telemetry: Counters
    loads: Sequence[tuple[Payer | None, int]]  # what it carries: whom it is charged to, and as how many calls
    tally: Callable[[], None]
    kind: str
    id: str = ""  # of a batch
    span: Span | None = None
    counted: Sequence[bool] = ()  # of which loads Graph has counted the last sending for certain
    times: int = 0  # that it left
    lane: str = ""  # of a batch
    began: float = 0.0  # when it left first
    groups: Sequence[GroupPayer] = ()  # whom the slots behind those of `loads` are charged to

    def __enter__(self) -> Self:
        """Count the call as in flight."""
        self.begin()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Count the end of the call, answered or not."""
        self.end(kind)

    def begin(self) -> None:
        """Count the call as in flight."""
        self.telemetry.in_flight += 1
        if self.telemetry.tracer:
            self.span = self.telemetry.tracer.sent(
                self.kind, self.id, [cost if isinstance(cost, RequestCost) else None for cost, _ in self.loads]
            )

    def end(self, kind: type[BaseException] | None = None) -> None:
        """Count the end of the call, answered or not, for an error of this *kind*."""
        self.telemetry.in_flight -= 1
        if self.times:
            self._charge()
        if self.span is not None and self.telemetry.tracer:
            self.telemetry.tracer.landed(self.span, kind)

    def _charge(self) -> None:
        """Charge every sending; earlier ones of a call that was sent again are uncertain."""
        for place, (cost, calls) in enumerate(self.loads):
            charged = cost or self.telemetry.no_caller
            charged.send(calls, is_counted=place < len(self.counted) and self.counted[place])
            if self.times > 1:
                charged.send(calls * (self.times - 1), is_counted=False)
        at = len(self.loads)
        for group in self.groups:
            slots = group.slots
            group.charge(self.counted[at : at + slots], self.times)
            at += slots

    def left(self) -> None:
        """Note that the head was sent: from now on Graph may count the call."""
        self.tally()
        self.began = self.began or self.telemetry.clock()
        self.times += 1

    def answered(self, counted: Sequence[bool]) -> None:
        """Take Graph's answer; *counted* says for each load whether Graph has certainly counted it."""
        self.counted = counted
        if self.lane:
            self.telemetry.lanes[self.lane].upstream.observe(self.telemetry.clock() - self.began)
