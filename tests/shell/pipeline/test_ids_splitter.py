"""Several objects in one read, between a faked merger and callers of the test's."""

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


async def test_only_the_rest_is_asked_and_learnt() -> None:
    """What is held stays; the answer for each of the others is held as its own."""
    fake = Fake()
    fake.held["/1"] = HELD
    reply = await layer(fake)(read("2,1,3"))
    assert (fake.ids, reply.body) == (["2,3"], b'{"2":{},"1":{"held":1},"3":{}}')
    assert (reply.mode, reply.avoided, reply.header("etag")) == (Mode.MISS, (("fresh", 1),), None)
    assert fake.learnt == {"/2": (b"{}", 1000), "/3": (b"{}", 1000)}


async def test_with_nothing_held_the_whole_is_asked() -> None:
    """As it was, with its own ETag; each is learnt all the same."""
    fake = Fake()
    reply = await layer(fake)(read("1,2"))
    assert (fake.ids, reply.header("etag"), list(fake.learnt)) == (["1,2"], '"e1"', ["/1", "/2"])


async def test_with_all_held_nothing_is_asked() -> None:
    """Not a call."""
    fake = Fake()
    fake.held = {"/1": HELD, "/2": HELD}
    reply = await layer(fake)(read("1,2"))
    assert (fake.ids, reply.mode, reply.avoided) == ([], Mode.REUSED, (("fresh", 2),))


async def test_what_was_not_asked_now_is_not_learnt() -> None:
    """It would be made younger than it is."""
    fake = Fake(replace(told_all(read("1")), mode=Mode.REUSED, ttl=1.0))
    await layer(fake)(read("1"))
    assert fake.learnt == {}


async def test_a_bad_one_makes_graph_speak_to_the_whole() -> None:
    """Its error names what was asked, not what was left of it."""
    fake = Fake()
    fake.held["/1"] = HELD
    assert (await layer(fake)(read("1,404"))).status == 404
    assert fake.ids == ["404", "1,404"]
    fake = Fake()
    assert (await layer(fake)(read("1,404"))).status == 404
    assert fake.ids == ["1,404"]


async def test_trouble_is_not_asked_for_twice() -> None:
    """A throttle, or trouble at Graph, is the same for the whole."""
    fake = Fake(told(b'{"error":{"code":4}}', 400, etag=""))
    fake.held["/1"] = HELD
    assert (await layer(fake)(read("1,2"))).status == 400
    fake.answer = Cut("cut")
    with pytest.raises(Cut):
        await layer(fake)(read("1,2"))
    assert fake.ids == ["2", "2"]


@pytest.mark.parametrize("rule", [{"merge": False}, {"fresh_s": 0}, {"cache": False}])
async def test_where_nothing_may_be_held_it_stays_whole(rule: dict[str, Any]) -> None:
    """The rules of each object say whether it may."""
    fake = Fake()
    fake.held["/1"] = HELD
    await layer(fake, **rule)(read("1,2"))
    assert (fake.ids, fake.learnt) == (["1,2"], {})


@pytest.mark.parametrize("wishes", [CacheDirectives(no_cache=True), CacheDirectives(no_store=True)])
async def test_who_wants_graphs_own_word_gets_it(wishes: CacheDirectives) -> None:
    """For the whole."""
    fake = Fake()
    fake.held["/1"] = HELD
    await layer(fake)(replace(read("1,2"), directives=wishes))
    assert (fake.ids, fake.learnt) == (["1,2"], {})
