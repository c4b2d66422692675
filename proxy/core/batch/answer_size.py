"""Decides how many operations a batch has, so that Graph's answer can be held in memory."""

from __future__ import annotations

from proxy.core.batch.window import GRAPH_LIMIT


class AnswerSize:
    """The most operations of the next batch of one group: fewer after an answer that was too large to be held.

    The reads of such a batch are asked again, and Graph counts each of them twice. So the next batch has half as many;
    batches grow again when twice as many operations would certainly fit.
    """

    def __init__(self) -> None:
        """Know nothing of the size of answers."""
        self.slots = GRAPH_LIMIT

    def was_too_large(self, slots: int) -> None:
        """Learn that the answer to a batch of so many *slots* could not be held."""
        self.slots = max(1, min(self.slots, slots // 2))

    def was_held(self, slots: int, size: int, budget: int) -> None:
        """Learn that the answer to a batch of so many *slots* had *size* bytes; all answers have a *budget* together.

        One answer may have half of it (`core/memory/budget`).
        """
        if self.slots <= slots < GRAPH_LIMIT and 2 * size <= budget // 2:
            self.slots = min(GRAPH_LIMIT, 2 * self.slots)
