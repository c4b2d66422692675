"""pyfacebook, unmodified: it asks with empty fields, sends a link's own query again and reads usage into a class."""

from __future__ import annotations

import pytest

from tests.clients.conftest import MakeStage
from tests.clients.staging import Run

TOKEN = "TOK|EN"
READS = ("pyfacebook_reads.py", TOKEN)
BATCH = ("pyfacebook_batch.py", TOKEN)
OURS = {"graph-sidecar"}

pytestmark = pytest.mark.clients


def read(run: Run) -> list[object]:
    """What it read, without the usage."""
    return [value for value, _ in run.said]


def app_usage(run: Run) -> list[int]:
    """The share of the app's calls that it heard of, read by read."""
    return [usage[0]["call_count"] for _, usage in run.said]


async def test_a_program_reads_the_same(stage: MakeStage) -> None:
    """Objects, several ids, nested edges and pages come as directly, with usage that fits the library's class."""
    at = await stage(app_secret="SEC", require_proof=True, edge_length=10, budget=100)
    alone, through = await at.alike(*READS)
    assert app_usage(through)[-1] > 10
    assert sum("after=" in each.target for each in through.reads) >= 3, "paged"
    assert through.ledger["counted_calls"] == alone.ledger["counted_calls"]
    assert through.agents == OURS


async def test_the_second_run_is_revalidated(stage: MakeStage) -> None:
    """Run again, it reads the same, and Graph answers each read with 304."""
    at = await stage(edge_length=10, compress=True)
    first, second = await at.through(*READS), await at.through(*READS)
    assert second.said == first.said
    assert second.not_modified == len(second.reads) == len(first.reads)


async def test_usage_on_what_is_fresh_is_no_older_than_before(stage: MakeStage) -> None:
    """Answered without asking Graph, the library hears usage that is news of each object, in a form its class takes."""
    at = await stage(settings={"cache": {"fresh_s": 60}}, edge_length=10, budget=100)
    first, second = await at.through(*READS), await at.through(*READS)
    assert read(second) == read(first)
    assert second.reads == []
    assert all(now >= then for now, then in zip(app_usage(second), app_usage(first), strict=True))
    assert app_usage(second)[0] > app_usage(first)[0], "the last word on the first object came with a later read of it"


async def test_its_batches_are_answered_the_same_and_revalidated(stage: MakeStage) -> None:
    """Fifty reads, then writes and what names them, come as directly; reads are confirmed, writes sent once."""
    at = await stage(app_secret="SEC")
    for confirmed in (0, 48):
        alone, through = await at.alike(*BATCH)
        assert len(through.said) == 60
        assert [place for place, told in enumerate(through.said) if told is None] == [52, 56, 59]
        assert through.ledger["writes"] == alone.ledger["writes"]
        assert through.not_modified == confirmed
    directly, behind = at.changes()
    assert behind == directly


async def test_every_error_is_raised_as_directly(stage: MakeStage) -> None:
    """Missing objects, unknown fields and throttles raise the same class with the same code, and cost no more."""
    at = await stage()
    at.trouble(kind="error", id="1003", code=17, status=400)
    program = ("pyfacebook_errors.py", TOKEN, "1001", "404001", "1002?nonsense", "1003", "+404001")
    alone, through = await at.alike(*program)
    assert [told.get("code") for told in through.said] == [None, 100, 100, 17, 100]
    assert through.ledger["counted_calls"] == alone.ledger["counted_calls"]


async def test_an_expired_token_is_told_as_directly(stage: MakeStage) -> None:
    """A token that Graph refuses raises FacebookError with code 190, for reads and for writes."""
    at = await stage(refused_tokens=(TOKEN,))
    program = ("pyfacebook_errors.py", TOKEN, "1001", "+1001")
    _, through = await at.alike(*program)
    assert [(told["raised"], told["code"]) for told in through.said] == [("FacebookError", 190)] * 2


async def test_graph_out_of_reach_raises(stage: MakeStage, nobody: str) -> None:
    """With nobody at Graph's address reads and writes raise a transient error of the sidecar's."""
    at = await stage(settings={"upstream": {"origin": nobody}})
    through = await at.through("pyfacebook_errors.py", TOKEN, "1001", "+1001")
    assert [(told["raised"], told["code"], told["is_transient"]) for told in through.said] == [
        ("FacebookError", 2, True)
    ] * 2
