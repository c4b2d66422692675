"""Reads with `ids=` are split by id; the merger below is a fake."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import pytest
from msgspec.structs import replace

from proxy.core.http.errors import Cut
from proxy.core.model import CacheDirectives, Mode, Reply, Request
from proxy.core.quota.ledger import RequestCost
from proxy.core.routing.rules import Rule
from proxy.shell.pipeline.ids_splitter import IdsSplitter
from proxy.shell.pipeline.merger import Merger
from tests.shell.fakes import Answer, Clock, Onward, ask, told


class Fake(Onward):
    """The next layer, what it holds by path, and what it is taught."""

    def __init__(self, answer: Callable[[Request], Answer] | Answer | None = None) -> None:
        super().__init__(answer or told_all)
        self.held: dict[str, Reply] = {}
        self.learnt: dict[str, tuple[bytes, float]] = {}

    async def answer_held(self, request: Request, cost: RequestCost | None) -> Reply | None:
        return self.held.get(request.path)

    async def learn(self, request: Request, answer: Reply, asked: float) -> None:
        self.learnt[request.path] = answer.body, asked

    @property
    def ids(self) -> list[str]:
        return [request.query.removeprefix("ids=") for request in self.asked]


def told_all(request: Request) -> Reply:
    """What Graph says: an object for each."""
    ids = request.query.removeprefix("ids=").split(",")
    if "404" in ids:
        return told(b'{"error":{"code":803}}', 404, etag="")
    return told(("{" + ",".join(f'"{each}":{{}}' for each in ids) + "}").encode())


def layer(fake: Fake, **rule: Any) -> IdsSplitter:
    """The layer, with one rule for everything."""
    made = Rule(**{"merge": True, "fresh_s": 60, **rule})
    return IdsSplitter(cast("Merger", fake), lambda _request: made, Clock(1000))


def read(ids: str) -> Request:
    """A read of *ids*."""
    return ask("/", query=f"ids={ids}")


HELD = replace(told(b'{"held":1}'), mode=Mode.REUSED, ttl=5.0)


async def test_only_ids_without_an_entry_are_asked_and_stored() -> None:
    """Each part of the reply is stored as the entry of its id."""
    fake = Fake()
    fake.held["/1"] = HELD
    reply = await layer(fake)(read("2,1,3"))
    assert (fake.ids, reply.body) == (["2,3"], b'{"2":{},"1":{"held":1},"3":{}}')
    assert (reply.mode, reply.avoided, reply.header("etag")) == (Mode.MISS, (("fresh", 1),), None)
    assert fake.learnt == {"/2": (b"{}", 1000), "/3": (b"{}", 1000)}


async def test_without_any_entry_the_whole_read_is_asked() -> None:
    """It keeps the ETag of the whole reply; the part of each id is stored all the same."""
    fake = Fake()
    reply = await layer(fake)(read("1,2"))
    assert (fake.ids, reply.header("etag"), list(fake.learnt)) == (["1,2"], '"e1"', ["/1", "/2"])


async def test_with_an_entry_for_each_id_no_call_is_made() -> None:
    """The reply is put together from the entries."""
    fake = Fake()
    fake.held = {"/1": HELD, "/2": HELD}
    reply = await layer(fake)(read("1,2"))
    assert (fake.ids, reply.mode, reply.avoided) == ([], Mode.REUSED, (("fresh", 2),))


async def test_a_reply_that_is_not_new_is_not_stored() -> None:
    """Its parts would seem younger than they are."""
    fake = Fake(replace(told_all(read("1")), mode=Mode.REUSED, ttl=1.0))
    await layer(fake)(read("1"))
    assert fake.learnt == {}


async def test_an_error_for_the_remaining_ids_is_asked_for_the_whole_read() -> None:
    """Graph's error names all ids that the caller asked for."""
    fake = Fake()
    fake.held["/1"] = HELD
    assert (await layer(fake)(read("1,404"))).status == 404
    assert fake.ids == ["404", "1,404"]
    fake = Fake()
    assert (await layer(fake)(read("1,404"))).status == 404
    assert fake.ids == ["1,404"]


async def test_a_throttle_or_an_outage_is_not_asked_for_again() -> None:
    """The error would be the same for the whole read."""
    fake = Fake(told(b'{"error":{"code":4}}', 400, etag=""))
    fake.held["/1"] = HELD
    assert (await layer(fake)(read("1,2"))).status == 400
    fake.answer = Cut("cut")
    with pytest.raises(Cut):
        await layer(fake)(read("1,2"))
    assert fake.ids == ["2", "2"]


@pytest.mark.parametrize("rule", [{"merge": False}, {"fresh_s": 0}, {"cache": False}])
async def test_a_read_is_not_split_where_a_rule_forbids_entries(rule: dict[str, Any]) -> None:
    """The rule of each id decides."""
    fake = Fake()
    fake.held["/1"] = HELD
    await layer(fake, **rule)(read("1,2"))
    assert (fake.ids, fake.learnt) == (["1,2"], {})


@pytest.mark.parametrize("wishes", [CacheDirectives(no_cache=True), CacheDirectives(no_store=True)])
async def test_no_cache_no_store_and_only_if_cached_are_not_split(wishes: CacheDirectives) -> None:
    """The whole read is asked."""
    fake = Fake()
    fake.held["/1"] = HELD
    await layer(fake)(replace(read("1,2"), directives=wishes))
    assert (fake.ids, fake.learnt) == (["1,2"], {})
