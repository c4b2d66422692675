"""The disk is full, or read-only: callers get Graph's replies, and later entries are stored again."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import pytest

from proxy import emulator
from tests.conftest import LONG
from tests.journeys.conftest import MakeAsk, MakeGraph
from tests.journeys.fleets import until_async
from tests.journeys.processes import serving
from tests.journeys.talking import Ask
from tests.shell.store.samples import Mount


async def read_all(caller: Ask, first: int) -> None:
    """Read twenty objects and write to one: all are right."""
    for number in range(first, first + 20):
        heard = await caller.say(f"/v25.0/{number}?fields=id", token="ann")
        assert (heard.status, heard.json) == (200, {"id": str(number)})
    assert (await caller.say(f"/v25.0/{first}", method="POST", token="ann", data={"name": "x"})).status == 200


def fill(place: Path) -> None:
    """Leave no byte free."""
    with (place / "rubbish").open("wb", buffering=0) as file:
        try:
            while file.write(bytes(2**16)):
                pass
        except OSError:
            pass


def remount(place: Path, how: str) -> None:
    """Make the file system at *place* `ro` or `rw`."""
    subprocess.run(["mount", "-o", f"remount,{how}", str(place)], check=True)


@pytest.mark.parametrize("fault", ["full", "read-only"] if LONG else ["full"])  # it is tried again after 30 seconds
async def test_a_disk_that_takes_nothing(graph: MakeGraph, ask: MakeAsk, mounted: Mount, fault: str) -> None:
    """Meanwhile callers get what Graph says and writes are sent once; with room again entries reach the disk again."""
    behind, place = await graph(body_bytes=4096), mounted("size=24m")
    settings = ("cache.disk_mb=8", "cache.memory_mb=1")
    (place / "key").write_bytes(bytes(32))
    (place / "key").chmod(0o600)
    if fault == "read-only":
        remount(place, "ro")
    async with serving(behind.url, place, *settings) as sidecar:
        caller = await ask(sidecar.url)
        await read_all(caller, 1000)
        if fault == "full":
            fill(place)
        await read_all(caller, 1000)
        await read_all(caller, 2000)
        if fault == "full":
            (place / "rubbish").unlink()
        else:
            remount(place, "rw")
        await _is_stored_again(caller, sidecar.admin_url, behind)
        sidecar.signal(signal.SIGTERM)
        assert await sidecar.ended() == 0
        assert "Traceback" not in sidecar.said
    assert behind.ledger.writes[("POST", "/1000")] == 2
    assert behind.ledger.writes[("POST", "/2000")] == 1


async def _is_stored_again(caller: Ask, admin: str, behind: emulator.Running) -> None:
    """Wait until the disk takes entries again: it is left alone for half a minute after it failed."""
    number = 3000

    async def takes() -> bool:
        nonlocal number
        before = (await caller.say(f"{admin}/stats")).json["store"]["disk_entries"]
        number += 1
        await caller.say(f"/v25.0/{number}?fields=id", token="ann")
        after = (await caller.say(f"{admin}/stats")).json["store"]["disk_entries"]
        return bool(after > before)

    await until_async(takes, 60)
