"""A dashboard's half hour, simulated: calls that Graph counts against the fewest possible, and who sees a throttle.

200 callers read by Zipf while a fifth of all objects changes each minute. Everything is the real sidecar and the real
emulator on real sockets; only the clock is told. By a rule of 60 s the calls are at most 5 % above the offline optimum
for the same rule, and no reply is older than the rule allows. With a quarter of that budget, no caller of urgency 0 to
3 sees a throttle that the optimum would have avoided.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from bench.harness import show, table, verdict
from bench.trace import LOW, Look, Trace, Versions, dashboard, fewest_calls, unavoidable
from bench.virtual import Loop
from proxy.app import Clocks, sidecar
from proxy.demo.client import Answer, open_connection, request
from proxy.emulator import Config, running
from proxy.settings import Settings

FRESH_S, LATENCY_MS, WINDOW_S, STRETCH_S, STALE_S = 60, 80, 300, 600, 3600


@dataclass
class Seen:
    """What came of the half hour."""

    counted: int = 0
    oldest_s: float = 0.0
    throttled: Counter[bool] = field(default_factory=Counter)  # by whether the caller can wait


def played(trace: Trace, *, budget: int | None = None, **rule: float) -> Seen:
    """The half hour by these rules and within that budget."""
    loop = Loop()
    try:
        return loop.run_until_complete(_play(loop, trace, budget, rule))
    finally:
        loop.close()


async def _play(loop: Loop, trace: Trace, budget: int | None, rule: dict) -> Seen:
    config = Config(latency_ms=LATENCY_MS, ledger_requests=0, budget=budget, window_s=WINDOW_S)
    with tempfile.TemporaryDirectory() as folder:
        async with running(config, clock=loop.wall) as origin:
            settings = Settings(
                listen="127.0.0.1:0",
                admin="127.0.0.1:0",
                upstream={"origin": origin.url, "reply_timeout_s": 600},
                cache={"dir": folder, "disk_mb": 0, "key_file": "ephemeral"},
                rules=[{"path": "/*", **rule}],
            )
            async with sidecar(settings, Clocks(loop.wall, loop.time)) as ours:
                play = Play(loop, trace, ours.url)
                await asyncio.gather(play.change(origin.world), *map(play.call, _by_caller(trace.looks)))
                play.seen.counted = origin.ledger.described()["counted_calls"]
                return play.seen


def _by_caller(looks: Sequence[Look]) -> list[list[Look]]:
    found: dict[int, list[Look]] = {}
    for look in looks:
        found.setdefault(look.caller, []).append(look)
    return list(found.values())


class Play:
    """One playing of a trace, from its beginning."""

    def __init__(self, loop: Loop, trace: Trace, url: str) -> None:
        """Send the looks of *trace* to *url*."""
        self._loop, self._trace, self._url, self._began = loop, trace, url, loop.time()
        self._versions = Versions(trace.changes)
        self.seen = Seen()

    async def change(self, world) -> None:
        """Change the objects of *world* as they do: each name tells which version of the object it is."""
        versions: Counter[str] = Counter()
        for change in self._trace.changes:
            await self._until(change.at)
            versions[change.node] += 1
            world.touch(change.node, {"name": f"version {versions[change.node]}"})

    async def call(self, looks: Sequence[Look]) -> None:
        """One caller: each look at its time, or as soon as the one before has been answered."""
        connection = await open_connection(self._url)
        for look in looks:
            await self._until(look.at)
            asked = request(self._url, "GET", f"/v25.0/{look.node}?fields=name", token=look.token)
            urgent = f"\r\nPriority: u={look.urgency}\r\n\r\n".encode()
            self._note(look, await connection.ask(asked.replace(b"\r\n\r\n", urgent, 1)))
        connection.close()

    async def _until(self, at: float) -> None:
        await asyncio.sleep(self._began + at - self._loop.time())

    def _note(self, look: Look, answer: Answer) -> None:
        if answer.status != 200:
            self.seen.throttled[look.urgency == LOW] += 1
            return
        name = json.loads(answer.text)["name"]
        version = int(name.rpartition(" ")[2]) if name.startswith("version") else 0
        age = self._versions.age(look.node, version, self._loop.time() - self._began)
        self.seen.oldest_s = max(self.seen.oldest_s, age)


def main(minutes: float) -> None:
    """Both halves of the claim."""
    trace = dashboard(minutes)
    best = fewest_calls(trace.looks, FRESH_S)
    calm = played(trace, fresh_s=FRESH_S)
    allowance = LATENCY_MS / 1000 + 0.1  # a body is as old as its call, which takes that long
    above = calm.counted / len(best) - 1

    budget = max(1, round(len(best) / trace.seconds * WINDOW_S / 4))
    tight = played(trace, budget=budget, fresh_s=FRESH_S, stretch_s=STRETCH_S, stale_if_error_s=STALE_S)
    urgent = [look for look in trace.looks if look.urgency != LOW]
    excused = unavoidable(fewest_calls(urgent, STALE_S), budget, WINDOW_S)

    made = table(
        f"{minutes:g} minutes, {len(trace.looks):,} reads",
        "calls counted",
        "oldest reply",
        "throttled, urgent",
        "others",
    )
    made.add_row("nothing held", f"{len(trace.looks):,}", "", "", "")
    made.add_row("the offline optimum", f"{len(best):,}", f"{FRESH_S} s", "", "")
    made.add_row("the sidecar", f"{calm.counted:,}", f"{calm.oldest_s:.1f} s", "0", "0")
    made.add_row(
        f"the sidecar, {budget} calls in {WINDOW_S} s",
        f"{tight.counted:,}",
        f"{tight.oldest_s:.1f} s",
        str(tight.throttled[False]),
        str(tight.throttled[True]),
    )
    show(made)
    verdict("calls above the offline optimum", "<= 5 %", f"{above:+.1%}", met=above <= 0.05)
    verdict(
        "oldest reply by a rule of 60 s", "<= 60 s", f"{calm.oldest_s:.1f} s", met=calm.oldest_s <= FRESH_S + allowance
    )
    verdict(
        "throttles that urgent callers saw, at a quarter of the budget",
        f"<= {excused} (the optimum's)",
        str(tight.throttled[False]),
        met=tight.throttled[False] <= excused,
    )


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 30)
