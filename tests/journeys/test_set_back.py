"""The machine's clock was ahead by days, and is right again: nothing that happened meanwhile lasts until then."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from proxy.app import components, sidecar
from tests.journeys.conftest import Clock, MakeAsk, MakeGraph, MakeScene, SidecarSettings
from tests.journeys.talking import Heard, Scene, troubles

READ = "/v25.0/111?fields=name"
DAYS = 10 * 86_400.0
FRESH = {"cache": {"fresh_s": 3600}}


async def write(here: Scene) -> None:
    """Change the object that is read."""
    await here.say("/v25.0/111", method="POST", data={"name": "new"}, token="ann")


async def lose_a_write(here: Scene) -> None:
    """Write without being told whether that was done."""
    here.graph.faults.add({"kind": "lost", "method": "POST", "count": 1})
    await write(here)


async def be_refused(here: Scene) -> None:
    """Ask with a token that Graph refuses once."""
    here.graph.faults.add({"kind": "refused", "count": 2})
    assert (await here.say("/v25.0/222", token="ann")).status == 400
    here.graph.faults.clear()


async def purge(here: Scene) -> None:
    """Order that the object be forgotten."""
    await here.say(f"{here.front.admin_url}/purge", method="POST", data='{"id": "111"}')


async def purge_everything(here: Scene) -> None:
    """Order that all be forgotten."""
    await here.say(f"{here.front.admin_url}/purge", method="POST", data='{"all": true}')


async def read(here: Scene) -> None:
    """Hold what was asked for in the future."""
    await here.say(READ, token="ann")


HAPPENED: dict[str, Callable[[Scene], Awaitable[None]]] = {
    each.__name__: each for each in (write, lose_a_write, be_refused, purge, purge_everything, read)
}


async def twice(say: Callable[[], Awaitable[Heard]]) -> tuple[bool, bool]:
    """Whether each of two readings is answered from what is held."""
    first, second = await say(), await say()
    assert first.status == second.status == 200
    return first.cache.startswith("hit"), second.cache.startswith("hit")


@pytest.mark.parametrize("what", HAPPENED)
@pytest.mark.parametrize("merge", [False, True], ids=["", "merged"])
async def test_what_is_read_after_it_is_fresh(scene: MakeScene, clock: Clock, what: str, *, merge: bool) -> None:
    """What came to pass in the future ends the freshness of what was read before, and of nothing that is read after."""
    here = await scene({**FRESH, "merge": {"enabled": merge}})
    await here.say(READ, token="ann")
    clock.ahead = DAYS
    await HAPPENED[what](here)
    clock.ahead = 0
    if what == "lose_a_write":  # for a minute it may be done yet
        assert await twice(lambda: here.say(READ, token="ann")) == (False, False)
        clock.ahead = 62
    assert await twice(lambda: here.say(READ, token="ann")) == (False, True)


async def test_a_write_in_the_future_is_seen(scene: MakeScene, clock: Clock) -> None:
    """What was read before the write is not served after it, wherever the clock has been meanwhile."""
    here = await scene(FRESH)
    await here.say(READ, token="ann")
    clock.ahead = DAYS
    await write(here)
    clock.ahead = 0
    assert (await here.say(READ, token="ann")).json["name"] == "new"


@pytest.mark.parametrize("behind", [0.5, 5.0, DAYS])
async def test_a_write_while_the_clock_was_behind_is_seen(scene: MakeScene, clock: Clock, behind: float) -> None:
    """What was read before the clock went wrong is not served after the write, when the clock is right again."""
    here = await scene(FRESH)
    await here.say(READ, token="ann")
    clock.ahead = -behind
    await write(here)
    clock.ahead = 0
    assert (await here.say(READ, token="ann")).json["name"] == "new"
    clock.ahead = 60
    assert await twice(lambda: here.say(READ, token="ann")) in {(True, True), (False, True)}


async def test_an_order_forgets_what_seems_to_be_asked_later(
    graph: MakeGraph, sidecar_settings: SidecarSettings, ask: MakeAsk, clock: Clock, tmp_path: Path
) -> None:
    """What an earlier run left with a time from the future goes with an order of now."""
    settings = sidecar_settings((await graph()).url, cache={"fresh_s": 3600, "key_file": tmp_path / "state" / "key"})
    clock.ahead = DAYS
    async with sidecar.sidecar(settings, components.Clocks(now=clock)) as front:
        assert (await (await ask(front.url)).say(READ, token="ann")).cache == "fwd=uri-miss; stored"
    clock.ahead = 0
    async with sidecar.sidecar(settings, components.Clocks(now=clock)) as front:
        await (await ask(front.admin_url)).say("/purge", method="POST", data='{"id": "111"}')
        assert (await (await ask(front.url)).say(READ, token="ann")).cache == "fwd=uri-miss; stored"


async def test_an_order_of_an_earlier_run_was_given_now(
    graph: MakeGraph, sidecar_settings: SidecarSettings, ask: MakeAsk, clock: Clock, tmp_path: Path
) -> None:
    """An order that was written while the clock was ahead forgets nothing that is read after the next start."""
    settings = sidecar_settings((await graph()).url, cache={"fresh_s": 3600, "key_file": tmp_path / "state" / "key"})
    clock.ahead = DAYS
    async with sidecar.sidecar(settings, components.Clocks(now=clock)) as front:
        for order in ('{"id": "111"}', '{"all": true}', '{"path": "/111"}'):
            assert (await (await ask(front.admin_url)).say("/purge", method="POST", data=order)).json["durable"]
    clock.ahead = 0
    async with sidecar.sidecar(settings, components.Clocks(now=clock)) as front:
        caller = await ask(front.url)
        assert await twice(lambda: caller.say(READ, token="ann")) == (False, True)


async def test_a_limit_is_probed_in_its_time(scene: MakeScene, clock: Clock) -> None:
    """A limit that Graph named while the clock was ahead is tried again when its own time is up, not in ten days."""
    here = await scene()
    clock.ahead = DAYS
    here.graph.faults.add({"kind": "error", "code": 4, "count": 1})
    assert (await here.say(READ, token="ann")).json["error"]["code"] == 4
    here.graph.faults.clear()
    clock.ahead = 0
    asked = here.graph.ledger.counted_calls
    assert (await here.say("/v25.0/222", token="ann")).json["error"]["code"] == 4
    assert here.graph.ledger.counted_calls == asked
    clock.ahead = 61
    assert (await here.say(READ, token="ann")).status == 200


async def test_an_error_is_no_news_a_minute_later(scene: MakeScene, clock: Clock) -> None:
    """A trouble that was told of while the clock was ahead is over a minute after the last of it."""
    here = await scene()
    clock.ahead = DAYS
    here.graph.faults.add({"kind": "unavailable"})
    await here.say(READ, token="ann")
    here.graph.faults.clear()
    clock.ahead = 0
    assert troubles(await here.stats())
    clock.ahead = 62
    assert not troubles(await here.stats())


@pytest.mark.parametrize("happens_at", [DAYS, 0.0], ids=["while it was ahead", "while it was right"])
@pytest.mark.parametrize("what", ["write", "purge", "purge_everything"])
async def test_a_clock_that_goes_wrong_twice_makes_nothing_fresh_again(
    scene: MakeScene, clock: Clock, what: str, happens_at: float
) -> None:
    """What was read while the clock was ahead is not fresh when the clock shows that time once more."""
    here = await scene(FRESH)
    clock.ahead = DAYS
    before = (await here.say(READ, token="ann")).json["name"]
    clock.ahead = happens_at
    await HAPPENED[what](here)
    clock.ahead = 0
    await here.stats()
    clock.ahead = DAYS + 1
    heard = await here.say(READ, token="ann")
    assert not heard.cache.startswith("hit")
    assert (heard.json["name"] == before) == (what != "write")


@pytest.mark.parametrize("what", ["write", "purge", "purge_everything"])
async def test_what_an_earlier_run_left_is_not_fresh_after_the_clock_was_behind(
    graph: MakeGraph, sidecar_settings: SidecarSettings, ask: MakeAsk, clock: Clock, tmp_path: Path, *, what: str
) -> None:
    """A machine that starts with its clock behind does not forget what happens until the clock is right."""
    meta = await graph()
    settings = sidecar_settings(meta.url, cache={"fresh_s": 3600, "key_file": tmp_path / "state" / "key"})
    async with sidecar.sidecar(settings, components.Clocks(now=clock)) as front:
        await (await ask(front.url)).say(READ, token="ann")
    clock.ahead = -DAYS
    async with sidecar.sidecar(settings, components.Clocks(now=clock)) as front:
        here = Scene(meta, front, await ask(front.url))
        await HAPPENED[what](here)
        clock.ahead = 1
        heard = await here.say(READ, token="ann")
        assert not heard.cache.startswith("hit")
        assert what != "write" or heard.json["name"] == "new"
        if what != "write":
            assert heard.cache == "fwd=uri-miss; stored"
