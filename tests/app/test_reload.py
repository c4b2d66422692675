"""What a reload takes of new settings, and what it leaves for the next start."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from proxy.app.reload import Reloader, difference
from proxy.settings import RELOADABLE, Settings, is_live, names
from proxy.settings.load import SettingsError


def settings(**tables: Any) -> Settings:
    """The defaults with these laid over."""
    return Settings.model_validate(tables)


@pytest.fixture
def old() -> Settings:
    """The defaults."""
    return settings()


def test_what_is_live_is_a_setting() -> None:
    """Every name in the list is one of a setting or of a section."""
    assert set(names()) | {name.partition(".")[0] for name in names()} >= RELOADABLE
    assert not any(map(is_live, ("listen", "admin", "upstream.origin", "cache.dir", "cache.key_file")))


def test_what_may_change_is_taken(old: Settings) -> None:
    """What differs and is live holds from now on; what differs and is not stays, and is named."""
    found = difference(
        old,
        settings(
            listen="127.0.0.1:1",
            batch={"window_ms": 20},
            cache={"fresh_s": 60, "memory_mb": 1},
            rules=[{"path": "/me"}],
        ),
    )
    assert found.changed == ("rules", "batch.window_ms", "cache.fresh_s")
    assert found.needs_restart == ("listen", "cache.memory_mb")
    assert found.settings.batch == settings(batch={"window_ms": 20}).batch
    assert (found.settings.cache.fresh_s, found.settings.cache.memory_mb) == (60, old.cache.memory_mb)
    assert (found.settings.rules[0].path, found.settings.listen) == ("/me", old.listen)


def test_nothing_new_changes_nothing(old: Settings) -> None:
    """The same settings read again are the same settings."""
    found = difference(old, settings())
    assert (found.settings, found.changed, found.needs_restart) == (old, (), ())


async def test_what_is_wrong_leaves_all_as_it_was(old: Settings, caplog: pytest.LogCaptureFixture) -> None:
    """One bad value refuses the whole: each problem is told, in the answer and in the log, and nothing is taken."""
    taken: list[Settings] = []

    def reread() -> Settings:
        raise SettingsError(["batch.slots = 51: too many", "lissten: no such setting"])

    reloader = Reloader(old, reread, taken.append)
    assert await reloader.reload() == {"problems": ["batch.slots = 51: too many", "lissten: no such setting"]}
    assert "not reloaded: lissten" in caplog.text
    assert (reloader.settings, taken) == (old, [])


async def test_what_cannot_be_taken_is_not_in_force(old: Settings) -> None:
    """The same holds where the values are right, and what they name is not."""

    def take(_new: Settings) -> None:
        raise SettingsError(["admin_token_file: cannot be read"])

    reloader = Reloader(old, lambda: settings(drain_s=1), take)
    assert await reloader.reload() == {"problems": ["admin_token_file: cannot be read"]}
    assert reloader.settings == old


async def test_what_waits_for_a_restart_is_said_each_time(old: Settings, caplog: pytest.LogCaptureFixture) -> None:
    """A setting that was not taken is not forgotten; one that was is not new any more."""
    caplog.set_level(logging.INFO)
    reloader = Reloader(old, lambda: settings(drain_s=1, listen="127.0.0.1:1"), lambda _new: None)
    assert await reloader.reload() == {"changed": ["drain_s"], "needs_restart": ["listen"]}
    assert await reloader.reload() == {"changed": [], "needs_restart": ["listen"]}
    assert reloader.settings.drain_s == 1
    assert caplog.text.count("these wait for a restart: listen") == 2
