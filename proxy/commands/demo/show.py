"""Prints the demo: an introduction, the progress, the results, and commands to try next."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
from rich.table import Table
from rich.text import Text

from proxy.commands.demo.callers import CallersReport
from proxy.commands.demo.pace import Machine
from proxy.commands.demo.traffic import SLOW_MOVING

DIRECT = "directly"
THROUGH = "through the sidecar"

_WIDEST = 100
_ROOMY = 76
"""The width from which on the progress has room for a remark."""
_MODES = {
    "REUSED": ("green", "fresh by rule, Graph was not asked"),
    "COALESCED": ("blue", "joined a twin in flight, Graph was not asked"),
    "REVALIDATED": ("cyan", "Graph said 304, the held body was served"),
    "CHANGED": ("yellow", "Graph sent a newer body"),
    "MISS": ("bright_black", "nothing was held yet"),
}
_SHADES, _LETTERS = "█▓▒░·", "#=+-."
"""The colour, shade and letter of each mode, for terminals with colours, without colours, and with ASCII alone."""


Row = tuple[RenderableType, str, str, str]
_GAP: Row = ("", "", "", "")


@dataclass(frozen=True, slots=True)
class Scene:
    """The traffic of the demo."""

    callers: int
    tokens: int
    seconds: float
    latency_ms: int
    fresh_s: int
    gets: int
    changes: int
    slowness: float = 1.0
    machine: Machine | None = None  # known after the warm-up

    def on(self, machine: Machine) -> Scene:
        """Returns the scene at the pace of *machine*."""
        slow = machine.slowness
        return replace(self, slowness=slow, latency_ms=round(self.latency_ms * slow), machine=machine)


@dataclass(frozen=True, slots=True)
class Run:
    """The result of sending the traffic one way: by the emulator's ledger, and as the callers measured it."""

    counted: int
    http_calls: int
    slots: tuple[int, ...]
    not_modified: int
    bytes_out: int
    seen: CallersReport

    @classmethod
    def of(cls, ledger: Mapping[str, Any], seen: CallersReport) -> Run:
        """Returns the result from the emulator's ledger."""
        return cls(
            counted=ledger["counted_calls"],
            http_calls=ledger["http_calls"],
            slots=tuple(ledger["slots"]),
            not_modified=sum(ledger["not_modified"].values()),
            bytes_out=ledger["bytes_out"],
            seen=seen,
        )


def stage() -> Console:
    """Returns the console, with a limited width so that lines stay readable."""
    console = Console(highlight=False)
    console.width = min(console.width, _WIDEST)
    return console


def opening(console: Console, scene: Scene) -> None:
    """Print the introduction: what the demo is going to do."""
    text = Text.assemble(
        (f"{scene.callers} people with {scene.tokens} tokens", "bold"),
        f" look at their ads for {scene.seconds:g} s: first straight at an offline Graph, ",
        (f"{scene.latency_ms} ms", "bold"),
        " away, then the very same requests through the sidecar.",
    )
    console.print(Padding(text, (1, 2), expand=False))


def progress(console: Console) -> Progress:
    """Returns a progress bar for each way on a terminal; elsewhere nothing is shown."""
    columns: list[ProgressColumn] = [
        TextColumn("  {task.description:<19}"),
        BarColumn(bar_width=None, complete_style="cyan", finished_style="green"),
        _Count(),
    ]
    if console.width >= _ROOMY:
        columns.append(TextColumn("[dim]{task.fields[remark]}", justify="right"))
    return Progress(*columns, console=console, expand=True, disable=not console.is_terminal, refresh_per_second=10)


def warming(console: Console) -> AbstractContextManager[object]:
    """Returns a context that says on a terminal that the parts warm up."""
    return console.status("  warming up") if console.is_terminal else nullcontext()


class _Count(ProgressColumn):
    def render(self, task: Task) -> Text:
        total = f"{int(task.total or 0):,}"
        return Text(f"{int(task.completed):>{len(total)},} / {total}", style="bold" if task.finished else "")


def since(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, dict[str, int]]:
    """Returns by how much the counts of `/stats` that are shown have grown."""
    return {
        name: {key: after[name][key] - before[name][key] for key in after[name]}
        for name in ("calls_avoided", "replies")
    }


def results(console: Console, scene: Scene, direct: Run, through: Run, stats: Mapping[str, Any]) -> None:
    """Print the results."""
    shown = Group(
        _table(_rows(scene, direct, through, stats["calls_avoided"]), compared=console.width >= _ROOMY),
        "",
        _replies(stats["replies"], console.width - 4, _brush(console)),
        *_notes(scene, direct, through),
        "",
        Text(_small_print(scene), style="dim"),
    )
    console.print(Padding(shown, (1, 2), expand=False))


def fleet_results(console: Console, scene: Scene, runs: Mapping[str, Run], shared: Mapping[str, Any]) -> None:
    """Print the results of one sidecar and of several, and what these shared."""
    table = Table(box=SIMPLE_HEAD, expand=True, padding=(0, 1), pad_edge=False, show_edge=False, header_style="bold")
    table.add_column("", ratio=1, min_width=19)
    for name in runs:
        table.add_column(name, justify="right", min_width=8)
    rows: dict[str, Callable[[Run], str]] = {
        "calls Graph counted": lambda run: f"{run.counted:,}",
        "HTTP calls made": lambda run: f"{run.http_calls:,}",
        "bytes from Graph": lambda run: _size(run.bytes_out),
        "failed": lambda run: f"{run.seen.failed:,}",
        "median latency": lambda run: f"{run.seen.median_ms:.0f} ms",
        "p99 latency": lambda run: f"{run.seen.p99_ms:.0f} ms",
    }
    for name, written in rows.items():
        table.add_row(Text(name, style="bold"), *(written(run) for run in runs.values()))
    shown = (
        f"Of the reads that one replica asked for all, {shared['led']:,} were led and {shared['joined']:,} joined; "
        f"{shared['alone']:,} were asked alone."
    )
    console.print(
        Padding(Group(table, *_notes(scene, *runs.values()), "", Text(shown, style="dim")), (1, 2), expand=False)
    )


def _table(rows: Iterable[Row], *, compared: bool) -> Table:
    """Returns the rows as a table; *compared* adds the last column, for which narrow terminals have no room."""
    table = Table(box=SIMPLE_HEAD, expand=True, padding=(0, 1), pad_edge=False, show_edge=False, header_style="bold")
    table.add_column("", ratio=1, min_width=19)
    table.add_column(DIRECT, justify="right", min_width=8)
    table.add_column(THROUGH, justify="right", min_width=12, max_width=None if compared else 13)
    if compared:
        table.add_column("", justify="right", style="bold green", min_width=6, no_wrap=True)
    for row in rows:
        table.add_row(*(row if compared else row[:3]))
    return table


def _rows(scene: Scene, direct: Run, through: Run, avoided: Mapping[str, int]) -> Iterator[Row]:
    """Yields the rows: requests, then calls, round trips and bytes (three different savings), then waiting times."""
    yield "GETs asked", f"{scene.gets:,}", f"{scene.gets:,}", ""
    yield "changes posted", f"{scene.changes:,}", f"{scene.changes:,}", ""
    if direct.seen.failed or through.seen.failed:
        yield Text("failed", style="bold red"), f"{direct.seen.failed:,}", f"{through.seen.failed:,}", ""
    yield _GAP
    yield _headline("calls Graph counted", direct.counted, through.counted)
    for cause, calls in avoided.items():
        if calls:
            yield f" avoided: {cause}{' *' * (cause == 'fresh')}", "", f"{calls:,}", ""
    yield _GAP
    yield _headline("HTTP calls made", direct.http_calls, through.http_calls)
    yield " slots per batch", "", _slots(through.slots), ""
    yield _GAP
    yield _headline("bytes from Graph", direct.bytes_out, through.bytes_out, _size)
    yield " 304 share of calls", _share(direct), _share(through), ""
    if not _kept_up(scene, direct, through):
        return
    yield _GAP
    for name, through_ms, direct_ms in (
        ("median latency", through.seen.median_ms, direct.seen.median_ms),
        ("p99 latency", through.seen.p99_ms, direct.seen.p99_ms),
    ):
        yield name, f"{direct_ms:.0f} ms", f"{through_ms:.0f} ms", _in_plain(f"{through_ms - direct_ms:+.0f} ms")


def _kept_up(scene: Scene, *ways: Run) -> bool:
    """Returns whether the machine answered fast enough for times to say something."""
    machine = scene.machine
    return machine is None or all(machine.kept_up(run.seen.median_ms, scene.latency_ms) for run in ways)


def _notes(scene: Scene, *ways: Run) -> Iterator[RenderableType]:
    """Yields what the machine did to the numbers, if it was too busy."""
    machine = scene.machine
    if machine is None or (not machine.is_busy and _kept_up(scene, *ways)):
        return
    text = ["This machine is slow or not idle."]
    if machine.others is not None:
        text.append(f"{machine.others:.0%} of its processor time was taken before the demo began.")
    if scene.slowness > 1:
        text.append(
            f"So the traffic was played {scene.slowness:g} times as slowly, with Graph {scene.latency_ms} ms away: "
            "that leaves the shares as they are on an idle machine."
        )
    if not _kept_up(scene, *ways):
        text.append("Replies were late even so: more reads than usual met in flight, and times say nothing.")
    yield ""
    yield Text(" ".join(text), style="yellow")


def _headline(name: str, before: int, after: int, written: Any = "{:,}".format) -> Row:
    saved = f"{(after - before) / before:+.0%}" if before else ""
    return Text(name, style="bold"), written(before), written(after), saved


def _in_plain(text: str) -> str:
    return f"[not bold default]{text}[/]"


def _slots(slots: tuple[int, ...]) -> str:
    return f"{sum(slots) / len(slots):.1f}, up to {max(slots)}" if slots else "-"


def _share(run: Run) -> str:
    return f"{run.not_modified / run.counted:.0%}" if run.counted else "-"


def _size(count: int) -> str:
    return f"{count / 1e6:.1f} MB" if count >= 100_000 else f"{count / 1e3:.1f} kB"


def _brush(console: Console) -> dict[str, Text]:
    """Returns one cell for each mode, in a colour, a shade or a letter of its own."""
    marks = _LETTERS if console.options.ascii_only else "█" * len(_MODES) if console.color_system else _SHADES
    return {mode: Text(mark, style=colour) for mark, (mode, (colour, _)) in zip(marks, _MODES.items(), strict=True)}


def _replies(counts: Mapping[str, int], width: int, brush: Mapping[str, Text]) -> RenderableType:
    """Returns a bar of the sidecar's replies by mode, with a legend."""
    shown = {mode: counts[mode] for mode in _MODES if counts.get(mode)}
    total = sum(shown.values()) or 1
    bar, seen = Text(no_wrap=True), 0
    legend = Table.grid(padding=(0, 1))
    legend.add_column()
    legend.add_column(no_wrap=True)
    legend.add_column(justify="right", no_wrap=True)
    legend.add_column(style="dim")
    for mode, count in shown.items():
        seen += count
        for _ in range(round(width * seen / total) - len(bar)):
            bar.append_text(brush[mode])
        legend.add_row(brush[mode], mode, f"{count / total:.0%}", _MODES[mode][1])
    return Group(Text("how the replies came about", style="bold"), bar, legend)


def _small_print(scene: Scene) -> str:
    return (
        f"* Only {SLOW_MOVING} may be reused, for {scene.fresh_s} s, by a rule of this demo; without rules nothing is. "
        "Calls, HTTP calls and bytes are three savings, not one: a slot of a batch and a 304 each still count "
        "as a call. What Graph counted, sent and was asked comes from the offline Graph's own ledger; its "
        "bytes are those of bodies, gzipped both ways."
    )


def invitation(console: Console, commands: Mapping[str, str]) -> None:
    """Print commands to try while everything stays up, each on a line of its own, to be copied."""
    console.print(Padding(Text("Everything stays up. Try, in another terminal:", style="bold"), (0, 2)))
    for meaning, command in commands.items():
        console.print(Padding(Text(f"# {meaning}", style="dim"), (1, 2, 0, 2)))
        console.print(Text(command, style="cyan"), soft_wrap=True)
    console.print(Padding(Text("Ctrl-C ends it.", style="bold"), (1, 2)))
