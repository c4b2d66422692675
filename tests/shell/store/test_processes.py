"""Sudden ends, and two processes in one folder."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.shell.store.samples import SEALER, TOKEN, Clock, Open, entry, key

WRITER = """
import asyncio, sys
from pathlib import Path
from proxy.shell.store import Bounds, Store
from tests.shell.store.samples import SEALER, TOKEN, entry, key

async def main() -> None:
    store = Store(Path(sys.argv[1]), SEALER, Bounds(free_floor_bytes=0, group_s=0.001))
    await store.open()
    print(store.stats()["breaker"], flush=True)
    for number in range(10**6):
        store.put(key(number), TOKEN, entry(number))
        if number % 16 == 15:
            await store.flush()
            print(number, flush=True)

asyncio.run(main())
"""


def writer(folder: Path) -> subprocess.Popen[str]:
    """A process that writes until it is killed, and says what is flushed."""
    root = Path(__file__).parents[3]
    environment = os.environ | {"PYTHONPATH": str(root)}
    command = [sys.executable, "-c", WRITER, str(folder)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)


def said(process: subprocess.Popen[str]) -> str:
    """The next line of *process*."""
    assert process.stdout is not None
    return process.stdout.readline().strip()


def killed(process: subprocess.Popen[str]) -> list[int]:
    """Kill *process* with no notice; the numbers that it still said."""
    process.send_signal(signal.SIGKILL)
    rest, _ = process.communicate()
    return [int(line) for line in rest.split("\n")[:-1]]


@pytest.mark.parametrize("lines", [1, 7, 30])
async def test_a_kill_loses_nothing_that_was_flushed(opened: Open, folder: Path, lines: int) -> None:
    """After SIGKILL in the midst of writing, every flushed entry is there and right, and the file is sound."""
    process = writer(folder)
    assert said(process) == "closed"
    numbers = [int(said(process)) for _ in range(lines)]
    last = max(numbers + killed(process))
    store = await opened()
    assert [await store.load(key(each), TOKEN) for each in range(last + 1)] == [entry(each) for each in range(last + 1)]
    for each in range(last + 1, last + 40):
        assert await store.load(key(each), TOKEN) in (None, entry(each))
    assert store.stats()["quarantines"] == store.stats()["bad_rows"] == 0


async def test_a_second_process_waits_its_turn(opened: Open, folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Of two processes one has the folder; the other says so once, works from memory, and takes over afterwards."""
    process = writer(folder)
    assert said(process) == "closed"
    clock = Clock()
    store = await opened(clock=clock)
    store.put(key(10**7), TOKEN, entry(1))
    assert await store.load(key(10**7), TOKEN) == entry(1)
    for _ in range(3):
        clock.now += 31
        await store.maintain()
    assert store.stats()["breaker"] == "open"
    assert caplog.text.count("in use by another process") == 1
    last = int(said(process))
    killed(process)
    clock.now += 31
    await store.maintain()
    assert store.stats()["breaker"] == "closed"
    assert await store.load(key(last), TOKEN) == entry(last)


async def test_a_folder_is_free_when_its_store_is_closed(opened: Open) -> None:
    """Closing hands the folder on, also within one process."""
    first = await opened()
    second = await opened()
    assert (first.stats()["breaker"], second.stats()["breaker"]) == ("closed", "open")
    await first.close()
    third = await opened()
    assert third.stats()["breaker"] == "closed"


def test_a_loop_that_ends_without_closing_leaves_a_sound_file(folder: Path) -> None:
    """A program that forgets close loses what was not flushed, and no more."""
    script = WRITER.replace("10**6", "40").replace("if number % 16 == 15:", "if number == 31:")
    root = Path(__file__).parents[3]
    command = [sys.executable, "-W", "error", "-c", script, str(folder)]
    done = subprocess.run(
        command, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(root)}, timeout=60, check=True
    )
    assert done.stdout.split() == ["closed", "31"]

    async def look() -> None:
        from proxy.shell.store import Bounds, Store

        store = Store(folder, SEALER, Bounds(free_floor_bytes=0))
        await store.open()
        assert await store.load(key(31), TOKEN) == entry(31)
        await store.close()

    asyncio.run(look())
