"""What the cache asks, stores and serves; store, Graph and clock are fakes."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from msgspec.structs import replace

from proxy.core.cache.encryption import CompressedBody
from proxy.core.cache.invalidation import InvalidationIndex
from proxy.core.cache.key import Keys
from proxy.core.cache.purge import PurgeOrder, Purges
from proxy.core.http.errors import Cut, NotHeld, Unreachable
from proxy.core.model import CacheDirectives, Channel, Entry, EntryMeta, Mode, Reply, Request
from proxy.core.quota.ledger import Ledger
from proxy.core.routing.rules import Rule
from proxy.shell.pipeline.cache import Cache, OnBackgroundReply
from tests.shell.fakes import JSON, Clock, Onward, ask, entry, later, told, turns

KEYS = Keys(bytes(32))
GONE = Unreachable("no connection to Graph")


class FakeStore:
    """Entries in memory, or on a disk that is read when the test says so; notes what is kept."""

    def __init__(
        self, memory: Entry | None = None, *, disk: Entry | None = None, known: EntryMeta | None = None
    ) -> None:
        self.memory, self.on_disk, self.known = memory, disk, known
        self.kept: list[tuple[bytes, str, Entry, bool]] = []
        self.tokens: list[str] = []
        self.spinning = asyncio.Event()
        self.spinning.set()

    def in_memory(self, key: bytes) -> Entry | None:
        return self.memory

    def known_meta(self, key: bytes) -> EntryMeta | None:
        return self.known if self.memory is None else self.memory.meta

    def is_unknown(self, key: bytes) -> bool:
        return self.memory is None and self.known is None and self.on_disk is None

    async def load(self, key: bytes, token: str) -> Entry | None:
        self.tokens.append(token)
        await self.spinning.wait()
        return self.on_disk

    def renew(self, key: bytes, token: str, entry: Entry) -> None:
        self.put(key, token, entry, write=False)

    def put(self, key: bytes, token: str, entry: Entry, *, write: bool = True) -> bool:
        self.kept.append((key, token, entry, write))
        self.memory = entry
        return True

    def put_all(self, keys: Sequence[bytes], token: str, entries: Sequence[Entry]) -> None:
        for key, kept in zip(keys, entries, strict=True):
            self.put(key, token, kept)

    def note_compressed(self, key: bytes, body: bytes, compressed: CompressedBody) -> None:
        pass

    def drop(self, key: bytes) -> None:
        self.memory = self.on_disk = self.known = None


def cache(
    onward: Onward,
    store: FakeStore,
    *,
    invalidations: InvalidationIndex | None = None,
    purges: Purges | None = None,
    on_background_reply: OnBackgroundReply = lambda *_heard: None,
    **rule: float | bool,
) -> Cache:
    """A cache with one rule for everything."""
    return Cache(
        onward,
        store=store,
        keys=KEYS,
        rule=lambda _request: Rule(**rule),  # type: ignore[arg-type]
        invalidations=invalidations or InvalidationIndex(),
        purges=purges or Purges(),
        now=Clock(),
        on_background_reply=on_background_reply,
    )


def not_modified() -> Onward:
    """A Graph that confirms whatever it is asked about, and as usual names no ETag."""
    return Onward(told(b"", 304, etag=""))


async def test_a_read_without_an_entry_is_asked_and_stored() -> None:
    """The call has no validator; the body is stored under the caller's token, on disk too."""
    onward, store = Onward(), FakeStore()
    reply = await cache(onward, store)(ask())
    assert (reply.mode, reply.stored) == (Mode.MISS, True)
    assert onward.asked[0].validator == ""
    (key, token, kept, write) = store.kept[0]
    assert (key, token, kept.body, kept.meta.etag, write) == (KEYS.entry(ask()), "token-a", reply.body, '"e1"', True)


async def test_an_entry_is_revalidated() -> None:
    """By default Graph is always asked, with the ETag; a 304 without an ETag confirms the entry."""
    onward, store = not_modified(), FakeStore(entry(b'{"held":1}'))
    reply = await cache(onward, store)(ask())
    assert (reply.status, reply.body, reply.mode) == (200, b'{"held":1}', Mode.REVALIDATED)
    assert onward.asked[0].validator == '"e1"'
    assert store.kept[0][3] is False  # nothing new for the disk


async def test_a_new_body_replaces_the_entry() -> None:
    """A 200 in place of a 304 is served and stored."""
    onward, store = Onward(told(b'{"new":1}', etag='"e2"')), FakeStore(entry())
    reply = await cache(onward, store)(ask())
    assert (reply.body, reply.mode) == (b'{"new":1}', Mode.CHANGED)
    assert (store.kept[0][2].meta.etag, store.kept[0][3]) == ('"e2"', True)


async def test_a_call_with_a_known_validator_does_not_wait_for_the_disk() -> None:
    """Only the reply waits for the body."""
    on_disk = entry(b'{"disk":1}')
    onward, store = not_modified(), FakeStore(disk=on_disk, known=on_disk.meta)
    store.spinning.clear()
    caller = asyncio.ensure_future(cache(onward, store)(ask()))
    await turns()
    assert [request.validator for request in onward.asked] == ['"e1"']
    assert not caller.done()
    store.spinning.set()
    assert (await caller).body == b'{"disk":1}'


async def test_an_entry_that_only_the_disk_knows_is_read_first() -> None:
    """After a restart the first call already has the ETag."""
    onward, store = not_modified(), FakeStore(disk=entry(b'{"disk":1}'))
    assert (await cache(onward, store)(ask())).mode is Mode.REVALIDATED
    assert store.tokens == ["token-a"]


@pytest.mark.parametrize("asked_at, is_dropped", [(999.0, True), (1001.0, False)])
async def test_an_object_that_is_gone_is_not_read_from_what_came_meanwhile(
    asked_at: float, *, is_dropped: bool
) -> None:
    """An entry that another call brought is dropped, if Graph was asked for that one earlier."""
    onward, store = Onward(), FakeStore(entry(asked=985.0))
    layer = cache(onward, store)

    def refuse(_request: Request) -> Reply:
        store.memory = entry(asked=asked_at)
        return told(b'{"error":{"code":100,"error_subcode":33}}', 400, etag="")

    onward.answer = refuse
    assert (await layer(ask())).status == 400
    assert (store.memory is None) == is_dropped


async def test_a_304_whose_body_is_gone_is_asked_again() -> None:
    """A body that vanishes while Graph is asked costs a second call, never a wrong or an empty reply."""
    answers = iter([told(b"", 304, etag=""), told(b'{"again":1}')])
    onward, store = Onward(lambda _request: next(answers)), FakeStore(known=entry().meta)
    reply = await cache(onward, store)(ask())
    assert (reply.body, reply.mode) == (b'{"again":1}', Mode.MISS)
    assert [request.validator for request in onward.asked] == ['"e1"', ""]


async def test_a_fresh_entry_is_served_without_a_call() -> None:
    """The rule says for how long."""
    onward, store = Onward(), FakeStore(entry(b'{"held":1}', asked=995.0))
    reply = await cache(onward, store, fresh_s=10)(ask())
    assert (reply.mode, reply.body, reply.age, reply.ttl) == (Mode.REUSED, b'{"held":1}', 5.0, 5.0)
    assert onward.asked == []


async def test_a_fresh_entry_whose_body_cannot_be_read_is_a_miss() -> None:
    """The index knew the entry, and the disk has no body."""
    onward, store = Onward(told(b'{"new":1}')), FakeStore(known=entry(asked=995.0).meta)
    reply = await cache(onward, store, fresh_s=10)(ask())
    assert (reply.mode, reply.body) == (Mode.MISS, b'{"new":1}')


async def test_a_write_ends_freshness() -> None:
    """A caller that writes through the sidecar reads its write, whatever the rules say."""
    invalidations = InvalidationIndex()
    invalidations.invalidate(["111"], 999.0)
    onward = not_modified()
    await cache(onward, FakeStore(entry(asked=995.0)), invalidations=invalidations, fresh_s=10)(ask())
    assert len(onward.asked) == 1


async def test_a_stale_entry_is_served_while_one_call_revalidates_it() -> None:
    """Within stale-while-revalidate no caller waits, and one revalidation at a time is enough."""
    answer = later()
    onward, store = Onward(answer), FakeStore(entry(b'{"old":1}', asked=985.0))
    layer = cache(onward, store, fresh_s=10, stale_while_revalidate_s=60)
    replies = [await layer(ask()) for _ in range(3)]
    await turns()
    assert {(reply.mode, reply.body) for reply in replies} == {(Mode.STALE, b'{"old":1}')}
    assert [request.validator for request in onward.asked] == ['"e1"']
    answer.set_result(told(b'{"new":1}', etag='"e2"'))
    await turns()
    assert (await layer(ask())).body == b'{"new":1}'


@pytest.mark.parametrize("answer, mode", [(told(b'{"new":1}', etag='"e2"'), Mode.CHANGED), (GONE, Mode.FAILED)])
async def test_a_revalidation_in_the_background_is_logged(answer: Reply | Unreachable, mode: Mode) -> None:
    """No caller gets its reply, and the call counts all the same."""
    heard: list[tuple[Mode, str]] = []
    layer = cache(
        Onward(answer),
        FakeStore(entry(asked=985.0)),
        fresh_s=10,
        stale_while_revalidate_s=60,
        on_background_reply=lambda _request, reply, cost, _seconds: heard.append((reply.mode, cost.app)),
    )
    await layer(ask(), Ledger().open(1, app="fp"))
    await turns()
    assert heard == [(mode, "fp")]


async def test_a_revalidation_in_the_background_may_fail() -> None:
    """No caller gets the error, and the next caller starts another one."""
    onward, store = Onward(GONE), FakeStore(entry(asked=985.0))
    layer = cache(onward, store, fresh_s=10, stale_while_revalidate_s=60)
    for count in (1, 2):
        assert (await layer(ask())).mode is Mode.STALE
        await turns()
        assert len(onward.asked) == count


async def test_closing_cancels_revalidations_in_the_background() -> None:
    """A drain does not wait for them."""
    answer = later()
    layer = cache(Onward(answer), FakeStore(entry(asked=985.0)), fresh_s=10, stale_while_revalidate_s=60)
    await layer(ask())
    await turns()
    await layer.close()
    assert answer.cancelled()


@pytest.mark.parametrize("trouble", [GONE, Cut("cut"), told(b'{"error":{"code":2}}', 503, etag="")])
async def test_a_stale_entry_answers_for_an_error_of_graph(trouble: object) -> None:
    """Within stale-if-error; the reply says so."""
    onward, store = Onward(trouble), FakeStore(entry(b'{"old":1}', asked=985.0))  # type: ignore[arg-type]
    reply = await cache(onward, store, fresh_s=10, stale_if_error_s=60)(ask())
    assert (reply.status, reply.body, reply.mode, reply.detail) == (200, b'{"old":1}', Mode.STALE, "stale-if-error")


async def test_without_a_rule_no_stale_entry_is_served() -> None:
    """By default callers get the error, though there is an entry."""
    with pytest.raises(Unreachable):
        await cache(Onward(GONE), FakeStore(entry()))(ask())


async def test_without_an_entry_the_error_reaches_the_caller() -> None:
    """No entry can answer for it."""
    with pytest.raises(Unreachable):
        await cache(Onward(GONE), FakeStore(), stale_if_error_s=60)(ask())


async def test_only_if_cached_makes_no_call() -> None:
    """Without a fresh entry the caller gets NotHeld."""
    onward = Onward()
    with pytest.raises(NotHeld):
        await cache(onward, FakeStore(entry()))(replace(ask(), directives=CacheDirectives(only_if_cached=True)))
    assert onward.asked == []


async def test_a_rule_without_cache_uses_no_store() -> None:
    """Nothing is looked up, and nothing is stored."""
    onward, store = Onward(), FakeStore(entry())
    reply = await cache(onward, store, cache=False)(ask())
    assert (reply.mode, reply.stored, store.kept, store.tokens) == (Mode.MISS, False, [], [])


@pytest.mark.parametrize(
    "answer",
    [
        told(b'{"error":{"code":100}}', 400, etag=""),
        told(b'{"error":{"code":1}}', 200),
        told(b"<html>", 200),
        told(b'{"id":"1"}', 200, etag=""),
    ],
)
async def test_errors_and_bodies_without_an_etag_are_not_stored(answer: object) -> None:
    """Nor are errors with status 200 and bodies that are no JSON."""
    store = FakeStore()
    reply = await cache(Onward(answer), store)(ask())  # type: ignore[arg-type]
    assert (reply.body, store.kept) == (answer.body, [])  # type: ignore[attr-defined]


async def test_an_etag_of_a_batch_is_not_sent_in_a_single_call() -> None:
    """Graph may format the body differently there."""
    onward, store = Onward(), FakeStore(entry(channel="batch"))
    await cache(onward, store)(replace(ask(), channel=Channel.DIRECT))
    assert onward.asked[0].validator == ""


async def test_a_reply_to_a_read_without_a_token_is_sealed_without_one() -> None:
    """The empty token is its key."""
    store = FakeStore()
    await cache(Onward(), store)(ask(token=""))
    assert store.kept[0][1] == ""
    assert store.kept[0][0] != KEYS.entry(ask())
    assert store.kept[0][2].headers.decode().startswith(f"{JSON[0]}: {JSON[1]}")


@pytest.mark.parametrize("hot", [True, False])
async def test_an_entry_of_an_earlier_run_is_dropped_if_a_purge_order_covers_it(*, hot: bool) -> None:
    """Only a read shows what the entry is about: then it is a miss, and the entry is dropped."""
    old = entry(asked=900)
    store = FakeStore(old) if hot else FakeStore(disk=old, known=old.meta)
    purges = Purges()
    layer = cache(Onward(), store, purges=purges, fresh_s=600)
    assert (await layer(ask())).mode is Mode.REUSED
    assert purges.add(PurgeOrder(path="/222"), (), 1000) == []
    assert (await layer(ask())).mode is Mode.REUSED
    purges.add(PurgeOrder(path="/11*"), (), 950)
    store.kept.clear()
    assert (await layer(ask())).mode is Mode.MISS
    assert store.kept[0][2].meta.asked_at == 1000
    assert (await layer(ask())).mode is Mode.REUSED


async def test_a_purge_order_finds_entries_that_were_stored_or_loaded() -> None:
    """By what their reads are about."""
    purges, old = Purges(), entry(asked=900)
    await cache(Onward(), FakeStore(), purges=purges)(ask("/1"))
    await cache(Onward(), FakeStore(disk=old, known=old.meta), purges=purges)(ask("/2"))
    await cache(Onward(told(status=500)), FakeStore(), purges=purges)(ask("/3"))
    assert purges.add(PurgeOrder(path="/?"), (), 1000) == [KEYS.entry(ask("/1")), KEYS.entry(ask("/2"))]
