"""What somebody can read who has the folder."""

import logging
from pathlib import Path
from urllib.parse import quote

import pytest

from proxy.core.cache.encryption import Sealer
from proxy.core.model import Entry, EntryMeta
from tests.shell.store.samples import TOKEN, UNSEALED, Open, contents, entry, key

SECRET = "the name of a person"


def told(body: str) -> Entry:
    """An entry whose every part could be recognised."""
    held = EntryMeta('"etag-to-find"', "batch", 1e9, may_be_fresh=True, proofs=(b"proof-to-find",))
    return Entry(held, b"x-header-to-find: 1", (f'{{"name":"{SECRET}","next":"{body}"}}' * 40).encode())


async def test_sealed_nothing_can_be_read(opened: Open, folder: Path) -> None:
    """No file of the folder, open or closed, shows a body, a header, an ETag, a proof or a token, in any spelling."""
    store = await opened()
    for number in range(50):
        store.put(key(number), TOKEN, told(f"https://graph.facebook.com/me?access_token={TOKEN}"))
    await store.flush()
    running = contents(folder)
    await store.close()
    for seen in (running, contents(folder)):
        assert len(seen) > 20_000
        for secret in (SECRET, "to-find", "access_token", "graph.facebook", TOKEN, quote(TOKEN, safe="")):
            assert secret.encode() not in seen


@pytest.mark.parametrize("body", [TOKEN, quote(TOKEN, safe=""), "?access_token=another", "?access%5Ftoken=another"])
async def test_unsealed_no_token_is_written(opened: Open, folder: Path, body: str) -> None:
    """In the clear an entry that holds a token stays in memory, and what it replaces on disk is deleted."""
    store = await opened(sealer=UNSEALED, memory_bytes=0)
    store.put(key(1), TOKEN, told("harmless"))
    await store.flush()
    assert SECRET.encode() in contents(folder)
    store.put(key(1), TOKEN, told(body))
    await store.flush()
    assert store.known_meta(key(1)) is None
    assert await store.load(key(1), TOKEN) is None
    assert store.stats()["writes_dropped"] == 1
    await store.close()
    seen = contents(folder)
    assert TOKEN.encode() not in seen
    assert quote(TOKEN, safe="").encode() not in seen
    assert b"access_token=" not in seen


async def test_unsealed_rows_are_still_nobody_elses(opened: Open) -> None:
    """Not encrypted does not mean not checked: another token opens nothing."""
    store = await opened(sealer=UNSEALED, memory_bytes=0)
    store.put(key(1), TOKEN, entry(1))
    await store.flush()
    assert await store.load(key(1), "another") is None
    assert store.stats()["bad_rows"] == 1


async def test_another_secret_makes_misses(opened: Open) -> None:
    """An installation that lost its secret starts anew, without an error."""
    store = await opened()
    store.put(key(1), TOKEN, entry(1))
    await store.close()
    store = await opened(sealer=Sealer(b"another" + bytes(25)))
    assert await store.load(key(1), TOKEN) is None
    assert store.stats()["breaker"] == "closed"


async def test_nothing_is_logged_of_what_is_kept(opened: Open, folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """At the most talkative level too, no token, body or key gets into the log."""
    caplog.set_level(logging.DEBUG)
    store = await opened()
    store.put(key(1), TOKEN, told(TOKEN))
    await store.flush()
    (folder / "cache.db").unlink()
    await store.maintain()
    store.put(key(2), TOKEN, told(TOKEN))
    await store.flush()
    await store.close()
    assert "is not used for now" in caplog.text
    for secret in (TOKEN, SECRET, "to-find", key(1).hex()):
        assert secret not in caplog.text
