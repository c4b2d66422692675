"""The dashboard in a terminal: `graph-sidecar top`.

following   the sidecar's events, over every restart of it     view   how it looks
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import TYPE_CHECKING

from proxy.top.following import FollowError, Seen, follow

__all__ = ["FollowError", "add_arguments", "run"]

if TYPE_CHECKING:  # rich is slow to load, and `--help` does without
    from rich.console import Console

_EVERY_S = 1.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Its own flags."""
    parser.add_argument("--once", action="store_true", help="print one frame and end, as without a terminal")
    parser.add_argument(
        "--interval",
        type=_seconds,
        default=_EVERY_S,
        metavar="S",
        help=f"seconds from one frame to the next (default: {_EVERY_S:g})",
    )


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0
    if not _EVERY_S <= value <= 3600:
        raise argparse.ArgumentTypeError(f"must be a number of seconds from {_EVERY_S:g} to 3600")
    return value


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


def _print(console: Console, seen: Seen) -> None:
    from proxy.top import view

    console.print(view.frame(seen, console, height=None))


def _live(console: Console, first: Seen, rest: Iterator[Seen], interval: float) -> None:
    from rich.live import Live

    from proxy.top import view

    with Live(view.frame(first, console), console=console, screen=True, auto_refresh=False) as live:
        shown = first
        for seen in rest:
            if seen.told_at - shown.told_at >= interval or seen.connected != shown.connected:
                live.update(view.frame(seen, console), refresh=True)
                shown = seen
