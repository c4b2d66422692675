"""facepy, unmodified: it follows Graph's links as they stand and writes every parameter twice on the way."""

from __future__ import annotations

import pytest

from tests.clients.conftest import MakeStage

TOKEN = "TOK|EN"
READS = ("facepy_reads.py", TOKEN)
OURS = {"graph-sidecar"}

pytestmark = pytest.mark.clients


async def test_a_program_reads_the_same(stage: MakeStage) -> None:
    """Objects, nested edges, several ids and pages, with the header fields that programs look at, come as directly."""
    at = await stage(app_secret="SEC", compress=True)
    alone, through = await at.alike(*READS)
    assert through.ledger["counted_calls"] == alone.ledger["counted_calls"]


async def test_followed_links_stay_with_the_sidecar(stage: MakeStage) -> None:
    """Graph's links are absolute; every page of a feed is asked for through the sidecar, which pins its name."""
    at = await stage(edge_length=30)
    through = await at.through(*READS)
    pages = [read for read in through.reads if "/feed?" in read.target]
    assert len(pages) == 4
    assert sum("after=" in page.target for page in pages) == 3
    assert through.agents == OURS


async def test_the_second_run_is_revalidated(stage: MakeStage) -> None:
    """Run again, with its fields in another order, the program gets the same, and Graph answers each read with 304."""
    at = await stage()
    first, second = await at.through(*READS), await at.through(*READS, "reversed")
    assert second.said == first.said
    assert all(read.conditional for read in second.reads)
    assert second.not_modified == len(second.reads) == len(first.reads)
    assert second.bytes < first.bytes / 3


async def test_a_program_reads_its_own_writes(stage: MakeStage, image: str) -> None:
    """A post shows at once and is gone once deleted, a photo arrives whole, though reads are fresh for a minute."""
    at = await stage(settings={"cache": {"fresh_s": 60}})
    program = ("facepy_writes.py", TOKEN, image)
    for _ in range(2):
        alone, through = await at.alike(*program)
        assert through.ledger["writes"] == alone.ledger["writes"], "each write was sent once"
        assert through.agents == OURS


async def test_its_batches_are_answered_the_same_and_revalidated(stage: MakeStage) -> None:
    """Reads, mistakes, a write and what names it come in order, as directly; what is held is confirmed by 304."""
    at = await stage(app_secret="SEC")
    for confirmed in (0, 53):
        alone, through = await at.alike("facepy_batch.py", TOKEN)
        assert len(through.said) == 57
        assert through.said[54] is None, "others name it, so it keeps quiet"
        assert through.not_modified == confirmed
        assert through.ledger["writes"] == alone.ledger["writes"] == [
            {"method": "POST", "path": "/111/feed", "count": 1}
        ]  # fmt: skip
        assert through.slots[-1] == alone.slots[-1] == 7
        assert sum(through.slots) == 57
    directly, behind = at.changes()
    assert behind == directly


async def test_a_refused_token_is_told_of_the_whole_batch(stage: MakeStage) -> None:
    """With a wrong proof of the app the batch as a whole raises, as directly, and nothing is written."""
    at = await stage(app_secret="ANOTHER")
    alone, through = await at.alike("facepy_batch.py", TOKEN)
    assert through.said[0] == "refused"
    assert through.said[1][:2] == ["FacebookError", 100]
    assert through.ledger["writes"] == alone.ledger["writes"] == []


async def test_every_error_is_raised_as_directly(stage: MakeStage) -> None:
    """Missing objects, unknown fields and throttles raise the same class with the same code, and cost no more."""
    # A throttle would stop what else the token asks.
    at = await stage(settings={"quota": {"enabled": False}})
    at.trouble(kind="error", id="1003", code=17, status=400)
    at.trouble(kind="error", id="1004", code=80004, status=400)
    program = ("facepy_errors.py", TOKEN, "1001", "404001", "1002?nonsense", "1003", "1004", "+404001")
    alone, through = await at.alike(*program)
    assert [(told.get("raised"), told.get("code")) for told in through.said] == [
        (None, None), ("FacebookError", 100), ("OAuthError", 100), ("OAuthError", 17), ("OAuthError", 80004),
        ("FacebookError", 100),
    ]  # fmt: skip
    assert through.ledger["counted_calls"] == alone.ledger["counted_calls"]


async def test_an_expired_token_is_told_as_directly(stage: MakeStage) -> None:
    """A token that Graph refuses raises OAuthError with code 190, for reads and for writes."""
    at = await stage(refused_tokens=(TOKEN,))
    program = ("facepy_errors.py", TOKEN, "1001", "+1001")
    _, through = await at.alike(*program)
    assert [(told["raised"], told["code"], told["error_subcode"]) for told in through.said] == [
        ("OAuthError", 190, 463)
    ] * 2


async def test_graph_out_of_reach_raises(stage: MakeStage, nobody: str) -> None:
    """With nobody at Graph's address reads and writes raise a transient error of the sidecar's."""
    at = await stage(settings={"upstream": {"origin": nobody}})
    through = await at.through("facepy_errors.py", TOKEN, "1001", "+1001")
    assert [(told["raised"], told["code"], told["is_transient"]) for told in through.said] == [
        ("FacebookError", 2, True)
    ] * 2
