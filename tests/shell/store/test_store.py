import asyncio
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.model import Entry
from proxy.shell.store import Bounds, Store
from proxy.shell.store.read_queue import KeyAndToken, ReadResult
from tests.shell.store.samples import SEALER, TOKEN, Clock, Open, entry, key, restarted


async def test_what_is_kept_is_there_at_once(opened: Open) -> None:
    """An entry can be had in the same turn of the loop, long before it is on disk."""
    store = await opened()
    store.put(key(1), TOKEN, entry(1))
    assert store.in_memory(key(1)) == entry(1)
    assert store.known_meta(key(1)) == entry(1).meta
    assert await store.load(key(1), TOKEN) == entry(1)
    assert store.stats()["writes"] == 0


async def test_what_was_flushed_survives_a_restart(opened: Open) -> None:
    """After flush a new process finds every entry, and opening it brings it back to memory."""
    store = await opened()
    for number in range(200):
        store.put(key(number), TOKEN, entry(number))
    await store.flush()
    store = await restarted(store, opened)
    assert store.in_memory(key(7)) is None
    assert [await store.load(key(number), TOKEN) for number in range(200)] == [entry(number) for number in range(200)]
    assert store.in_memory(key(7)) == entry(7)
    assert store.stats()["disk_entries"] == 200


async def test_closing_writes_what_waits(opened: Open) -> None:
    """An orderly end loses nothing."""
    store = await opened()
    store.put(key(1), TOKEN, entry(1))
    store = await restarted(store, opened)
    assert await store.load(key(1), TOKEN) == entry(1)


async def test_nothing_is_held_that_was_never_kept(opened: Open) -> None:
    """An unknown key is a miss everywhere, and not a bad row."""
    store = await opened()
    assert store.in_memory(key(1)) is None
    assert store.known_meta(key(1)) is None
    assert await store.load(key(1), TOKEN) is None
    assert store.stats()["bad_rows"] == 0


async def test_without_a_folder_there_is_memory(opened: Open) -> None:
    """A store of memory alone has the same face and opens nothing."""
    store = await opened(None)
    store.put(key(1), TOKEN, entry(1))
    await store.flush()
    assert await store.load(key(1), TOKEN) == entry(1)
    store.drop(key(1))
    assert await store.load(key(1), TOKEN) is None
    store.put(key(2), TOKEN, entry(2))
    store.purge()
    await store.maintain()
    assert store.known_meta(key(2)) is None
    assert store.stats()["breaker"] == "none"


async def test_a_waiting_write_is_readable_when_memory_has_let_go(opened: Open) -> None:
    """Between memory and disk an entry is never lost sight of."""
    store = await opened(memory_bytes=2000)
    for number in range(5):
        store.put(key(number), TOKEN, entry(number))
    assert store.in_memory(key(0)) is None
    assert await store.load(key(0), TOKEN) == entry(0)


async def test_the_newest_wins_on_disk_too(opened: Open) -> None:
    """Of several versions kept in a row the last is the one that a restart finds."""
    store = await opened()
    for version in range(3):
        store.put(key(1), TOKEN, entry(1, version=version))
    await store.flush()
    assert store.stats()["writes"] == 1
    store.put(key(1), TOKEN, entry(1, version=3))
    store = await restarted(store, opened)
    assert await store.load(key(1), TOKEN) == entry(1, version=3)


async def test_dropping_beats_a_waiting_write(opened: Open) -> None:
    """What was dropped is gone at once, and does not come back from the queue."""
    store = await opened()
    store.put(key(1), TOKEN, entry(1))
    store.drop(key(1))
    assert await store.load(key(1), TOKEN) is None
    await store.flush()
    store = await restarted(store, opened)
    assert await store.load(key(1), TOKEN) is None


async def test_dropping_reaches_the_disk(opened: Open) -> None:
    """A row that was written long ago is deleted, and is a miss from the moment of dropping."""
    store = await opened()
    store.put(key(1), TOKEN, entry(1))
    store = await restarted(store, opened)
    store.drop(key(1))
    assert await store.load(key(1), TOKEN) is None
    store = await restarted(store, opened)
    assert await store.load(key(1), TOKEN) is None
    assert store.stats()["disk_entries"] == 0


@pytest.mark.parametrize("change", ["drop", "purge", "keep"])
async def test_a_change_beats_a_reading_that_is_under_way(opened: Open, change: str) -> None:
    """What the disk gave is not believed when the key was dropped or kept anew meanwhile."""
    store = await opened()
    store.put(key(1), TOKEN, entry(1))
    store = await restarted(store, opened)
    reading = asyncio.create_task(store.load(key(1), TOKEN))
    await asyncio.sleep(0)
    match change:
        case "drop":
            store.drop(key(1))
        case "purge":
            store.purge()
        case _:
            store.put(key(1), TOKEN, entry(1, version=1))
    expected = entry(1, version=1) if change == "keep" else None
    assert await reading == expected
    assert store.in_memory(key(1)) == expected


async def test_a_reader_that_leaves_takes_nobody_along(opened: Open) -> None:
    """Of two callers that load one key, one may be cancelled; the other has its entry."""
    store = await opened()
    store.put(key(1), TOKEN, entry(1))
    store = await restarted(store, opened)
    leaving, staying = (asyncio.create_task(store.load(key(1), TOKEN)) for _ in range(2))
    await asyncio.sleep(0)
    leaving.cancel()
    assert await staying == entry(1)
    assert len(store._loads.under_way) == 0


async def test_many_readings_share_a_trip(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """Loads of one turn go to the reader's thread together, and each gets its own answer, a bad row its own miss."""
    store = await opened()
    for number in range(200):
        store.put(key(number), TOKEN if number != 50 else "another", entry(number))
    store = await restarted(store, opened)
    trips, read = [], store._disk._reads._read  # type: ignore[union-attr]

    def watched(wanted: Sequence[KeyAndToken]) -> list[ReadResult]:
        trips.append(len(wanted))
        return read(wanted)

    monkeypatch.setattr(store._disk._reads, "_read", watched)  # type: ignore[union-attr]
    found = await asyncio.gather(*(store.load(key(number), TOKEN) for number in range(200)))
    assert found == [entry(number) if number != 50 else None for number in range(200)]
    assert trips == [64, 64, 64, 8]
    assert store.stats()["bad_rows"] == 1


async def test_purging_leaves_nothing(opened: Open, folder: Path) -> None:
    """Memory, queue and disk are empty after a purge, and what is kept next is kept."""
    store = await opened()
    for number in range(20):
        store.put(key(number), TOKEN, entry(number))
    await store.flush()
    store.put(key(20), TOKEN, entry(20))
    store.purge()
    assert [await store.load(key(number), TOKEN) for number in range(21)] == [None] * 21
    assert store.known_meta(key(1)) is None
    store.put(key(30), TOKEN, entry(30))
    await store.flush()
    assert store.stats()["disk_entries"] == 1
    store = await restarted(store, opened)
    assert await store.load(key(1), TOKEN) is None
    assert await store.load(key(30), TOKEN) == entry(30)


async def test_the_index_outlives_memory(opened: Open) -> None:
    """The validator of what is only on disk is known without reading, and the body is there to go with it."""
    store = await opened(memory_bytes=3000)
    for number in range(50):
        store.put(key(number), TOKEN, entry(number))
    await store.flush()
    assert store.in_memory(key(0)) is None
    assert store.known_meta(key(0)) == entry(0).meta
    assert await store.load(key(0), TOKEN) == entry(0)


async def test_a_confirmation_is_not_written(opened: Open) -> None:
    """A 304 that changes little refreshes memory and index, and a body from disk comes with the refreshed facts."""
    store = await opened(memory_bytes=3000)
    store.put(key(1), TOKEN, entry(1))
    await store.flush()
    held = msgspec.structs.replace(entry(1).meta, asked_at=2e9, proofs=(b"p",))
    store.put(key(1), TOKEN, msgspec.structs.replace(entry(1), meta=held), write=False)
    for number in range(2, 9):
        store.put(key(number), TOKEN, entry(number))
    await store.flush()
    assert store.stats()["writes"] == 8
    assert store.in_memory(key(1)) is None
    assert store.known_meta(key(1)) == held
    loaded = await store.load(key(1), TOKEN)
    assert loaded is not None
    assert (loaded.meta, loaded.body) == (held, entry(1).body)


async def test_a_row_that_is_confirmed_for_an_hour_is_written_again(opened: Open) -> None:
    """Rows leave the disk in the order of writing: one in use is moved to the end now and then."""
    clock = Clock()
    store = await opened(clock=clock, rewrite_s=3600)
    store.put(key(1), TOKEN, entry(1))
    await store.flush()
    for passed, writes in ((3599, 1), (2, 2), (3599, 2), (2, 3)):
        clock.now += passed
        store.put(key(1), TOKEN, entry(1), write=False)
        await store.flush()
        assert store.stats()["writes"] == writes


async def test_newer_times_reach_the_index_when_the_entry_leaves_memory(opened: Open) -> None:
    """Until then they are in memory alone; a row that is confirmed for an hour is written again at the end."""
    clock = Clock()
    store = await opened(memory_bytes=3000, clock=clock, rewrite_s=3600)
    kept = entry(1)
    store.put(key(1), TOKEN, kept)
    await store.flush()
    newer = kept
    for asked in (2e9, 3e9):
        newer = msgspec.structs.replace(kept, meta=msgspec.structs.replace(kept.meta, asked_at=asked))
        store.renew(key(1), TOKEN, newer)
        assert store.known_meta(key(1)) == newer.meta
    for number in range(2, 9):
        store.put(key(number), TOKEN, entry(number))
    assert store.in_memory(key(1)) is None
    assert store.known_meta(key(1)) == newer.meta
    await store.flush()
    assert store.stats()["writes"] == 8
    loaded = await store.load(key(1), TOKEN)
    assert loaded is not None
    assert loaded.meta == newer.meta
    clock.now += 3601
    store.renew(key(1), TOKEN, loaded)
    await store.flush()
    assert store.stats()["writes"] == 9


def asked_for(at: float, size: int = 0, version: int = 0) -> Entry:
    """The entry of key 1, asked for *at* that time."""
    made = entry(1, size, version=version)
    return msgspec.structs.replace(made, meta=msgspec.structs.replace(made.meta, asked_at=at))


@pytest.mark.parametrize("memory_bytes", [2**20, 0], ids=["in memory", "on disk alone"])
async def test_a_slow_reply_does_not_take_the_place_of_a_newer_one(opened: Open, memory_bytes: int) -> None:
    """Whatever way it comes in, and even if it is too large to be stored."""
    store = await opened(memory_bytes=memory_bytes, max_body_bytes=1000)
    newer = asked_for(20.0)
    assert store.put(key(1), TOKEN, newer)
    assert not store.put(key(1), TOKEN, asked_for(10.0, version=1))
    assert not store.put(key(1), TOKEN, asked_for(10.0), write=False)
    assert not store.put(key(1), TOKEN, asked_for(10.0, 2000, version=1))
    store.renew(key(1), TOKEN, msgspec.structs.replace(newer, meta=asked_for(10.0).meta))
    assert await store.load(key(1), TOKEN) == newer
    store = await restarted(store, opened)
    assert await store.load(key(1), TOKEN) == newer
    assert store.put(key(1), TOKEN, asked_for(20.0, version=1))


async def test_an_entry_from_the_future_is_replaced(opened: Open) -> None:
    """A clock that was ahead, and is right again, does not keep its last entries until the time has come."""
    now = Clock()
    now.now = 50.0
    store = await opened(now=now)
    store.put(key(1), TOKEN, asked_for(60.0))
    assert store.put(key(1), TOKEN, asked_for(50.0, version=1))
    assert store.in_memory(key(1)) == asked_for(50.0, version=1)


@pytest.mark.parametrize("where", ["in memory", "in the write queue", "on disk", "in another run"])
async def test_entries_from_the_future_lose_their_time(opened: Open, where: str) -> None:
    """After the clock was set back nothing tells whether they are older than a change; they can be confirmed yet."""
    now = Clock()
    now.now = 100.0
    small = {} if where in {"in memory", "in another run"} else {"memory_bytes": 0}
    store = await opened(now=now, **small)
    for number, asked in ((1, 40.0), (2, 90.0)):
        made = entry(number)
        store.put(key(number), TOKEN, msgspec.structs.replace(made, meta=asked_for(asked).meta))
    if where == "on disk":
        await store.flush()
    now.now = 50.0
    if where == "in another run":
        store = await restarted(store, partial(opened, now=now))
    else:
        store.set_back(50.0, 50.0)
    for passed in (0.0, 60.0):  # the clock shows the time once more
        now.now += passed
        loaded = [await store.load(key(number), TOKEN) for number in (1, 2)]
        assert [each and each.meta.asked_at for each in loaded] == [40.0, 0.0]
    store.put(key(2), TOKEN, asked_for(95.0))
    assert store.known_meta(key(2)) == asked_for(95.0).meta


async def test_a_reply_that_was_asked_for_in_the_future_has_no_time(opened: Open) -> None:
    """The clock was set back while Graph was asked."""
    now = Clock()
    now.now = 100.0
    store = await opened(now=now)
    store.set_back(50.0, 50.0)
    now.now = 51.0
    store.put(key(1), TOKEN, asked_for(99.0))
    store.renew(key(1), TOKEN, asked_for(99.0))
    held = store.known_meta(key(1))
    assert held is not None
    assert held.asked_at == 0.0


async def test_an_entry_that_is_not_the_one_in_memory_is_stored_as_any_other(opened: Open) -> None:
    """Another body, more proofs, or none in memory any more: sizes are counted as they are."""
    store = await opened()
    empty = store.stats()["memory_bytes"]
    for old, new in (
        (entry(1), entry(1, 2000)),
        (entry(1), msgspec.structs.replace(entry(1), meta=msgspec.structs.replace(entry(1).meta, proofs=(b"p",)))),
        (None, entry(1)),
    ):
        if old is not None:
            store.put(key(1), TOKEN, old)
        store.renew(key(1), TOKEN, new)
        assert store.in_memory(key(1)) == new
        store.drop(key(1))
        assert store.stats()["memory_bytes"] == empty


async def test_a_confirmation_of_what_only_memory_holds_stays_there(opened: Open) -> None:
    """Not to write is obeyed where the disk holds nothing."""
    store = await opened()
    store.put(key(1), TOKEN, entry(1), write=False)
    await store.flush()
    assert store.in_memory(key(1)) == entry(1)
    assert store.stats()["writes"] == 0


async def test_a_body_too_large_is_not_kept(opened: Open) -> None:
    """A larger body than allowed is kept nowhere, and what it replaces is gone."""
    store = await opened(max_body_bytes=1000)
    store.put(key(1), TOKEN, entry(1))
    await store.flush()
    store.put(key(1), TOKEN, entry(1, 2000, version=1))
    assert store.in_memory(key(1)) is None
    assert await store.load(key(1), TOKEN) is None
    await store.flush()
    assert store.stats()["disk_entries"] == 0


@given(st.dictionaries(st.integers(0, 5), st.text(max_size=8), min_size=2), st.data())
def test_no_caller_receives_anothers(tokens: dict[int, str], data: st.DataObject) -> None:
    """Even if one caller asks for another's key, the disk gives nothing under another token."""
    asyncio.run(_cross(tokens, data))


async def _cross(tokens: dict[int, str], data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder) / "cache", SEALER, Bounds(free_floor_bytes=0))
        await store.open()
        for number, token in tokens.items():
            store.put(key(number), token, entry(number))
        await store.flush()
        owner = data.draw(st.sampled_from(sorted(tokens)))
        thief = data.draw(st.sampled_from(sorted(tokens)))
        store.memory.clear()
        expected = entry(owner) if tokens[thief] == tokens[owner] else None
        assert await store.load(key(owner), tokens[thief]) == expected
        await store.close()


async def test_a_burst_of_everything_ends_well(opened: Open) -> None:
    """Loads, keeps and drops at once on few keys give only versions that were kept, and end with the last word."""
    store = await opened(memory_bytes=3000, group_s=0, group_entries=3)
    last: dict[int, Entry | None] = {}

    async def ask(number: int) -> None:
        found = await store.load(key(number), TOKEN)
        assert found is None or found.body.startswith(b"body-%d-" % number)

    async with asyncio.TaskGroup() as group:
        for turn in range(300):
            number = turn * 7 % 10
            if turn % 5 == 4:
                store.drop(key(number))
                last[number] = None
            else:
                last[number] = entry(number, version=turn)
                store.put(key(number), TOKEN, entry(number, version=turn))
            group.create_task(ask(turn % 10))
            await asyncio.sleep(0)
    await store.flush()
    store.memory.clear()
    assert {number: await store.load(key(number), TOKEN) for number in last} == last
