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
from proxy.demo.client import open_connection, request
from proxy.emulator import Config, running
from proxy.settings import Settings

FRESH_S, LATENCY_MS, WINDOW_S, STRETCH_S, STALE_S = 60, 80, 300, 600, 3600


@dataclass
class Seen:
    """What came of the half hour."""

    counted: int = 0
    replies: Counter[str] = field(default_factory=Counter)
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
                seen, began = Seen(), loop.time()
                versions = Versions(trace.changes)
                changing = asyncio.ensure_future(_change(loop, origin.world, trace, began))
                by_caller: dict[int, list[Look]] = {}
                for look in trace.looks:
                    by_caller.setdefault(look.caller, []).append(look)
                await asyncio.gather(
                    *(_call(loop, ours.url, looks, began, versions, seen) for looks in by_caller.values())
                )
                changing.cancel()
                seen.counted = origin.ledger.described()["counted_calls"]
                return seen


async def _change(loop: Loop, world, trace: Trace, began: float) -> None:
    versions: Counter[str] = Counter()
    for change in trace.changes:
        await asyncio.sleep(began + change.at - loop.time())
        versions[change.node] += 1
        world.touch(change.node, {"name": f"version {versions[change.node]}"})


async def _call(loop: Loop, url: str, looks: Sequence[Look], began: float, versions: Versions, seen: Seen) -> None:
    """One caller: each look at its time, or as soon as the one before has been answered."""
    connection = await open_connection(url)
    for look in looks:
        await asyncio.sleep(began + look.at - loop.time())
        asked = request(url, "GET", f"/v25.0/{look.node}?fields=name", token=look.token)
        head, _, rest = asked.partition(b"\r\n\r\n")
        answer = await connection.ask(head + f"\r\nPriority: u={look.urgency}".encode() + b"\r\n\r\n" + rest)
        _note(json.loads(answer.text), answer, look, versions, seen, loop.time() - began)
    connection.close()


def _note(body, answer, look: Look, versions: Versions, seen: Seen, now: float) -> None:
    if answer.status != 200:
        seen.throttled[look.urgency == LOW] += 1
        return
    name = body["name"]
    version = int(name.rpartition(" ")[2]) if name.startswith("version") else 0
    seen.oldest_s = max(seen.oldest_s, versions.age(look.node, version, now))
    seen.replies[answer.field("cache-status").partition("; ")[2]] += 1


def main(minutes: float) -> None:
    """Both halves of the claim."""
    trace = dashboard(minutes)
    best = fewest_calls(trace.looks, FRESH_S)
    calm = played(trace, fresh_s=FRESH_S)
    allowance = LATENCY_MS / 1000 + 0.1  # a body is as old as its call, which takes that long
    above = calm.counted / len(best) - 1

    budget = max(1, round(len(best) / trace.seconds * WINDOW_S / 4))
    tight = played(trace, budget=budget, fresh_s=FRESH_S, stale_if_error_s=STALE_S)
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
