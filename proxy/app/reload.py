"""Reloads settings while the sidecar runs: which of them change now, and which need a restart."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from proxy.settings import Settings, is_live, names, value_of
from proxy.settings.load import SettingsError, oddities
from proxy.shell.observe.gauges import LastReload

_log = logging.getLogger("graph_sidecar.reload")


@dataclass(frozen=True, slots=True)
class Difference:
    """The settings in force after a reload, the names of changed ones, and of those that need a restart."""

    settings: Settings
    changed: tuple[str, ...]
    needs_restart: tuple[str, ...]


def difference(old: Settings, new: Settings) -> Difference:
    """Returns *old* with the reloadable differences of *new*, and the names of all that differ."""
    different = [name for name in names() if value_of(old, name) != value_of(new, name)]
    changed = [name for name in different if is_live(name)]
    in_force: Settings = _with_values(old, {name: value_of(new, name) for name in changed})
    return Difference(in_force, tuple(changed), tuple(name for name in different if name not in changed))


def _with_values(model: Any, values: Mapping[str, object]) -> Any:
    """Returns *model* with *values*, which are given by dotted names."""
    here = {name: value for name, value in values.items() if "." not in name}
    for above in {name.partition(".")[0] for name in values if "." in name}:
        below = {name.partition(".")[2]: value for name, value in values.items() if name.startswith(f"{above}.")}
        here[above] = _with_values(getattr(model, above), below)
    return model.model_copy(update=here)


class Reloader:
    """Reloads the settings on demand; if anything in them is wrong, nothing changes."""

    def __init__(
        self,
        settings: Settings,
        reread: Callable[[], Settings],
        take: Callable[[Settings], None],
        now: Callable[[], float] = time.time,
    ) -> None:
        """Start with *settings*; *reread* and *take* raise SettingsError, *take* before it changes anything."""
        self.settings = settings
        self.last = LastReload(is_successful=True, at=now())
        self._now = now
        self._reread = reread
        self._take = take
        self._one_at_a_time = asyncio.Lock()

    async def reload(self) -> dict[str, list[str]]:
        """Reload; returns the names of the settings that changed and that need a restart, or the problems."""
        async with self._one_at_a_time:
            try:
                found = difference(self.settings, await asyncio.to_thread(self._reread))
                self._take(found.settings)
            except SettingsError as error:
                self.last = self.last._replace(is_successful=False)
                for problem in error.problems:
                    _log.error("not reloaded: %s", problem)
                return {"problems": error.problems}
            self.settings = found.settings
            self.last = LastReload(is_successful=True, at=self._now())
        _log.info("reloaded: %s", ", ".join(found.changed) or "nothing is new")
        for oddity in oddities(found.settings):
            _log.warning("%s", oddity)
        if found.needs_restart:
            _log.warning("these wait for a restart: %s", ", ".join(found.needs_restart))
        return {"changed": list(found.changed), "needs_restart": list(found.needs_restart)}
