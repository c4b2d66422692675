"""How journeys send batches of their own, and what they compare of the slots that come back."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from io import BytesIO
from typing import Any
from urllib.parse import urlencode

import aiohttp

from proxy import emulator
from tests.journeys.talking import SAME, Ask, Heard, Twins

Item = dict[str, Any]
GRAPH = "https://graph.facebook.com"

VOLATILE = frozenset({"fbtrace_id", "created_time", "updated_time"})
"""What no two replies of Graph's have in common."""


def gets(*urls: str) -> list[Item]:
    """Reads of *urls*."""
    return [{"method": "GET", "relative_url": url} for url in urls]


def posts(*urls: str, body: str = "message=hi") -> list[Item]:
    """Writes to *urls*, each with a body of its own."""
    return [
        {"method": "POST", "relative_url": url, "body": f"{body}&number={number}"} for number, url in enumerate(urls)
    ]


async def batch(
    ask: Ask, items: Iterable[Item] | str, *, path: str = "/v25.0/", token: str = "ann", **top: Any
) -> Heard:
    """Post a batch as a form, *top* beside it."""
    text = items if isinstance(items, str) else json.dumps(list(items))
    form = {"batch": text, **({"access_token": token} if token else {}), **top}
    kind = {"Content-Type": "application/x-www-form-urlencoded"}
    return await ask.say(path, method="POST", data=BytesIO(urlencode(form).encode()), headers=kind)


async def slots(ask: Ask, items: Iterable[Item] | str, **top: Any) -> list[Any]:
    """The slots of a batch."""
    heard = await batch(ask, items, **top)
    assert heard.status == 200, heard.body
    found: list[Any] = heard.json
    return found


def body(slot: Any) -> Any:
    """What a slot's body says."""
    return json.loads(slot["body"])


def bodies(found: Iterable[Any]) -> list[Any]:
    """What the bodies of slots say; None for a slot that is empty."""
    return [slot and body(slot) for slot in found]


def codes(found: Iterable[Any]) -> list[int | None]:
    """The codes of slots; None for a slot that is empty."""
    return [slot and slot["code"] for slot in found]


def named(slot: Mapping[str, Any]) -> dict[str, str]:
    """A slot's header fields by their names in lower case."""
    return {field["name"].lower(): field["value"] for field in slot["headers"]}


def multipart(form: Mapping[str, str], files: Mapping[str, tuple[str, bytes]]) -> aiohttp.FormData:
    """A form with *files*, name and content by their parts."""
    made = aiohttp.FormData(default_to_multipart=True)
    for name, value in form.items():
        made.add_field(name, value)
    for name, (filename, content) in files.items():
        made.add_field(name, BytesIO(content), filename=filename)
    return made


def changes(graph: emulator.Running) -> Any:
    """All that writes have changed at a Graph."""
    return graph.emulator.world_as_json()


def written(graph: emulator.Running) -> int:
    """How many writes a Graph was asked for."""
    return sum(graph.ledger.writes.values())


# --- direct and through -----------------------------------------------------------------------------------------------


async def alike(twins: Twins, items: Iterable[Item] | str, **top: Any) -> list[Any]:
    """The slots through the sidecar, once they and what they did are found to equal the direct ones."""
    kept = items if isinstance(items, str) else list(items)
    direct, through = await batch(twins.direct, kept, **top), await batch(twins.through, kept, **top)
    assert_alike(twins, direct, through)
    found: list[Any] = through.json
    return found


def assert_alike(twins: Twins, direct: Heard, through: Heard) -> None:
    """Status, type, slots and side effects of a batch are those that Graph itself would have given it."""
    assert (through.status, through.headers["Content-Type"]) == (direct.status, direct.headers["Content-Type"])
    assert seen(through, twins) == seen(direct, twins)
    assert changes(twins.behind) == changes(twins.alone)


def seen(heard: Heard, twins: Twins) -> Any:
    """A reply as it is compared."""
    text = heard.body.decode()
    if text.startswith("/**/"):
        name, _, rest = text.partition("(")
        return name, _comparable(json.loads(rest.removesuffix(");")), twins)
    return _comparable(json.loads(text), twins)


def _comparable(value: Any, twins: Twins) -> Any:
    if isinstance(value, list) and all(each is None or (isinstance(each, dict) and "code" in each) for each in value):
        return [each and _slot(each, twins) for each in value]
    return _settled(value, twins)


def _slot(slot: Item, twins: Twins) -> Item:
    text = slot.get("body")
    found = {"code": slot["code"], "body": _settled(json.loads(text), twins) if text else text}
    if "headers" in slot and slot["code"] != 304:  # Graph says next to nothing beside a 304
        fields = named(slot)
        found["headers"] = {name: fields[name.lower()] for name in SAME if name.lower() in fields}
        found["validated"] = "etag" in fields
    return found


def _settled(value: Any, twins: Twins) -> Any:
    """A body without what is volatile, its links as Graph itself writes them."""
    if isinstance(value, dict):
        return {name: _settled(inner, twins) for name, inner in value.items() if name not in VOLATILE}
    if isinstance(value, list):
        return [_settled(inner, twins) for inner in value]
    return value.replace(twins.front.url, GRAPH) if isinstance(value, str) else value
