"""The clock of the machine jumps to and fro: nobody is refused, and no read is older than a write."""

from __future__ import annotations

import random

from tests.chaos.test_process import Life
from tests.conftest import LONG
from tests.journeys.conftest import Clock, MakeScene

IDS = range(100, 110)
JUMPS_S = (0.5, 3.0, 59.0, 3600.0, 86_400.0, 3_000_000.0)


async def test_a_clock_that_jumps(scene: MakeScene, clock: Clock) -> None:
    """Forward and back, between reads that may be fresh for an hour, writes, and callers' own limits of age."""
    here = await scene({"cache": {"fresh_s": 3600, "stale_if_error_s": 600}})
    dice, life = random.Random(3), Life()
    for number in range(3000 if LONG else 300):
        if number % 3 == 0:
            clock.ahead += dice.choice(JUMPS_S) * dice.choice((1, -1))
        which = dice.choice(IDS)
        if dice.random() < 0.2:
            life.sent[which] += 1
            name = f"number {life.sent[which]}"
            assert (await here.say(f"/v25.0/{which}", method="POST", token="ann", data={"name": name})).status == 200
            life.answered[which] = life.sent[which]
            life.done[which] += 1
        else:
            await life.look(here.caller, which)
        wish = dice.choice(("max-age=60", "max-stale", "min-fresh=10", "no-cache"))
        heard = await here.say(f"/v25.0/{which}?fields=id", token="ann", headers={"Cache-Control": wish})
        assert (heard.status, heard.json) == (200, {"id": str(which)})
        assert int(heard.headers.get("Age", "0")) >= 0
    assert life.older == []
    for which in IDS:
        assert here.graph.ledger.writes[("POST", f"/{which}")] == life.done[which]
