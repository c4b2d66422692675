"""The dashboard in a terminal: `graph-sidecar top`.

following   the sidecar's events, over every restart of it     view   how it looks
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from proxy.commands.top.event_stream import FollowError, Snapshot, follow

__all__ = ["EVERY_S", "FollowError", "run"]

if TYPE_CHECKING:  # rich is slow to load, and `--help` does without
    from rich.console import Console

EVERY_S = 1.0
"""The sidecar tells its news each second; a frame between them would show nothing new."""


def run(url: str, token: str, *, once: bool, interval: float) -> int:
    """Show what the admin listener under *url* tells, until Ctrl-C. Raises FollowError if it tells nothing at all."""
    from rich.console import Console

    console = Console(highlight=False)
    seen = follow(url, token)
    try:
        first = next(seen)
        if once or not console.is_terminal:
            _print(console, first)
        else:
            _live(console, first, seen, interval)
    except KeyboardInterrupt:
        pass  # which is how this is meant to end
    return 0


def _print(console: Console, seen: Snapshot) -> None:
    from proxy.commands.top import view

    console.print(view.frame(seen, console, height=None))


def _live(console: Console, first: Snapshot, rest: Iterator[Snapshot], interval: float) -> None:
    from rich.live import Live

    from proxy.commands.top import view

    with Live(view.frame(first, console), console=console, screen=True, auto_refresh=False) as live:
        shown = first
        for seen in rest:
            if seen.told_at - shown.told_at >= interval or seen.connected != shown.connected:
                live.update(view.frame(seen, console), refresh=True)
                shown = seen
