"""Those who look on are told everything once: at first, as it goes on, and when they come back."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any

import pytest

from proxy.core.observe.time_series import COLUMNS, STEP_S
from proxy.shell.admin.event_stream import EventStream
from tests.told import STATS


class Counts:
    """What is looked at: `now` is the test's own clock."""

    def __init__(self) -> None:
        """Begin at nothing."""
        self.now = 0.0
        self.looks = 0

    def stats(self) -> dict[str, Any]:
        """The sample, now."""
        self.looks += 1
        return {**STATS, "now": self.now}


@dataclass(frozen=True)
class Event:
    """An event as a reader takes it apart."""

    name: str
    id: str
    data: Any

    @classmethod
    def of(cls, raw: bytes) -> Event:
        """Take *raw* apart."""
        assert raw.endswith(b"\n\n")
        assert raw.count(b"\n\n") == 1
        fields = dict(line.split(": ", 1) for line in raw.decode().strip().split("\n"))
        return cls(fields["event"], fields.get("id", ""), json.loads(fields["data"]))

    @property
    def times(self) -> list[float]:
        """The times of its rows."""
        return [row[0] for row in self.data["rows"]]


class Looker:
    """One that looks on."""

    def __init__(self, watch: EventStream, last_id: str = "") -> None:
        """Open the stream."""
        self.events: AsyncGenerator[bytes, None] = watch.events(last_id)

    async def take(self, *names: str) -> list[Event]:
        """The next events, which have these names."""
        found = [Event.of(await anext(self.events)) for _ in names]
        assert [each.name for each in found] == list(names)
        return found


@dataclass
class Stage:
    """A watch and what it looks at."""

    counts: Counts
    watch: EventStream

    def pass_time(self, seconds: float = STEP_S) -> None:
        """Let time go by, then look."""
        self.counts.now += seconds
        self.watch.sample()


@pytest.fixture
def stage() -> Stage:
    """A watch that has looked once."""
    counts = Counts()
    made = Stage(counts, EventStream(counts.stats, lambda: counts.now, "run"))
    made.watch.sample()
    return made


async def test_a_new_one_gets_the_history_then_what_comes(stage: Stage) -> None:
    """First all rows and what they hold, then the counts of now, then each row as it comes."""
    stage.watch.listen = "http://127.0.0.1:8080"
    stage.pass_time()
    looker = Looker(stage.watch)
    history, _ = await looker.take("history", "stats")
    assert history.times == [0, STEP_S]
    assert (history.data["columns"], history.data["step_s"]) == (list(COLUMNS), STEP_S)
    assert history.data["listen"] == "http://127.0.0.1:8080"
    stage.pass_time()
    sample, stats = await looker.take("sample", "stats")
    assert sample.times == [2 * STEP_S]
    assert stats.data["now"] == 2 * STEP_S
    stage.pass_time(1)
    [stats] = await looker.take("stats")
    assert stats.data["now"] == 2 * STEP_S + 1


async def test_one_that_comes_back_is_told_the_rest(stage: Stage) -> None:
    """With the id of the last event it gets the rows since: none twice, none left out."""
    first = Looker(stage.watch)
    [history] = await first.take("history")
    await first.events.aclose()
    for _ in range(3):
        stage.pass_time()
    again = Looker(stage.watch, history.id)
    sample, _ = await again.take("sample", "stats")
    assert sample.times == [STEP_S, 2 * STEP_S, 3 * STEP_S]
    await Looker(stage.watch, sample.id).take("stats")


@pytest.mark.parametrize("last_id", ["other-1", "run-99", "run-", "run-x", "run-1-1", "run-²", "nonsense", "run--1"])
async def test_an_id_of_another_run_is_worth_nothing(stage: Stage, last_id: str) -> None:
    """A sidecar that was started anew tells its whole history."""
    [history] = await Looker(stage.watch, last_id).take("history")
    assert history.times == [0]


async def test_a_slow_one_misses_no_row(stage: Stage) -> None:
    """Nothing is queued for it: it takes all rows at once when it comes round, and the newest counts."""
    looker = Looker(stage.watch)
    await looker.take("history", "stats")
    for _ in range(100):
        stage.pass_time()
    sample, stats = await looker.take("sample", "stats")
    assert sample.times == [STEP_S * number for number in range(1, 101)]
    assert stats.data["now"] == 100 * STEP_S


async def test_nobody_looks_on_for_nothing(stage: Stage) -> None:
    """Without lookers-on the counts are read for the history alone."""
    looks = stage.counts.looks
    for _ in range(10):
        stage.pass_time(1)
    assert stage.counts.looks - looks == 10 // STEP_S
    looker = Looker(stage.watch)
    await looker.take("history")
    assert stage.watch._viewers == 1
    await looker.events.aclose()
    assert stage.watch._viewers == 0


async def test_late_looks_do_not_pile_up(stage: Stage) -> None:
    """After a long sleep there is one row, and the next a step later."""
    stage.pass_time(100)
    stage.pass_time(1)
    [history] = await Looker(stage.watch).take("history")
    assert history.times == [0, 100]


async def test_the_end_lets_everybody_go() -> None:
    """When the sidecar drains, streams end by themselves."""
    watch = EventStream(Counts().stats, lambda: 0.0, "run")
    async with watch.sampling():
        looker = Looker(watch)
        await looker.take("history", "stats")
        rest = asyncio.ensure_future(_all(looker.events))
    assert await rest == []


async def _all(events: AsyncGenerator[bytes, None]) -> list[bytes]:
    return [each async for each in events]
