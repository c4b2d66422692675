"""Two ways through the sidecar, by the bytes of a head and by the handler: nobody can tell which one answered.

The same drawn requests go to two sidecars in front of two equal Graphs. One gets heads as programs write them; to the
other each head has a field without the space before its value, so that no head is known by its bytes there.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
import uvloop
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from proxy import emulator
from proxy.app import components
from proxy.app import sidecar as app_sidecar
from proxy.settings import Settings
from proxy.shell.observe.log_writer import LOG
from proxy.shell.observe.stats import stats
from tests.conftest import EFFORT
from tests.journeys.conftest import MakeGate, MakeScene
from tests.wires import Message, Wire, calling

NOW = 1_790_000_000.0
HOST = "sidecar.test:8080"
UNUSUAL = "X-Way:usual"

RULES = [
    {"path": "/1*", "fresh_s": 60},
    {"path": "/2*", "fresh_s": 5, "stale_if_error_s": 30},
    {"path": "/3*", "fresh_s": 60, "cache": False},
    {"path": "/4*", "fresh_s": 60, "merge": True},
    {"path": "/5*", "fresh_s": 60, "batch": False},
    {"path": "/act_*", "fresh_s": 60, "stretch_s": 600},
]

PATHS = [
    "/v25.0/111?fields=name",
    "/v25.0/111?fields=id%2Cname",
    "/v25.0/111",
    "/v25.0/222?fields=name",
    "/v25.0/333?fields=name",
    "/v25.0/444?fields=name",
    "/v25.0/555?fields=name",
    "/v25.0/act_111/campaigns?limit=2",
    "/v25.0/act_111/insights?date_preset=today",
    "/v25.0/me?fields=name",
    "/v25.0/666?fields=name",
    "/v25.0/?ids=111,112&fields=name",
    "/v25.0/111?fields=name&callback=app.got",
    "/v25.0/111?callback=1",
    "/v25.0/111?fields={name}",
    "/v25.0/111/picture",
    "/v25.0//111",
    "/",
]

FIELDS: list[tuple[str, ...]] = [
    (),
    ("Accept: */*", "User-Agent: python-requests/2.31", "Connection: keep-alive"),
    ("traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "X-Request-Id: 7"),
    ("If-None-Match: *",),
    ("Cache-Control: no-cache",),
    ("Cache-Control: max-age=3",),
    ("Cache-Control: only-if-cached",),
    ("Accept-Language: de",),
    ("Priority: u=6",),
    ("Range: bytes=0-3",),
    ("Accept: text/event-stream",),
    ("Expect: 100-continue",),
    ("Connection: close",),
    ("Proxy-Connection: close",),
    ("Host: other.test",),
    ("Content-Length: 0",),
    ("X-Odd:  two spaces",),
    ("Transfer-Encoding: identity",),
]

READS = st.tuples(
    st.just("read"),
    st.sampled_from(["GET", "GET", "GET", "HEAD"]),
    st.sampled_from(PATHS),
    st.sampled_from(["ann", "ben", ""]),
    st.sampled_from(FIELDS),
)
AGAIN = st.tuples(
    st.just("read"),
    st.just("GET"),
    st.sampled_from([PATHS[0], PATHS[3], PATHS[7], PATHS[10]]),
    st.sampled_from(["ann", "ann", "ben"]),
    st.sampled_from(FIELDS[:4]),
)
CHANGES = st.one_of(
    st.tuples(st.just("wait"), st.sampled_from([0.0, 2.0, 6.0, 61.0])),
    st.tuples(st.just("write"), st.sampled_from(["111", "222", "act_111"]), st.sampled_from(["ann", "ben"])),
    st.tuples(
        st.just("purge"), st.sampled_from(['{"id": "111"}', '{"path": "/2*"}', '{"all": true}', '{"path": "/act_*"}'])
    ),
    st.tuples(st.just("trouble"), st.sampled_from(["refused", "throttled", "null", "error", "unavailable", "cut"])),
)

OBJECTS = ["/v25.0/111?fields=name", "/v25.0/112?fields=name", "/v25.0/222", "/v25.0/666?fields=name", "/113"]
MEMBERS: list[dict[str, Any]] = [
    {},
    {},
    {"headers": ["Accept-Language: de"]},
    {"headers": ["If-None-Match: *"]},
    {"headers": ["Cache-Control: no-cache"]},
    {"name": "a", "omit_response_on_success": True},
    {"attached_files": ""},
    {"body": "fields=id"},
]
WITHIN = st.tuples(
    st.sampled_from([*OBJECTS, *OBJECTS, *OBJECTS, *PATHS]),
    st.sampled_from(["", "", "", "ann", "ben"]),
    st.sampled_from([{}] * 20 + MEMBERS),
)
PLAIN: st.SearchStrategy[Any] = st.tuples(
    st.sampled_from(OBJECTS), st.sampled_from(["", "", "ben"]), st.sampled_from([{}])
)
BATCHES = st.tuples(
    st.just("batch"),
    st.one_of(st.lists(PLAIN, min_size=1, max_size=8), st.lists(WITHIN, min_size=1, max_size=4)),
    st.sampled_from(["ann", "ann", "ben"]),
    st.sampled_from([{}, {}, {}, {"include_headers": "false"}, {"pretty": "1"}, {"callback": "got"}]),
    st.sampled_from([(), (), (), ("Cache-Control: no-cache",), ("Priority: u=6",)]),
)
LONG = 70_000
"""Spaces that make a batch too long to be known by its bytes."""

_KINDS = "aaaaaaarrrc"
"""How often a known read is repeated, any is made, and something changes."""


def _step(drawn: tuple[str, int, Any, Any, Any]) -> list[tuple[Any, ...]]:
    kind, times, again, read, change = drawn
    return {"a": [again] * times, "r": [read], "c": [change]}[kind]


def _joined(steps: list[list[Any]]) -> list[Any]:
    return [each for step in steps for each in step]


BATCH_STEPS = st.tuples(st.sampled_from("bbbbbrc"), BATCHES, READS, CHANGES).map(
    lambda drawn: {"b": [drawn[1]] * 2, "r": [drawn[2]], "c": [drawn[3]]}[drawn[0]]
)
BATCH_SCRIPTS = st.lists(BATCH_STEPS, min_size=4, max_size=10).map(
    lambda steps: [each for step in steps for each in step]
)
STEPS = st.tuples(st.sampled_from(_KINDS), st.integers(1, 4), AGAIN, READS, CHANGES).map(_step)
SCRIPTS = st.lists(STEPS, min_size=5, max_size=15).map(_joined)


class Lines(logging.Handler):
    """What the log says of replies."""

    def __init__(self) -> None:
        """Nothing yet."""
        super().__init__()
        self.told: list[Any] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Take a line."""
        self.told.append(record.told)  # type: ignore[attr-defined]


@dataclass
class Side:
    """A Graph, the sidecar in front of it, and one who asks."""

    graph: emulator.Running
    front: app_sidecar.Sidecar
    extra: tuple[str, ...]
    heard: list[Any] = field(default_factory=list)
    kept: AsyncExitStack = field(default_factory=AsyncExitStack)
    wire: Wire | None = None  # the connection on which the next read comes

    async def do(self, step: tuple[Any, ...], names: str) -> Any:
        """Do *step*, the tokens being those of *names*."""
        match step:
            case "read", method, path, who, fields:
                return await self.say(method, path, f"{who}{names}" if who else "", fields)
            case "batch", operations, who, parameters, fields:
                return await self.send_batch(operations, f"{who}{names}", parameters, fields, names)
            case "write", node, who:
                return await self.say("POST", f"/v25.0/{node}", f"{who}{names}", ("Content-Length: 0",))
            case "purge", order:
                length = f"Content-Length: {len(order)}"
                return await self.say("POST", "/purge", "", (length,), body=order, url=self.front.admin_url)
            case "trouble", kind:
                self.graph.faults.add({"kind": kind, "count": 1})
        return None

    async def send_batch(
        self, operations: Any, token: str, parameters: dict[str, str], fields: tuple[str, ...], names: str
    ) -> Any:
        """What comes back for a batch of *operations*."""
        items = []
        for path, who, members in operations:
            own = f"{'&' if '?' in path else '?'}access_token={who}{names}" if who else ""
            items.append({"method": "GET", "relative_url": f"{path[1:]}{own}", **members})
        text = json.dumps(items)
        if self.extra:
            text = f"{text[:-1]}{' ' * LONG}]"
        body = urlencode({"access_token": token, "batch": text, **parameters})
        kind = "Content-Type: application/x-www-form-urlencoded"
        start, fields_of_reply, slots = await self.say(
            "POST", "/v25.0/", "", (f"Content-Length: {len(body)}", kind, *fields), body=body
        )
        # Several calls of one batch are answered in any order; the trace is that of one of them.
        return start, [field for field in fields_of_reply if not field[0].lower().startswith("x-fb-")], slots

    async def say(
        self, method: str, path: str, token: str, fields: tuple[str, ...], *, body: str = "", url: str = ""
    ) -> Any:
        """What comes back, without what belongs to one exchange."""
        who = (f"Authorization: Bearer {token}",) if token else ()
        host = () if any(each.startswith("Host:") for each in fields) else (f"Host: {HOST}",)
        if url:
            host = (f"Host: {url.removeprefix('http://')}",)
        lines = (f"{method} {path} HTTP/1.1", *host, *who, *fields, *(() if url else self.extra))
        message, bodyless = "\r\n".join([*lines, "", body]), method == "HEAD"
        if url or method != "GET" or fields not in FIELDS[:9]:
            async with calling(url or self.front.url) as wire:
                found = await self._exchange(wire, message, bodyless=bodyless)
        else:
            if self.wire is None:
                self.wire = await self.kept.enter_async_context(calling(self.front.url))
            found = await self._exchange(self.wire, message, bodyless=bodyless)
            if found.status not in {200, 304} or found.fields.get("Connection") == "close":
                await self.hang_up()
        return found.start, self._fields(found), found.body.replace(self.graph.url.encode(), b"http://graph")

    async def _exchange(self, wire: Wire, message: str, *, bodyless: bool) -> Message:
        await wire.send(message)
        found = await wire.message(bodyless=bodyless)
        return await wire.message(bodyless=bodyless) if found.start.startswith("HTTP/1.1 100") else found

    async def hang_up(self) -> None:
        """End the connection that was kept."""
        self.wire = None
        await self.kept.aclose()

    def _fields(self, found: Message) -> list[tuple[str, str]]:
        hidden = {"date", "server-timing"}
        return [(name, value) for name, value in found.fields.items() if name.lower() not in hidden]


@dataclass
class Worlds:
    """Both sides, one time of day, and the loop that they live on."""

    runner: asyncio.Runner
    sides: list[Side]
    lines: Lines
    now: list[float]
    plays: int = 0

    def play(self, script: list[tuple[Any, ...]]) -> None:
        """Play *script* on both sides, and compare."""
        self.plays += 1
        self.runner.run(self._play(script, f"-{self.plays}"))

    async def _play(self, script: list[tuple[Any, ...]], names: str) -> None:
        self.now[0] += 10_000
        for side in self.sides:
            side.graph.faults.clear()
        for at, step in enumerate(script):
            self.now[0] += 0.25
            if step[0] == "wait":
                self.now[0] += step[1]
                continue
            fast, usual = [await self._tell(side, step, names) for side in self.sides]
            assert fast == usual, f"step {at}: {step}"
        fast, usual = [self._sums(side) for side in self.sides]
        assert fast == usual

    async def _tell(self, side: Side, step: tuple[Any, ...], names: str) -> Any:
        self.lines.told.clear()
        answer = await side.do(step, names)
        told = sorted([_lasting(line) for line in self.lines.told], key=repr)
        return answer, told, sorted(side.graph.ledger.slots[-6:])

    def _sums(self, side: Side) -> Any:
        told = stats(side.front.telemetry)
        kept = ("replies", "calls", "calls_avoided", "bytes_avoided", "by_route", "by_app", "by_account")
        return {name: told[name] for name in kept if name in told}, len(side.graph.ledger.slots)


def _lasting(line: Any) -> dict[str, Any]:
    """What a line of the log says besides times, keyed hashes and names of batches and lanes, which each side has."""
    own = {"total_ms", "window_ms", "upstream_ms", "batch", "lane", "key", "app", "body", "rest", "proof", "host"}
    return {name: getattr(line, name) for name in line.__struct_fields__ if name not in own}


@asynccontextmanager
async def _sides(folder: Path, now: list[float]) -> AsyncIterator[list[Side]]:
    async with AsyncExitStack() as stack:
        sides: list[Side] = []
        for extra in ((), (UNUSUAL,)):
            config = emulator.Config()
            graph = await stack.enter_async_context(emulator.running(config, clock=lambda: now[0]))
            settings = Settings(
                listen="127.0.0.1:0",  # type: ignore[arg-type]
                admin="127.0.0.1:0",  # type: ignore[arg-type]
                upstream={"origin": graph.url},  # type: ignore[arg-type]
                cache={"dir": folder / f"cache{len(sides)}", "key_file": "ephemeral", "disk_mb": 0},  # type: ignore[arg-type]
                listener={"lag_s": 0},  # type: ignore[arg-type]
                rules=RULES,  # type: ignore[arg-type]
            )
            clocks = components.Clocks(now=lambda: now[0])
            front = await stack.enter_async_context(app_sidecar.sidecar(settings, clocks))
            sides.append(Side(graph, front, extra))
            stack.push_async_callback(sides[-1].hang_up)
        yield sides


@pytest.fixture(scope="module")
def worlds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worlds]:
    """Both sides, for all plays: each has tokens of its own."""
    logger, lines, now = logging.getLogger(LOG), Lines(), [NOW]
    level = logger.level
    logger.setLevel(logging.INFO)
    logger.addHandler(lines)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        opened = _sides(tmp_path_factory.mktemp("worlds"), now)
        sides = runner.run(opened.__aenter__())
        yield Worlds(runner, sides, lines, now)
        runner.run(opened.__aexit__(None, None, None))
    logger.removeHandler(lines)
    logger.setLevel(level)


@settings(max_examples=max(80, EFFORT.examples // 10), phases=[Phase.generate])
@given(SCRIPTS)
def test_nobody_can_tell_by_which_way_a_read_was_answered(worlds: Worlds, script: list[tuple[Any, ...]]) -> None:
    """Status, header fields, body, the log's line and the ledger are those of the usual way."""
    worlds.play(script)


@settings(max_examples=max(30, EFFORT.examples // 10), phases=[Phase.generate])
@given(BATCH_SCRIPTS)
def test_nobody_can_tell_by_which_way_a_batch_was_answered(worlds: Worlds, script: list[tuple[Any, ...]]) -> None:
    """A batch whose reads are known by their bytes is answered like one that is too long for that."""
    worlds.play(script)


async def test_a_batch_of_plain_reads_takes_no_task_for_each(scene: MakeScene) -> None:
    """Its fifty reads are asked in one call, and start fewer tasks than there are reads."""
    here = await scene()
    loop, started = asyncio.get_running_loop(), 0

    def count(loop: asyncio.AbstractEventLoop, work: Any, **more: Any) -> asyncio.Task[Any]:
        nonlocal started
        started += 1
        return asyncio.Task(work, loop=loop, **more)

    items = [{"method": "GET", "relative_url": f"v25.0/{111 + at}?fields=id"} for at in range(50)]
    body = urlencode({"access_token": "ann", "batch": json.dumps(items)})
    head = f"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body)}\r\n"
    async with calling(here.front.url) as wire:
        loop.set_task_factory(count)
        try:
            for _ in range(2):
                await wire.send(f"{head}Content-Type: application/x-www-form-urlencoded\r\n\r\n{body}")
                slots = json.loads((await wire.message()).body)
                assert [json.loads(slot["body"])["id"] for slot in slots] == [str(111 + at) for at in range(50)]
        finally:
            loop.set_task_factory(None)
    assert here.slots == [50, 50]
    assert started < 50
    assert (await here.stats())["replies"]["REVALIDATED"] == 50


async def test_messages_behind_one_another_are_answered_in_their_order(scene: MakeScene) -> None:
    """Whole heads in one piece, in several, and in pieces that end anywhere."""
    here = await scene({"rules": [{"path": "/*", "fresh_s": 60}]})
    paths = ["/v25.0/111?fields=id", "/v25.0/222?fields=id", "/v25.0/112?fields=id"]
    for path in paths:
        await here.say(path, token="ann")
    messages = [f"GET {each} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer ann\r\n\r\n" for each in paths]
    text, wanted = "".join(messages), ["111", "222", "112"]
    for cuts in ((), (len(messages[0]),), (len(messages[0]) + len(messages[1]),), (len(text) - 9,), (3,)):
        pieces = [text[start:end] for start, end in zip((0, *cuts), (*cuts, len(text)), strict=True)]
        async with calling(here.front.url) as wire:
            await wire.send(*pieces)
            assert [json.loads((await wire.message()).body)["id"] for _ in paths] == wanted


ASKED = "GET /v25.0/111?fields=id HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer ann\r\n\r\n"
OTHERWISE = ASKED.replace("Host: a\r\n", f"Host: a\r\n{UNUSUAL}\r\n")


@pytest.mark.parametrize("order", [(ASKED, OTHERWISE, ASKED), (OTHERWISE, ASKED, OTHERWISE)])
async def test_twins_share_one_call_by_whichever_way_they_came(
    scene: MakeScene, gate: MakeGate, order: tuple[str, ...]
) -> None:
    """The first starts a flight, and the others join it; all get what Graph said."""
    here = await scene()
    held = gate(here.graph)
    async with AsyncExitStack() as stack:
        wires = [await stack.enter_async_context(calling(here.front.url)) for _ in order]
        for wire, message in zip(wires, order, strict=True):
            await wire.send(message)
            await here.caller.settle()
        held.open()
        heard = [await wire.message() for wire in wires]
    assert here.slots == [1]
    assert [json.loads(each.body) for each in heard] == [{"id": "111"}] * 3
    assert [("collapsed" in each.fields["Cache-Status"]) for each in heard] == [False, True, True]
    assert (await here.stats())["calls"]["asked"] == 3


async def test_what_comes_behind_a_message_that_waits_is_answered_after_it(scene: MakeScene, gate: MakeGate) -> None:
    """Also what memory could answer at once, and what the handler answers."""
    here = await scene({"rules": [{"path": "/2*", "fresh_s": 60}]})
    await here.say("/v25.0/222?fields=id", token="ann")
    held = gate(here.graph)
    async with calling(here.front.url) as wire:
        await wire.send(ASKED)
        await here.caller.settle()
        await wire.send(ASKED.replace("111", "222"))
        await here.caller.settle()
        await wire.send(OTHERWISE.replace("111", "112"))
        await held.has(1)
        held.open()
        assert [json.loads((await wire.message()).body)["id"] for _ in range(3)] == ["111", "222", "112"]


async def test_a_flight_goes_on_while_any_caller_waits_and_no_longer(scene: MakeScene, gate: MakeGate) -> None:
    """The caller who began it may leave; when the last has left, nobody is open, and Graph's answer is nobody's."""
    here = await scene()
    held = gate(here.graph)
    async with calling(here.front.url) as stays:
        async with calling(here.front.url) as leaves:
            await leaves.send(ASKED)
            await held.has(1)
            await stays.send(ASKED)
            await here.caller.settle()
            assert (await here.stats())["open"] == 2
        await here.caller.settle()
        assert (await here.stats())["open"] == 1
        held.open()
        assert json.loads((await stays.message()).body) == {"id": "111"}
    assert here.slots == [1]


async def test_who_joins_after_the_first_has_left_shares_the_call_that_was_made_for_the_first(
    scene: MakeScene, gate: MakeGate
) -> None:
    """The reply says that it is shared, and the first caller's call is counted once."""
    here = await scene()
    held = gate(here.graph)
    async with calling(here.front.url) as stays:
        async with calling(here.front.url) as leaves:
            await leaves.send(ASKED)
            await held.has(1)
            await stays.send(OTHERWISE)
            await here.caller.settle()
        await here.caller.settle()
        async with calling(here.front.url) as joins:
            await joins.send(ASKED)
            await here.caller.settle()
            held.open()
            for wire in (joins, stays):
                heard = await wire.message()
                assert (json.loads(heard.body), "collapsed" in heard.fields["Cache-Status"]) == ({"id": "111"}, True)
    assert here.slots == [1]
    calls = (await here.stats())["calls"]
    assert (calls["asked"], calls["counted"]) == (3, 1)


@pytest.mark.parametrize("message", [ASKED, OTHERWISE], ids=["by its bytes", "by the handler"])
async def test_a_body_that_is_on_disk_alone_is_confirmed_and_replaced(scene: MakeScene, message: str) -> None:
    """The validator leaves while the body is read; each reply is counted and told of as if it came from memory."""
    here = await scene({"cache": {"memory_mb": 0, "disk_mb": 64}})
    told = []
    async with calling(here.front.url) as wire:
        for change in (False, False, False, True, False):
            if change:
                url = f"{here.graph.url}/v25.0/111"
                await here.say(url, method="POST", data={"name": "another"}, token="ann")
            await wire.send(message.replace("fields=id", "fields=id,name"))
            heard = await wire.message()
            status = heard.fields["Cache-Status"].removeprefix("graph-sidecar; ")
            told.append((status, json.loads(heard.body)["name"] == "another"))
    stale, changed = "fwd=stale; fwd-status=304", "fwd=stale; fwd-status=200; stored"
    assert told == [
        ("fwd=uri-miss; stored", False),
        (stale, False),
        (stale, False),
        (changed, True),
        (stale, True),
    ]
    stats = await here.stats()
    assert stats["calls"]["asked"] == stats["calls"]["counted"]
