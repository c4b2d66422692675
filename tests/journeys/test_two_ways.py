"""Two ways through the sidecar, by known bytes and by the handler: nobody can tell which one answered.

The same drawn requests go to two sidecars in front of two equal Graphs. One gets heads as programs write them; to the
other each head has a field without the space before its value, so that no head is known by its bytes there. Clients'
batches are so long there that no operation is known by its JSON.

The same is played by two pairs of replicas, each of which shares a store: the requests come to them in turn.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from functools import partial
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
from proxy.core.shared.store_clock import StoreClock
from proxy.settings import Settings
from proxy.shell.observe.log_writer import LOG
from proxy.shell.observe.stats import stats
from proxy.shell.store import Store
from proxy.shell.valkey.shared import Shared
from tests.conftest import EFFORT
from tests.journeys.talking import Gate
from tests.shell.valkey.servers import Server, program, serving, until
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
FORM = "Content-Type: application/x-www-form-urlencoded"
HELD: st.SearchStrategy[Any] = st.tuples(
    st.sampled_from([*[f"/v25.0/66{number}?fields=name" for number in range(8)], "/661?fields=name", "/v24.0/662"]),
    st.just(""),
    st.just({}),
)
"""Reads that no rule calls fresh: each time Graph confirms what is held of them."""
TOGETHER = st.lists(HELD, min_size=2, max_size=8)
CROWDS = TOGETHER.flatmap(
    lambda operations: st.tuples(
        st.just("crowd"),
        st.just(operations),
        st.lists(
            st.one_of(st.sampled_from(operations), st.lists(st.sampled_from(operations), min_size=1, max_size=3)),
            max_size=3,
        ),
        st.just("ann"),
        st.booleans(),
    )
)
CHANGES_AT_GRAPH = st.tuples(st.just("change"), st.sampled_from([f"66{number}" for number in range(8)]), st.just("ann"))
LONG = 70_000
"""Spaces that make a batch too long to be known by its bytes."""

_KINDS = "aaaaaaarrrc"
"""How often a known read is repeated, any is made, and something changes."""
EVICTION = ("evict",)


def _step(drawn: tuple[str, int, Any, Any, Any]) -> list[tuple[Any, ...]]:
    kind, times, again, read, change = drawn
    return {"a": [again] * times, "r": [read], "c": [change], "e": [EVICTION, again]}[kind]


def _joined(steps: list[list[Any]]) -> list[Any]:
    return [each for step in steps for each in step]


BATCH_STEPS = st.tuples(st.sampled_from("bbbbbrc"), BATCHES, READS, CHANGES).map(
    lambda drawn: {"b": [drawn[1]] * 2, "r": [drawn[2]], "c": [drawn[3]]}[drawn[0]]
)
BATCH_SCRIPTS = st.lists(BATCH_STEPS, min_size=4, max_size=10).map(
    lambda steps: [each for step in steps for each in step]
)
HELD_STEPS = st.tuples(
    st.sampled_from("bbbbcchgg"), TOGETHER, CROWDS, CHANGES, CHANGES_AT_GRAPH, st.integers(1, 3)
).map(
    lambda drawn: {
        "b": [("batch", drawn[1], "ann", {}, ())] * drawn[5],
        "c": [("batch", drawn[2][1], "ann", {}, ()), drawn[2], ("batch", drawn[2][1], "ann", {}, ())],
        "h": [drawn[3]],
        "g": [drawn[4]],
    }[drawn[0]]
)
HELD_SCRIPTS = st.lists(HELD_STEPS, min_size=4, max_size=10).map(_joined)
STEPS, STEPS_ON_DISK = [
    st.tuples(st.sampled_from(kinds), st.integers(1, 4), AGAIN, READS, CHANGES).map(_step)
    for kinds in (_KINDS, f"{_KINDS}ee")  # the last: what is held is on disk alone from then on
]
SCRIPTS, SCRIPTS_ON_DISK = [st.lists(steps, min_size=5, max_size=15).map(_joined) for steps in (STEPS, STEPS_ON_DISK)]


@dataclass(slots=True)
class SameClock(StoreClock):
    """The store's clock, which shows the time of day of the replicas: how long a step takes ages no entry."""

    now: Callable[[], float] = lambda: NOW

    def at(self, age: float, now: float) -> float:
        """Return the time *age* seconds ago."""
        del now
        return self.now() - age

    def age(self, at: float, now: float) -> float:
        """Return the age of what happened *at* that time."""
        del now
        return self.now() - at


class Lines(logging.Handler):
    """What the log says of replies."""

    def __init__(self) -> None:
        """Nothing yet."""
        super().__init__()
        self.told: list[Any] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Take a line."""
        self.told.append(record.entry)  # type: ignore[attr-defined]


@dataclass
class Side:
    """A Graph, the sidecar in front of it, and one who asks."""

    graph: emulator.Running
    fronts: list[app_sidecar.Sidecar]  # replicas, or one
    extra: tuple[str, ...]
    store: Server | None = None
    heard: list[Any] = field(default_factory=list)
    kept: AsyncExitStack = field(default_factory=AsyncExitStack)
    wires: dict[str, Wire] = field(default_factory=dict)  # the connections on which the next reads come
    steps: int = 0

    @property
    def front(self) -> app_sidecar.Sidecar:
        """The one whose turn it is."""
        return self.fronts[self.steps % len(self.fronts)]

    async def do(self, step: tuple[Any, ...], names: str) -> Any:
        """Do *step*, the tokens being those of *names*."""
        answer = await self._do(step, names)
        if self.store is not None:
            await until(self._is_settled)
        self.steps += 1
        return answer

    def _is_settled(self) -> bool:
        """Whether the store has all that the replicas have for it, and each has read what the others wrote."""
        assert self.store is not None
        told = [front.telemetry.gauges.shared() for front in self.fronts]
        leases: Any = self.store.ask("KEYS", "gs1:*:l:*")
        logs: Any = self.store.ask("KEYS", "gs1:*:w")
        records = sum(int(str(self.store.ask("XLEN", log))) for log in logs)
        heard = all(each["log"]["records"] == records and not each["log"]["untold"] for each in told)
        return heard and not leases and not any(each["log"]["open_writes"] for each in told)

    async def _do(self, step: tuple[Any, ...], names: str) -> Any:
        match step:
            case "read", method, path, who, fields:
                return await self.say(method, path, f"{who}{names}" if who else "", fields)
            case "batch", operations, who, parameters, fields:
                return await self.send_batch(operations, f"{who}{names}", parameters, fields, names)
            case "write", node, who:
                return await self.say("POST", f"/v25.0/{node}", f"{who}{names}", ("Content-Length: 0",))
            case "purge", order:
                length = f"Content-Length: {len(order)}"
                await self.entries.flush()  # the answer says how many rows there were
                answer = await self.say("POST", "/purge", "", (length,), body=order, url=self.front.admin_url)
                await self.entries.flush()
                return answer
            case ("evict",):
                await self.entries.flush()
                self.entries.memory.clear()
            case "trouble", kind:
                self.graph.faults.add({"kind": kind, "count": 1})
            case "change", node, who:  # at Graph, so that the sidecar hears of it when it asks
                target = f"/v25.0/{node}?name=n{self.steps}&access_token={who}{names}"
                faults = self.graph.faults
                meant_for_the_sidecar, faults.active = faults.active, []
                answer = await self.say("POST", target, "", ("Content-Length: 0",), url=self.graph.url)
                faults.active = meant_for_the_sidecar
                return answer[0]
            case "crowd", operations, twins, who, leaves:
                return await self.crowd(operations, twins, f"{who}{names}", names, leaves=leaves)
        return None

    @property
    def entries(self) -> Store:
        """Where the sidecar whose turn it is holds entries."""
        store: Store = self.front.telemetry.gauges.store.__self__  # type: ignore[attr-defined]
        return store

    async def send_batch(
        self, operations: Any, token: str, parameters: dict[str, str], fields: tuple[str, ...], names: str
    ) -> Any:
        """What comes back for a batch of *operations*."""
        body = self._form(operations, token, parameters, names)
        start, fields_of_reply, slots = await self.say(
            "POST", "/v25.0/", "", (f"Content-Length: {len(body)}", FORM, *fields), body=body
        )
        return start, self._untraced(fields_of_reply), slots

    def _form(self, operations: Any, token: str, parameters: dict[str, str], names: str) -> str:
        items = []
        for path, who, members in operations:
            own = f"{'&' if '?' in path else '?'}access_token={who}{names}" if who else ""
            items.append({"method": "GET", "relative_url": f"{path[1:]}{own}", **members})
        text = json.dumps(items)
        if self.extra:
            text = f"{text[:-1]}{' ' * LONG}]"
        return urlencode({"access_token": token, "batch": text, **parameters})

    def _untraced(self, fields: list[tuple[str, str]]) -> list[tuple[str, str]]:
        """Several calls of one batch are answered in any order; the trace is that of one of them."""
        return [field for field in fields if not field[0].lower().startswith("x-fb-")]

    def _batch(self, operations: Any, token: str, names: str) -> str:
        """A batch as a message."""
        body = self._form(operations, token, {}, names)
        lines = ("POST /v25.0/ HTTP/1.1", f"Host: {HOST}", f"Content-Length: {len(body)}", FORM, *self.extra)
        return "\r\n".join([*lines, "", body])

    def _get(self, operation: Any, token: str) -> str:
        """A read that an operation of a batch makes, alone, as a message."""
        lines = (f"GET {operation[0]} HTTP/1.1", f"Host: {HOST}", f"Authorization: Bearer {token}", *self.extra)
        return "\r\n".join([*lines, "", ""])

    async def crowd(self, operations: Any, twins: Any, token: str, names: str, *, leaves: bool) -> Any:
        """What comes back for a batch, and for reads and batches of the same objects that come while it is asked.

        The caller of the batch *leaves* before Graph answers, or waits.
        """
        emulated: Any = self.graph.emulator
        gate = Gate(emulated._send)
        emulated._send, send = gate.send, emulated._send
        async with AsyncExitStack() as leaving, AsyncExitStack() as stack:
            wires: list[Wire] = []
            for each in (operations, *twins):
                kept = stack if wires or not leaves else leaving
                wires.append(await kept.enter_async_context(calling(self.front.url)))
                message = self._batch(each, token, names) if isinstance(each, list) else self._get(each, token)
                asked = self._asked() + _size(each)
                await wires[-1].send(message)
                await until(partial(self._has_asked, asked))
                await gate.has(1)
            if leaves:
                await leaving.aclose()
                await until(partial(self._has_open, len(wires) - 1))
            gate.open()
            heard = [await wire.message() for wire in wires[int(leaves) :]]
        emulated._send = send
        return [(each.start, self._untraced(self._fields(each)), each.body) for each in heard]

    def _has_asked(self, reads: int) -> bool:
        return self._asked() >= reads

    def _has_open(self, messages: int) -> bool:
        return self.front.telemetry.gauges.open() == messages

    def _asked(self) -> int:
        asked: int = self.front.telemetry.ledger.asked
        return asked

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
            url = self.front.url
            if url not in self.wires:
                self.wires[url] = await self.kept.enter_async_context(calling(url))
            found = await self._exchange(self.wires[url], message, bodyless=bodyless)
            if found.status not in {200, 304} or found.fields.get("Connection") == "close":
                await self.hang_up()
        return found.start, self._fields(found), found.body.replace(self.graph.url.encode(), b"http://graph")

    async def _exchange(self, wire: Wire, message: str, *, bodyless: bool) -> Message:
        await wire.send(message)
        found = await wire.message(bodyless=bodyless)
        return await wire.message(bodyless=bodyless) if found.start.startswith("HTTP/1.1 100") else found

    async def hang_up(self) -> None:
        """End the connections that were kept."""
        self.wires.clear()
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
    had_gap: bool = False  # whether a replica heard nothing for so long that it asked anew: then no two are alike

    def play(self, script: list[tuple[Any, ...]]) -> None:
        """Play *script* on both sides, and compare."""
        self.plays += 1
        self.runner.run(self._play(script, f"-{self.plays}"))

    async def _play(self, script: list[tuple[Any, ...]], names: str) -> None:
        self.now[0] += 10_000
        gaps = sum(map(_gaps, self.sides))
        for side in self.sides:
            side.graph.faults.clear()
        for at, step in enumerate(script):
            self.now[0] += 0.25
            if step[0] == "wait":
                self.now[0] += step[1]
                continue
            fast, usual = [await self._tell(side, step, names) for side in self.sides]
            if fast != usual and sum(map(_gaps, self.sides)) > gaps:
                self.had_gap = True
                return
            assert fast == usual, f"step {at}: {step}"
        fast, usual = [self._sums(side) for side in self.sides]
        assert fast == usual or self.had_gap

    async def _tell(self, side: Side, step: tuple[Any, ...], names: str) -> Any:
        self.lines.told.clear()
        earlier = len(side.graph.ledger.slots)
        answer = await side.do(step, names)
        told = sorted([_lasting(line) for line in self.lines.told], key=repr)
        return answer, told, sorted(side.graph.ledger.slots[earlier:])

    def _sums(self, side: Side) -> Any:
        kept = ("replies", "calls", "calls_avoided", "bytes_avoided", "by_route", "by_app", "by_account")
        told = [stats(front.telemetry) for front in side.fronts]
        return [{name: each[name] for name in kept if name in each} for each in told], len(side.graph.ledger.slots)


def _size(asked: Any) -> int:
    """How many reads a batch is, or a read alone."""
    return len(asked) if isinstance(asked, list) else 1


def _gaps(side: Side) -> int:
    """How often a replica of *side* got no processor time for so long that it may have missed what others did."""
    told = [front.telemetry.gauges.shared() for front in side.fronts] if side.store is not None else []
    return sum(each["log"]["gaps"] for each in told)


def _lasting(line: Any) -> dict[str, Any]:
    """What a line of the log says besides times, keyed hashes and names of batches and lanes, which each side has."""
    own = {"total_ms", "window_ms", "upstream_ms", "batch", "lane", "key", "app", "body", "rest", "proof", "host"}
    told = {name: getattr(line, name) for name in line.__struct_fields__ if name not in own}
    if told["age_s"] is not None:
        told["age_s"] = int(told["age_s"])  # the age of what another replica fetched is by the store's clock
    return told


@asynccontextmanager
async def _sides(folder: Path, now: list[float], *, replicas: int, disk_mb: int) -> AsyncIterator[list[Side]]:
    """Both sides; more than one of *replicas* share a store."""
    async with AsyncExitStack() as stack:
        sides: list[Side] = []
        for number, extra in enumerate(((), (UNUSUAL,))):
            config = emulator.Config()
            graph = await stack.enter_async_context(emulator.running(config, clock=lambda: now[0]))
            store = None
            if replicas > 1:
                (place := folder / f"store{number}").mkdir()
                store = stack.enter_context(serving(place))
            shared = {"url": store.url, "timeout_ms": 10_000} if store is not None else {}
            fronts = []
            for at in range(replicas):
                key = str(folder / f"key{number}") if store is not None else "ephemeral"
                settings = Settings(
                    listen="127.0.0.1:0",  # type: ignore[arg-type]
                    admin="127.0.0.1:0",  # type: ignore[arg-type]
                    # on the first side batches leave on kept connections, without a task; on the second they hardly do
                    upstream={"origin": graph.url, "rest_ms": 100 * number},  # type: ignore[arg-type]
                    cache={"dir": folder / f"cache{number}{at}", "key_file": key, "disk_mb": disk_mb},  # type: ignore[arg-type]
                    listener={"lag_s": 0},  # type: ignore[arg-type]
                    shared=shared,  # type: ignore[arg-type]
                    rules=RULES,  # type: ignore[arg-type]
                )
                clocks = components.Clocks(now=lambda: now[0])
                fronts.append(await stack.enter_async_context(app_sidecar.sidecar(settings, clocks)))
                if store is not None:
                    sharing: Shared = fronts[-1].telemetry.gauges.shared.__self__  # type: ignore[attr-defined]
                    sharing.fleet.clock = sharing.entries.clock = SameClock(now=clocks.now)
            sides.append(Side(graph, fronts, extra, store))
            stack.push_async_callback(sides[-1].hang_up)
        yield sides


@contextmanager
def _worlds(folder: Path, *, replicas: int = 1, disk_mb: int = 0) -> Iterator[Worlds]:
    """Both sides, for all plays: each has tokens of its own."""
    logger, lines, now = logging.getLogger(LOG), Lines(), [NOW]
    level = logger.level
    logger.setLevel(logging.INFO)
    logger.addHandler(lines)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        opened = _sides(folder, now, replicas=replicas, disk_mb=disk_mb)
        sides = runner.run(opened.__aenter__())
        yield Worlds(runner, sides, lines, now)
        runner.run(opened.__aexit__(None, None, None))
    logger.removeHandler(lines)
    logger.setLevel(level)


@pytest.fixture(scope="module")
def worlds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worlds]:
    """A sidecar on each side."""
    with _worlds(tmp_path_factory.mktemp("worlds")) as made:
        yield made


@pytest.fixture(scope="module")
def worlds_on_disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worlds]:
    """A sidecar on each side, which holds entries on disk, too."""
    with _worlds(tmp_path_factory.mktemp("worlds"), disk_mb=64) as made:
        yield made


@pytest.fixture(scope="module")
def fleets(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worlds]:
    """Two replicas on each side."""
    program()
    with _worlds(tmp_path_factory.mktemp("fleets"), replicas=2) as made:
        yield made


@settings(max_examples=max(80, EFFORT.examples // 10), phases=[Phase.generate])
@given(SCRIPTS_ON_DISK)
def test_nobody_can_tell_by_which_way_a_read_was_answered(
    worlds_on_disk: Worlds, script: list[tuple[Any, ...]]
) -> None:
    """Status, header fields, body, the log's line and the ledger are those of the usual way, from memory and disk."""
    worlds_on_disk.play(script)


@settings(max_examples=max(30, EFFORT.examples // 10), phases=[Phase.generate])
@given(BATCH_SCRIPTS)
def test_nobody_can_tell_by_which_way_a_batch_was_answered(worlds: Worlds, script: list[tuple[Any, ...]]) -> None:
    """A batch whose reads are known by their bytes is answered like one that is too long for that."""
    worlds.play(script)


@settings(max_examples=max(25, EFFORT.examples // 40), phases=[Phase.generate])
@given(SCRIPTS)
def test_nobody_can_tell_by_which_way_a_replica_answered(fleets: Worlds, script: list[tuple[Any, ...]]) -> None:
    """The same for replicas that share entries, flights, writes and limits."""
    fleets.play(script)


@settings(max_examples=max(20, EFFORT.examples // 10), phases=[Phase.generate])
@given(HELD_SCRIPTS)
def test_nobody_can_tell_by_which_way_a_batch_of_held_reads_was_answered(
    worlds: Worlds, script: list[tuple[Any, ...]]
) -> None:
    """Nor who asks for the same reads meanwhile, whether the batch's caller stays or not, and what Graph says."""
    worlds.play(script)
