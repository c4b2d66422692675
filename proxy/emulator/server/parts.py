"""The parts of an emulator, built together."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Any

from proxy.emulator.config import Config, Settings
from proxy.emulator.graph.faults import Faults
from proxy.emulator.graph.graph import Graph
from proxy.emulator.graph.ledger import Ledger
from proxy.emulator.objects.world import World


class Parts:
    """What an emulator is made of; tests and the control paths reach in here."""

    def __init__(self, config: Config | None = None, clock: Callable[[], float] = time.time) -> None:
        """Build every part from *config*; *clock* tells the seconds since 1970."""
        self.settings = Settings(config or Config())
        self.ledger = Ledger(self.settings)
        self.faults = Faults(self.settings.config.seed, clock)
        self.world = World(self.settings, clock)
        self.pushed: deque[str] = deque(maxlen=1000)  # what was said to each webhook call, oldest first
        self.graph = Graph(self.settings, self.world, self.ledger, self.faults, clock)
        for fault in self.settings.config.faults:
            self.faults.add(fault)

    def restore_world(self) -> None:
        """Forget all writes, jobs and usage."""
        self.world.clear()
        self.graph.jobs.clear()
        self.graph.later.clear()
        self.graph.quota.clear()
        self.graph.uploads.clear()

    def changes(self) -> dict[str, Any]:
        """What writes have changed, in one form for all emulators that were changed alike."""
        self.graph.later.catch_up()
        return {
            **self.world.described(),
            "reports": self.graph.jobs.described(),
            "async": self.graph.later.described(),
        }
