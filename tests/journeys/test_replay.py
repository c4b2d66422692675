"""A log that a real sidecar wrote, replayed: the numbers of its own ledger, and those that other rules really cost."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from proxy.cli import main
from proxy.shell.observe.log_writer import LOG, JsonLines
from tests.journeys.conftest import Clock, MakeScene
from tests.journeys.talking import Scene
from tests.journeys.test_ledger import batch, counts, get

MERGE = {
    "merge": {"enabled": True},
    "rules": [
        {"path": "/5*", "fresh_s": 60},
        {"path": "/6*", "fresh_s": 20, "stale_while_revalidate_s": 60},
        {"path": "/7*", "fresh_s": 10, "stretch_s": 300},
    ],
}  # fmt: skip
CHANGES = {"rules": [{"path": "*", "fresh_s": 3600}]}
FRESH = {"cache": {"fresh_s": 60}}


class Recorder(logging.Handler):
    """Keeps the lines about replies as `serve` writes them, at the sidecar's own time of day."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.setFormatter(JsonLines())
        self.lines: list[str] = []
        self._clock = clock

    def emit(self, record: logging.LogRecord) -> None:
        """Take a line."""
        record.created += self._clock.ahead
        self.lines.append(self.format(record))


@pytest.fixture
def recorder(clock: Clock) -> Iterator[Recorder]:
    """What is logged of replies meanwhile."""
    handler, logger = Recorder(clock), logging.getLogger(LOG)
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    yield handler
    logger.propagate = True
    logger.removeHandler(handler)
    logger.setLevel(logging.NOTSET)


class Replayed:
    """What a replay prints."""

    def __init__(self, printed: str) -> None:
        self.told: dict[str, Any] = json.loads(printed)

    def calls(self, when: str) -> dict[str, int]:
        """Calls by name, `then` or `now`."""
        return {name: pair[when] for name, pair in (self.told["calls"] | self.told["calls_avoided"]).items()}


Replay = Callable[[dict[str, Any]], Replayed]


@pytest.fixture
def replayed(recorder: Recorder, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Replay:
    """Replay what was recorded so far by these settings."""

    def replay(settings: dict[str, Any]) -> Replayed:
        log, config = tmp_path / "replies.log", tmp_path / "config.toml"
        log.write_text("\n".join(recorder.lines) + "\n")
        config.write_text(_toml(settings))
        assert main(["replay", str(log), "--json", "--config", str(config)]) == 0
        return Replayed(capsys.readouterr().out)

    return replay


def _toml(settings: dict[str, Any]) -> str:
    """Tables of plain values, and lists of such tables."""
    lines = []
    for name, table in settings.items():
        for each in table if isinstance(table, list) else [table]:
            lines.append(f"[[{name}]]" if isinstance(table, list) else f"[{name}]")
            lines += [f"{key} = {json.dumps(value)}" for key, value in each.items()]
    return "\n".join(lines)


def ledger(told: dict[str, Any]) -> dict[str, int]:
    """The same calls as /stats has them."""
    calls = {name: told["calls"][name] for name in ("asked", "counted", "uncertain", "unsent", "own")}
    return {**calls, **told["calls_avoided"]}


async def traffic(here: Scene, clock: Clock) -> None:
    """Some minutes of callers who come one after another, each thing again and again.

    They come 0.2 s apart, so that no call is still under way when the next caller comes, here or in a replay.
    """

    async def say(path: str, **request: Any) -> None:
        clock.ahead += 0.2
        await here.say(path, **request)

    for turn in range(5):
        clock.ahead += 30
        for token in ("ann", "bob"):
            for node in (5001, 5002 + turn % 3, 6001, 111, 112):
                await say(f"/v25.0/{node}", token=token)
            for names in ("name", "id,name", "link,name", ("about", "status")[turn % 2]):
                await say(f"/v25.0/5010?fields={names}", token=token)
            await say(f"/v25.0/?ids=5001,5003,{5020 + turn % 4}", token=token)
            await say("/v25.0/act_1/campaigns?limit=2", token=token)
            await say("/v25.0/5001", token=token, headers={"Cache-Control": ("max-age=20", "no-cache")[turn % 2]})
        if turn % 4 == 3:
            await say("/v25.0/5001", method="POST", data={"name": f"turn {turn}"}, token="ann")
            await say("/", **batch(get("5001"), get("404111"), get("5030")))
        await counts(here)  # what is asked behind a reply is there


async def test_the_settings_of_the_day_give_the_ledger_of_the_day(
    scene: MakeScene, clock: Clock, replayed: Replay
) -> None:
    """To the last call, where callers come one after another: as it was recorded, and as it is played."""
    here = await scene(MERGE)
    await traffic(here, clock)
    told = ledger(await counts(here))
    assert all(told[cause] for cause in ("fresh", "stale", "superset"))
    played = replayed(MERGE)
    assert played.calls("then") == played.calls("now") == told


async def test_what_a_change_ended_is_replayed(scene: MakeScene, clock: Clock, replayed: Replay) -> None:
    """Bodies said which object `me` is and what lists show: the log tells which reads a change ended, and no others."""
    here, fresh = await scene(CHANGES), ("/v25.0/me", "/v25.0/act_1/campaigns?limit=3", "/v25.0/5002")
    me = (await here.say("/v25.0/me", token="ann")).json["id"]
    campaign = (await here.say(fresh[1], token="ann")).json["data"][0]["id"]

    async def read() -> None:
        clock.ahead += 5
        for path in (*fresh, f"/v25.0/{me}", f"/v25.0/{campaign}"):
            await here.say(path, token="ann")

    await read()
    for written in ("me", "5001", campaign, me, "5002"):
        clock.ahead += 5
        await here.say(f"/v25.0/{written}", method="POST", data={"name": "new"}, token="ann")
        await read()
        await read()
    told = ledger(await counts(here))
    played = replayed(CHANGES)
    assert played.calls("then") == told
    assert played.calls("now") == told


async def test_crowds_are_replayed_but_for_who_came_first(scene: MakeScene, replayed: Replay) -> None:
    """Which reads shared a turn of the loop is not in the log: a crowd may come to a call more or less."""
    here, crowds = await scene(MERGE, latency_ms=60), 6
    for at in range(crowds):
        paths = [f"/v25.0/{100 + at}?fields={names}" for names in ("id", "name", "id,name", "link", "link")]
        await here.crowd(*paths, f"/v25.0/{200 + at}", f"/v25.0/{200 + at}", token="ann")
    told = ledger(await counts(here))
    played = replayed(MERGE)
    assert played.calls("then") == told
    now = played.calls("now")
    assert abs(now["counted"] - told["counted"]) <= crowds
    assert now["merged"] + now["collapsed"] >= crowds


@pytest.mark.parametrize("rules", [FRESH, FRESH | {"merge": {"enabled": True}}], ids=["fresh", "merged"])
async def test_other_rules_cost_what_was_said(
    scene: MakeScene, clock: Clock, replayed: Replay, rules: dict[str, Any]
) -> None:
    """What a replay predicts of a rule is what Graph counts when the same traffic comes again under it."""
    await traffic(await scene(), clock)
    played = replayed(rules)
    real = await scene(rules)
    await traffic(real, clock)
    told = ledger(await counts(real))
    assert played.calls("now") == told
    assert real.graph.ledger.counted_calls == told["counted"] < played.calls("then")["counted"]


async def demand(here: Scene, clock: Clock) -> int:
    """More reads than a budget allows; how many were answered by a throttle."""
    throttled = 0
    for _ in range(6):
        clock.ahead += 40
        heard = [await here.say(f"/v25.0/{node}", token="ann") for node in range(101, 111)]
        throttled += sum(each.status == 400 for each in heard)
    return throttled


async def test_throttles_come_again_or_do_not(scene: MakeScene, clock: Clock, replayed: Replay) -> None:
    """By the settings of the day the same callers are refused; a rule that keeps within the budget spares them that."""
    here = await scene(budget=35)
    throttled, told = await demand(here, clock), ledger(await counts(here))
    assert throttled > told["refused"] > 0
    same = replayed({})
    assert same.calls("then") == same.calls("now") == told
    assert same.told["throttled"] == {"then": throttled, "now": throttled}

    fresh = replayed(FRESH)
    assert fresh.told["throttled"] == {"then": throttled, "now": 0}
    real = await scene(FRESH, budget=35)
    assert await demand(real, clock) == 0
    assert ledger(await counts(real)) == fresh.calls("now")
