"""Draws one frame of `top`, which fits a terminal of 80 columns and 24 lines, and larger ones.

Nothing is shown by colour alone: it is also read in logs, over `kubectl exec`, and with NO_COLOR.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

from rich.console import Console, Group, OverflowMethod, RenderableType
from rich.table import Table
from rich.text import Text

from proxy.commands.top.event_stream import Snapshot
from proxy.core.quota.ledger import SAVINGS

_WIDEST = 120
_RECENT_S = 300
_CURVE_S = 900
_BARS, _ASCII_BARS = " ▁▂▃▄▅▆▇█", " ..::==##"
_MODES = {
    "REUSED": "green",
    "COALESCED": "blue",
    "STALE": "magenta",
    "REVALIDATED": "cyan",
    "CHANGED": "yellow",
    "MISS": "",
    "SKIPPED": "",
    "REFUSED": "red",
    "FAILED": "red",
}
_STAGES = {"calm": "green", "watch": "blue", "spare": "yellow", "stop": "bold red"}
_KINDS = {"app": "App", "page": "Page", "account": "Account", "business": "Business", "edge": "Edge"}
_FIXED = 16
"""The lines that are always shown; the rest is for the lists."""

_ROOM_WITH_PLACE = 5
"""The fewest lines for the lists at which one of them is given to where the sidecar is."""

_MODES_ABREAST = ((5, 98), (4, 78))
"""How many modes stand on a line, and the columns that they take."""


def frame(seen: Snapshot, console: Console, height: int | None = -1) -> RenderableType:
    """Returns *seen* as one frame; *height* is the number of lines, -1: the terminal's, None: as many as needed."""
    lines = console.height if height == -1 else height
    abreast = next((columns for columns, width in _MODES_ABREAST if console.width >= width), 2)
    modes = -(-(len(_MODES) + 1) // abreast)  # lines: the modes and the share of errors
    room = None if lines is None else lines - _FIXED - (modes - 2) - ("shared" in seen.stats)
    has_place = room is None or room >= _ROOM_WITH_PLACE
    if room is not None and has_place:
        room -= 1
    troubles = list(_troubles(_troubles_of(seen), console))[: None if room is None else max(1, room // 4)]
    pools, routes, errors = _shares(seen.stats, None if room is None else room - len(troubles))
    parts = [
        _head(seen, console),
        *([_place(seen.stats, console)] if has_place else []),
        *troubles,
        "",
        _savings(seen, console),
        "",
        _modes(seen, abreast),
        _waiting(seen, console),
        *_fleet(seen.stats, console),
        "",
        *_quota(_most_used(seen.stats["usage"])[:pools], console),
        "",
        *_routes(seen.stats["routes"][:routes], console),
        "",
        *_errors(_alike(seen.stats["errors"])[:errors], console),
    ]
    console.width = min(console.width, _WIDEST)
    return Group(*parts)


def _shares(stats: Mapping[str, Any], lines: int | None) -> tuple[int, int, int]:
    """Returns how many limits, routes and errors fit: limits and errors first, routes get the rest."""
    if lines is None:
        return 10, 20, 10
    pools = min(len(stats["usage"]), max(1, lines // 3))
    errors = min(len(_alike(stats["errors"])), max(1, lines // 4))
    return pools, max(1, lines - max(1, pools) - max(1, errors)), errors


def _cut(console: Console) -> OverflowMethod:
    """Returns how long text is cut: with an ellipsis, except on terminals with ASCII alone."""
    return "crop" if console.options.ascii_only else "ellipsis"


def _head(seen: Snapshot, console: Console) -> Text:
    state = ("live", "green") if seen.connected else ("reconnecting", "bold yellow")
    if seen.connected and seen.stats["state"] == "draining":
        state = (f"draining, {count(seen.stats['open'])} inside", "bold yellow")
    return Text.assemble(
        ("graph-sidecar", "bold"),
        f" {seen.stats['version']}  ",
        ("* " if console.options.ascii_only else "● ", state[1]),
        state,
        f"  up {duration(seen.stats['uptime_s'])}  ",
        (seen.url, "dim"),
        overflow=_cut(console),
        no_wrap=True,
    )


def _place(stats: Mapping[str, Any], console: Console) -> Text:
    """Returns a line with the sidecar's address and the host that it calls."""
    return Text(f"{stats['instance']}  calls {stats['upstream']}", style="dim", overflow=_cut(console), no_wrap=True)


def _troubles_of(seen: Snapshot) -> Sequence[Mapping[str, Any]]:
    """Returns the troubles that the sidecar reports; if it does not answer any more, that is the trouble."""
    if seen.connected:
        found: Sequence[Mapping[str, Any]] = seen.stats["troubles"]
        return found
    since = time.strftime("%H:%M:%S", time.localtime(seen.stats["now"]))
    return [
        {
            "level": "bad",
            "what": f"No sidecar has answered since {since}",
            "ago_s": None,
            "for_s": None,
            "for_named": False,
        }
    ]


def _troubles(found: Sequence[Mapping[str, Any]], console: Console) -> Iterator[Text]:
    """Yields one line for each trouble, the worst first."""
    for trouble in found:
        bad = trouble["level"] == "bad"
        left, ago = trouble["for_s"], trouble["ago_s"]
        yield Text.assemble(
            ("!! " if bad else "!  ", "bold red" if bad else "bold yellow"),
            (trouble["what"], "bold"),
            "" if left is None else f", {_when(left, is_named=trouble['for_named'])}",
            "" if ago is None else f", last {duration(ago)} ago",
            overflow=_cut(console),
            no_wrap=True,
        )


# --- what is saved


def _savings(seen: Snapshot, console: Console) -> Table:
    """Returns the three kinds of savings, each on a line of its own and never added up."""
    table = _bare_table()
    table.add_column("saved", no_wrap=True)
    _add_numbers(table, "last 5 min", "since start")
    table.add_column("last 15 min", no_wrap=True, ratio=1)
    stats = seen.stats
    for name, columns, total, written in (
        (
            "calls avoided",
            [f"calls_avoided.{cause}" for cause in SAVINGS],
            sum(stats["calls_avoided"][cause] for cause in SAVINGS),
            count,
        ),
        ("bytes avoided", ["bytes_avoided"], stats["bytes_avoided"], size),
        ("round trips avoided", ["round_trips_avoided"], stats["round_trips_avoided"], count),
        ("calls Meta counted", ["calls.counted"], stats["calls"]["counted"], count),
    ):
        recent = sum(_recent(seen, column) for column in columns)
        table.add_row(name, written(recent), written(total), _curve(seen, columns, console))
    return table


def _recent(seen: Snapshot, column: str) -> float:
    """Returns how much *column* has grown lately; the history is at most an hour long."""
    return _now(seen, column) - next((row[seen.columns.index(column)] for row in _rows(seen, _RECENT_S)), 0)


def _now(seen: Snapshot, column: str) -> float:
    value: Any = seen.stats
    for name in column.split("."):
        value = value[name]
    return float(value)


def _rows(seen: Snapshot, seconds: float) -> list[list[float]]:
    return [row for row in seen.rows if row[0] >= seen.stats["now"] - seconds]


def _curve(seen: Snapshot, columns: Sequence[str], console: Console) -> Text:
    """Returns a sparkline of the growth of *columns*, oldest first, scaled to the largest value."""
    marks = _ASCII_BARS if console.options.ascii_only else _BARS
    width = max(8, min(console.width, _WIDEST) - 52)
    places = [seen.columns.index(column) for column in columns]
    grown = [0.0] * width
    for before, after in pairwise(_rows(seen, _CURVE_S)):
        at = int((after[0] - seen.stats["now"] + _CURVE_S) / _CURVE_S * width)
        grown[min(max(at, 0), width - 1)] += sum(after[place] - before[place] for place in places)
    most = max(grown) or 1
    return Text("".join(marks[-(-int(each / most * 1000) * (len(marks) - 1) // 1000)] for each in grown), style="cyan")


# --- how, and how long


def _modes(seen: Snapshot, abreast: int) -> Table:
    """Returns the share of each mode in the replies of the last minutes, and that of errors; *abreast* on a line."""
    recent = {mode: _recent(seen, f"outcomes.{mode}") for mode in _MODES}
    total = sum(recent.values())
    table = Table.grid(padding=(0, 2), expand=False)
    for _ in range(abreast):
        table.add_column(no_wrap=True)
    cells = [
        Text.assemble((f"{mode:<11}", colour), f"{share(recent[mode], total):>7}") for mode, colour in _MODES.items()
    ]
    errors = sum(_recent(seen, f"error_replies.{origin}") for origin in seen.stats["error_replies"])
    cells.append(Text.assemble((f"{'errors':<11}", "bold"), f"{share(errors, total):>7}"))
    for at in range(0, len(cells), abreast):
        table.add_row(*cells[at : at + abreast])
    return table


def _waiting(seen: Snapshot, console: Console) -> Text:
    stats = seen.stats
    batches, slots = stats["calls"]["batches"], stats["calls"]["slots"]
    waits = (_both(stats[name]) for name in ("window_ms", "upstream_ms"))
    each = f"{slots / batches:.1f}" if batches else "-"
    return Text.assemble(
        ("p50 p99: ", "dim"),
        "window {}  Graph {}".format(*waits),
        f"  slots/batch {each}  queued {stats['queued']}",
        overflow=_cut(console),
        no_wrap=True,
    )


def _fleet(stats: Mapping[str, Any], console: Console) -> Iterator[Text]:
    """Yields a line on the shared store, if there is one."""
    if not (shared := stats.get("shared")):
        return
    flights, alone = shared["flights"], sum(shared["alone"].values())
    state = "heard" if shared["believed"] else "not heard" if shared["up"] else "away"
    yield Text.assemble(
        ("fleet: ", "dim"),
        f"{shared['replicas']} replicas  others {state}",
        f"  flights led {count(flights['led'])} joined {count(flights['joined'])} alone {count(alone)}",
        overflow=_cut(console),
        no_wrap=True,
    )


def _both(percentiles: Mapping[str, float | None]) -> str:
    return " ".join(milliseconds(percentiles[each]) for each in ("p50", "p99"))


# --- lists


def _when(seconds: float, *, is_named: bool) -> str:
    """When a limit is free again, if Graph *named* the time; else when the sidecar tries again."""
    if seconds < 0.5:
        return "regains now" if is_named else "tried by the next read"
    return f"{'regains' if is_named else 'tried again'} in {duration(seconds)}"


def _next(pool: Mapping[str, Any]) -> str:
    """Returns the outlook of a limit: when it is free again, the predicted use, or the trend."""
    if pool["regain_s"] is not None:
        return _when(pool["regain_s"], is_named=pool["regain_named"])
    if (percent := pool["foreseen_percent"]) is not None:
        in_s = pool["foreseen_in_s"]
        return f"soon {percent:.0f} %" if in_s is None else f"{percent:.0f} % in {duration(in_s)} at this rate"
    return f"{pool['trend_per_min']:+.1f} %/min"


def _most_used(usage: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return sorted(usage, key=lambda pool: (pool["stage"] != "stop", -pool["percent"]))


def _quota(usage: Sequence[Mapping[str, Any]], console: Console) -> Iterator[RenderableType]:
    if not usage:
        yield Text("quota: Graph has reported no usage in the last minutes", style="dim")
        return
    table = _table("quota", console)
    _add_numbers(table, "used", "")
    for head in ("stage", ""):
        table.add_column(head, no_wrap=True)
    full, empty = ("#", ".") if console.options.ascii_only else ("█", "░")
    for pool in usage:
        filled = min(10, round(pool["percent"] / 10))
        table.add_row(
            f"{_KINDS.get(pool['kind'], pool['kind'])} {pool['id']} {pool['type']}",
            f"{pool['percent']:.0f} %",
            Text(full * filled + empty * (10 - filled), style=_STAGES.get(pool["stage"], "")),
            Text(pool["stage"], style=_STAGES.get(pool["stage"], "")),
            _next(pool),
        )
    yield table


def _routes(routes: Sequence[Mapping[str, Any]], console: Console) -> Iterator[RenderableType]:
    if not routes:
        yield Text("routes: no read has come in yet", style="dim")
        return
    table = _table("route", console)
    _add_numbers(table, "asked", "counted", "avoided", "bytes saved", "p50")
    for route in routes:
        calls = (route["asked"], route["counted"], route["avoided"] - route["refused"])
        table.add_row(route["route"], *map(count, calls), size(route["bytes_avoided"]), milliseconds(route["p50_ms"]))
    yield table


def _alike(errors: Sequence[Mapping[str, Any]]) -> list[tuple[Mapping[str, Any], int]]:
    """Returns errors grouped by everything but their time, newest first, each with its count."""
    kinds: dict[tuple[object, ...], list[Mapping[str, Any]]] = {}
    for error in errors:
        kinds.setdefault(tuple(error[name] for name in ("mode", "status", "code", "what", "route")), []).append(error)
    return [(same[0], len(same)) for same in kinds.values()]


def _errors(errors: Sequence[tuple[Mapping[str, Any], int]], console: Console) -> Iterator[RenderableType]:
    if not errors:
        yield Text("errors: none", style="dim")
    for error, times in errors:
        at = time.strftime("%H:%M:%S", time.localtime(error["at"]))
        code = "" if error["code"] is None else f" code {error['code']}"
        yield Text.assemble(
            (f"{at} ", "dim"),
            (f"{_outcome(error)} ", _MODES.get(_outcome(error), "")),
            f"{error['status']}{code} {error['what']} {error['route']}",
            f" (x{times})" if times > 1 else "",
            overflow=_cut(console),
            no_wrap=True,
        )


def _outcome(error: Mapping[str, Any]) -> str:
    """The mode of *error*, or REFUSED for a refusal that Graph gave earlier and that was given again."""
    return "REFUSED" if error["what"] == "throttled" and error["mode"] not in {"MISS", "STALE"} else str(error["mode"])


def _table(name: str, console: Console) -> Table:
    """Returns a table whose first column, called *name*, shrinks first."""
    table = _bare_table()
    table.add_column(name, no_wrap=True, ratio=1, overflow=_cut(console))
    return table


def _bare_table() -> Table:
    return Table(box=None, expand=True, padding=(0, 2, 0, 0), pad_edge=False, show_edge=False, header_style="bold")


def _add_numbers(table: Table, *heads: str) -> None:
    for head in heads:
        table.add_column(head, justify="right", no_wrap=True)


# --- how numbers are written


def count(number: float) -> str:
    """Returns a whole number with its digits grouped."""
    return f"{number:,.0f}"


def size(number: float) -> str:
    """Returns a number of bytes in a suitable unit."""
    for unit, least in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if number >= least:
            return f"{number / least:.3g} {unit}"
    return f"{number:.0f} B"


def milliseconds(number: float | None) -> str:
    """Returns milliseconds as text, or seconds if there are many; "-" if nothing was measured."""
    if not number:
        return "-"
    return f"{number / 1000:.1f} s" if number >= 1000 else f"{number:.{0 if number >= 10 else 1}f} ms"


def share(part: float, whole: float) -> str:
    """Returns *part* as a percentage of *whole*."""
    return f"{part / whole:.1%}".replace("%", " %") if whole else "-"


def duration(seconds: float) -> str:
    """Returns a duration in its two largest units."""
    left, found = max(0, round(seconds)), []
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        many, left = divmod(left, length)
        if many:
            found.append(f"{many} {unit}")
    return " ".join(found[:2]) or "0 s"
