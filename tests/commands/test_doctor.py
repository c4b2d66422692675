"""`graph-sidecar doctor`, as it is typed: the emulator plays both sides of each assumption."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import sys
from asyncio.subprocess import PIPE
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from proxy.core.graph.doctor.assumptions import ASSUMPTIONS
from proxy.emulator import Config, Running, running
from proxy.shell.intercept.ca import Authority, ca_file
from tests.command_line import Done, said
from tests.wires import Listener, Wire, listening

TOKEN, SECRET = "EAAB|one0123456789", "0123456789abcdef0123"
USUAL: dict[str, Any] = {"budget": 100, "app_secret": SECRET, "require_proof": True}
"""A Graph of which everything can be told."""

Doctor = Callable[..., Awaitable[Done]]
Verdicts = dict[str, tuple[str, str]]


@pytest.fixture
def doctor(tmp_path: Path) -> Doctor:
    """Run the command against *url*, beside the Graph that runs in this loop."""
    token, secret = tmp_path / "token", tmp_path / "secret"
    token.write_text(TOKEN)
    secret.write_text(SECRET)

    async def run(url: str, *more: str) -> Done:
        files = ("--token-file", str(token), "--secret-file", str(secret), "--edge", "feed")
        return await asyncio.to_thread(said, "doctor", *files, "--upstream", url, *more)

    return run


async def examined(doctor: Doctor, *more: str, **config: Any) -> tuple[Done, Verdicts]:
    """What the command says of a Graph with this *config*, and its verdicts and details by key."""
    async with running(Config(**USUAL | config)) as graph:
        done = await doctor(graph.url, "--json", *more)
    told = json.loads(done.stdout)
    return done, {each["key"]: (each["verdict"], each["detail"]) for each in told["findings"]}


async def test_a_graph_that_is_as_assumed(doctor: Doctor) -> None:
    """Every question is asked, all answers are as assumed, and the status is 0; only TLS is out of reach here."""
    done, found = await examined(doctor)
    assert [key for key, (verdict, _) in found.items() if verdict != "as assumed"] == ["tls"]
    assert {each.key for each in ASSUMPTIONS} < set(found)
    assert (done.returncode, done.stderr) == (0, "")


OTHER_SIDES: dict[str, dict[str, Any]] = {
    "no_proxy": {"via": "1.1 corporate"},
    "clock": {"clock_off_s": 600.0},
    "http_version": {"http_version": "1.0"},
    "keep_alive": {"keep_alive": False},
    "etag_direct": {"etag_places": "batch"},
    "etag_slot": {"etag_places": "single"},
    "304_direct": {"not_modified_places": "batch"},
    "304_slot": {"not_modified_places": "single"},
    "304_fields": {"etag_on_304": True},
    "etag_user_agent": {"etag_by_user_agent": False, "pretty_for_browsers": False},
    "etag_channel": {"etag_by_channel": False},
    "304_counts": {"not_modified_counts": False},
    "slots_count": {"slots_count": False},
    "ids_count": {"ids_count": False},
    "limit_50": {"batch_limit": 100},
    "slot_links": {"batch_links": "marked"},
    "slot_shape": {"slot_headers": "map"},
    "slot_order": {"slot_header_order": "reversed"},
    "language_direct": {"language_by_header": False},
    "language_slots": {"language_inherited": False},
}


@pytest.mark.parametrize("key", OTHER_SIDES)
async def test_the_other_side_of_each_assumption(doctor: Doctor, key: str) -> None:
    """That it differs is said with what the sidecar does then, nothing else is said to differ, and the status is 1."""
    done, found = await examined(doctor, **OTHER_SIDES[key])
    assert [name for name, (verdict, _) in found.items() if verdict == "differs"] == [key]
    [assumption] = [each for each in ASSUMPTIONS if each.key == key]
    rows = {each["key"]: each for each in json.loads(done.stdout)["findings"]}
    assert rows[key]["consequence"] == assumption.if_not
    assert done.returncode == 1


async def test_the_other_side_of_this_machine(doctor: Doctor, tmp_path: Path) -> None:
    """A name that leads to this machine, and a folder that is none; a report says so without naming them."""
    (tmp_path / "file").touch()
    async with running(Config(**USUAL)) as graph:
        url, folder = graph.url.replace("127.0.0.1", "localhost"), str(tmp_path / "file")
        done = await doctor(url, "--cache-dir", folder)
        report = await doctor(url, "--cache-dir", folder, "--report")
    assert "DIFFERS folders and files can be used\n        seen: cannot be used: 1\n" in done.stdout
    assert "DIFFERS the name of Graph's host has public addresses\n" in done.stdout
    assert "file is not a folder" in done.stdout.replace("\n          ", " ")
    assert "| folders | differs | cannot be used: 1 | cache.dir changed, cache.key_file default |" in report.stdout
    assert (folder in report.stdout, done.returncode) == (False, 1)


SEVERAL_SIDES = [
    ("usage_place", {"usage_place": "outer"}, "on the reply around them: x-app-usage"),
    ("usage_place", {"usage_place": "both"}, "on slots: x-app-usage; on the reply around them: x-app-usage"),
    ("slot_shape", {"slot_headers": "strings"}, "another shape: strings"),
    ("limit_50", {"batch_limit": 20}, "the limit is 20"),
    ("limit_50", {"batch_limit": 60, "dependent_failure": "960"}, "a batch of 51 was taken"),
    ("slot_errors", {"batch_poison_ids": ("err_graph_sidecar_doctor",)}, "the batch was refused as a whole"),
    ("slot_errors", {"faults": ('{"kind":"error","where":"batch","status":200,"id":"err_graph_sidecar_doctor"}',)},
     "status 200, code 1; the other operation: status 200"),
    ("top_proof", {"proof_on_top": "none"},
     "a slot without a token: refused; a slot with a token and no proof: refused"),
    ("top_proof", {"proof_on_top": "every"}, "a slot without a token: taken; a slot with a token and no proof: taken"),
]  # fmt: skip


@pytest.mark.parametrize("key, config, detail", SEVERAL_SIDES)
async def test_what_is_seen_is_said(doctor: Doctor, key: str, config: dict[str, Any], detail: str) -> None:
    """Where there are more than two answers, the line says which it was."""
    done, found = await examined(doctor, **config)
    assert found[key][0] == "differs"
    assert found[key][1].startswith(detail)
    assert done.returncode == 1


UNTOLD = [
    ("304_counts", {"budget": 100_000}, "usage did not move enough to tell"),
    ("slots_count", {"usage_headers": False}, "Graph reported no usage"),
    ("usage_place", {"usage_headers": False}, "no reply has usage headers"),
    ("slot_links", {"edge_length": 1}, "the edge had no further page, so no link"),
    ("etag_channel", {"etag_places": "none"}, "there was no ETag to compare"),
]


@pytest.mark.parametrize("key, config, detail", UNTOLD)
async def test_what_cannot_be_told_is_not_guessed(
    doctor: Doctor, key: str, config: dict[str, Any], detail: str
) -> None:
    """An answer that tells nothing is neither called good nor bad, and the status is 1."""
    done, found = await examined(doctor, **config)
    assert found[key] == ("cannot be told", detail)
    assert done.returncode == 1


async def test_what_nobody_gave_is_not_asked(tmp_path: Path) -> None:
    """Without an edge and the app's secret their lines say what they need; that is no failure."""
    token = tmp_path / "token"
    token.write_text(TOKEN)
    async with running(Config(budget=100)) as graph:
        done = await asyncio.to_thread(said, "doctor", "--token-file", str(token), "--upstream", graph.url, "--json")
    found = {each["key"]: each["verdict"] for each in json.loads(done.stdout)["findings"]}
    assert [key for key, verdict in found.items() if verdict == "not asked"] == [
        "tls", "ids_count", "slot_links", "top_proof",
    ]  # fmt: skip
    assert done.returncode == 0


async def test_forty_reads_at_most_and_nothing_else(doctor: Doctor) -> None:
    """Counted by Graph, each operation and each of `ids=` being a call; and no write."""
    async with running(Config(**USUAL)) as graph:
        done = await doctor(graph.url, "--json")
        told = json.loads(done.stdout)
        assert graph.ledger.counted_calls <= told["calls"] <= 40
        assert graph.ledger.http_calls == told["http_calls"]
        assert not graph.ledger.writes


def private(graph: Running) -> set[str]:
    """What of a Graph a report must not hold: the token, the secret, ids and names that it told."""
    texts = {TOKEN, TOKEN.replace("|", "%7C"), SECRET, "feed", graph.url.rpartition(":")[2]}
    ids = [request["target"].partition("ids=")[2].partition("&")[0] for request in graph.ledger.requests]
    return texts | {each for told in ids for each in unquote(told).split(",") if each}


@pytest.mark.parametrize("more", [(), ("--json",)])
async def test_a_report_holds_no_token_id_or_name(doctor: Doctor, tmp_path: Path, more: tuple[str, ...]) -> None:
    """Not even of a machine whose folders and agent bear names; what was found is all there."""
    changed = ("--set", f"cache.dir={tmp_path}/of-somebody", "--set", "upstream.user_agent=of-somebody")
    async with running(Config(**USUAL, usage_place="outer")) as graph:
        done = await doctor(graph.url, "--report", *changed, *more)
        texts = private(graph)
    assert len(texts) > 8
    assert [text for text in {*texts, "of-somebody", "127.0.0.1"} if text in done.stdout + done.stderr] == []
    assert "upstream.user_agent" in done.stdout
    assert "changed" in done.stdout
    assert all(each.key in done.stdout for each in ASSUMPTIONS)


async def test_people_are_told_the_settings_in_force(doctor: Doctor) -> None:
    """Where an answer matters, with the value of the setting that answers to it."""
    async with running(Config(**USUAL, batch_limit=20)) as graph:
        done = await doctor(graph.url, "--set", "batch.slots=30")
    assert "DIFFERS a batch holds 50 operations at most\n        seen: the limit is 20\n" in done.stdout
    assert "        batch.slots = 30\n" in done.stdout
    assert TOKEN not in done.stdout


OBSTACLES = [
    ({"refused_tokens": (TOKEN,)}, "Graph refuses the token (status 400, code 190, subcode 463)"),
    ({"budget": 0}, "a limit of Graph's is reached (code 4), and more calls would prolong the block"),
    ({"budget": 12}, "a limit of Graph's is reached (code 4), and more calls would prolong the block"),
    ({"faults": ('{"kind":"html"}',)}, None),
    ({"faults": ('{"kind":"cut"}',)}, "the connection to Graph ended before its reply"),
]


@pytest.mark.parametrize("config, line", OBSTACLES)
async def test_what_is_in_the_way_is_a_line(doctor: Doctor, config: dict[str, Any], line: str | None) -> None:
    """A token that is refused, a limit that is reached, what is no Graph, what ends: said once, status 1."""
    done, found = await examined(doctor, **config)
    assert done.returncode == 1
    assert "could not be asked" in {verdict for verdict, _ in found.values()}
    assert done.stderr.count("\n") == 1
    if line:
        assert done.stderr == f"graph-sidecar: {line}\n"


async def test_no_more_is_asked_of_a_limit_that_is_reached(doctor: Doctor) -> None:
    """Each call would prolong the block: the first refusal is the last call."""
    async with running(Config(**USUAL | {"budget": 12})) as graph:
        await doctor(graph.url)
        assert graph.ledger.throttled_calls <= 2


async def test_a_proxy_in_between_is_named(doctor: Doctor) -> None:
    """One that answers itself is no Graph."""

    async def refuse(wire: Wire, _: Listener) -> None:
        await wire.message()
        await wire.send("HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")

    async with listening(refuse) as proxy:
        done = await doctor(proxy.url)
    assert done.stderr == "graph-sidecar: the reply is not from Graph (status 407): is there a proxy?\n"
    assert done.returncode == 1


async def test_no_way_to_graph(doctor: Doctor, unused_tcp_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A port that nobody listens on, and a name that nobody knows; a proxy that other programs use is named."""
    monkeypatch.setenv("HTTPS_PROXY", "http://somebody:secret@127.0.0.1:3128")
    done = await doctor(f"http://127.0.0.1:{unused_tcp_port}")
    assert done.stderr.startswith("graph-sidecar: no connection to Graph")
    done = await doctor("https://graph.invalid")
    assert done.stderr == (
        "graph-sidecar: the name cannot be resolved; HTTPS_PROXY is set here, and the sidecar uses no proxy\n"
    )
    assert "somebody" not in done.stdout
    assert done.returncode == 1


async def test_a_certificate_that_is_not_trusted(doctor: Doctor, tmp_path: Path) -> None:
    """As a proxy that opens TLS shows one: nothing is sent through it."""
    authority = Authority(tmp_path / "ca", frozenset({"localhost"}))
    leaf = await authority.leaf("localhost")
    async with running(Config(**USUAL), ssl_context=leaf) as graph:
        done = await doctor(graph.url.replace("127.0.0.1", "localhost"))
        assert "certificate is not trusted" in done.stderr
        assert (done.returncode, graph.ledger.http_calls) == (1, 0)


async def test_a_certificate_that_is_trusted_and_a_terminal(tmp_path: Path) -> None:
    """A real command on a terminal: TLS is as assumed, and the terminal is told how far the asking is."""
    authority = Authority(tmp_path / "ca", frozenset({"localhost"}))
    leaf = await authority.leaf("localhost")
    (tmp_path / "token").write_text(TOKEN)
    ours, theirs = pty.openpty()
    async with running(Config(budget=100), ssl_context=leaf) as graph:
        command = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "proxy", "doctor", "--json", "--token-file", str(tmp_path / "token"),
            "--upstream", graph.url.replace("127.0.0.1", "localhost"),
            env={**os.environ, "SSL_CERT_FILE": str(ca_file(tmp_path / "ca"))}, stdout=PIPE, stderr=theirs,
        )  # fmt: skip
        told, _ = await command.communicate()
    os.close(theirs)
    shown = os.read(ours, 65536).decode()
    os.close(ours)
    found = {each["key"]: each for each in json.loads(told)["findings"]}
    assert found["tls"]["verdict"] == "as assumed"
    assert found["tls"]["detail"].startswith("TLSv1.3; of h2 and http/1.1 it would take http/1.1")
    assert "asking Graph: 1 of at most 40 calls" in shown
    assert TOKEN not in shown + told.decode()


@pytest.mark.parametrize(
    "more, line",
    [
        (("--object", "me?fields=name"), "--object: must be an id or a name, such as me"),
        (("--edge", "feed/1"), "--edge: must be the name of an edge, such as posts"),
        (("--token-file", "/nowhere"), "/nowhere: cannot be read: No such file or directory"),
        (("--set", "batch.slots=51"), "batch.slots = 51 (--set): must be less than or equal to 50"),
    ],
)
async def test_what_cannot_be_used_is_refused(doctor: Doctor, more: tuple[str, ...], line: str) -> None:
    """Before anything is asked, with status 2."""
    done = await doctor("http://127.0.0.1:9", *more)
    assert done.returncode == 2
    assert done.stderr.startswith("graph-sidecar: ")
    assert line.partition(" (")[0] in done.stderr
