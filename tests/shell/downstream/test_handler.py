"""The end towards the application: a real socket in front, and behind it a stack and a passthrough that are faked."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import pytest
from aiohttp import web

from proxy.core.cache.key import Keys
from proxy.core.http.cdn_loop import LoopGuard
from proxy.core.http.errors import Late, NotHeld, Overloaded, SidecarError, Unreachable
from proxy.core.memory.budget import Budget
from proxy.core.model import Channel, Credential, Headers, Mode, Reply
from proxy.core.quota.bucket import Stages
from proxy.core.quota.descriptors import QuotaSubject
from proxy.core.quota.limiter import Limiter
from proxy.core.routing.hosts import GraphHosts
from proxy.core.routing.rules import Rule, RuleBook
from proxy.shell.downstream.handler import DownstreamHandler
from proxy.shell.downstream.read import ReadHandler
from proxy.shell.observe.counters import Counters
from proxy.shell.observe.stats import stats
from proxy.shell.pipeline.limiter_bypass import LimiterBypass
from tests.shell.fakes import Clock, Onward, later, told
from tests.wires import Message, calling

USAGE = ("X-App-Usage", '{"call_count":7}')
SECRET = "EAABsecret"


class FakePassthrough:
    """Notes what it is to stream, and answers for Graph or fails."""

    def __init__(self) -> None:
        self.streamed: list[dict[str, Any]] = []
        self.answer: Headers = (("Date", "now"),)
        self.trouble: BaseException | None = None

    async def stream(
        self, message: web.BaseRequest, *, on_response: Callable[[int, Headers], None], **said: Any
    ) -> web.StreamResponse:
        rest = await message.content.read()
        self.streamed.append(said | {"rest": rest})
        on_response(*((0, ()) if self.trouble else (200, self.answer)))
        if self.trouble:
            raise self.trouble
        return web.Response(text="streamed", headers=dict(said["extra"]))


class FakeUnbatcher:
    """Notes the batches that it is to answer."""

    def __init__(self) -> None:
        self.asked: list[Any] = []

    async def answer_prepared(self, call: object, link_origin: object) -> None:
        """Leave every batch to `answer`."""

    async def answer(self, envelope: Any, files: object, link_origin: object) -> Reply:
        self.asked.append(envelope)
        return told(b"[null]")


@dataclass
class Stand:
    """A server on a port, and what is behind it."""

    url: str
    onward: Onward
    last_resort: Onward
    passthrough: FakePassthrough
    client_batches: FakeUnbatcher
    reader: ReadHandler
    wrote: list[tuple[str, ...]]
    unsure: list[tuple[str, ...]]

    async def say(self, target: str, *fields: str, method: str = "GET", body: bytes = b"") -> Message:
        """One message on a connection of its own, and its answer."""
        length = [f"Content-Length: {len(body)}"] if body else []
        head = "\r\n".join([f"{method} {target} HTTP/1.1", "Host: app.test:8080", *fields, *length, "", ""])
        async with calling(self.url) as wire:
            await wire.send(head, body)
            return await wire.message(bodyless=method == "HEAD")


Stands = Callable[..., Awaitable[Stand]]


@pytest.fixture
async def stand() -> AsyncIterator[Stands]:
    """Sets a server up before a stack that answers as told."""
    async with AsyncExitStack() as lifetimes:

        async def make(answer: Any = None, *, rewrite_links: bool = True) -> Stand:
            return await lifetimes.enter_async_context(_standing(Onward(answer), rewrite_links=rewrite_links))

        yield make


@asynccontextmanager
async def _standing(onward: Onward, *, rewrite_links: bool) -> AsyncIterator[Stand]:
    passthrough, last_resort = FakePassthrough(), Onward(told(b"graph itself"))
    wrote, unsure = list[tuple[str, ...]](), list[tuple[str, ...]]()

    def note(nodes: tuple[str, ...], who: object, *, answered: bool) -> None:
        (wrote if answered else unsure).append(nodes)

    client_batches, clock = FakeUnbatcher(), Clock()
    reader = ReadHandler(
        onward,
        lambda request, _left: last_resort(request),
        Keys(bytes(32)),
        Limiter(Stages()),
        Counters(clock, clock),
        clock,
        clock,
    )
    server = DownstreamHandler(
        reader=reader,
        passthrough=passthrough,  # type: ignore[arg-type]
        client_batches=client_batches,  # type: ignore[arg-type]
        hosts=GraphHosts("graph.test", frozenset({"other.test"})),
        loop_guard=LoopGuard("0123456789abcdef"),
        rules=RuleBook([], Rule()),
        rewrite_links=rewrite_links,
        on_write=note,
        limiter_bypass=LimiterBypass(reader.quota, reader.keys, clock, lambda *_told: None),
        bodies=Budget(2**20),
    )
    runner = web.ServerRunner(
        web.Server(server.handle, handler_cancellation=True, auto_decompress=False, access_log=None),
        shutdown_timeout=0.1,
    )
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield Stand(
            f"http://127.0.0.1:{runner.addresses[0][1]}",
            onward,
            last_resort,
            passthrough,
            client_batches,
            reader,
            wrote,
            unsure,
        )
    finally:
        await runner.cleanup()


# --- reads


async def test_a_read_reaches_the_stack_in_normal_form(stand: Stands) -> None:
    """Token, spelling and modifiers are understood before anybody is asked."""
    here = await stand()
    reply = await here.say("/v25.0/111/?fields=b,a", f"Authorization: OAuth {SECRET}", "Accept-Language: de")
    (request,) = here.onward.asked
    assert (request.version, request.path, request.query, request.language) == ("v25.0", "/111", "fields=a,b", "de")
    assert request.credential == Credential(SECRET)
    assert (reply.status, reply.body, reply.fields["Server"]) == (200, b'{"id":"111"}', "graph-sidecar")
    assert reply.fields["Cache-Status"] == "graph-sidecar; fwd=uri-miss"


async def test_fields_said_twice_are_one_list(stand: Stands) -> None:
    """Two lines of Cache-Control mean what one line with both would."""
    here = await stand()
    await here.say("/1?access_token=a", "Cache-Control: no-cache", "Cache-Control: no-store")
    wishes = here.onward.asked[0].directives
    assert (wishes.no_cache, wishes.no_store) == (True, True)


async def test_an_empty_body_does_not_make_a_read_less_plain(stand: Stands) -> None:
    """Meta's Node SDK sends `{}` with each GET; it is a read all the same."""
    here = await stand()
    for body in (b"{}", b" [] ", b"null"):
        assert (await here.say("/1?access_token=a", body=body)).status == 200
    assert (len(here.onward.asked), here.passthrough.streamed) == (3, [])


async def test_head_is_the_same_answer_without_its_body(stand: Stands) -> None:
    """HEAD tells the length that GET would send, and sends nothing."""
    here = await stand()
    reply = await here.say("/1?access_token=a", method="HEAD")
    assert (reply.status, reply.fields["Content-Length"], reply.body) == (200, "12", b"")


async def test_a_known_etag_is_answered_304(stand: Stands) -> None:
    """A caller that holds the body already is not sent it again."""
    here = await stand()
    reply = await here.say("/1?access_token=a", 'If-None-Match: W/"e1"')
    assert (reply.status, reply.fields["ETag"], reply.body) == (304, '"e1"', b"")
    assert "Content-Length" not in reply.fields


async def test_jsonp_is_wrapped_here(stand: Stands) -> None:
    """The callback never leaves the sidecar, and one that is no identifier path is refused in Graph's shape."""
    here = await stand()
    reply = await here.say("/1?access_token=a&callback=app.got")
    assert (reply.body, reply.fields["Content-Type"]) == (
        b'/**/ app.got({"id":"111"});',
        "text/javascript; charset=UTF-8",
    )
    assert "callback" not in here.onward.asked[0].query
    refused = await here.say("/1?access_token=a&callback=alert(1)//")
    assert (refused.status, json.loads(refused.body)["error"]["code"]) == (400, 100)


@pytest.mark.parametrize(
    "host,rewritten", [("app.test:8080", b"http://app.test:8080"), ("graph.test", None), ("a b", None)]
)
async def test_links_lead_back_the_way_the_caller_came(stand: Stands, host: str, rewritten: bytes | None) -> None:
    """Paging links point at the sidecar, unless the caller speaks to Graph by its name or names nothing usable."""
    body = b'{"paging":{"next":"https:\\/\\/graph.facebook.com\\/v25.0\\/1?after=x"}}'
    here = await stand(told(body))
    async with calling(here.url) as wire:
        await wire.send(f"GET /1?access_token=a HTTP/1.1\r\nHost: {host}\r\n\r\n")
        heard = (await wire.message()).body
    origin = rewritten.replace(b"/", b"\\/") if rewritten else b"https:\\/\\/graph.facebook.com"
    assert heard == b'{"paging":{"next":"' + origin + b'\\/v25.0\\/1?after=x"}}'


async def test_links_stay_if_so_set(stand: Stands) -> None:
    """`paging.rewrite` off leaves every byte as Graph said it."""
    body = b'{"paging":{"next":"https:\\/\\/graph.facebook.com\\/v25.0\\/1?after=x"}}'
    here = await stand(told(body), rewrite_links=False)
    assert (await here.say("/1?access_token=a")).body == body


async def test_usage_is_news_and_never_history(stand: Stands) -> None:
    """A reply from the store carries the newest usage that Graph told of that token, and of no other's."""
    here = await stand()
    asker = QuotaSubject(here.reader.keys.fingerprint(Credential("a")), "/1", "")
    here.reader.quota.on_usage(asker, (USAGE,), here.reader.now())
    here.onward.answer = told(mode=Mode.REUSED, ttl=5.0, age=1.0)
    again = await here.say("/1?access_token=a")
    assert again.fields["X-App-Usage"] == USAGE[1]
    assert again.fields["Age"] == "1"
    assert "X-App-Usage" not in (await here.say("/1?access_token=b")).fields


# --- errors


@pytest.mark.parametrize(
    "error,status,transient",
    [
        (Unreachable("gone"), 502, True),
        (Late("late"), 504, True),
        (Overloaded("full"), 503, True),
        (NotHeld("none"), 504, False),
    ],
)
async def test_errors_of_ours_have_graphs_shape(
    stand: Stands, error: SidecarError, status: int, *, transient: bool
) -> None:
    """Whatever the sidecar has to say itself is JSON that a Graph client reads, and names its author."""
    here = await stand(error)
    reply = await here.say("/1?access_token=a")
    line_is_of = json.loads(reply.body)["error"]
    assert (reply.status, reply.fields["Content-Type"]) == (status, "application/json; charset=UTF-8")
    assert line_is_of["message"] == f"graph-sidecar: {error.detail}"
    assert line_is_of["is_transient"] is transient
    assert f"detail={type(error).__name__.lower()}" in reply.fields["Cache-Status"]
    assert ("Retry-After" in reply.fields) == (status == 503)


async def test_a_fault_of_ours_costs_a_call_and_no_answer(stand: Stands, caplog: pytest.LogCaptureFixture) -> None:
    """A mistake in the sidecar's stack makes a reply slower: Graph is asked directly, and the log says where it was."""
    here = await stand(KeyError(SECRET))
    reply = await here.say(f"/1?access_token={SECRET}")
    assert (reply.status, reply.body) == (200, b"graph itself")
    (resort,) = here.last_resort.asked
    assert (resort.channel, resort.validator) == (Channel.DIRECT, "")
    assert "KeyError" in caplog.text
    assert SECRET not in caplog.text


async def test_a_fault_that_nothing_helps_is_told_without_what_it_was_about(
    stand: Stands, caplog: pytest.LogCaptureFixture
) -> None:
    """The worst is a 500 in Graph's shape; caller and log learn where it was, and never a token."""
    here = await stand(KeyError(SECRET))
    here.last_resort.answer = KeyError(SECRET)
    reply = await here.say(f"/1?access_token={SECRET}")
    assert (reply.status, json.loads(reply.body)["error"]["type"]) == (500, "GraphSidecarException")
    assert "read.py" in caplog.text
    assert SECRET not in caplog.text + reply.body.decode()


async def test_a_caller_that_leaves_ends_its_question(stand: Stands) -> None:
    """What nobody waits for any more is given up at once."""
    answer = later()
    here = await stand(answer)
    async with calling(here.url) as wire:
        await wire.send(b"GET /1?access_token=a HTTP/1.1\r\nHost: c\r\n\r\n")
        while not here.onward.asked:  # noqa: ASYNC110 - the socket has no event to wait for
            await asyncio.sleep(0)
    while not answer.cancelled():  # noqa: ASYNC110 - see above
        await asyncio.sleep(0)


# --- what passes through


async def test_what_is_no_plain_read_passes_through(stand: Stands) -> None:
    """A write goes to its host byte for byte, and the reads of what it touched are told."""
    here = await stand()
    reply = await here.say(
        f"http://other.test/v25.0/111/feed?b=%2f&access_token={SECRET}", method="POST", body=b"message=hi"
    )
    (streamed,) = here.passthrough.streamed
    assert streamed["host"] == "other.test"
    assert streamed["target"] == f"/v25.0/111/feed?b=%2f&access_token={SECRET}"
    assert (streamed["buffered"], streamed["rest"]) == (b"", b"message=hi")
    assert reply.fields["Cache-Status"] == "graph-sidecar; fwd=method"
    assert here.wrote == [("111",)]
    assert stats(here.reader.telemetry)["replies"]["SKIPPED"] == 1


@pytest.mark.parametrize(
    "body, nodes",
    [
        (b"id=111&name=x", ("111",)),
        (b"ids=111,222", ("111", "222")),
        (b"name=x", ()),
        (b"id=111&batch=nonsense", ()),
        (b"", ()),
    ],
)
async def test_a_write_may_name_its_object_in_its_body(stand: Stands, body: bytes, nodes: tuple[str, ...]) -> None:
    """A POST to the root says in its form what it changes; one that says nothing may have changed anything."""
    here = await stand()
    await here.say("/v25.0/", "Content-Type: application/x-www-form-urlencoded", method="POST", body=body)
    assert here.wrote == [nodes]


async def test_a_batch_of_the_callers_own_is_understood(stand: Stands) -> None:
    """A batch that an application packed is taken apart here; one that cannot be read as one passes through."""
    here = await stand()
    form = "Content-Type: application/x-www-form-urlencoded"
    batch = b"access_token=a&batch=" + quote('[{"method":"GET","relative_url":"1"}]').encode()
    reply = await here.say("/v25.0/", form, method="POST", body=batch)
    assert (reply.status, reply.body) == (200, b"[null]")
    assert [each.relative_url for each in here.client_batches.asked[0].operations] == ["1"]
    await here.say("/v25.0/", form, method="POST", body=b"access_token=a&batch=nonsense")
    assert here.passthrough.streamed[0]["buffered"] == b"access_token=a&batch=nonsense"


async def test_a_skipped_read_touches_nothing(stand: Stands) -> None:
    """A picture passes through and ends nobody's freshness; its usage headers count like any."""
    here = await stand()
    here.passthrough.answer = (USAGE,)
    reply = await here.say("/111/picture?access_token=a")
    assert reply.fields["Cache-Status"] == "graph-sidecar; fwd=bypass; detail=picture"
    assert here.wrote == []
    here.onward.answer = told(mode=Mode.REUSED, ttl=5.0)
    assert (await here.say("/111?access_token=a")).fields["X-App-Usage"] == USAGE[1]


async def test_a_write_that_fails_has_touched_all_the_same(stand: Stands) -> None:
    """When a write's answer is lost, nobody knows whether it was done: what is held may be old."""
    here = await stand()
    here.passthrough.trouble = Unreachable("gone")
    reply = await here.say("/111?access_token=a", method="DELETE")
    assert (reply.status, here.wrote, here.unsure) == (502, [], [("111",)])


@pytest.mark.parametrize("size,seen", [(65_536, 65_536), (65_537, 0), (400_000, 0)])
async def test_a_get_with_a_body_that_says_something_passes_whole(stand: Stands, size: int, seen: int) -> None:
    """What was read of a body to look at it is handed on with the rest; a larger one is not looked at."""
    here = await stand()
    body = b"x" * size
    await here.say("/1?access_token=a", body=body)
    (streamed,) = here.passthrough.streamed
    assert streamed["buffered"] + streamed["rest"] == body
    assert len(streamed["buffered"]) == seen


async def test_two_credentials_are_graphs_to_judge(stand: Stands) -> None:
    """A message that names two tokens is not answered from either's entries, and its usage is noted for neither."""
    here = await stand()
    here.passthrough.answer = (USAGE,)
    reply = await here.say("/1?access_token=a", "Authorization: Bearer b")
    assert reply.fields["Cache-Status"].endswith("detail=credentials")
    here.onward.answer = told(mode=Mode.REUSED, ttl=5.0)
    for token in "ab":
        assert "X-App-Usage" not in (await here.say(f"/1?access_token={token}")).fields


async def test_the_channel_follows_the_route(stand: Stands) -> None:
    """Who asks as nobody goes alone; a token rides in batches."""
    here = await stand()
    await here.say("/1")
    await here.say("/1?access_token=a")
    assert [request.channel for request in here.onward.asked] == [Channel.DIRECT, Channel.BATCH]
