"""`graph-sidecar replay FILE`: recorded reads by other rules, and what those would have saved; nobody is asked."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import msgspec
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from proxy.app import rules_of
from proxy.core.ledger import CAUSES
from proxy.core.replaying import Recorded, Replay, Tally, total
from proxy.core.telling import Told
from proxy.loading import SettingsError
from proxy.settings import Settings

SHOWN = 20
"""Routes that have a row of their own."""

_LOGGER = "graph_sidecar.reply"


def run(file: Path, settings: Settings) -> int:
    """Replay *file* by the rules of *settings* and print what they come to. Raises SettingsError for a file of none."""
    replay = Replay(rules_of(settings))
    replay.play(list(_lines(file)))
    if not replay.routes:
        raise SettingsError(
            [f"{file}: holds no line about a read (log.format = json and log.replies = true write them)"]
        )
    show(replay.routes)
    return 0


def _lines(file: Path) -> Iterator[Recorded]:
    """The lines about replies; others, and lines that were cut off, are passed over."""
    try:
        with file.open(encoding="utf-8", errors="replace") as lines:
            for line in lines:
                if f'"{_LOGGER}"' in line and (found := _recorded(line)):
                    yield found
    except OSError as error:
        raise SettingsError([f"{file}: cannot be read: {error.strerror}"]) from None


def _recorded(line: str) -> Recorded | None:
    try:
        when = datetime.fromisoformat(json.loads(line)["time"]).timestamp()
        return Recorded(when, msgspec.json.decode(line, type=Told))
    except (ValueError, KeyError, TypeError, msgspec.DecodeError):
        return None


def show(routes: dict[str, Tally]) -> None:
    """The table: a row for each of the busiest routes, and one for all."""
    whole = total(routes.values())
    causes = [cause for cause in CAUSES if whole.avoided[cause]]
    heads = ["calls asked", "then counted", "now counted", *causes, "bytes avoided", "outdated", "oldest"]
    table = Table("route", box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for head in heads:
        table.add_column(head, justify="right")
    for route, tally in sorted(routes.items(), key=lambda item: -item[1].asked)[:SHOWN]:
        table.add_row(route, *_cells(tally, causes))
    table.add_section()
    table.add_row("all", *_cells(whole, causes))
    console = Console(highlight=False)
    console.width = max(console.width, 120)
    console.print(table)
    console.print(
        "Calls are counted as Meta counts them. Outdated: replies that Graph is known, by a later line of this log, to"
        " have said otherwise by then; what nobody asked for meanwhile is not known."
    )


def _cells(tally: Tally, causes: list[str]) -> Iterator[str]:
    yield f"{tally.asked:,}"
    yield f"{tally.asked - tally.recorded:,}"
    yield f"{tally.counted:,}"
    yield from (f"{tally.avoided[cause]:,}" for cause in causes)
    yield f"{tally.bytes_avoided:,}"
    yield f"{tally.outdated:,}"
    yield f"{tally.oldest_s:.0f} s"
