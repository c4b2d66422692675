"""Visits to the shared store: in one piece, in order, within one budget, and nobody's answer for anybody else."""

from __future__ import annotations

import asyncio
import random
import signal
import socket
import struct
from contextlib import suppress

import hiredis
import pytest
from redis.exceptions import ResponseError

from proxy.core.shared.location import read_location
from proxy.shell.valkey.link import Away, Dialer, Link
from tests.conftest import LONG
from tests.shell.valkey.conftest import MakeClient
from tests.shell.valkey.servers import Faults, Server, faulty, until


async def test_commands_of_one_turn_leave_in_one_message(store: Server, client: MakeClient) -> None:
    """And each caller gets the replies to its own commands."""
    visits = await client(store.url)
    store.ask("SET", "a", "1")
    before = _stat(store, "total_reads_processed")
    replies = await asyncio.gather(*(visits.ask(("GET", "a")) for _ in range(50)))
    assert replies == [[b"1"]] * 50
    assert _stat(store, "total_reads_processed") < before + 5  # of which one is this question itself


async def test_an_error_of_the_store_fails_only_its_own_command(store: Server, client: MakeClient) -> None:
    """The commands sent with it get their replies."""
    visits = await client(store.url)
    store.ask("SET", "text", "x")
    good, bad = await asyncio.gather(visits.ask(("GET", "text")), visits.ask(("INCR", "text"), ("GET", "text")))
    assert good == [b"x"]
    assert isinstance(bad[0], ResponseError)
    assert bad[1] == b"x"


async def test_a_caller_that_leaves_costs_no_connection(store: Server, client: MakeClient) -> None:
    """The connection goes on for the others, and no reply goes to another caller."""
    visits = await client(store.url)
    connections = _stat(store, "total_connections_received")
    leaving = [asyncio.ensure_future(visits.ask(("GET", "a"))) for _ in range(100)]
    await asyncio.sleep(0)
    for task in leaving:
        task.cancel()
    await asyncio.gather(*leaving, return_exceptions=True)
    assert await visits.ask(("ECHO", "here")) == [b"here"]
    assert _stat(store, "total_connections_received") == connections + 1  # this question itself


async def test_a_frozen_store_costs_one_budget_and_then_nothing(store: Server, client: MakeClient) -> None:
    """The first reads wait for `shared.timeout_ms`; later ones do not wait at all."""
    visits = await client(store.url, 0.05)
    store.signal(signal.SIGSTOP)
    with pytest.raises(Away):
        await visits.ask(("GET", "a"))
    assert not visits.is_up
    asked = visits.ask(("GET", "a"))
    assert asked.done()  # at once, without a turn of the loop
    with pytest.raises(Away):
        await asked
    store.signal(signal.SIGCONT)
    await until(lambda: visits.is_up)
    assert await visits.ask(("ECHO", "back")) == [b"back"]


async def test_a_store_that_was_killed_is_found_again(store: Server, client: MakeClient) -> None:
    """The client connects again by itself."""
    visits = await client(store.url)
    store.signal(signal.SIGKILL)
    with pytest.raises(Away):
        await visits.ask(("GET", "a"))
    store.start()
    await until(lambda: visits.is_up)
    assert visits.counts.opened == 1


async def test_a_store_that_turns_into_a_replica_is_left(store: Server, client: MakeClient) -> None:
    """It takes no writes, so the client looks for another server."""
    visits = await client(store.url)
    store.ask("REPLICAOF", "127.0.0.1", "1")
    (reply,) = await visits.ask(("SET", "a", "1"))
    assert isinstance(reply, ResponseError)
    await asyncio.sleep(0)
    assert not visits.is_up


async def test_the_password_file_is_read_again_when_the_store_refuses_the_password(
    store: Server, client: MakeClient
) -> None:
    """A password that was changed is taken without a restart."""

    async def greet(link: Link) -> None:
        await link.exchange([("PING",)])

    visits = await client(store.url, greet=greet)
    passwords = ["", "old", "new"]
    visits.dialer = type(visits.dialer)(visits.dialer.location, lambda: ("", passwords.pop(0)))
    store.ask("CONFIG", "SET", "requirepass", "new")
    await visits._link.close()  # type: ignore[union-attr]
    with suppress(Away):
        await visits.ask(("GET", "a"))
    await until(lambda: visits.is_up)
    assert passwords == []


@pytest.mark.parametrize("lost", range(4))
@pytest.mark.parametrize("doubled", range(4))
async def test_a_lost_reply_is_noticed_though_another_comes_twice(lost: int, doubled: int) -> None:
    """Of two callers' replies and their echoes one is lost and one comes twice, so their number is right."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        parser = hiredis.Reader()
        commands: list[list[bytes]] = []
        while len(commands) < 4:
            parser.feed(await reader.read(65536))
            while (command := parser.gets()) is not False:
                commands.append(command)
        for number, command in enumerate(commands):
            times = (number != lost) + (number == doubled)
            writer.write(b"$%d\r\n%b\r\n" % (len(command[-1]), command[-1]) * times)
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        link = await Dialer(read_location(f"redis://127.0.0.1:{port}"), lambda: ("", "")).dial()
        exchanging = link.exchange_all([[("GET", b"one")], [("GET", b"two")]])
        if lost == doubled:
            assert await exchanging == [[b"one"], [b"two"]]
        else:
            with pytest.raises(Away):
                await exchanging
        await link.close()


@pytest.mark.parametrize("faults", [Faults(drop=2), Faults(double=2), Faults(drop=1, double=1, delay=1)], ids=str)
async def test_no_fault_of_the_server_gives_one_caller_the_answer_of_another(
    faults: Faults, client: MakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No fault of the server gives one caller the answer of another."""
    monkeypatch.setattr("proxy.shell.valkey.client.REST_S", 0.01)
    dice, wrong, right = random.Random(7), [], 0
    async with faulty(faults, 7) as port:
        visits = await client(f"redis://127.0.0.1:{port}", 0.03)

        async def read(number: int) -> None:
            nonlocal right
            key = b"%d" % number
            (body,) = await visits.ask(("GET", key))
            right += body == b"body of " + key
            if body != b"body of " + key:
                wrong.append((key, body))

        for first in range(0, 100_000 if LONG else 3000, 50):
            await until(lambda: visits.is_up)
            tasks = [asyncio.create_task(read(first + each)) for each in range(50)]
            for turn in range(3):
                await asyncio.sleep(0)
                for task in tasks:
                    if dice.random() < 0.05 * turn:
                        task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
    assert wrong == []
    assert right > 1000
    assert faults.made > 2


def _stat(store: Server, name: str) -> int:
    """The number *name* in the store's INFO."""
    told = store.ask("INFO", "stats")
    assert isinstance(told, bytes)
    return next(int(line.split(":")[1]) for line in told.decode().splitlines() if line.startswith(f"{name}:"))


async def test_a_link_that_has_ended_opens_no_other() -> None:
    """The next connection may be to another server, so it is greeted first; a write to a closed one says so, too."""
    opened = 0

    async def reset(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal opened
        opened += 1
        line: socket.socket = writer.get_extra_info("socket")
        line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.close()

    server = await asyncio.start_server(reset, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        link = await Dialer(read_location(f"redis://127.0.0.1:{port}"), lambda: ("", "")).dial()
        await until(lambda: opened == 1)
        for _ in range(5):
            with pytest.raises(Away):
                await link.exchange([(b"PING",)])
            with pytest.raises(Away):
                await link.send(b"PING\r\n")
        assert opened == 1


async def test_a_fault_of_our_own_ends_no_sharing(store: Server, client: MakeClient) -> None:
    """What nobody thought of costs one visit; the next connection serves the others."""
    made = await client(store.url)
    with pytest.raises(Away):
        await made.ask((b"SET", b"key", None))  # type: ignore[arg-type]  # no command can hold this
    await until(lambda: made.is_up)
    assert await made.ask((b"PING",)) == [b"PONG"]
