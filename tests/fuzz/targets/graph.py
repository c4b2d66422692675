"""What Graph and Meta send: replies, slots, header fields, usage, codings, webhooks."""

from __future__ import annotations

import asyncio
import json
from typing import Any
from unittest import mock

import msgspec
from msgspec.structs import replace

from proxy.core.batch.response import resolve, slots_of
from proxy.core.cache import policy
from proxy.core.client_batch import slots
from proxy.core.fast_path.prepared_reply import FreshHit, prepare_reply
from proxy.core.graph import lax_json, paging
from proxy.core.graph.errors import is_clean, read_error
from proxy.core.graph.webhooks import is_authentic, is_signature, read_events
from proxy.core.http import codings, headers
from proxy.core.http.errors import BadRequest
from proxy.core.memory import json_text
from proxy.core.merge.projection import project
from proxy.core.model import Credential, Entry, EntryMeta, Headers, Reply
from proxy.core.quota.usage_headers import usage_in, usage_levels
from proxy.core.reply.field_order import in_order
from proxy.core.reply.link_origin import LinkOrigin
from proxy.core.reply.render import render
from proxy.core.reply.response_head import framed
from proxy.core.routing.rules import Rule
from proxy.shell.upstream.connection import UpstreamConnection
from tests.core.samples import GRAPH, HOSTS, plain, request
from tests.fuzz.targets.target import Target, pieces_of

BATCH = (request("fields=id"), request("fields=name"), request("limit=2"))
READ = plain("/v25.0/1?fields=id", host="sidecar:8080")
LINKS = LinkOrigin("http://sidecar:8080", frozenset({GRAPH}))


def replies_to_batches(data: bytes) -> None:
    """Graph's reply to a batch of three: one outcome for each read, and no read forgotten."""
    answer = Reply(200, (("Content-Type", "application/json"),), data)
    outcomes = resolve(BATCH, Credential("EAAB|secret-of-ann"), answer, 0)
    again = [place for batch in outcomes.batches for place in batch]
    assert sorted([*outcomes.replies, *again, *outcomes.singles]) == [0, 1, 2]
    given = slots_of(answer, 3) or []
    for place, reply in outcomes.replies.items() if given else ():
        slot = given[place]
        assert reply.status == slot["code"]
        assert not reply.body or lax_json.text(slot["body"]) == reply.body or b"_fb_" in slot["body"].encode()
    for each in given:
        slots.is_unanswered(each)
        if isinstance(each, dict):
            slots.slot_as_received(each, lambda body: body, include_headers=True)


def _values(text: bytes) -> Any:
    """The JSON in *text* as Python reads it. Raises ValueError, also for what strict readers refuse."""
    found = json.loads(text.decode())
    msgspec.json.decode(text)
    return found


def replies(data: bytes) -> None:
    """The body of a single reply: errors, links and fields are found in it as reading all of it would find them."""
    error, clean = read_error(data), is_clean(data)
    assert not (error and clean)
    changed = paging.rewrite(data, HOSTS.link_hosts, "http://here")
    cut = project(data, frozenset({"id", "name"}), frozenset({"name"}))
    ordered = in_order(data, "/1", ("name", "id"))
    try:
        found = _values(data)
    except (ValueError, RecursionError, msgspec.DecodeError):
        return
    is_object = isinstance(found, dict)
    assert not clean or is_object
    if is_object and found.get("error") is not None:
        assert error is not None
    assert _values(ordered) == found
    assert _values(changed).keys() == found.keys() if is_object else changed == data
    if list(paging._links(data)) != list(paging._links_one_by_one(data)):
        raise AssertionError("links that are found one by one, and not at once")
    if cut is not None and is_object and "data" not in found:
        assert _values(cut) == {name: found[name] for name in found if name in {"id", "name"}} | {}


def lenient_json(data: bytes) -> None:
    """What the strict reader and Python both read, they read alike; what was read can be written."""
    try:
        found = lax_json.decode(data)
    except (*lax_json.UNREADABLE, msgspec.DecodeError):
        return
    written = lax_json.encode(found)
    assert lax_json.decode(written) == found
    json_text.is_heavy(data)


def _fields(data: bytes) -> Headers:
    pairs = (line.partition(":") for line in data.decode("utf-8", "surrogateescape").split("\n"))
    return tuple(pair for name, _, value in pairs if headers.is_field(pair := (name, value.strip())))


def header_fields(data: bytes) -> None:
    """Header fields, either way: quick forms equal plain ones, and no field becomes two."""
    fields = _fields(data)
    assert headers.for_slot(fields) == headers.with_json_type(headers.for_caller(fields))
    passed = headers.for_stream(fields)
    block = headers.head_bytes("HTTP/1.1 200 OK", passed)
    lines = block.split(b"\r\n")[1:-2]
    assert len(lines) == len(passed)
    kept = headers.from_stored(headers.stored(fields))
    assert headers.stored(kept) == headers.stored(fields)
    assert {name.lower() for name, _ in kept}.isdisjoint(headers.HOP_BY_HOP | headers.USAGE)
    headers.updated_by_304(kept, passed)
    codings.content_codings(fields)


def prepared_replies(data: bytes) -> None:
    """The reply that the fast path keeps as bytes equals the one that is rendered each time."""
    block, _, body = data.partition(b"\n\n")
    entry = Entry(EntryMeta('"e"', "batch", 1000.0, may_be_fresh=True, proofs=(b"",)), headers.stored(_fields(block)),
                  body)  # fmt: skip
    life, age, date = 60.0, 7.0, "Thu, 01 Jan 1970 00:00:00 GMT"
    prepared = prepare_reply(READ, LINKS, entry, life)
    if prepared is None:
        return
    held = policy.reuse(entry, policy.Reuse(), policy.Terms(Rule()), 1000.0 + age)
    told = render(READ, replace(held, ttl=life - age), LINKS, ())
    hit = FreshHit(b"", entry.meta, prepared, entry.meta.asked_at, prepared.body, None)
    hit.frame(1000.0 + age, date.encode())
    assert hit.head + (entry.body if hit.body is None else hit.body) == b"".join(framed(told, date, keeps=True))


def usage(data: bytes) -> None:
    """Usage headers."""
    value = data.decode("latin-1")
    fields = tuple((name, value) for name in sorted(headers.USAGE))
    assert all(level.percent >= 0 for level in usage_levels(usage_in(fields)))


def coded_bodies(data: bytes) -> None:
    """A packed body gives its bytes in steps of a bounded size, whatever the pieces in which it comes."""
    if not data:
        return
    for coding in ("gzip", "deflate"):
        found = []
        for pieces in (pieces_of(data), [b"".join(pieces_of(data))]):
            unpack = codings.unpacker([coding])
            assert unpack is not None
            made, end = bytearray(), ""
            try:
                for piece in pieces:
                    for step in unpack.feed(piece):
                        assert len(step) <= codings.STEP
                        made += step
                unpack.end()
            except codings.Broken:
                end = "broken"
            except codings.Ended:
                end = "ended"
            found.append((end, b"" if end else bytes(made)))
        assert found[0] == found[1]


class _Wire(asyncio.Transport):
    """Notes whether it was closed."""

    is_over = False

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    def abort(self) -> None:
        self.is_over = True

    close = abort

    def is_closing(self) -> bool:
        return self.is_over

    def get_write_buffer_size(self) -> int:
        return 0

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Drop *data*."""

    def pause_reading(self) -> None:
        """Read on."""

    def resume_reading(self) -> None:
        """Read on."""


def messages_of_graph(data: bytes) -> None:
    """Bytes on a connection to Graph: one answer at most, and behind it the connection is fit, or ends."""
    with asyncio.Runner() as runner:
        first, second = (runner.run(_answer(pieces)) for pieces in (pieces_of(data), [b"".join(pieces_of(data))]))
    assert first == second or "error" in (first, second)


async def _answer(pieces: list[bytes]) -> object:
    loop = asyncio.get_running_loop()
    connection, wire = UpstreamConnection(loop), _Wire()
    connection.connection_made(wire)
    connection.set_response_params(
        timer=mock.MagicMock(), read_until_eof=True, max_line_size=65_536, max_field_size=65_536, read_bufsize=65_536,
        auto_decompress=False,
    )  # fmt: skip
    connection.end_request()
    for piece in pieces:
        if wire.is_over:
            break
        connection.data_received(piece)
    connection.connection_lost(None)
    try:
        async with asyncio.timeout(5):
            message, content = await connection.read()
            body = await content.read()
    except TimeoutError:
        raise
    except Exception:  # noqa: BLE001 - of aiohttp's: the call failed, and is told so
        return "error"
    return message.code, body


def notifications(data: bytes) -> None:
    """A notification of Meta's."""
    read_events(data)
    signature = data.decode("latin-1")
    assert not (is_signature(signature) and is_authentic(signature, data, "secret of sixteen"))


TARGETS = {
    "batch_replies": Target.of(replies_to_batches),
    "replies": Target.of(replies),
    "lenient_json": Target.of(lenient_json),
    "header_fields": Target.of(header_fields),
    "prepared_replies": Target.of(prepared_replies),
    "usage": Target.of(usage),
    "coded_bodies": Target.of(coded_bodies),
    "messages_of_graph": Target.of(messages_of_graph),
    "webhooks": Target.of(notifications, ValueError, BadRequest),
}
