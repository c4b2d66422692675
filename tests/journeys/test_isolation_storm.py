"""Many tokens, one set of URLs, every way to pass a token, amid faults, changes and restarts: each sees its own."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, urlsplit

import pytest

from proxy import emulator
from proxy.app import sidecar
from proxy.commands.demo.client import ClientConnection, LostConnectionError, open_connection
from proxy.emulator.graph.faults import Fault, Target
from proxy.emulator.graph.ledger import mask_credentials
from proxy.emulator.objects.values import user_of
from proxy.emulator.server.webhooks import signature
from tests.conftest import EFFORT, ROOT
from tests.journeys.conftest import MakeGraph, SidecarSettings
from tests.journeys.talking import Ask
from tests.shell.valkey.servers import Server

SECRET = "0f1e2d3c4b5a69788796a5b4c3d2e1f0"
TOKENS = [f"token-{number}" for number in range(100)]
IDS = ("111", "222", "333", "444")
READS = [f"/v25.0/{node}?fields={fields}" for node in IDS for fields in ("id,viewer", "name,viewer")]
READS.append("/v25.0/111?fields=id,name,viewer")
LARGER_READS = [*READS, "/v25.0/me?fields=viewer", "/v25.0/?ids=111,222&fields=viewer"]
"""With those that are merged, or are several in one, which cost more."""
MOST_DRAWS = 0.8
RULES = [
    {"path": "/111", "fresh_s": 3600},
    {"path": "/222", "stale_while_revalidate_s": 3600},
    {"path": "/333", "fresh_s": 1, "stale_if_error_s": 3600},
    {"path": "/me", "fresh_s": 60, "merge": True},
]
FAULTS = [("null", "batch", 0.02), ("aborted", "batch", 0.02), ("short", "batch", 0.02), ("cut_middle", "any", 0.01),
          ("refused", "batch", 0.01), ("unavailable", "any", 0.01), ("lost", "any", 0.005)]  # fmt: skip
LIVES: list[tuple[int, float, dict[str, Any]]] = [
    (1, 4.0, {}),
    (1, 4.0, {"merge": {"enabled": True}}),
    (1, 4.0, {"cache": {"memory_mb": 0}}),
    (1, 4.0, {"cache": {"fresh_s": 3600}, "merge": {"enabled": True}}),
    (46, 0.03, {"cache": {"fresh_s": 3600}}),
    (1, 4.0, {"batch": {"group": "token"}}),
]
"""How many parts of the requests one life of the sidecar after the other gets, and its settings, on one cache folder.

Most come to the life that answers most from memory: these are the cheapest, and the most that go wrong at once. There
changes are rarer, each of which makes some hundred entries stale: the second number says how often they come.
"""

FOUND = ROOT / "build" / "storm"
"""Where what is known of a body that names another viewer is kept."""


def viewers(found: Any) -> Iterator[str]:
    """Every viewer that a body names."""
    if isinstance(found, dict):
        yield from [found["viewer"]] if "viewer" in found else []
        for value in found.values():
            yield from viewers(value)
    elif isinstance(found, list):
        for value in found:
            yield from viewers(value)


@lru_cache(maxsize=4096)
def viewers_in(body: bytes | str) -> frozenset[str]:
    """Every viewer that a body of JSON names."""
    return frozenset(viewers(json.loads(body)))


class Exchange(NamedTuple):
    """A request and its reply, both as bytes."""

    at: float
    connection: int  # the caller's port
    asked: bytes
    head: bytes
    body: bytes


class Caller:
    """One caller of one sidecar, with a connection of its own; bytes out and bytes in, to cost next to nothing."""

    def __init__(self, front: sidecar.Sidecar) -> None:
        """Call *front*."""
        self.front = front
        self.last: deque[Exchange] = deque(maxlen=4)
        self._host = urlsplit(front.url).netloc
        self._connection: ClientConnection | None = None
        self._port = 0

    async def ask(self, line: str, body: str = "", **fields: str) -> bytes:
        """The body of the reply to the request *line*; *fields* are more header fields. Raises LostConnectionError."""
        if self._connection is None:
            self._connection = await open_connection(self.front.url)
            self._port = self._connection.port
        head = [f"{line} HTTP/1.1", f"Host: {self._host}", *(f"{name}: {each}" for name, each in fields.items())]
        if body:
            head += ["Content-Type: application/x-www-form-urlencoded", f"Content-Length: {len(body)}"]
        asked = "\r\n".join([*head, "", body]).encode()
        try:
            reply = await self._connection.ask(asked)
        except BaseException:  # the reply may come yet
            self.hang_up()
            raise
        self.last.append(Exchange(time.time(), self._port, asked, reply.head, reply.body))
        if b"\r\nConnection: close" in reply.head:
            self.hang_up()
        return reply.body

    def hang_up(self) -> None:
        """End the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


@dataclass
class Storm:
    """Callers of one or more sidecars, and what they were told."""

    behind: emulator.Running
    dice: random.Random = field(default_factory=lambda: random.Random(17))
    told: Counter[str] = field(default_factory=Counter)
    foreign: list[str] = field(default_factory=list)
    faults: deque[tuple[float, str, str, list[str]]] = field(default_factory=lambda: deque(maxlen=500))

    def __post_init__(self) -> None:
        """Note the faults that Graph plays."""
        draw = self.behind.faults.draw

        def noted(stage: str, target: Target) -> Fault | None:
            fault = draw(stage, target)
            if fault is not None:
                self.faults.append((time.time(), fault.kind, stage, [*target.paths]))
            return fault

        self.behind.faults.draw = noted  # type: ignore[method-assign]

    async def rage(self, fronts: list[sidecar.Sidecar], requests: int, changes: float = 1.0) -> None:
        """Make so many requests, 64 at a time, each of a way that is drawn, some of callers who do not wait.

        *changes* says how many times as often as usual something is changed.
        """
        weights = [weight * changes if way in CHANGES else weight for way, weight in WAYS.items()]
        ways = iter(self.dice.choices(list(WAYS), weights, k=requests))

        async def some(number: int) -> None:
            caller = Caller(fronts[number % len(fronts)])
            for do in ways:
                await self._one(do, caller)
            caller.hang_up()

        await asyncio.gather(*(some(number) for number in range(64)))

    async def _one(self, do: Callable[[Storm, Caller], Awaitable[None]], caller: Caller) -> None:
        try:
            if self.dice.random() < 0.03:
                async with asyncio.timeout(0.004):
                    await do(self, caller)
            else:
                await do(self, caller)
        except TimeoutError:
            self.told["left"] += 1
        except (LostConnectionError, ConnectionError):  # a transfer that breaks off, as Graph's own did
            self.told["broken off"] += 1

    def judge(self, caller: Caller, body: bytes | str, token: str) -> None:
        """Take down whom *body* names, which *caller* got last; it was for *token*."""
        names, own = viewers_in(body), user_of(token)
        self.told["own" if names == {own} else "nobody's"] += 1
        if names - {own}:
            self.foreign.append(f"{token}: {body!r}"[:300])
            self._keep(caller, token)

    def _keep(self, caller: Caller, token: str) -> None:
        """Write down what the caller asked and got, what Graph was asked, and the faults that it played."""
        FOUND.mkdir(parents=True, exist_ok=True)
        known = {
            "token": mask_credentials(f"access_token={token}"),
            "sidecar": caller.front.url,
            "exchanges": [[mask_credentials(str(each)) for each in exchange] for exchange in caller.last],
            "faults": list(self.faults),
            "requests of Graph": self.behind.ledger.requests,
        }
        (FOUND / f"{time.time_ns()}.json").write_text(json.dumps(known, indent=1, default=str))

    def draw(self) -> tuple[str, str]:
        """A read and a token."""
        return self.dice.choice(READS if self.dice.random() < MOST_DRAWS else LARGER_READS), self.dice.choice(TOKENS)


async def in_query(storm: Storm, caller: Caller) -> None:
    """Pass the token in the query."""
    path, token = storm.draw()
    storm.judge(caller, await caller.ask(f"GET {path}&access_token={token}"), token)


async def in_header(storm: Storm, caller: Caller) -> None:
    """Pass the token in Authorization."""
    path, token = storm.draw()
    scheme = storm.dice.choice(("Bearer", "OAuth", "bearer"))
    storm.judge(caller, await caller.ask(f"GET {path}", Authorization=f"{scheme} {token}"), token)


async def in_body(storm: Storm, caller: Caller) -> None:
    """Read by POST, with the token in the form."""
    path, token = storm.draw()
    storm.judge(caller, await caller.ask(f"POST {path}", f"method=get&access_token={token}"), token)


async def in_batch(storm: Storm, caller: Caller) -> None:
    """A batch of the application's own: operations with tokens of their own, and one that has the batch's."""
    drawn = [storm.draw() for _ in range(3)]
    urls = [f"{path[1:]}&access_token={token}" for path, token in drawn[1:]]
    batch = json.dumps([{"method": "GET", "relative_url": url} for url in [drawn[0][0][1:], *urls]])
    found = json.loads(await caller.ask("POST /", f"access_token={drawn[0][1]}&batch={quote(batch)}"))
    if isinstance(found, list):
        for slot, (_, token) in zip(found, drawn, strict=True):
            storm.judge(caller, slot["body"] if slot and slot.get("body") else "null", token)


async def by_write(storm: Storm, caller: Caller) -> None:
    """Change one of the objects."""
    _, token = storm.draw()
    form = f"access_token={token}&name=name{storm.dice.random()}"
    storm.judge(caller, await caller.ask(f"POST /v25.0/{storm.dice.choice(IDS)}", form), token)


async def by_webhook(storm: Storm, caller: Caller) -> None:
    """Tell that one of the objects was changed, as Meta does."""
    entry = {"id": storm.dice.choice(IDS), "time": 1, "changes": [{"field": "name", "value": None}]}
    body = json.dumps({"object": "page", "entry": [entry]}).encode()
    fields = {"X-Hub-Signature-256": signature(body, SECRET), "Content-Type": "application/json"}
    await _tell(f"{caller.front.admin_url}/webhooks", body, fields)
    storm.told["events"] += 1


async def by_purge(storm: Storm, caller: Caller) -> None:
    """Forget one of the objects."""
    order = json.dumps({"id": storm.dice.choice(IDS)})
    await _tell(f"{caller.front.admin_url}/purge", order.encode(), {})
    storm.told["purges"] += 1


async def _tell(url: str, body: bytes, fields: dict[str, str]) -> None:
    async with Ask(url) as caller:
        assert (await caller.say(url, method="POST", data=body, headers=fields)).status == 200


WAYS: dict[Callable[[Storm, Caller], Awaitable[None]], float] = {
    in_query: 60,
    in_header: 30,
    in_body: 2,
    in_batch: 5,
    by_write: 0.2,
    by_webhook: 0.1,
    by_purge: 0.03,
}
CHANGES = (in_body, by_write, by_webhook, by_purge)
"""What ends freshness: a read by POST too, for only Graph knows what its form says."""


async def troubled(graph: MakeGraph) -> emulator.Running:
    """A Graph that loses, cuts and refuses a part of what it is asked."""
    behind = await graph()
    for kind, where, chance in FAULTS:
        behind.faults.add({"kind": kind, "where": where, "probability": chance, "place": "middle"})
    return behind


def check(storm: Storm, requests: int, behind: emulator.Running) -> None:
    """No body names another viewer, and most name their own."""
    assert storm.foreign == []
    assert storm.told["own"] > requests / 2, storm.told
    assert storm.told["left"] > requests / 500, storm.told
    assert behind.ledger.faults > requests / 500


@pytest.fixture
def settings(sidecar_settings: SidecarSettings, tmp_path: Path) -> Callable[..., Any]:
    """Make settings with rules and webhooks, for a Graph and a cache folder."""
    (tmp_path / "secret").write_text(SECRET)

    def make(behind: emulator.Running, folder: str, **tables: Any) -> Any:
        cache = {"dir": tmp_path / folder, "key_file": tmp_path / "key", **tables.pop("cache", {})}
        hooks = {"secret_file": tmp_path / "secret"}
        return sidecar_settings(behind.url, cache=cache, webhooks=hooks, rules=RULES, **tables)

    return make


async def test_a_storm_over_several_lives(graph: MakeGraph, settings: Callable[..., Any]) -> None:
    """One sidecar is started again and again on one cache folder, each time with other settings."""
    behind, requests = await troubled(graph), EFFORT.isolation * 4 // 5
    storm = Storm(behind)
    for parts, changes, life in LIVES:
        async with sidecar.sidecar(settings(behind, "cache", **life)) as front:
            await storm.rage([front], requests * parts // sum(parts for parts, *_ in LIVES), changes)
    check(storm, requests, behind)


async def test_a_storm_over_replicas(graph: MakeGraph, settings: Callable[..., Any], store: Server) -> None:
    """Two replicas share a store, which is emptied in the middle."""
    behind, requests = await troubled(graph), EFFORT.isolation // 5
    storm = Storm(behind)
    async with AsyncExitStack() as stack:
        fronts = []
        for name in ("one", "two"):
            made = settings(behind, name, shared={"url": store.url}, cache={"fresh_s": 3600})
            fronts.append(await stack.enter_async_context(sidecar.sidecar(made)))
        for _ in range(2):
            await storm.rage(fronts, requests // 2, 0.1)
            store.ask("FLUSHALL")
    check(storm, requests, behind)
