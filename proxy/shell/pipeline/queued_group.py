"""Several reads that wait for a batch as one object; each of them counts as a slot of the batch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Self

from proxy.core.batch.lanes import Lane, Route
from proxy.core.model import Request

if TYPE_CHECKING:  # it imports this module
    from proxy.shell.pipeline.batch_queue import BatchCall, QueuedRead


class QueuedGroup(ABC):
    """Reads of one token in a queue, or in a batch that is under way."""

    is_group: ClassVar[bool] = True
    request: Request
    """The first of the reads."""
    slots: int
    """How many slots of a batch the reads count as."""
    since: float
    left: float
    lane: Lane | None
    call: BatchCall | None

    @property
    @abstractmethod
    def is_done(self) -> bool:
        """Whether every read was answered, has failed, or is no longer waited for."""

    @abstractmethod
    def split(self, slots: int) -> Self:
        """Return the first *slots* of the reads as a group; they no longer belong to this one."""

    @abstractmethod
    def depart(self) -> tuple[Sequence[Request], Sequence[bytes]]:
        """Return the reads that are still wanted, and these as operations of the batch that leaves now.

        From then on the group has as many slots as such reads.
        """

    @abstractmethod
    def routes(self) -> Collection[Route]:
        """Return the routes of the reads that departed."""

    @abstractmethod
    def take(self, slots: Sequence[Any], answer: Any) -> Collection[int]:
        """Take those *slots* of a batch's *answer* that are ordinary ones; return their places among *slots*."""

    @abstractmethod
    def read(self, place: int) -> QueuedRead:
        """Return the read at this *place* among those that departed, by itself."""

    @abstractmethod
    def charge(self, counted: Sequence[bool], times: int) -> None:
        """Record that the reads that departed were sent so many *times*.

        *counted* says for each whether Graph has certainly counted the last time; () if none of them.
        """

    @abstractmethod
    def fail(self, error: BaseException) -> None:
        """Report *error* to all that wait for one of the reads."""
