"""Meta's own Node SDK, unmodified: bodies on every GET, batches as JSON arrays, links followed as they stand."""

from __future__ import annotations

import pytest

from tests.clients.conftest import MakeStage
from tests.clients.staging import Run

TOKEN = "TOK|EN"
READS = ("node_reads.js", TOKEN)
BATCH = ("node_batch.js", TOKEN)
REAL = {"compress": True, "body_bytes": 2048}
OURS = {"graph-sidecar"}

pytestmark = pytest.mark.clients


def results(run: Run) -> list[tuple[str, int]]:
    """What each operation of its batches got: how it was called back, and with which status."""
    return [(told[0], told[1]) for told in run.said if told[0] != "sent"]


async def test_an_ad_tool_reads_the_same_objects_pages_and_reports(stage: MakeStage) -> None:
    """Every object, page and row comes as directly, for as many calls, though each GET carries a body."""
    at = await stage("node", edge_length=10)
    alone, through = await at.alike(*READS)
    assert through.ledger["counted_calls"] == alone.ledger["counted_calls"]


async def test_followed_links_stay_with_the_sidecar(stage: MakeStage) -> None:
    """Graph's links are absolute; every page after the first is asked for through the sidecar, too."""
    at = await stage("node", edge_length=10)
    through = await at.through(*READS)
    assert sum("after=" in read.target for read in through.reads) == 3
    assert through.agents == OURS


async def test_the_second_run_is_revalidated(stage: MakeStage) -> None:
    """Run again, it reads the same, and Graph answers each GET with 304, the body that it carries notwithstanding."""
    at = await stage("node", edge_length=10)
    first, second = await at.through(*READS), await at.through(*READS)
    assert second.said == first.said
    assert second.not_modified == len(second.reads) == len(first.reads)


@pytest.mark.parametrize("count", [50, 130])
async def test_a_batch_of_reads_is_answered_the_same_and_revalidated(stage: MakeStage, count: int) -> None:
    """A JSON array of reads, more than Graph takes too, comes as directly; the next is confirmed for few bytes."""
    at = await stage("node", **REAL)
    at.alone.settings.update({"batch_limit": 1000})
    alone, first, second = [await run(*BATCH, "reads", str(count)) for run in (at.directly, at.through, at.through)]
    assert first.said == second.said == alone.said
    assert results(second).count(("failure", 400)) == 1
    assert max(first.slots + second.slots) <= 50
    assert second.not_modified == count - 1 == len(results(second)) - 1
    assert second.bytes < first.bytes * 0.4


async def test_names_that_leak_into_operations_do_no_harm(stage: MakeStage) -> None:
    """Writes that bear the same odd name, with bodies that nobody has encoded, do what they do directly, and once."""
    at = await stage("node")
    for _ in range(2):
        alone, through = await at.alike(*BATCH, "mixed")
        assert through.slots == alone.slots == [10]
        assert through.ledger["writes"] == alone.ledger["writes"]
        assert len(results(through)) == 10
    directly, behind = at.changes()
    assert behind == directly
    assert "My Søn " in str(behind), "Graph ends the name at the bare ampersand"


async def test_a_read_that_graph_leaves_out_is_asked_again_for_the_program(stage: MakeStage) -> None:
    """An empty slot, which the SDK would have to send again, is filled by the sidecar in the same answer."""
    at = await stage("node")
    at.trouble(kind="null", id="1011", count=1)
    alone, through = await at.directly(*BATCH, "reads", "20"), await at.through(*BATCH, "reads", "20")
    assert sorted(results(through)) == sorted(results(alone))
    assert [told for told in alone.said if told[0] == "sent"] == [["sent", 20], ["sent", 1]]
    assert [told for told in through.said if told[0] == "sent"] == [["sent", 20]]


@pytest.mark.parametrize("what", [("reads", "3"), ("mixed",)])
async def test_a_refused_token_is_told_of_the_whole_batch(stage: MakeStage, what: tuple[str, ...]) -> None:
    """With a token that Graph refuses the batch is rejected as a whole, as directly: no callback is left waiting."""
    at = await stage("node", refused_tokens=(TOKEN,))
    _, through = await at.alike(*BATCH, *what)
    assert [told[:3] for told in through.said if told[0] != "sent"] == [["refused", 400, 190]]


@pytest.mark.parametrize("what", [("reads", "3"), ("mixed",)])
async def test_a_batch_without_graph_is_rejected(stage: MakeStage, nobody: str, what: tuple[str, ...]) -> None:
    """With nobody at Graph's address the whole batch is rejected; a 200 without an array would call nobody back."""
    at = await stage("node", settings={"upstream": {"origin": nobody}})
    through = await at.through(*BATCH, *what)
    assert [told[:3] for told in through.said if told[0] != "sent"] == [["refused", 502, 2]]


async def test_every_error_is_thrown_as_directly(stage: MakeStage) -> None:
    """Missing objects, unknown fields and throttles throw the same error with the same code, and cost no more."""
    at = await stage("node")
    at.trouble(kind="error", id="1003", code=17, status=400)
    program = ("node_errors.js", TOKEN, "1001", "404001", "1002?nonsense", "1003", "+1001", "+404001")
    alone, through = await at.alike(*program)
    assert [told.get("code") for told in through.said] == [None, 100, 100, 17, None, 100]
    assert through.ledger["counted_calls"] == alone.ledger["counted_calls"]


async def test_an_expired_token_is_told_as_directly(stage: MakeStage) -> None:
    """A token that Graph refuses throws code 190 with its subcode, for reads and for writes."""
    at = await stage("node", refused_tokens=(TOKEN,))
    program = ("node_errors.js", TOKEN, "1001", "+1001")
    _, through = await at.alike(*program)
    assert [(told["code"], told["subcode"]) for told in through.said] == [(190, 463)] * 2


async def test_graph_out_of_reach_throws(stage: MakeStage, nobody: str) -> None:
    """With nobody at Graph's address reads and writes throw a transient error of the sidecar's."""
    at = await stage("node", settings={"upstream": {"origin": nobody}})
    through = await at.through("node_errors.js", TOKEN, "1001", "+1001")
    assert [(told["status"], told["code"], told["transient"]) for told in through.said] == [(502, 2, True)] * 2
