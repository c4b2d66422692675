"""Clients that have a backoff of their own meet throttles, directly and through the sidecar, by a told clock.

Each combination is played by twins: as many clients, the same reads, the same throttle; and what is held against each
other is whether each job got all of its answers, how long it took, and how many calls Graph refused.
"""

from __future__ import annotations

import asyncio
import json
import logging
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, NamedTuple
from urllib.parse import urlencode

from bench.harness import show, table, verdict
from bench.playing import LATENCY_MS
from bench.virtual import Loop
from proxy.app.components import Clocks
from proxy.app.sidecar import sidecar
from proxy.commands.demo.client import ClientReply, open_connection, request
from proxy.emulator import Config, Running, running
from proxy.settings import Settings

SCHEDULES: dict[str, tuple[float, ...]] = {
    "0/1/3/7/15/31": (1, 2, 4, 8, 16),
    "0/5/15/35/75": (5, 10, 20, 40),
    "every 5 s": (5,) * 9,
}
"""The pauses after each try that was refused; after the last of them a job gives up."""

THROTTLES: dict[str, dict[str, Any]] = {
    "1 call": {"count": 1},
    "2 calls": {"count": 2},
    "10 s": {"seconds": 10.0},
    "20 s": {"seconds": 20.0},
    "40 s": {"seconds": 40.0},
}

CODES: tuple[tuple[int, int | None], ...] = (
    (4, None), (4, 1504022), (17, None), (17, 2446079), (32, None), (341, None), (368, None), (613, None),
    (613, 1487742), (613, 5044001), (80000, 2446079), (80001, None), (80003, 2446079), (80004, 2446079), (80014, None),
    (130429, None),
)  # fmt: skip

GRID = ((4, None), (613, None))
"""Those that jobs of more than one read are played with."""

MOST = 1.15
"""How many times as long as directly a job may take."""

_READ = "/v25.0/act_1/insights?fields=spend&limit={}"


class Ask(NamedTuple):
    """One call of a client's: a GET, or a POST of a form."""

    target: str
    body: str = ""


def _batch(*urls: str) -> Ask:
    items = [{"method": "GET", "relative_url": url} for url in urls]
    return Ask("/v25.0/", urlencode({"batch": json.dumps(items)}))


_READS = [Ask(_READ.format(number)) for number in range(1, 6)]

JOBS: dict[str, list[list[Ask]]] = {
    "one read": [_READS[:1]],
    "five reads in a row": [_READS],
    "a batch": [[_batch("act_1?fields=id", "act_1/campaigns?limit=2", "act_1/insights?fields=spend")]],
    "a chain": [[_batch("act_1?fields=id", "act_1/campaigns?limit=2", "me/picture?redirect=0")]],
    "a read that passes": [[Ask("/v25.0/act_1/picture?redirect=0")]],
    "three clients, one read": [_READS[:1]] * 3,
    "three clients, three reads": [[read] for read in _READS[:3]],
}
"""What each client asks, one after the other; of more than one read the throttle begins with the third."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of some jobs: of each its seconds, or None where it gave up, and the calls that were refused."""

    seconds: tuple[float | None, ...]
    refused: int

    @property
    def shown(self) -> str:
        """As it stands in the table."""
        times = "/".join("fails" if each is None else f"{each:.0f}" for each in dict.fromkeys(self.seconds))
        return f"{times} s, {self.refused} refused".replace("fails s", "fails")


@dataclass(frozen=True, slots=True)
class Played:
    """One combination, and what became of it either way."""

    job: str
    schedule: str
    throttle: str
    code: str
    direct: Outcome
    through: Outcome

    @property
    def lost(self) -> bool:
        """Whether a job that succeeds directly fails."""
        return any(alone is not None and ours is None for alone, ours in self._times)

    @property
    def late(self) -> bool:
        """Whether a job that succeeds takes longer than it may."""
        return any(alone and ours and ours > MOST * alone for alone, ours in self._times)

    @property
    def harms(self) -> bool:
        """Whether more calls were refused than directly: those prolong the block."""
        return self.through.refused > self.direct.refused

    @property
    def _times(self) -> Iterable[tuple[float | None, float | None]]:
        return zip(self.direct.seconds, self.through.seconds, strict=True)


def play(
    jobs: Iterable[str],
    codes: Iterable[tuple[int, int | None]],
    *,
    throttles: Iterable[str] = tuple(THROTTLES),
    gap_s: float = 0.0,
) -> list[Played]:
    """Every schedule against *throttles* by each of *codes*, each client *gap_s* after the one before it."""
    loop = Loop()
    try:
        cases = [_Case(*case) for case in product(jobs, SCHEDULES, throttles, codes)]
        return loop.run_until_complete(_play(loop, cases, gap_s))
    finally:
        loop.close()


class _Case(NamedTuple):
    job: str
    schedule: str
    throttle: str
    code: tuple[int, int | None]


async def _play(loop: Loop, cases: Iterable[_Case], gap_s: float) -> list[Played]:
    config, found = Config(latency_ms=LATENCY_MS, ledger_requests=0), []
    with tempfile.TemporaryDirectory() as folder:
        async with running(config, clock=loop.wall) as alone, running(config, clock=loop.wall) as behind:
            settings = {
                "listen": "127.0.0.1:0",
                "admin": "127.0.0.1:0",
                "listener": {"lag_s": 0},  # the lag is measured in real time, and the clock here is told
                "upstream": {"origin": behind.url},
                "cache": {"dir": folder, "disk_mb": 0, "key_file": "ephemeral"},
            }
            async with sidecar(Settings.model_validate(settings), Clocks(loop.wall, loop.time)) as here:
                for number, case in enumerate(cases):
                    direct, through = await asyncio.gather(
                        _Way(loop, alone, case, f"token{number}").run(alone.url, gap_s),
                        _Way(loop, behind, case, f"token{number}").run(here.url, gap_s),
                    )
                    code = "/".join(str(each) for each in case.code if each)
                    found.append(Played(*case[:3], code, direct, through))
    return found


class _Way:
    """Some clients, one *token*, and the Graph that throttles them."""

    def __init__(self, loop: Loop, graph: Running, case: _Case, token: str) -> None:
        self._loop, self._graph, self._case, self._token = loop, graph, case, token

    async def run(self, url: str, gap_s: float) -> Outcome:
        """Play the jobs, asking at *url*."""
        jobs, (code, subcode) = JOBS[self._case.job], self._case.code
        self._graph.faults.clear()
        self._graph.ledger.clear()
        fault = {"kind": "throttled", "code": code, "subcode": subcode, **THROTTLES[self._case.throttle]}
        self._graph.faults.add({**fault, "after": 2 if len(jobs[0]) > 1 else 0})
        seconds = await asyncio.gather(*(self._job(job, url, at * gap_s) for at, job in enumerate(jobs)))
        return Outcome(tuple(seconds), self._graph.ledger.as_json()["throttled_calls"])

    async def _job(self, job: Sequence[Ask], url: str, later_s: float) -> float | None:
        await asyncio.sleep(later_s)
        began = self._loop.time()
        for read in job:
            if not await self._is_read(read, url):
                return None
        return self._loop.time() - began

    async def _is_read(self, read: Ask, url: str) -> bool:
        for pause_s in (*SCHEDULES[self._case.schedule], None):
            connection = await open_connection(url)
            method = "POST" if read.body else "GET"
            answer = await connection.ask(request(url, method, read.target, token=self._token, body=read.body))
            connection.close()
            if _is_whole(answer):
                return True
            if pause_s is not None:
                await asyncio.sleep(pause_s)
        return False


def _is_whole(answer: ClientReply) -> bool:
    """Whether Graph has answered, and each operation if it is a batch."""
    told = json.loads(answer.text) if answer.status == 200 else None
    if isinstance(told, list):
        return all(slot and slot["code"] == 200 for slot in told)
    return isinstance(told, dict) and "error" not in told


def main() -> None:
    """Show a row for each job, schedule and throttle, and the codes by which it came to that."""
    logging.disable(logging.WARNING)
    lone, *others = JOBS
    played = [*play([lone], CODES), *play(others, GRID)]
    rows: dict[tuple[str, ...], list[str]] = {}
    for each in played:
        row = (each.job, each.schedule, each.throttle, each.direct.shown, each.through.shown)
        rows.setdefault(row, []).append(each.code)
    made = table("a throttle, and clients that try at", "for", "directly", "through", "codes")
    for (job, schedule, throttle, direct, through), codes in rows.items():
        told = f"all {len(codes)}" if len(codes) == len(CODES) else " ".join(codes)
        made.add_row(f"{job}, {schedule}", throttle, direct, through, told)
    show(made)
    single = [each for each in played if len(JOBS[each.job]) == 1]
    lost, late = sum(each.lost for each in played), sum(each.late for each in single)
    harm = sum(each.harms for each in played)
    verdict("jobs that succeed directly and fail through", "0", str(lost), met=not lost)
    verdict(f"jobs of one client that take more than {MOST} times as long", "0", str(late), met=not late)
    verdict("throttles in which more calls are made than directly", "0", str(harm), met=not harm)


if __name__ == "__main__":
    main()
