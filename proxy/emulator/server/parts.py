"""The parts of an emulator, built together."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Any

from proxy.emulator.config import Config, LiveConfig
from proxy.emulator.graph.faults import Faults
from proxy.emulator.graph.graph import Graph
from proxy.emulator.graph.ledger import Ledger
from proxy.emulator.objects.world import World


class Parts:
    """The parts of an emulator; tests and the control paths use them directly."""

    def __init__(self, config: Config | None = None, clock: Callable[[], float] = time.time) -> None:
        """Build every part from *config*; *clock* tells the seconds since 1970."""
        self.settings = LiveConfig(config or Config())
        self.ledger = Ledger(self.settings)
        self.faults = Faults(self.settings.config.seed, clock)
        self.world = World(self.settings, clock)
        self.webhook_answers: deque[str] = deque(maxlen=1000)  # the answers to webhook calls, oldest first
        self.graph = Graph(self.settings, self.world, self.ledger, self.faults, clock)
        for fault in self.settings.config.faults:
            self.faults.add(fault)

    def restore_world(self) -> None:
        """Forget all writes, jobs and usage."""
        self.world.clear()
        self.graph.report_runs.clear()
        self.graph.async_jobs.clear()
        self.graph.quota.clear()
        self.graph.uploads.clear()

    def world_as_json(self) -> dict[str, Any]:
        """Everything that writes have changed, equal for two emulators that were changed alike."""
        self.graph.async_jobs.catch_up()
        return {
            **self.world.as_json(),
            "reports": self.graph.report_runs.as_json(),
            "async": self.graph.async_jobs.as_json(),
        }
