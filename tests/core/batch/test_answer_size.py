"""How many operations a batch has, after answers of some sizes."""

from __future__ import annotations

import pytest

from proxy.core.batch.answer_size import AnswerSize
from proxy.core.batch.response import BatchFailure
from proxy.core.model import Reply

BUDGET = 64


@pytest.mark.parametrize(
    "answers, most",
    [
        ([], 50),
        ([(50, 10)], 50),
        ([(50, None)], 25),
        ([(7, None)], 3),
        ([(1, None)], 1),
        ([(50, None), (40, None)], 20),
        ([(50, None), (25, 16)], 50),  # twice as many would have 32, half of the budget
        ([(50, None), (25, 17)], 25),
        ([(50, None), (24, 1)], 25),  # fewer than it might have had show nothing
        ([(50, None), (25, None), (12, 1)], 24),
    ],
)
def test_answer_size(answers: list[tuple[int, int | None]], most: int) -> None:
    """Halved after an answer that was too large, doubled after a full batch whose answer was small."""
    size = AnswerSize()
    for slots, came in answers:
        answer = BatchFailure.LARGE if came is None else Reply(200, (), b" " * came)
        size.on_answer(slots, answer, BUDGET)
    assert size.slots == most
