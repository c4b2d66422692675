from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from dataclasses import fields
from pathlib import Path

import pytest

from proxy.shell.store import Bounds, Store
from tests.shell.store.samples import ROWS, SEALER, TOKEN, Mount, Open, entry, key


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the store of a test lies."""
    return tmp_path / "cache"


BOUNDS = {field.name for field in fields(Bounds)}


@pytest.fixture
async def opened(folder: Path) -> AsyncIterator[Open]:
    """Opens stores that never act on a timer, and closes them after the test."""
    stores: list[Store] = []

    async def open_store(path: Path | None = folder, **arguments: object) -> Store:
        given = {"group_s": 3600, "maintain_s": 3600, "free_floor_bytes": 0, "disk_bytes": 64 * 2**20, **arguments}
        bounds = {name: given.pop(name) for name in BOUNDS & given.keys()}
        store = Store(path, given.pop("sealer", SEALER), Bounds(**bounds), **given)  # type: ignore[arg-type]
        await store.open()
        stores.append(store)
        return store

    yield open_store
    for store in stores:
        await store.close()


@pytest.fixture
async def filled(opened: Open, folder: Path) -> Path:
    """A folder with many good rows, closed."""
    store = await opened()
    for number in range(ROWS):
        store.put(key(number), TOKEN, entry(number, 1400))
    await store.close()
    return folder


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Mount]:
    """Mounts small file systems of their own, where this is allowed."""
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("mounting a file system takes root")
    places: list[Path] = []

    def mount(options: str) -> Path:
        place = tmp_path / f"mount{len(places)}"
        place.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)]
        if subprocess.run(command, capture_output=True, check=False).returncode != 0:
            pytest.skip("mounting a file system is not allowed here")
        places.append(place)
        return place

    yield mount
    for place in places:
        subprocess.run(["umount", "--lazy", str(place)], check=True)
