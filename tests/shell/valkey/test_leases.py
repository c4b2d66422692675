"""Flights of several replicas: who leads, who follows, and what happens when a leader dies or loses its lease."""

from __future__ import annotations

import asyncio
import os
import re
import signal
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

import pytest

from proxy.core.shared.lease import FlightOutcome, Leases
from proxy.core.shared.wire import Wire
from proxy.shell.valkey.leases import Flights, Joined, Led
from tests.shell.valkey.conftest import MakeClient, begin
from tests.shell.valkey.servers import Server, until

MASTER, FLIGHT, ENTRY = b"m" * 32, b"f" * 32, (b"an entry", b"", 0)
MakeFlights = Callable[[], Awaitable[Flights]]


@pytest.fixture
def replica(store: Server, client: MakeClient, running: AsyncExitStack) -> MakeFlights:
    """One more replica; `alive` of its name is what tells others that it lives."""

    async def make() -> Flights:
        made = Flights(await client(store.url), Wire(MASTER), Leases(MASTER), os.urandom(8), 20.0)
        begin(running, made.run())
        live(store, made)
        return made

    return make


def live(store: Server, flights: Flights, ms: int = 60_000) -> None:
    """Give the replica of *flights* a sign of life."""
    store.ask("SET", flights.wire.names.replica(flights.replica), "1", "PX", ms)


async def lead_or_join(flights: Flights, *, has_time: bool = False) -> Led | Joined | None:
    """Lead or join the flight through *flights*."""
    found, _ = await flights.lead_or_join(flights.lease_request(FLIGHT, "token", b"", has_time=has_time), 5)
    return found


async def leads(flights: Flights) -> Led:
    """The flight, which *flights* leads."""
    found = await lead_or_join(flights)
    assert isinstance(found, Led)
    return found


async def joins(flights: Flights) -> Joined:
    """The flight, which another replica leads."""
    found = await lead_or_join(flights)
    assert isinstance(found, Joined)
    return found


def ended(led: Led, body: bytes = b"{}") -> FlightOutcome:
    """An outcome of *led*."""
    return FlightOutcome(led.lease.token, 200, (("ETag", '"1"'),), body, "batch", "MISS")


async def test_one_replica_leads_and_the_others_get_its_outcome(replica: MakeFlights) -> None:
    """Followers get status, fields and body without a call of their own."""
    a, b, c = await replica(), await replica(), await replica()
    led = await leads(a)
    joined = [await joins(b), await joins(c)]
    following = [asyncio.create_task(each.follow(one)) for each, one in zip((b, c), joined, strict=True)]
    a.land(led, ended(led), "token", ENTRY)
    assert await asyncio.gather(*following) == [ended(led)] * 2
    assert (a.led, b.followed, c.followed) == (1, 1, 1)
    await leads(c)  # what has landed is joined by nobody


async def test_one_visit_finds_an_entry_or_takes_the_lease(store: Server, replica: MakeFlights) -> None:
    """Where the store holds the entry, no lease is taken; else the first leads, and the second joins."""
    a, b = await replica(), await replica()

    async def look(flights: Flights) -> tuple[Led | Joined | None, bytes | None]:
        return await flights.lead_or_join(flights.look_request(FLIGHT, "token", b"an entry", has_time=False), 5)

    visits = a.client.counts.visits
    led, value = await look(a)
    assert (a.client.counts.visits, value) == (visits + 1, None)
    assert isinstance(led, Led)
    joined, value = await look(b)
    assert isinstance(joined, Joined)
    assert value is None
    following = asyncio.create_task(b.follow(joined))
    a.land(led, ended(led), "token", (b"an entry", b"a value", 60_000))
    assert await following == ended(led)
    assert await look(b) == (None, b"a value")
    assert store.ask("EXISTS", a.wire.names.lease(FLIGHT)) == 0


async def test_lease_requests_of_one_turn_share_a_visit_to_the_store(store: Server, replica: MakeFlights) -> None:
    """Their commands leave in one message, and one echo shows that the replies are in step."""

    def echoes() -> int:
        found = re.search(r"cmdstat_echo:calls=(\d+)", str(store.ask("INFO", "commandstats")))
        return int(found[1]) if found else 0

    a = await replica()
    before = echoes()
    looks = [a.look_request(bytes([number]) * 32, "token", b"an entry", has_time=False) for number in range(20)]
    answers = await asyncio.gather(*(a.lead_or_join(look, 5) for look in looks))
    assert all(isinstance(led, Led) and value is None for led, value in answers)
    assert echoes() - before == 1


async def test_a_visit_that_is_cut_off_leaves_no_lease(store: Server, replica: MakeFlights) -> None:
    """Its caller left, or its time was over: whatever the store gave is given back."""
    a = await replica()
    name = a.wire.names.lease(FLIGHT)
    leaving = asyncio.create_task(a.lead_or_join(a.look_request(FLIGHT, "token", b"an entry", has_time=False), 5))
    await asyncio.sleep(0)
    leaving.cancel()
    await asyncio.wait([leaving])
    await a.lead_or_join(a.look_request(b"g" * 32, "token", b"an entry", has_time=False), 0)
    for flight in (name, a.wire.names.lease(b"g" * 32)):
        await until(lambda flight=flight: store.ask("EXISTS", flight) == 0 and not a._owed)  # type: ignore[misc]
    assert a.alone["away"] == 1


async def test_followers_poll_for_all_flights_together(store: Server, replica: MakeFlights) -> None:
    """One visit to the store asks for every outcome that a replica waits for."""
    a, b = await replica(), await replica()
    following = []
    for number in range(30):
        flight = b"%032d" % number
        led, _ = await a.lead_or_join(a.lease_request(flight, "token", b"", has_time=False), 5)
        one, _ = await b.lead_or_join(b.lease_request(flight, "token", b"", has_time=False), 5)
        assert isinstance(led, Led)
        assert isinstance(one, Joined)
        following.append(asyncio.create_task(b.follow(one)))
    before = b.client.counts.visits
    await asyncio.sleep(0.1)
    assert b.client.counts.visits - before <= 12
    for task in following:
        task.cancel()


async def test_an_outcome_under_another_lease_is_ignored(store: Server, replica: MakeFlights) -> None:
    """The outcome of an earlier flight of the same read answers no follower of the next one."""
    a, b = await replica(), await replica()
    first = await leads(a)
    a.land(first, ended(first, b'"before"'), "token", ENTRY)
    await until(lambda: store.ask("EXISTS", a.wire.names.outcome(FLIGHT)) == 1)
    second = await leads(a)
    following = asyncio.create_task(b.follow(await joins(b)))
    await asyncio.sleep(0.1)
    assert not following.done()
    a.land(second, ended(second, b'"after"'), "token", ENTRY)
    outcome = await following
    assert isinstance(outcome, FlightOutcome)
    assert outcome.body == b'"after"'


async def test_an_outcome_opens_only_with_the_callers_token(store: Server, replica: MakeFlights) -> None:
    """A caller with another token asks Graph by itself."""
    a, b = await replica(), await replica()
    led = await leads(a)
    other, _ = await b.lead_or_join(b.lease_request(FLIGHT, "another token", b"", has_time=False), 5)
    assert isinstance(other, Joined)
    following = asyncio.create_task(b.follow(other))
    a.land(led, ended(led), "token", ENTRY)
    led_again = await following
    assert isinstance(led_again, Led)  # it asks by itself
    b.release(led_again)


async def test_the_flight_of_a_dead_leader_is_taken_over_by_one(store: Server, replica: MakeFlights) -> None:
    """The other followers go on waiting, for the new leader."""
    a, b, c = await replica(), await replica(), await replica()
    led = await leads(a)
    following = [asyncio.create_task(each.follow(await joins(each))) for each in (b, c)]
    live(store, a, ms=1)
    done, waiting = await asyncio.wait(following, return_when=asyncio.FIRST_COMPLETED)
    (taken,) = [task.result() for task in done]
    assert isinstance(taken, Led)
    a.land(led, ended(led, b'"too late"'), "token", (b"an entry", b"too late", 60_000))
    leader, other = (b, c) if b.taken_over else (c, b)
    await until(lambda: any(joined.packed == taken.packed for joined in other._joined))
    leader.land(taken, ended(taken), "token", ENTRY)
    assert [await task for task in waiting] == [ended(taken)]
    assert store.ask("EXISTS", "an entry") == 0
    assert b.taken_over + c.taken_over == 1


@pytest.mark.parametrize("takes_over_twice", [False, True], ids=["once", "twice"])
async def test_a_follower_that_missed_a_takeover_gets_the_outcome(
    store: Server, replica: MakeFlights, *, takes_over_twice: bool
) -> None:
    """A flight that is taken over and lands between two polls of a follower is flown by nobody again."""
    a, b, c, d = [await replica() for _ in range(4)]
    await leads(a)
    slow = await joins(b)  # polls only when the flight is over
    taking = asyncio.create_task(c.follow(await joins(c)))
    live(store, a, ms=1)
    leader, taken = c, await taking
    assert isinstance(taken, Led)
    if takes_over_twice:
        again = asyncio.create_task(d.follow(await joins(d)))
        live(store, c, ms=1)
        leader, taken = d, await again
        assert isinstance(taken, Led)
    leader.land(taken, ended(taken), "token", ENTRY)
    await until(lambda: store.ask("EXISTS", a.wire.names.lease(FLIGHT)) == 0)
    assert await b.follow(slow) == ended(taken)
    assert b.taken_over == 0


async def test_a_released_lease_is_taken_at_once(replica: MakeFlights) -> None:
    """A follower leads as soon as the leader has given up."""
    a, b = await replica(), await replica()
    led = await leads(a)
    following = asyncio.create_task(b.follow(await joins(b)))
    await asyncio.sleep(0)
    a.release(led)
    assert isinstance(await following, Led)


async def test_an_urgent_read_does_not_wait_for_a_low_priority_flight(replica: MakeFlights) -> None:
    """It asks Graph by itself; another read that has time joins."""
    a, b = await replica(), await replica()
    assert isinstance(await lead_or_join(a, has_time=True), Led)
    assert await lead_or_join(b) is None
    assert isinstance(await lead_or_join(b, has_time=True), Joined)
    assert b.alone["paced"] == 1


async def test_a_follower_calls_graph_itself_when_the_store_freezes(store: Server, replica: MakeFlights) -> None:
    """It does not wait for an outcome that cannot come."""
    a, b = await replica(), await replica()
    await leads(a)
    b.client.budget_s = 0.05
    following = asyncio.create_task(b.follow(await joins(b)))
    store.signal(signal.SIGSTOP)
    assert await following is None
    assert b.alone["away"] == 1
    store.signal(signal.SIGCONT)


async def test_leases_are_released_when_the_store_is_full(store: Server, replica: MakeFlights) -> None:
    """Then followers do not wait for an outcome that the store cannot take."""
    a, b = await replica(), await replica()
    led = await leads(a)
    store.ask("CONFIG", "SET", "maxmemory", "1")
    a.land(led, ended(led), "token", (b"an entry", b"x" * 1000, 60_000))
    await until(lambda: store.ask("EXISTS", a.wire.names.lease(FLIGHT)) == 0)
    assert await lead_or_join(b) is None
    assert b.alone["full"] == 1


async def test_a_forged_lease_is_joined_by_no_replica(store: Server, replica: MakeFlights) -> None:
    """A lease without the secret's mark is ignored, and its flight is asked alone."""
    a = await replica()
    store.ask("SET", a.wire.names.lease(FLIGHT), b"x" * 33)
    assert await lead_or_join(a) is None
    assert a.alone["gone"] == 1


async def test_a_lease_whose_reply_was_lost_is_released(store: Server, replica: MakeFlights) -> None:
    """Otherwise others would wait for a replica that does not know that it leads."""
    a, b = await replica(), await replica()
    found, _ = await a.lead_or_join(a.lease_request(FLIGHT, "token", b"", has_time=False), 0)
    assert found is None
    await a.client.ask(("PING",))
    assert store.ask("EXISTS", a.wire.names.lease(FLIGHT)) == 0
    await leads(b)


async def test_a_lease_that_arrives_as_its_caller_leaves_is_released(store: Server, replica: MakeFlights) -> None:
    """The caller's task has the lease then, but ends before it can do anything with it."""
    a = await replica()
    leaving = asyncio.create_task(lead_or_join(a))
    while not a.led:  # noqa: ASYNC110 - the turn itself matters
        await asyncio.sleep(0)
    leaving.cancel()
    await asyncio.gather(leaving, return_exceptions=True)
    assert leaving.cancelled()
    await until(lambda: store.ask("EXISTS", a.wire.names.lease(FLIGHT)) == 0)


async def test_a_release_that_fails_is_tried_again(store: Server, replica: MakeFlights) -> None:
    """While the store takes no writes a lease stays; it is released as soon as the store takes them."""
    a = await replica()
    led = await leads(a)
    store.ask("REPLICAOF", "127.0.0.1", "1")
    a.release(led)
    await until(lambda: not a.client.is_up)
    store.ask("REPLICAOF", "NO", "ONE")
    await until(lambda: store.ask("EXISTS", a.wire.names.lease(FLIGHT)) == 0)
