"""Programs that are told of nothing, under `graph-sidecar run`: all that they say equals what they say directly."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.clients.conftest import MakeStage
from tests.clients.staging import Run
from tests.clients.test_tap_facebook import OBJECTS, config, messages, records, selected

__all__ = ["config"]

TOKEN = "TOK|EN"
OURS = {"graph-sidecar"}
OF_ONE_REPLY = re.compile(r'"fbtrace_id": ?"[^"]*"')

pytestmark = pytest.mark.clients


def same(run: Run) -> list[object]:
    """What a program said, without what names one reply of Graph's."""
    return Run(OF_ONE_REPLY.sub('"fbtrace_id": ""', run.text), run.ledger).said


@pytest.mark.parametrize(
    "environment, program",
    [
        ("clients", ("requests_reads.py", TOKEN)),
        ("clients", ("requests_prepared.py", TOKEN)),
        ("clients", ("httpx_reads.py", TOKEN)),
        ("clients", ("business_reads.py", TOKEN)),
        ("node", ("axios_reads.js", TOKEN, "axios-absolute")),
        ("node", ("axios_reads.js", TOKEN, "axios-connect")),
        ("node", ("node_reads.js", TOKEN)),
        ("curl", ("curl_reads.sh", TOKEN)),
        ("java", ("Reads.java", TOKEN)),
        ("perl", ("perl_reads.pl", TOKEN, "LWP::UserAgent")),
        ("perl", ("perl_reads.pl", TOKEN, "HTTP::Tiny")),
        ("php", ("php_reads.php", TOKEN)),
        ("ruby", ("ruby_reads.rb", TOKEN)),
        ("wget", ("wget_reads.sh", TOKEN)),
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join([value[0], *value[2:]]),
)
async def test_a_program_says_the_same(stage: MakeStage, environment: str, program: tuple[str, ...]) -> None:
    """Every status, body, page and error comes as directly, twice, and all that Graph hears comes from the sidecar."""
    at = await stage(environment, edge_length=10)
    for number in range(2):
        alone, through = await at.directly(*program), await at.unaware(*program)
        assert len(alone.said) > 3
        assert same(through) == same(alone)
        assert through.agents == OURS
        assert through.ledger["writes"] == alone.ledger["writes"]
        assert through.not_modified or not number


async def test_tap_facebook_copies_the_same(stage: MakeStage, config: str, tmp_path: Path) -> None:
    """The tap's own script, whole: every record and bookmark is there, and the next run moves few bytes."""
    at = await stage("tap-facebook", edge_length=12)
    options = ("--config", config, "--properties", await selected(at, config, tmp_path, *OBJECTS))
    alone = await at.directly("tap.py", *options)
    first, second = [await at.unaware("tap-facebook", *options) for _ in range(2)]
    assert messages(first) == messages(second) == messages(alone)
    assert records(second) == dict.fromkeys(OBJECTS, 12)
    assert second.agents == OURS
    assert second.bytes < first.bytes * 0.4


async def test_ruby_finds_the_proxy_for_graph_alone(stage: MakeStage) -> None:
    """Net::HTTP asks an http: URI for the proxy; calls in clear to other hosts go where they went."""
    at = await stage("ruby")
    run = await at.unaware("find_proxy.rb", "http://Graph.facebook.com/", "http://example.com/", "https://example.com/")
    [[_, graph, clear, other]] = run.said
    assert graph.startswith("http://127.0.0.1:")
    assert clear is None
    assert other == graph  # by https_proxy, as for every program
