"""A note beside the rows: the next run hears of it before it reads one, and nobody else does."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.shell.store.samples import TOKEN, UNSEALED, Open, contents, entry, key


async def test_the_next_run_hears_of_it(opened: Open, folder: Path) -> None:
    """The newest one, and before it is open; who has no folder has nothing to fear of it."""
    heard: list[bytes | None] = []
    store = await opened(restore_purges=heard.append)
    for text in (b"older", b"newer"):
        assert await store.save_purges(text)
    await store.close()
    await (await opened(restore_purges=heard.append)).close()
    assert heard == [None, b"newer"]
    assert b"newer" not in contents(folder)
    assert await (await opened(None)).save_purges(b"any")


async def test_it_waits_for_a_disk_that_rests(opened: Open, folder: Path) -> None:
    """It is not durable then, and says so; it is written when the rows can be read again."""
    heard: list[bytes | None] = []
    store = await opened(rest_s=0.0)
    store.put(key(1), TOKEN, entry(1))
    await store.flush()
    (folder / "orders.new").mkdir()
    assert not await store.save_purges(b"told")
    (folder / "orders.new").rmdir()
    await store.maintain()
    await store.close()
    await opened(restore_purges=heard.append)
    assert heard == [b"told"]


@pytest.mark.parametrize("kind", ["nonsense", "folder", "link", "pipe"])
async def test_whatever_lies_in_its_place_is_illegible(opened: Open, folder: Path, kind: str) -> None:
    """It costs what it may have told of, and no start; the next note takes its place where a file can."""
    heard: list[bytes | None] = []
    await (await opened()).close()
    place = folder / "orders"
    match kind:
        case "nonsense":
            place.write_bytes(os.urandom(100))
        case "folder":
            place.mkdir()
        case "link":
            place.symlink_to(folder / "lock")
        case "pipe":
            os.mkfifo(place)
    store = await opened(restore_purges=heard.append)
    assert heard == [b""]
    assert await store.save_purges(b"told") is (kind != "folder")
    assert not (folder / "lock").read_bytes()


async def test_unsealed_it_is_still_ours_alone(opened: Open, folder: Path) -> None:
    """It may be read then, and not be changed."""
    heard: list[bytes | None] = []
    store = await opened(sealer=UNSEALED)
    await store.save_purges(b"told")
    await store.close()
    place = folder / "orders"
    assert b"told" in place.read_bytes()
    place.write_bytes(place.read_bytes().replace(b"told", b"tale"))
    await opened(sealer=UNSEALED, restore_purges=heard.append)
    assert heard == [b""]
