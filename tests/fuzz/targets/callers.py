"""What callers send: targets, heads, bodies, batches, and whole messages to the whole application."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest import mock

from aiohttp.http_parser import HttpRequestParser
from multidict import CIMultiDict

from proxy import emulator
from proxy.app import sidecar
from proxy.core.client_batch import jsonpath, references
from proxy.core.client_batch.parse import Unresolved, read_envelope
from proxy.core.fast_path import head as fast_head
from proxy.core.fast_path.head_table import is_whole
from proxy.core.http import request_head
from proxy.core.http.cache_control import cache_directives, matches
from proxy.core.http.errors import BadRequest
from proxy.core.http.framing import ChunkedPart, HeadPart
from proxy.core.routing.classify import classify
from proxy.core.routing.hosts import Head
from proxy.core.routing.normal_form import read_target
from proxy.core.routing.query import split_pairs
from proxy.emulator.objects.values import user_of
from proxy.settings import Settings
from proxy.shell.http import forms
from tests.core.samples import GRAPH, HOSTS, NO_RULES
from tests.fuzz.targets.target import Parse, Target, pieces_of, split
from tests.wires import calling

BYSTANDER = "token-of-a-bystander"
"""Another caller, whose token is in no input."""
CONTROL = f"GET /v25.0/111?fields=id,viewer&access_token={BYSTANDER} HTTP/1.1\r\nHost: a\r\n\r\n".encode()
_STATUS_LINE = re.compile(rb"HTTP/1\.[01] (\d{3}) ")


def targets(data: bytes) -> None:
    """A request target."""
    read_target(data.decode("latin-1"))


def heads(data: bytes) -> None:
    """The head of a request: its target and its header fields."""
    request_head.escaped(data)
    line, *lines = data.decode("latin-1").split("\n")
    fields = {name.strip().lower(): value.strip() for name, _, value in (each.partition(":") for each in lines)}
    classify(Head("GET", line or "/", {"host": GRAPH, **fields}), b"", HOSTS, NO_RULES)
    cache_directives(fields)
    matches(fields.get("if-none-match", ""), '"e"')


def heads_by_bytes(data: bytes) -> None:
    """A head that the fast path reads is read alike by the HTTP parser."""
    end = data.find(b"\r\n")
    line, block = data[:end], data[end:]
    if not is_whole(data):
        return
    target, fields = fast_head.read_target(line), fast_head.read_fields(block)
    if target is None or fields is None:
        return
    loop: Any = mock.Mock()
    parser = HttpRequestParser(mock.Mock(), loop, 2**16, max_line_size=2**16, max_field_size=2**16)
    ((message, _payload),), upgraded, tail = parser.feed_data(data)
    assert (message.method, message.path, tuple(message.version)) == ("GET", target, (1, 1))
    assert CIMultiDict(message.headers) == CIMultiDict(fields)
    assert not upgraded
    assert not tail
    assert not message.chunked
    assert not message.should_close
    kept = fast_head.read_fields(fast_head.without_changing(block))
    assert kept is not None
    assert kept.items() <= fields.items()


def ends_of_messages(data: bytes) -> None:
    """Where a head and a chunked body end does not depend on the pieces in which they come."""
    for kind in (HeadPart, ChunkedPart):
        whole, in_pieces, at, done = kind(), kind(), 0, 0
        rest = b"".join(pieces_of(data))
        while at < len(rest) and not (whole.is_over or whole.is_lost):
            at = whole.end(rest, at)
        for piece in pieces_of(data):
            if in_pieces.is_over or in_pieces.is_lost:
                break
            done += in_pieces.end(piece, 0)
        assert (in_pieces.is_over, in_pieces.is_lost) == (whole.is_over, whole.is_lost)
        assert done == at or whole.is_lost


def bodies(data: bytes) -> None:
    """A form: its first line is its Content-Type. Decoding it in slices gives what decoding it at once gives."""
    kind, body = split(data)
    fields = {"content-type": kind.decode("latin-1")}
    form = asyncio.run(forms.read_form(body, fields))
    with mock.patch.object(forms, "_SLICE", 8):
        sliced = asyncio.run(forms.read_form(body, fields))
    if form is None or sliced is None:
        return
    assert form == sliced
    if kind == forms.FORM.encode() and body.lstrip()[:1] != b"{":
        assert form.parameters == dict(split_pairs(body.decode("utf-8", "surrogateescape").strip()))
    if all(isinstance(value, str) for value in form.parameters.values()):
        _written_and_read_again(form)


def _written_and_read_again(form: forms.Form) -> None:
    """A form that is written as multipart reads as it was; a name that no head can hold is refused in words."""
    try:
        written = forms.write_form(form.parameters, form.files.values())
    except ValueError:
        return
    again = asyncio.run(forms.read_form(written.body, {"content-type": written.kind}))
    if not form.files:
        assert again is not None
        assert again.parameters == form.parameters


def batches(data: bytes) -> None:
    """A batch of an application's own."""
    form = {"batch": data.decode("utf-8", "surrogateescape"), "access_token": "t"}
    read_envelope(Head("POST", "/v25.0/", {"host": GRAPH}), form, HOSTS)


def jsonpaths(data: bytes) -> None:
    """A JSONPath of a reference."""
    jsonpath.find(data.decode("latin-1"), {"data": [{"id": "1"}, {"id": "2", "name": ["a", {"b": 1}]}]})


def texts_with_references(data: bytes) -> None:
    """A relative URL with references to earlier operations."""
    found = data.decode("latin-1")
    references.names_in(found)
    references.can_be_followed(found)
    references.fill(found, {"one": {"data": [{"id": "1"}]}})


@contextmanager
def whole_application() -> Iterator[Parse]:
    """Messages to a sidecar in front of an emulator: answers are HTTP, none is a 500 of ours, a bystander is served."""
    with TemporaryDirectory() as folder, asyncio.Runner() as runner:
        ending = asyncio.Event()
        ready: asyncio.Queue[str] = asyncio.Queue()

        async def serve() -> None:
            cache = {"dir": Path(folder, "cache"), "key_file": "ephemeral", "fresh_s": 60}
            async with emulator.running(emulator.Config(ledger_requests=0)) as graph:
                given: dict[str, Any] = {"listen": "127.0.0.1:0", "admin": "127.0.0.1:0", "drain_s": 0.1}
                given |= {"upstream": {"origin": graph.url}, "cache": cache, "listener": {"lag_s": 0}}
                async with sidecar.sidecar(Settings(**given)) as front:
                    ready.put_nowait(front.url)
                    await ending.wait()

        serving = runner.get_loop().create_task(serve())
        url = runner.run(ready.get())
        yield lambda data: runner.run(_converse(url, data))
        ending.set()
        runner.run(_ended(serving))


async def _ended(serving: asyncio.Task[None]) -> None:
    await serving


async def _converse(url: str, data: bytes) -> None:
    """Send *data* in pieces on one connection, and a read of the bystander on another."""
    async with calling(url) as wire, calling(url) as other:
        try:
            for piece in pieces_of(data):
                await wire.send(piece)
            await other.send(CONTROL)
            message = await other.message()
            assert message.status == 200
            assert user_of(BYSTANDER).encode() in message.body
            wire.writer.write_eof()
        except ConnectionError:
            return
        said = await wire.everything()
    assert not said or _STATUS_LINE.match(said), said[:100]
    assert user_of(BYSTANDER).encode() not in said
    assert b"fault of its own" not in said


TARGETS = {
    "targets": Target.of(targets),
    "heads": Target.of(heads, BadRequest),
    "heads_by_bytes": Target.of(heads_by_bytes),
    "ends_of_messages": Target.of(ends_of_messages),
    "bodies": Target.of(bodies),
    "batches": Target.of(batches, Unresolved, BadRequest),
    "jsonpaths": Target.of(jsonpaths, jsonpath.BadPath),
    "references": Target.of(texts_with_references, jsonpath.BadPath, Unresolved),
    "messages": Target(whole_application, most_examples=300),
}
