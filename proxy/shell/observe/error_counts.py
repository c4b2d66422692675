"""Counts error replies by their origin, and keeps the newest errors, by code and a word of ours."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from typing import Any

from proxy.core.cache.clock_step import set_back
from proxy.core.graph.errors import read_error
from proxy.core.model import Mode

ERROR_ORIGINS = ("graph", "refused", "sidecar")
"""Whose error a reply is: Graph's now, Graph's last refusal repeated by the sidecar, or the sidecar's own."""

MOST_RECENT = 50


class ErrorCounts:
    """Error replies by origin, and the newest MOST_RECENT errors."""

    def __init__(self, now: Callable[[], float]) -> None:
        """Start without errors; *now* gives epoch seconds."""
        self._now = now
        self.replies: Counter[str] = Counter()  # by origin, as in ERROR_ORIGINS
        self.recent: deque[dict[str, Any]] = deque(maxlen=MOST_RECENT)

    def count(self, mode: Mode, count: int = 1, *, is_refused: bool = False) -> None:
        """Count *count* error replies of this *mode*; *is_refused*: Graph's last refusal was repeated."""
        origin = "refused" if is_refused else "sidecar" if mode is Mode.FAILED else "graph"
        self.replies[origin] += count

    def keep(self, mode: Mode, status: int, route: str, body: bytes, detail: str) -> None:
        """Keep an error by its code and a word of ours: Graph's message may quote a token."""
        error = read_error(body) if body and mode is not Mode.FAILED else None
        fields = {"at": round(self._now(), 3), "mode": mode.value, "status": status, "route": route}
        self.recent.append({**fields, "code": error.code if error else None, "what": detail or "answered by Graph"})

    def set_back(self, now: float, by: float) -> None:
        """Correct the times after the clock was set back to *now* by *by* seconds."""
        for error in self.recent:
            error["at"] = round(set_back(error["at"], now, by), 3)
