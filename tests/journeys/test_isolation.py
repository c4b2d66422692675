"""No caller ever receives what another credential fetched, however many ask for the same thing at once."""

from __future__ import annotations

import asyncio
import random

import pytest

from proxy.emulator.objects.values import user_of
from tests.conftest import EFFORT
from tests.journeys.conftest import MakeScene
from tests.journeys.talking import Heard, Scene

READ = "/v25.0/111?fields=id,viewer"
TOKENS = [f"token-{number}" for number in range(EFFORT.viewers)]


async def everybody(here: Scene, dice: random.Random, *, times: int = 1) -> list[tuple[str, Heard]]:
    """The same read by every token, so many times each, in a random order, two hundred at a time."""
    order = TOKENS * times
    dice.shuffle(order)
    doors = asyncio.Semaphore(200)

    async def one(token: str) -> tuple[str, Heard]:
        async with doors:
            return token, await here.say(READ, token=token)

    return await asyncio.gather(*(one(token) for token in order))


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param({}, id="as delivered"),
        pytest.param({"cache": {"fresh_s": 3600}}, id="fresh"),
        pytest.param({"cache": {"memory_mb": 0}}, id="from disk"),
        pytest.param({"cache": {"sealed": False}}, id="unsealed"),
        pytest.param({"cache": {"stale_while_revalidate_s": 3600}}, id="stale"),
    ],
)
async def test_many_viewers_each_see_their_own(scene: MakeScene, settings: dict[str, object]) -> None:
    """Hundreds of tokens ask for one URL, first cold, then held, twice at once: every body names its own viewer."""
    here = await scene(settings)
    dice = random.Random(7)
    for heard in (await everybody(here, dice), await everybody(here, dice, times=2)):
        wrong = [token for token, reply in heard if reply.json != {"id": "111", "viewer": user_of(token)}]
        assert not wrong
    assert here.graph.ledger.counted_calls <= 3 * len(TOKENS)


async def test_viewers_stay_apart_amid_trouble(scene: MakeScene) -> None:
    """Lost, empty and refused slots are asked again and still answer nobody but their own caller."""
    here = await scene()
    for kind, chance in (("null", 0.1), ("aborted", 0.1), ("short", 0.1), ("cut_middle", 0.05), ("refused", 0.05)):
        here.graph.faults.add({"kind": kind, "where": "batch", "probability": chance, "place": "middle"})
    dice = random.Random(7)
    for heard in (await everybody(here, dice), await everybody(here, dice)):
        wrong = [token for token, reply in heard if reply.json != {"id": "111", "viewer": user_of(token)}]
        assert not wrong
    assert here.graph.ledger.faults > len(TOKENS) // 10


async def test_nobody_takes_what_another_holds(scene: MakeScene) -> None:
    """A caller that takes only what is held gets nothing of what is held for another, or for a longer token."""
    here = await scene({"cache": {"fresh_s": 3600}}, public_ids=("111",))
    await here.say(READ, token="ann")
    only = {"Cache-Control": "only-if-cached"}
    for token in ("bob", "an", "annn", "Ann", "ann%00", ""):
        assert (await here.say(READ, token=token, headers=only)).status == 504
    assert (await here.say(READ, token="ann", headers=only)).status == 200


async def test_what_follows_a_token_is_no_part_of_it(scene: MakeScene) -> None:
    """No choice of token, path and query makes two reads look like one."""
    here = await scene({"cache": {"fresh_s": 3600}})
    await here.say("/v25.0/111?fields=viewer", token="annv25.0")
    only = {"Cache-Control": "only-if-cached"}
    for path, token in (("/111?fields=viewer", "annv25.0v25.0"), ("/111?fields=viewer", "annv25.0%00v25.0")):
        assert (await here.say(path, token=token, headers=only)).status == 504
