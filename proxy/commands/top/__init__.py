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
"""The shortest interval: the sidecar sends an event each second, so a frame in between would show nothing new."""


def run(url: str, token: str, *, once: bool, interval: float) -> int:
    """Show the sidecar with the admin listener at *url* until Ctrl-C. Raises FollowError if it cannot be reached."""
    from rich.console import Console

    console = Console(highlight=False)
    snapshot = follow(url, token)
    try:
        first = next(snapshot)
        if once or not console.is_terminal:
            _print_frame(console, first)
        else:
            _show_live(console, first, snapshot, interval)
    except KeyboardInterrupt:
        pass  # which is how this is meant to end
    return 0


def _print_frame(console: Console, snapshot: Snapshot) -> None:
    from proxy.commands.top import view

    console.print(view.frame(snapshot, console, height=None))


def _show_live(console: Console, first: Snapshot, rest: Iterator[Snapshot], interval: float) -> None:
    from rich.live import Live

    from proxy.commands.top import view

    with Live(view.frame(first, console), console=console, screen=True, auto_refresh=False) as live:
        shown = first
        for snapshot in rest:
            if snapshot.received_at - shown.received_at >= interval or snapshot.connected != shown.connected:
                live.update(view.frame(snapshot, console), refresh=True)
                shown = snapshot
