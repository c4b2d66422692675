"""What one read of each kind passes through: a plain cold read enters at most 25 files, a hit in memory at most 6.

Counted in process by a profiler: calls of Python functions of the sidecar, files entered and changes of file, tasks and
structs made, until the caller has the answer. Caller and Graph are on the same event loop; what they do is left out.
Of some reads of a kind the shortest is told: in the others a timer of the sidecar's has come between.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path

from bench import counted_structs
from bench.harness import open_connection, run, show, table, verdict
from proxy import emulator
from proxy.app.log_setup import set_up
from proxy.app.sidecar import sidecar
from proxy.commands.demo.client import request
from proxy.settings import LogSettings, Settings

OURS = str(Path(__file__).parents[1] / "proxy")
NOT_ON_THE_WAY = tuple(f"{OURS}/{name}" for name in ("emulator", "commands"))
TIMES = 5
FRESH, WHO = "/9*", "bench"
GOALS = {"cold (MISS)": (25, 60), "hit in memory (REUSED)": (6, 10)}


class Walk:
    """What was passed through since it began."""

    def __init__(self):
        """Begin at nothing."""
        self.calls = self.changes = self.tasks = self.library = 0
        self.files, self.last = set(), ""

    def __call__(self, frame, event, _arg):
        """See one event of the profiler."""
        if event != "call":
            return
        file = frame.f_code.co_filename
        if not file.startswith(OURS):
            self.library += file != counted_structs.__file__
        elif not file.startswith(NOT_ON_THE_WAY):
            self.calls += 1
            self.files.add(file)
            self.changes += file != self.last
            self.last = file

    @property
    def row(self):
        """What the table tells."""
        return self.calls, self.library, len(self.files), self.changes, self.tasks


async def main():
    """Warm up with reads of each kind, then walk one of each."""
    made = table("one read", "Python calls", "of libraries", "files", "changes of file", "tasks", "structs")
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        before, sys.stderr = sys.stderr, stack.enter_context(_log(Path(folder, "log")))
        set_up(LogSettings(format="json"))
        behind = await stack.enter_async_context(emulator.running())
        ours = await stack.enter_async_context(sidecar(_settings(behind.url, folder)))
        caller = await open_connection(ours.url)
        for number in (1, 1, 91, 91, 1, 91, 2, 92):
            await _say(caller, ours.url, number)
        for name, numbers in {
            "cold (MISS)": range(3, 3 + TIMES),
            "held, 304 (REVALIDATED)": [3] * TIMES,
            "hit in memory (REUSED)": [91] * TIMES,
        }.items():
            walks = [await _walked(caller, ours.url, number) for number in numbers]
            walk, structs = min(walks, key=lambda each: each[0].calls)
            made.add_row(name, *map(str, walk.row), str(structs))
            if name in GOALS:
                files, changes = GOALS[name]
                found = f"{len(walk.files)}, {walk.changes}"
                met = len(walk.files) <= files and walk.changes <= changes
                verdict(f"{name}: files entered, changes of file", f"<= {files}, {changes}", found, met=met)
        caller.close()
        sys.stderr = before
    show(made)


def _settings(origin, folder):
    return Settings(
        listen="127.0.0.1:0",
        admin="127.0.0.1:0",
        upstream={"origin": origin, "rest_ms": 0},  # in ordinary traffic a connection has rested when its turn comes
        cache={"dir": f"{folder}/cache", "key_file": "ephemeral"},
        rules=[{"path": FRESH, "fresh_s": 3600}],
    )


def _log(file):
    return file.open("w")


async def _walked(caller, url, number):
    """What a read of this object passes through, and how many structs it makes."""
    loop, walk, structs = asyncio.get_running_loop(), Walk(), counted_structs.made

    def tasks(loop, coroutine, **more):
        walk.tasks += _is_ours(coroutine)
        return asyncio.Task(coroutine, loop=loop, **more)

    loop.set_task_factory(tasks)
    sys.setprofile(walk)
    try:
        await _say(caller, url, number)
    finally:
        sys.setprofile(None)
        loop.set_task_factory(None)
    return walk, counted_structs.made - structs


def _is_ours(coroutine):
    code = getattr(coroutine, "cr_code", None)
    return code is None or not code.co_filename.startswith(NOT_ON_THE_WAY)


async def _say(caller, url, number):
    answer = await caller.ask(request(url, "GET", f"/v25.0/{number}?fields=id", token=WHO))
    if answer.status != 200:
        raise SystemExit(f"a reply was {answer.status} {answer.text[:200]}")


if __name__ == "__main__":
    run(main)
