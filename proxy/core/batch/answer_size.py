"""Decides how many operations a batch has, so that Graph's answer can be held in memory."""

from __future__ import annotations

from proxy.core.batch.response import BatchFailure
from proxy.core.batch.window import GRAPH_LIMIT
from proxy.core.model import Reply


class AnswerSize:
    """The most operations of the next batch of one group: fewer after an answer that was too large to be held.

    The reads of such a batch are asked again, and Graph counts each of them twice. So the next batch has half as many;
    batches grow again when twice as many operations would certainly fit.
    """

    def __init__(self) -> None:
        """Know nothing of the size of answers."""
        self.slots = GRAPH_LIMIT

    def on_answer(self, slots: int, answer: Reply | BatchFailure, budget: int) -> None:
        """Learn from the *answer* to a batch of so many *slots*; all answers have a *budget* of bytes together.

        One answer may have half of it (`core/memory/budget`).
        """
        if answer is BatchFailure.LARGE:
            self.slots = max(1, min(self.slots, slots // 2))
        elif isinstance(answer, Reply) and self.slots <= slots < GRAPH_LIMIT and 2 * len(answer.body) <= budget // 2:
            self.slots = min(GRAPH_LIMIT, 2 * self.slots)
