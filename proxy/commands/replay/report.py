"""The report of a replay: as JSON, and as two tables for people."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from proxy.core.quota.ledger import CAUSES
from proxy.core.replay.replay import Replay, Tally

MOST_ROUTES = 20
"""The most routes with a row of their own."""


def described(replay: Replay) -> dict[str, Any]:
    """Returns the report as JSON values; *then* is what was recorded, *now* what these settings would have done."""
    then, now, seen = replay.then, replay.now, replay.coverage
    whole = Tally()
    for tally in replay.routes.values():
        whole.add(tally)
    waits = replay.waited_s
    return {
        "from": _time(seen.first),
        "to": _time(seen.last),
        "reads": seen.reads,
        "others": seen.others,
        "older_lines": seen.older,
        "calls": {
            name: {"then": getattr(then, name), "now": getattr(now, name)}
            for name in ("asked", "counted", "uncertain", "unsent", "own")
        },
        "calls_avoided": {cause: {"then": then.avoided[cause], "now": now.avoided[cause]} for cause in CAUSES},
        "bytes_avoided": now.bytes_avoided,
        "throttled": {"then": whole.throttled_then, "now": whole.throttled},
        "held_back": {"reads": len(waits), "s": round(sum(waits), 1), "longest_s": round(max(waits, default=0), 1)},
        "outdated": whole.outdated,
        "oldest_s": round(whole.oldest_s, 1),
        "routes": sorted(
            (_route(replay, route) for route in then.routes),
            key=lambda row: (-abs(row["now"] - row["then"]), -row["asked"]),
        ),
    }


def _route(replay: Replay, route: str) -> dict[str, Any]:
    then, now, tally = replay.then.routes[route], replay.now.routes.get(route), replay.routes.get(route, Tally())
    return {
        "route": route,
        "asked": then.asked,
        "then": then.counted,
        "now": now.counted if now else 0,
        "throttled": {"then": tally.throttled_then, "now": tally.throttled},
        "outdated": tally.outdated,
        "oldest_s": round(tally.oldest_s, 1),
    }


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


def print_report(report: dict[str, Any]) -> None:
    """Print two tables: the sums, and the routes with the largest changes."""
    console = Console(highlight=False)
    console.width = max(console.width, 100)
    console.print(
        f"{report['reads']:,} reads from {report['from']} to {report['to']}, by these settings; "
        f"{report['others']:,} writes and streams as they were\n"
    )
    console.print(_sums(report))
    console.print()
    console.print(_routes(report["routes"]))
    console.print()
    for line in _notes(report):
        console.print(line)


def _table(*heads: str) -> Table:
    table = Table(heads[0], box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for head in heads[1:]:
        table.add_column(head, justify="right")
    return table


def _sums(report: dict[str, Any]) -> Table:
    table = _table("", "then", "now", "change")
    rows = {"calls asked": report["calls"]["asked"], "calls counted": report["calls"]["counted"]}
    rows |= {f"avoided: {cause}": pair for cause, pair in report["calls_avoided"].items() if any(pair.values())}
    if any(report["calls"]["uncertain"].values()):
        rows["perhaps counted as well"] = report["calls"]["uncertain"]
    rows["our own: again, or behind a reply"] = report["calls"]["own"]
    rows["replies that are a throttle"] = report["throttled"]
    for name, pair in rows.items():
        table.add_row(name, *_change_columns(pair["then"], pair["now"]))
    return table


def _routes(routes: list[dict[str, Any]]) -> Table:
    table = _table("calls counted by route", "asked", "then", "now", "change", "outdated", "oldest")
    for row in routes[:MOST_ROUTES]:
        old = f"{row['oldest_s']:,.0f} s"
        table.add_row(
            row["route"], f"{row['asked']:,}", *_change_columns(row["then"], row["now"]), f"{row['outdated']:,}", old
        )
    return table


def _change_columns(then: int, now: int) -> tuple[str, str, str]:
    change = f"{(now - then) / then:+.0%}" if then and now != then else "" if now == then else "new"
    return f"{then:,}", f"{now:,}", change


def _notes(report: dict[str, Any]) -> Iterator[str]:
    """Yields notes on the limits of the report."""
    held, outdated, oldest = report["held_back"], report["outdated"], report["oldest_s"]
    if len(report["routes"]) > MOST_ROUTES:
        yield f"{len(report['routes']) - MOST_ROUTES:,} more routes, on which less would change, are in --json."
    if held["reads"]:
        waits = f"{held['s']:,} s in all, {held['longest_s']} s at most"
        yield f"{held['reads']:,} reads would have waited for the quota's sake, {waits}."
    yield (
        f"{report['bytes_avoided']:,} bytes need not have come. The oldest reply would have been {oldest:,.0f} s old;"
        f" {outdated:,} are known, by a later line, to have been outdated."
    )
    if report["sample"] < 1:
        yield (
            f"The log is a sample: of good replies down to {report['sample']:.3g} of the lines were written. All sums"
            " are of the lines that are there, so more was avoided than they say, and other settings save more."
        )
    if report["older_lines"]:
        yield (
            f"{report['older_lines']:,} reads have lines of an older version, which do not show which"
            " could have been merged, split by ids or throttled."
        )
