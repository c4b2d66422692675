"""The batches of Meta's own Python SDK, unmodified: taken apart by the sidecar, and answered as Graph would."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.clients.conftest import MakeStage
from tests.clients.staging import Run

BATCH = ("business_batch.py", "TOK|EN")
FRESH: dict[str, Any] = {"cache": {"fresh_s": 60}}
REAL = {"compress": True, "body_bytes": 2048}
NO_LIMIT = {"batch_limit": 1000}
OURS = {"graph-sidecar"}

pytestmark = pytest.mark.clients


def sent(run: Run) -> list[int]:
    """How many operations the program sent each time."""
    return [told[1] for told in run.said if told[0] == "sent"]


def answers(run: Run) -> list[str]:
    """What its operations got, whenever that was."""
    return sorted(str(told) for told in run.said if told[0] != "sent")


async def test_more_than_graph_takes_is_answered_whole_and_revalidated(stage: MakeStage) -> None:
    """130 reads come as from a Graph without limit; sent again, all are confirmed by 304 for 15 % of the bytes."""
    at = await stage(**REAL)
    at.alone.settings.update(NO_LIMIT)
    program = (*BATCH, "reads", "130")
    alone, first, second = [await run(*program) for run in (at.directly, at.through, at.through)]
    assert first.said == second.said == alone.said
    assert sent(second) == [130]
    assert [told[:3] for told in second.said if told[0] == "failure"] == [["failure", 400, 100]] * 2
    assert sum(first.slots) == sum(second.slots) == 130
    assert max(first.slots + second.slots) <= 50
    assert second.not_modified == sum(read.conditional for read in second.reads) == 128
    assert second.bytes < first.bytes * 0.15
    assert second.agents == OURS


async def test_a_batch_of_what_is_fresh_costs_graph_no_call(stage: MakeStage) -> None:
    """Polled again within the rule's time, a batch asks Graph for nothing but what it has refused before."""
    at = await stage(settings=FRESH)
    program = (*BATCH, "reads", "50")
    first, second = await at.through(*program), await at.through(*program)
    assert second.said == first.said
    assert second.ledger["counted_calls"] == 2, "errors are not kept"


async def test_two_programs_whose_batches_meet_each_see_their_own_world(stage: MakeStage) -> None:
    """Batches of two tokens for the same objects, at the same time and again, are packed together and never mixed."""
    at = await stage()
    mine, yours = [("business_batch.py", token, "reads", "20") for token in ("MINE", "YOURS")]
    alone = [(await at.directly(*program)).said for program in (mine, yours)]
    for _ in range(2):
        together = await asyncio.gather(at.through(*mine), at.through(*yours))
        assert [run.said for run in together] == alone
    assert alone[0] != alone[1]


async def test_mistakes_and_writes_come_as_directly_and_writes_once(stage: MakeStage) -> None:
    """Callbacks and failures come in order, a read after a write shows it, and what is held is confirmed by 304."""
    at = await stage(settings=FRESH)
    for calls in (0, 3):
        alone, through = await at.alike(*BATCH, "mixed")
        assert [told[:2] for told in through.said] == [
            ["sent", 7],
            ["success", 200], ["failure", 400], ["success", 200], ["success", 200],
            ["success", 200], ["success", 200], ["failure", 400],
        ]  # fmt: skip
        assert through.slots == alone.slots == [7]
        assert through.ledger["writes"] == alone.ledger["writes"]
        assert through.not_modified == calls
    directly, behind = at.changes()
    assert behind == directly


async def test_a_read_that_graph_leaves_out_is_asked_again_for_the_program(stage: MakeStage) -> None:
    """An empty slot, which the SDK would have to send again, is filled by the sidecar in the same answer."""
    at = await stage()
    at.trouble(kind="null", id="1002", count=1)
    alone, through = await at.directly(*BATCH, "mixed"), await at.through(*BATCH, "mixed")
    assert answers(through) == answers(alone)
    assert sent(alone) == [7, 1]
    assert sent(through) == [7]


async def test_a_write_that_graph_leaves_out_is_the_programs_to_repeat(stage: MakeStage) -> None:
    """Nobody knows whether it was done: the slot stays empty, and the SDK sends it again as it would directly."""
    at = await stage()
    at.trouble(kind="null", method="POST", path="act_1/campaigns", count=1)
    alone, through = await at.alike(*BATCH, "mixed")
    assert sent(through) == [7, 1]
    assert through.ledger["writes"] == alone.ledger["writes"]
    directly, behind = at.changes()
    assert behind == directly


@pytest.mark.parametrize("between", [0, 60])
async def test_operations_name_others(stage: MakeStage, between: int) -> None:
    """What a write made is read and built upon in the same batch, even past the fifty that Graph takes at once."""
    at = await stage()
    at.alone.settings.update(NO_LIMIT)
    for _ in range(2):
        alone, through = (
            await at.directly(*BATCH, "chain", str(between)),
            await at.through(*BATCH, "chain", str(between)),
        )
        assert through.said == alone.said
        assert [told[:2] for told in through.said] == [["sent", between + 5], *[["success", 200]] * (between + 5)]
        assert through.ledger["writes"] == alone.ledger["writes"]
        assert max(through.slots) <= 50
    directly, behind = at.changes()
    assert behind == directly


async def test_files_beside_a_batch_arrive_whole(stage: MakeStage, image: str) -> None:
    """Two images attached to two operations, with a read beside them, are the same bytes at Graph as directly."""
    at = await stage()
    for confirmed in (0, 1):
        _, through = await at.alike(*BATCH, "files", image)
        assert [told[:2] for told in through.said] == [["sent", 3], *[["success", 200]] * 3]
        assert through.ledger["writes"] == [{"method": "POST", "path": "/act_1/adimages", "count": 2}]
        assert through.not_modified == confirmed
    directly, behind = at.changes()
    assert behind == directly


@pytest.mark.parametrize("settings", [{}, FRESH])
async def test_its_own_validators_are_answered(stage: MakeStage, settings: dict[str, Any]) -> None:
    """An operation with If-None-Match gets its 304, which the SDK takes for success, until the object changes."""
    at = await stage(settings=settings)
    _, through = await at.alike(*BATCH, "validators")
    assert [told[1] for told in through.said if told[0] != "sent"] == [200, 200, 304, 304, 200, 304]


async def test_a_report_polled_in_batches_moves_on(stage: MakeStage) -> None:
    """No poll in a batch is answered from before, while the object beside it is, though both are called fresh."""
    at = await stage(settings=FRESH, report_polls=3)
    for asked in (5, 4):
        _, through = await at.alike(*BATCH, "report")
        polls = [told[2]["async_status"] for told in through.said if told[0] == "success" and "async_status" in told[2]]
        assert polls == ["Job Not Started", "Job Running", "Job Running", "Job Completed"]
        assert len(through.reads) == asked, "the polls, and the object once"


@pytest.mark.parametrize("what", [("reads", "3"), ("mixed",)])
async def test_a_refused_token_is_told_of_the_whole_batch(stage: MakeStage, what: tuple[str, ...]) -> None:
    """With a token that Graph refuses the batch as a whole raises code 190, as directly."""
    at = await stage(refused_tokens=("TOK|EN",))
    _, through = await at.alike(*BATCH, *what)
    assert [told[:3] for told in through.said if told[0] != "sent"] == [["refused", 400, 190]]


@pytest.mark.parametrize("what", [("reads", "3"), ("mixed",)])
async def test_graph_out_of_reach_raises(stage: MakeStage, nobody: str, what: tuple[str, ...]) -> None:
    """With nobody at Graph's address the batch as a whole raises a transient error; no slot passes for a success."""
    at = await stage(settings={"upstream": {"origin": nobody}})
    through = await at.through(*BATCH, *what)
    assert [told for told in through.said if told[0] != "sent"] == [["refused", 502, 2, True]]


@pytest.mark.parametrize("settings", [{}, FRESH])
async def test_what_is_carried_out_later_is_watched_as_directly(stage: MakeStage, settings: dict[str, Any]) -> None:
    """Sets of ads and batches for later are made, renamed, watched to their end, filtered and canceled as directly."""
    at = await stage(settings=settings, async_plain_true=False, async_polls=9)
    program = ("business_async.py", "TOK|EN")
    for _ in range(2):
        alone, through = await at.alike(*program)
        assert through.ledger["writes"] == alone.ledger["writes"], "each was given once"
        states = [told[1]["is_completed"] for told in through.said if told[0] == "set"]
        assert states[0] is False, "what is read at once is not the end"
        assert states.count(True) == 2, "each set is watched until it is done, and no longer"
        done = [len(told[1]) for told in through.said if told[0] == "done"]
        assert done[0] < done[-1] == 2
    directly, behind = at.changes()
    assert behind == directly
