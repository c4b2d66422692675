"""Plays a drawn Case (drawing.py) to both of two twins and tells every difference that a caller could see."""

from __future__ import annotations

import asyncio
import copy
import gzip
import itertools
import json
import re
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

import aiohttp

from proxy import emulator
from tests.journeys.drawing import GRAPH_LIMIT, LARGEST, NAMED_PART, Case, Item, is_plain
from tests.journeys.talking import Ask, Heard, Twins

USAGE = frozenset({"x-app-usage", "x-ad-account-usage", "x-business-use-case-usage", "x-fb-ads-insights-throttle"})
OURS = frozenset({"cache-status", "server-timing", "age"})
TOLD = frozenset({"content-type", "facebook-api-version", "www-authenticate", "location", "cache-control", "expires"})

_PLACEHOLDER = re.compile(r"<(token|quoted|proof):(\d)>")
_SHAPES = ("EAABdrawn{0}x{1}", "EAABown{0}x{1}", "EAABrefused{0}x{1}", "9{0}|page{1}")


class Stage:
    """Two twins, and the plays that they are put through; nothing of one play is left for the next."""

    def __init__(self, twins: Twins) -> None:
        """Play to *twins*."""
        self._twins = twins
        self._plays = itertools.count()
        self._ways = (_Way(twins.direct, twins.alone, LARGEST), _Way(twins.through, twins.behind, 50))

    async def differences(self, case: Case) -> list[str]:
        """What a caller through the sidecar would find different from Graph's own, in words."""
        known = _Known(next(self._plays))
        for way in self._ways:
            way.begin(known.told(case["config"]))
        for fault in case["faults"]:
            self._ways[1].graph.faults.add(dict(fault))
        found: list[str] = []
        for at, step in enumerate(case["steps"]):
            heard = [await way.take(known.told(step), known.told(case["batches"]), known) for way in self._ways]
            found += [f"step {at} {step[:2]}: {text}" for text in self._compared(step, heard)]
        return found + self._side_effects()

    async def broken_promises(self, case: Case) -> list[str]:
        """What a caller was promised whatever happens to Graph's replies, and did not get.

        Reads that need no other are answered rightly, wherever Graph's answer is an array at all. A write is sent once
        at most, and one that is told to be done is done. What else depends on a write that was struck may differ.
        """
        known, batch = _Known(next(self._plays)), case["batches"][0]
        for way in self._ways:
            way.begin(known.told(case["config"]))
        alone, behind = (way.graph for way in self._ways)
        for fault in case["faults"]:
            behind.faults.add(dict(fault))
        direct, through = [await way.take(["send", 0], known.told(case["batches"]), known) for way in self._ways]
        assert direct is not None
        assert through is not None
        found = list(_writes_repeated(alone, behind))
        theirs, ours = slots(direct, batch), slots(through, batch)
        if theirs is None or ours is None:
            return found
        if len(ours) != len(theirs):
            return [*found, f"{len(theirs)} slots became {len(ours)}"]
        return [*found, *_reads_spoiled(batch, theirs, ours), *_writes_invented(batch, ours, behind)]

    def _compared(self, step: list[Any], heard: list[Heard | None]) -> list[str]:
        direct, through = heard
        if direct is None or through is None:
            return []
        tags = self._ways[0].bodies
        if step[0] == "get":
            return list(single_differences(direct, through))
        return list(reply_differences(direct, through, tags))

    def _side_effects(self) -> list[str]:
        alone, behind = (way.graph for way in self._ways)
        found = []
        if (ours := behind.emulator.world_as_json()) != (theirs := alone.emulator.world_as_json()):
            found.append(f"the worlds differ: {_first_difference(theirs, ours)}")
        if behind.ledger.writes != alone.ledger.writes:
            found.append(f"the writes differ: {alone.ledger.writes - behind.ledger.writes} were asked for, "
                         f"{behind.ledger.writes - alone.ledger.writes} were not")  # fmt: skip
        return found


class _Known:
    """The credentials of one play."""

    def __init__(self, play: int) -> None:
        self.tokens = [shape.format(play, at) for at, shape in enumerate(_SHAPES)]

    def told(self, value: Any) -> Any:
        """*value* with every placeholder replaced."""
        return json.loads(_PLACEHOLDER.sub(self._replaced, json.dumps(value)))

    def _replaced(self, found: re.Match[str]) -> str:
        token = self.tokens[int(found[2])]
        match found[1]:
            case "quoted":
                return quote(token, safe="")
            case "proof":
                return emulator.proof_of("hush", token)
        return token


class _Way:
    """One of the two ways, with what it was told before."""

    def __init__(self, ask: Ask, graph: emulator.Running, limit: int) -> None:
        self._ask = ask
        self.graph = graph
        self._limit = limit

    def begin(self, config: dict[str, Any]) -> None:
        """Forget the last play."""
        self.graph.settings.reset()
        self.graph.settings.update({**config, "batch_limit": self._limit})
        self.graph.emulator.restore_world()
        self.graph.ledger.clear()
        self.graph.faults.clear()
        self._tags: dict[int, list[str]] = {}
        self.bodies: dict[str, Any] = {}

    async def take(self, step: list[Any], batches: list[Case], known: _Known) -> Heard | None:
        """Take one step."""
        match step:
            case ["send", at]:
                return await self._send(at, batches[at], known)
            case ["crowd", at]:
                return (await asyncio.gather(*(self._send(at, batches[at], known) for _ in range(3))))[-1]
            case ["set", changes]:
                self.graph.settings.update(changes)
            case ["get", url]:
                return await self._ask.say(f"/{url.removeprefix('/')}", token=known.tokens[0])
            case ["post", path, body]:
                fields = {"Content-Type": "application/x-www-form-urlencoded"}
                return await self._ask.say(path, method="POST", token=known.tokens[0], data=body, headers=fields)
            case ["touch", node]:
                self.graph.world.touch(node)
        return None

    async def _send(self, at: int, batch: Case, known: _Known) -> Heard:
        tags = self._tags.get(at, [])
        items = [_tagged(item, tags[at] if at < len(tags) else "") for at, item in enumerate(batch["items"])]
        heard = await self._ask.say(**written(batch, items, known.tokens))
        told = slots(heard, batch) or ()
        self._tags[at] = [_tag(slot, tag) for slot, tag in itertools.zip_longest(told, tags)]
        self.bodies |= {_tag(slot, ""): _json(slot["body"]) for slot in told if _tag(slot, "")}
        return heard


def _tagged(item: Item, tag: str) -> Item:
    """The item as it is sent: conditional on *tag*, in the shape that was drawn."""
    shape = item.get("~tag")
    item = {name: value for name, value in item.items() if not name.startswith("~")}
    if not tag or not shape:
        return item
    match shape:
        case "strings":
            item["headers"] = [f"If-None-Match: {tag}"]
        case "objects":
            item["headers"] = [{"name": "If-None-Match", "value": tag}]
        case _:
            item["headers"] = {"If-None-Match": tag}
    return item


def _tag(slot: Any, known: str) -> str:
    """The ETag that a slot tells; a 304 tells that the *known* one still holds."""
    if isinstance(slot, dict) and slot["code"] == 304:
        return known
    fields = slot.get("headers") if isinstance(slot, dict) and slot["code"] == 200 else None
    return next((each["value"] for each in fields or () if each["name"].lower() == "etag"), "")


# --- what holds whatever happens ---


def _writes_repeated(alone: emulator.Running, behind: emulator.Running) -> Iterator[str]:
    if behind.ledger.writes.total() > alone.ledger.writes.total():
        yield f"{alone.ledger.writes} were asked for, and sent were {behind.ledger.writes}"
    wanted, done = _done(alone), _done(behind)
    if more := done - wanted:
        yield f"{more} were done too often"


def _done(graph: emulator.Running) -> Counter[str]:
    """How often each write was done, by the mark that it bears."""
    done: Counter[str] = Counter()
    for write in graph.emulator.world_as_json()["writes"]:
        if mark := write["values"].get("name") or write["values"].get("title"):
            done[mark] += write["count"]
    return done


def _reads_spoiled(batch: Case, theirs: list[Any], ours: list[Any]) -> Iterator[str]:
    """A part of a larger batch that Graph refused as a whole says so in all of its slots."""
    for at, item in enumerate(batch["items"]):
        is_refused = len(ours) > GRAPH_LIMIT and ours[at] is not None and ours[at]["code"] >= 400
        if is_plain(item) and not is_refused:
            yield from (f"slot {at}: {text}" for text in slot_differences(theirs[at], ours[at], {}))


def _writes_invented(batch: Case, ours: list[Any], behind: emulator.Running) -> Iterator[str]:
    done = _done(behind)
    for at, item in enumerate(batch["items"]):
        mark = re.search(r"\b(?:name|title)=([a-z]+\d+)", f"{item.get('body')}")
        if mark and ours[at] is not None and ours[at]["code"] == 200:
            done[mark[1]] -= 1
            if done[mark[1]] < 0:
                yield f"slot {at}: {mark[1]} is told to be done and is not"


# --- a batch as it goes over the wire ---


def written(batch: Case, items: list[Item], tokens: list[str]) -> dict[str, Any]:
    """What a client would send, for `Ask.say`."""
    parameters: dict[str, Any] = {**batch.get("extra", {})}
    for name in ("include_headers", "callback"):
        if name in batch:
            parameters[name] = batch[name]
    query: dict[str, str] = {}
    fields = {"Accept-Language": batch["language"]} if "language" in batch else {}
    if batch["top"] is not None:
        token = tokens[batch["top"]]
        if proof := batch.get("proof"):
            parameters["appsecret_proof"] = emulator.proof_of("hush", token) if proof == "right" else "0bad"
        where = "query" if batch["body"] == "query" and batch["top_in"] == "body" else batch["top_in"]
        if where == "header":
            fields["Authorization"] = f"Bearer {token}"
        else:
            (query if where == "query" else parameters)["access_token"] = token
    data, more = _body(batch["body"], items, parameters)
    if data is None:
        query |= {**parameters, "batch": json.dumps(items)}
    path = batch["path"] + (f"?{urlencode(query)}" if query else "")
    return {
        "path": path,
        "method": "POST",
        "headers": {**fields, **more},
        "data": data,
        "typed": batch["body"] != "untyped",
    }


def _body(form: str, items: list[Item], parameters: dict[str, Any]) -> tuple[Any, dict[str, str]]:
    """The body and its header fields; None for a batch that stands in the query."""
    urlencoded = {"Content-Type": "application/x-www-form-urlencoded"}
    text = json.dumps(items, ensure_ascii=False)
    match form:
        case "query":
            return None, {}
        case "form":
            return urlencode({**parameters, "batch": text}).encode(), urlencoded
        case "untyped":
            return urlencode({**parameters, "batch": text}).encode(), {}
        case "gzip":
            whole = urlencode({"batch": text, **parameters}).encode()
            return gzip.compress(whole, 1), {**urlencoded, "Content-Encoding": "gzip"}
        case "loose":
            return urlencode({**parameters, "batch": _loose(items)}).encode(), urlencoded
        case "json":
            return json.dumps({**parameters, "batch": items}).encode(), {"Content-Type": "application/json"}
        case "json_text":
            return json.dumps({"batch": text, **parameters}).encode(), {"Content-Type": "application/json"}
        case _:
            return _multipart({**parameters, "batch": text}), {}


def _multipart(parameters: dict[str, Any]) -> aiohttp.FormData:
    form = aiohttp.FormData(default_to_multipart=True)
    for name, value in parameters.items():
        form.add_field(name, value)
    for name, content in NAMED_PART.items():
        form.add_field(name, content.encode(), filename=f"{content}.png", content_type="image/png")
    return form


def _loose(items: list[Item]) -> str:
    """JSON as Meta's own samples write it: a comma too many."""
    return "[" + "".join(json.dumps(item)[:-1] + ", }, " if item else "{}," for item in items) + "]"


# --- what came back ---


def slots(heard: Heard, batch: Case) -> list[Any] | None:
    """The slots of a reply, or None for one that is no array."""
    text = heard.body.decode()
    if callback := batch.get("callback"):
        text = text.removeprefix(f"/**/ {callback}(").removesuffix(");")
    found = _json(text)
    return found if isinstance(found, list) else None


def reply_differences(direct: Heard, through: Heard, bodies: dict[str, Any]) -> Iterator[str]:
    """Where the reply to a batch differs; *bodies* are what Graph said before, by ETag."""
    if through.status != direct.status:
        yield f"status {direct.status} became {through.status}: {through.body[:200]!r}"
        return
    if through.headers.get("Content-Type") != direct.headers.get("Content-Type"):
        yield f"type {direct.headers.get('Content-Type')} became {through.headers.get('Content-Type')}"
    (before, theirs, after), (prefix, ours, suffix) = _opened(direct), _opened(through)
    if (before, after) != (prefix, suffix):
        yield f"{before}…{after} became {prefix}…{suffix}"
    if not isinstance(theirs, list) or not isinstance(ours, list):
        if _plain(theirs) != _plain(ours):
            yield f"{_short(theirs)} became {_short(ours)}"
    elif len(theirs) != len(ours):
        yield f"{len(theirs)} slots became {len(ours)}"
    else:
        for at, pair in enumerate(zip(theirs, ours, strict=True)):
            yield from (f"slot {at}: {text}" for text in slot_differences(*pair, bodies))


def _opened(heard: Heard) -> tuple[str, Any, str]:
    """JSONP taken off."""
    text = heard.body.decode()
    found = re.fullmatch(r"(/\*\*/ [\w.\[\]]+\()(.*)(\);)", text, re.DOTALL)
    return (found[1], _json(found[2]), found[3]) if found else ("", _json(text), "")


def slot_differences(theirs: Any, ours: Any, bodies: dict[str, Any]) -> Iterator[str]:
    """Where a slot of the sidecar's differs from Graph's own.

    Two things may: where Graph has a choice of saying null or 960, either will do; and where Graph says 304, the whole
    body will do, if it is the one that the ETag stands for.
    """
    if is_unanswered(theirs) and is_unanswered(ours):
        return
    if theirs is None or ours is None:
        yield f"{_short(theirs)} became {_short(ours)}"
        return
    if theirs["code"] == 304 and ours["code"] == 200:
        if _plain(_json(ours["body"])) not in [_plain(each) for each in bodies.values()]:
            yield f"304 became {_short(ours)}"
        return
    if theirs["code"] != ours["code"] or ("body" in theirs) != ("body" in ours):
        yield f"{_short(theirs)} became {_short(ours)}"
    elif (was := _plain(_json(theirs.get("body")))) != (now := _plain(_json(ours.get("body")))):
        yield f"body: {_first_difference(was, now)} ({_short(theirs)} became {_short(ours)})"
    if ("headers" in theirs) != ("headers" in ours):
        yield "headers came or went"
    elif "headers" in theirs and (was := _fields(theirs)) != (now := _fields(ours)):
        yield f"headers: {_first_difference(was, now)}"


def _fields(slot: dict[str, Any]) -> dict[str, str]:
    """What an item's header fields say, besides usage and what the sidecar adds."""
    named = {each["name"].lower(): each["value"] for each in slot["headers"]}
    kept = {name: value if name in TOLD else "" for name, value in named.items() if name not in USAGE | OURS}
    is_silent = slot["code"] == 304 or "Unknown path" in slot.get(
        "body", ""
    )  # one of no version, one of a version unknown
    told = TOLD - {"facebook-api-version"} if is_silent else TOLD
    return kept if slot["code"] == 200 else {name: value for name, value in kept.items() if name in told}


def single_differences(direct: Heard, through: Heard) -> Iterator[str]:
    """Where the reply to a single call differs."""
    theirs, ours = _plain(_json(direct.body.decode())), _plain(_json(through.body.decode()))
    if (direct.status, theirs) != (through.status, ours):
        yield f"{direct.status} {_short(theirs)} became {through.status} {_short(ours)}"


def is_unanswered(slot: Any) -> bool:
    """Whether a slot says that its operation was not performed."""
    said = _json(slot.get("body")) if isinstance(slot, dict) else None
    return slot is None or (isinstance(said, dict) and said.get("error", {}).get("code") == 960)


def _json(text: Any) -> Any:
    try:
        return json.loads(text) if isinstance(text, str) else text
    except ValueError:
        return text


def _plain(value: Any) -> Any:
    """A value without what is different in any two replies of Graph's, its links in one spelling."""
    match value:
        case dict():
            return {name: _plain(inner) for name, inner in value.items() if name != "fbtrace_id"}
        case list():
            return [_plain(inner) for inner in value]
        case str() if value.startswith("https://graph.facebook.com/"):
            return _link(value)
    return value


def _link(text: str) -> Any:
    """A paging link: Graph echoes the parameters in the order in which it was asked."""
    parts = urlsplit(text)
    pairs = [[name, ",".join(sorted(value.strip("[]").replace('"', "").split(","))) if name == "fields" else value]
             for name, value in parse_qsl(parts.query)]  # fmt: skip
    return [parts.path, sorted(map(list, {tuple(pair) for pair in pairs}))]


def _first_difference(was: Any, now: Any) -> str:
    if isinstance(was, dict) and isinstance(now, dict):
        for name in [*was, *(name for name in now if name not in was)]:
            if was.get(name, ...) != now.get(name, ...):
                return f".{name}" + _first_difference(was.get(name, ...), now.get(name, ...))
    if isinstance(was, list) and isinstance(now, list) and len(was) == len(now):
        at = next(at for at in range(len(was)) if was[at] != now[at])
        return f"[{at}]" + _first_difference(was[at], now[at])
    return f": {_short(was)} became {_short(now)}"


def _short(value: Any) -> str:
    text = repr({**value, "headers": "…"} if isinstance(value, dict) and "headers" in value else value)
    return text if len(text) < 400 else f"{text[:300]} … {text[-80:]}"


# --- the smallest case that still differs ---


async def shrunk(case: Case, differences: Callable[[Case], Awaitable[list[str]]], tries: int = 400) -> Case:
    """*case* with all left out that one of its *differences* does without."""
    left, is_smaller, wanted = tries, True, _kinds(await differences(case))
    while is_smaller and left > 0:
        is_smaller = False
        for smaller in _smaller(case):
            left -= 1
            if left <= 0:
                break
            if wanted & _kinds(await differences(smaller)):
                case, is_smaller = smaller, True
                break
    return case


def _kinds(differences: list[str]) -> set[str]:
    """What the differences are about, whatever the slot."""
    return {re.sub(r"step.*?: |slot.*?: |\d+", "", text)[:60] for text in differences}


def _smaller(case: Case) -> Iterator[Case]:
    """Cases with a little less in them, the largest cuts first."""
    for at in reversed(range(len(case["steps"]))):
        if len(case["steps"]) > 1:
            yield _without(case, "steps", at)
    for at, batch in enumerate(case["batches"]):
        size = len(batch["items"])
        width = size // 2
        while width:
            for start in range(0, size, width):
                yield _without(case, "batches", at, "items", slice(start, start + width))
            width //= 2
        for item in range(size):
            for name in batch["items"][item]:
                if name not in {"method", "relative_url"}:
                    yield _without(case, "batches", at, "items", item, name)
        for name in ("callback", "language", "include_headers", "extra", "proof"):
            if name in batch:
                yield _without(case, "batches", at, name)
        for name, value in (("body", "json"), ("top_in", "query"), ("path", "/v25.0")):
            if batch[name] != value:
                smaller = copy.deepcopy(case)
                smaller["batches"][at][name] = value
                yield smaller
    for name in case["config"]:
        yield _without(case, "config", name)
    for at in range(len(case.get("faults", ()))):
        yield _without(case, "faults", at)


def _without(case: Case, *path: Any) -> Case:
    smaller = copy.deepcopy(case)
    inside: Any = smaller
    for step in path[:-1]:
        inside = inside[step]
    del inside[path[-1]]
    return smaller
