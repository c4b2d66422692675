"""Meta's own Python SDK, unmodified: told another address, it notices nothing else."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.clients.conftest import MakeStage
from tests.clients.staging import Run

TOKEN = "TOK|EN"
SECRET = "SEC"
READS = ("business_reads.py", TOKEN, f"secret={SECRET}")
PROVEN = {"app_secret": SECRET, "require_proof": True, "edge_length": 10}
FRESH: dict[str, Any] = {"cache": {"fresh_s": 60}}
EACH_ASKED: dict[str, Any] = {"quota": {"enabled": False}}  # a throttle says nothing of what else the token asks
OURS = {"graph-sidecar"}

pytestmark = pytest.mark.clients


def raised(run: Run) -> list[tuple[Any, ...]]:
    """Class, status and code of what a program caught, in order."""
    return [(told.get("raised"), told.get("status"), told.get("code")) for told in run.said]


async def test_an_ad_tool_reads_the_same_objects_pages_and_reports(stage: MakeStage) -> None:
    """Every object, every page and every row comes as directly, for as many calls, under the one pinned name."""
    at = await stage(**PROVEN)
    alone, through = await at.alike(*READS)
    assert len(through.said) > 40
    assert sum("after=" in read.target for read in through.reads) >= 4, "paged by cursor"
    assert through.ledger["counted_calls"] == alone.ledger["counted_calls"]
    assert through.agents == OURS


async def test_the_second_run_is_revalidated(stage: MakeStage) -> None:
    """Run again, the tool gets the same output, while Graph confirms each read with a 304 and sends few bytes."""
    at = await stage(**PROVEN)
    first, second = await at.through(*READS), await at.through(*READS)
    assert second.said == first.said
    assert not any(read.conditional for read in first.reads)
    assert all(read.conditional for read in second.reads)
    assert second.not_modified == len(second.reads) == len(first.reads)
    assert second.bytes < first.bytes / 3


async def test_fields_in_another_order_are_the_same_read(stage: MakeStage) -> None:
    """A program that lists its fields in another order each run has its pages revalidated all the same."""
    at = await stage(**PROVEN)
    alone = await at.directly(*READS, "reversed")
    first, second = await at.through(*READS), await at.through(*READS, "reversed")
    assert second.said == first.said == alone.said
    assert second.not_modified == len(second.reads)


async def test_what_changed_between_runs_is_seen(stage: MakeStage) -> None:
    """The second run shows a campaign's new name: nothing old is served, and only what changed is sent again."""
    at = await stage(**PROVEN)
    await at.through(*READS)
    for graph in (at.alone, at.behind):
        graph.world.touch("120110000", {"name": "Nyt navn"})
    alone, second = await at.directly(*READS), await at.through(*READS)
    assert second.said == alone.said
    assert "Nyt navn" in second.text
    assert second.not_modified == len(second.reads) - 1


async def test_a_wrong_proof_is_refused_even_for_what_is_held_and_fresh(stage: MakeStage) -> None:
    """A program with another app secret gets Graph's own refusal, not what a rightful one has just read."""
    at = await stage(settings=FRESH, app_secret=SECRET, require_proof=True)
    program = ("business_errors.py", TOKEN)
    await at.through(*program, SECRET, "1001")
    for secret in ("WRONG", "-"):
        _, through = await at.alike(*program, secret, "1001")
        assert raised(through) == [("FacebookRequestError", 400, 100)]


async def test_two_programs_at_once_each_see_their_own_world(stage: MakeStage) -> None:
    """Two programs with two tokens, running side by side and again, read what their own tokens may see."""
    at = await stage(edge_length=6)
    mine, yours = ("business_reads.py", "MINE"), ("business_reads.py", "YOURS")
    alone = [(await at.directly(*program)).said for program in (mine, yours)]
    for _ in range(2):
        together = await asyncio.gather(at.through(*mine), at.through(*yours))
        assert [run.said for run in together] == alone
    assert alone[0] != alone[1]


async def test_a_program_reads_its_own_writes(stage: MakeStage, image: str) -> None:
    """What it creates, changes, deletes and uploads is there at its next read, though reads are fresh for a minute."""
    at = await stage(settings=FRESH)
    program = ("business_writes.py", TOKEN, image)
    for _ in range(2):
        alone, through = await at.alike(*program)
        assert through.ledger["writes"] == alone.ledger["writes"], "each write was sent once"
        assert through.agents == OURS


async def test_a_validator_of_its_own_is_answered(stage: MakeStage) -> None:
    """A program that keeps ETags itself gets its 304 while nothing changed, and the object once it has."""
    at = await stage()
    alone = await at.directly("business_validators.py", TOKEN)
    through = await at.through("business_validators.py", TOKEN)
    assert through.said == alone.said
    assert [status for status, _ in through.said] == [200, 304, 200, 200, 304]


async def test_a_report_is_polled_until_it_is_done(stage: MakeStage) -> None:
    """No poll of an insights job is answered from before, though reads are fresh for a minute: the job goes on."""
    at = await stage(settings=FRESH, report_polls=3)
    for _ in range(2):
        alone, through = await at.alike("business_report.py", TOKEN)
        assert [told[0] for told in through.said[:4]] == [
            "Job Not Started", "Job Running", "Job Running", "Job Completed",
        ]  # fmt: skip
        assert through.ledger["counted_calls"] == alone.ledger["counted_calls"]


async def test_every_error_is_raised_as_directly(stage: MakeStage) -> None:
    """Missing objects, unknown fields and throttles raise the same exception with the same code, and cost no more."""
    at = await stage(settings=EACH_ASKED, budget=1000)
    for node, code, status in (("1003", 17, 400), ("1004", 80004, 400), ("1005", 4, 403), ("1006", 613, 400)):
        at.trouble(kind="error", id=node, code=code, status=status)
    program = (
        "business_errors.py", TOKEN, "-", "1001", "404001", "1002?nonsense", "1003", "1004", "1005", "1006", "+404001",
    )  # fmt: skip
    alone, through = await at.alike(*program)
    assert [code for _, _, code in raised(through)] == [None, 100, 100, 17, 80004, 4, 613, 100]
    assert through.ledger["counted_calls"] == alone.ledger["counted_calls"], "asking again prolongs a block"


async def test_an_expired_token_is_told_as_directly(stage: MakeStage) -> None:
    """A token that Graph refuses raises code 190 with its subcode, for reads and for writes."""
    at = await stage(refused_tokens=(TOKEN,))
    program = ("business_errors.py", TOKEN, "-", "1001", "1002", "+1001")
    _, through = await at.alike(*program)
    assert raised(through) == [("FacebookRequestError", 400, 190)] * 3


async def test_an_exhausted_allowance_is_told_as_directly(stage: MakeStage) -> None:
    """At the call where Graph begins to refuse, the program hears the throttle, and the usage that goes with it."""
    at = await stage(budget=3)
    program = ("business_errors.py", TOKEN, "-", "1001", "1002", "1003", "1004", "1005")
    _, through = await at.alike(*program)
    assert [code for _, _, code in raised(through)] == [None, None, None, 4, 4]


async def test_graph_out_of_reach_raises(stage: MakeStage, nobody: str) -> None:
    """With nobody at Graph's address reads and writes raise a transient error; none is taken for a success."""
    at = await stage(settings={"upstream": {"origin": nobody}})
    through = await at.through("business_errors.py", TOKEN, "-", "1001", "+1001")
    assert raised(through) == [("FacebookRequestError", 502, 2)] * 2
    for told in through.said:
        assert told["transient"]
        assert told["message"].startswith("graph-sidecar: ")


@pytest.mark.parametrize("kind", ["html", "text", "empty"])
async def test_nonsense_from_graph_is_heard_as_directly(stage: MakeStage, kind: str) -> None:
    """A page of HTML, plain text or nothing in place of JSON has the same effect as directly, and is not kept."""
    at = await stage(settings=FRESH)
    at.trouble(kind=kind)
    program = ("business_errors.py", TOKEN, "-", "1001", "+1001")
    await at.alike(*program)
    at.behind.faults.clear()
    assert raised(await at.through(*program)) == [(None, None, None)] * 2


@pytest.mark.parametrize("kind", ["cut", "cut_middle"])
async def test_a_connection_that_graph_cuts_raises(stage: MakeStage, kind: str) -> None:
    """A reply that never came, or ended halfway, raises a transient error; half a body is no success."""
    at = await stage()
    at.trouble(kind=kind, method="GET")
    at.trouble(kind=kind, where="batch")
    through = await at.through("business_errors.py", TOKEN, "-", "1001")
    assert raised(through) == [("FacebookRequestError", 502, 2)]
