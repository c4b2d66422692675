"""The log of the fleet: who trusts it, for how long, and what a replica does when it is another log."""

from __future__ import annotations

import asyncio
import os
import re
import signal
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, aclosing
from typing import cast

import pytest

from proxy.core.shared.location import read_location
from proxy.core.shared.records import Closed, Content, Opened, Refused
from proxy.core.shared.trust import TRUST_S
from proxy.core.shared.wire import Id, Wire
from proxy.shell.valkey.events import Events
from proxy.shell.valkey.link import Dialer, Link
from proxy.shell.valkey.tail import BLOCK_MS, Tail
from tests.shell.valkey.conftest import MakeClient, begin
from tests.shell.valkey.servers import Server, until

MASTER = b"m" * 32


class Seen:
    """Records what the log's reader reports."""

    def __init__(self) -> None:
        self.records: list[tuple[Content, bool]] = []
        self.restarts = self.doubts = 0

    def apply(self, what: Content, at: Id, age_s: float, *, own: bool) -> None:
        self.records.append((what, own))

    def restart(self) -> None:
        self.restarts += 1

    def doubt(self) -> None:
        self.doubts += 1

    def whats(self) -> list[Content]:
        return [what for what, _ in self.records]


MakeEvents = Callable[[], Awaitable[tuple[Events, Seen]]]


@pytest.fixture
def replica(store: Server, client: MakeClient, running: AsyncExitStack) -> MakeEvents:
    """One more reader and writer of the log, which has read all of it."""

    async def make() -> tuple[Events, Seen]:
        seen = Seen()
        visits = await client(store.url)
        dialer = Dialer(read_location(store.url), lambda: ("", ""))
        made = Events(dialer, visits, Wire(MASTER), os.urandom(8), 3600, lambda: visits.is_up, seen)
        begin(running, made.run())
        begin(running, made.write_forever())
        assert await made.catch_up(5)
        return made, seen

    return make


def now() -> float:
    """The time of the event loop."""
    return asyncio.get_running_loop().time()


WROTE = Closed(b"w" * 8, ("123",), b"f" * 16)


async def test_each_replica_reads_a_published_record_and_its_sender(replica: MakeEvents) -> None:
    """The sender learns the record's position in the log; each replica sees whether the record is its own."""
    (a, seen_a), (_, seen_b) = await replica(), await replica()
    at = await a.publish(WROTE)
    await until(lambda: bool(seen_a.records and seen_b.records))
    assert (seen_a.records, seen_b.records) == ([(WROTE, True)], [(WROTE, False)])
    assert a.index.cursor == at


async def test_a_new_replica_reads_the_whole_log(replica: MakeEvents) -> None:
    """2,500 records from before its start, in their order; it starts anew once and misses none."""
    a, _ = await replica()
    for number in range(2500):
        a.publish(Refused(b"%016d" % number))
    await until(lambda: not a.unwritten)
    _, seen = await replica()
    assert seen.whats() == [Refused(b"%016d" % number) for number in range(2500)]
    assert (seen.restarts, seen.doubts) == (1, 0)


async def test_trust_ends_while_the_store_is_frozen_and_comes_back(store: Server, replica: MakeEvents) -> None:
    """While the store does not answer no entry is trusted; afterwards older entries are doubted once."""
    b, seen = await replica()
    assert b.is_current
    store.signal(signal.SIGSTOP)
    await until(lambda: not b.is_current)
    assert not await b.catch_up(0.01)
    await until(lambda: b.lag_s > 0.6)
    store.signal(signal.SIGCONT)
    assert await b.catch_up(10)
    assert seen.doubts == 1  # others may have answered writes meanwhile that the log has not taken yet


async def test_a_late_event_loop_reads_the_log_once_and_trusts_again(replica: MakeEvents) -> None:
    """A stall of this process alone costs one read of the log, and no doubt."""
    b, seen = await replica()
    import time

    time.sleep(2 * TRUST_S)  # noqa: ASYNC251 - the process was busy
    assert not b.is_current
    assert await b.catch_up(5)
    assert (seen.doubts, seen.restarts) == (0, 1)


async def tail(store: Server, block_ms: int = BLOCK_MS) -> tuple[Link, Tail]:
    """Reads a stream to which a test may write, as a replica reads the log."""
    link = await Dialer(read_location(store.url), lambda: ("", "")).dial()
    reading = ((b"XREAD", b"STREAMS", b"w", b"0-1"),), (b"XREAD", b"BLOCK", block_ms, b"STREAMS", b"w", b"0-1")
    return link, Tail(link, lambda: reading, lambda: False, now)


async def test_an_idle_store_is_read_as_often_as_a_busy_one(store: Server) -> None:
    """A server checks its clock as seldom as once a second (`hz`), so a blocked read is ended before."""
    store.ask("CONFIG", "SET", "hz", 1)
    link, made = await tail(store)
    try:
        async with asyncio.timeout(25), aclosing(made.pages()) as pages:  # it would take a second each time, 30 in all
            for _ in range(30):
                assert (await anext(pages))[1] == [None]
    finally:
        await link.close()


async def test_a_blocked_read_ends_with_a_new_record(store: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """A replica learns of a record when it is written, not when the wait is over."""
    monkeypatch.setattr("proxy.shell.valkey.tail.NEWS_S", 60.0)
    link, made = await tail(store, block_ms=0)
    try:
        async with aclosing(made.pages()) as pages:
            assert (await anext(pages))[1] == [None]
            waiting = asyncio.ensure_future(anext(pages))
            await until(lambda: b"blocked_clients:1" in cast("bytes", store.ask("INFO", "clients")))
            store.ask("XADD", "w", "*", "d", "x")
            assert (await waiting)[1] != [None]
    finally:
        await link.close()


async def test_reading_a_quiet_log_takes_one_message_each_way(store: Server, replica: MakeEvents) -> None:
    """The store gets one pipeline for each read, with the next wait in it."""
    b, _ = await replica()
    await until(lambda: b"blocked_clients:1" in cast("bytes", store.ask("INFO", "clients")))
    link = b._tail.link  # type: ignore[union-attr]
    sent: list[int] = []
    send = link.send

    async def counted(message: bytes) -> None:
        sent.append(len(re.findall(rb"\*\d+\r\n\$", message)))  # an echo's random bytes may hold a `*`
        await send(message)

    link.send = counted  # type: ignore[method-assign]
    await until(lambda: len(sent) == 5)
    assert set(sent) <= {4, 6}  # the page, the epoch, the role, the wait, and an echo behind each of the two
    assert 6 in sent  # without the wait if this process was late


async def test_an_emptied_store_gets_the_records_of_the_last_minute_again(store: Server, replica: MakeEvents) -> None:
    """It is another log: replicas start anew, and write their own latest records once more."""
    (a, seen_a), (b, seen_b) = await replica(), await replica()
    await a.publish(WROTE)
    await until(lambda: len(seen_b.records) == 1)
    lineage = b.index.lineage
    store.ask("FLUSHALL")
    await until(lambda: seen_a.restarts == 2 and seen_b.restarts == 2)
    await until(lambda: len(seen_b.records) == 2)
    assert seen_b.whats() == [WROTE, WROTE]
    assert a.index.lineage == b.index.lineage != lineage
    assert await b.catch_up(5)


async def test_a_log_that_was_emptied_is_never_trusted(store: Server, replica: MakeEvents) -> None:
    """Not even between two reads of it."""
    _b, seen = await replica()
    store.ask("FLUSHALL")
    emptied = now()
    await until(lambda: seen.restarts == 2 or now() - emptied > 3 * TRUST_S)
    assert seen.restarts == 2


async def test_a_promoted_server_is_another_log(store: Server, replica: MakeEvents) -> None:
    """Its last records may be lost, so every replica starts anew."""
    _, seen = await replica()
    store.ask("REPLICAOF", "127.0.0.1", "1")
    await asyncio.sleep(0.05)
    store.ask("REPLICAOF", "NO", "ONE")
    await until(lambda: seen.restarts == 2)


async def test_a_lost_record_is_noticed_by_the_next_of_its_sender(store: Server, replica: MakeEvents) -> None:
    """Records are numbered by sender: a gap makes older entries doubtful."""
    (a, _), (b, seen) = await replica(), await replica()
    await a.publish(WROTE)
    await until(lambda: len(seen.records) == 1)
    a._number += 1  # a record that an old primary took and lost
    await a.publish(Opened(b"x" * 8, (), b""))
    await until(lambda: len(seen.records) == 2)
    assert (seen.doubts, b.gaps) == (1, 1)


async def test_a_record_is_sent_until_the_log_has_it(store: Server, replica: MakeEvents) -> None:
    """A store that dies in between gets it after its restart."""
    (a, _), (_, seen) = await replica(), await replica()
    store.signal(signal.SIGKILL)
    written = a.publish(WROTE)
    await until(lambda: not a.client.is_up)
    store.start()
    await written
    await until(lambda: WROTE in seen.whats())


async def test_records_of_senders_without_the_secret_are_ignored(store: Server, replica: MakeEvents) -> None:
    """Bytes that were not sealed with the secret reach no replica as a record."""
    a, seen = await replica()
    store.ask("XADD", a.wire.names.log, "*", "d", b"no record of ours, but long enough to be opened")
    store.ask("XADD", a.wire.names.log, "*", "x", b"")
    await a.publish(WROTE)
    await until(lambda: bool(seen.records))
    assert seen.whats() == [WROTE]


async def test_the_log_shows_no_object_id(store: Server, replica: MakeEvents) -> None:
    """The log's records hold no object's id in clear."""
    a, _ = await replica()
    await a.publish(Closed(b"w" * 8, ("120330000000000000",), b"f" * 16))
    kept = store.ask("XRANGE", a.wire.names.log, "-", "+")
    assert b"120330000000000000" not in repr(kept).encode()
