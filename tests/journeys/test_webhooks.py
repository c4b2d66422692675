"""Meta's webhooks end freshness: the handshake, signed events, and whatever the world sends to that path."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from proxy.emulator.server.webhooks import signature
from proxy.settings.load import SettingsError
from tests.journeys.conftest import Clock, MakeAsk, MakeGraph, MakeSidecar
from tests.journeys.talking import Heard, Scene

SECRET = "0f1e2d3c4b5a69788796a5b4c3d2e1f0"
VERIFY = "what-meta-was-told-of-us"
FEED = "/v25.0/111/feed?limit=1"
READ = "/v25.0/111?fields=id,name"
FRESH = {"fresh_s": 3600}


class Pushed:
    """A Graph that pushes, a sidecar that listens, and their callers."""

    def __init__(self, scene: Scene, url: str) -> None:
        """Talk to *scene*; its webhooks are at *url*."""
        self.scene = scene
        self.url = url

    async def say(self, path: str, **said: Any) -> Heard:
        """Ann reads."""
        return await self.scene.say(path, token="ann", **said)

    async def control(self, path: str, **body: Any) -> Any:
        """Tell the Graph to do something by itself."""
        heard = await self.scene.caller.say(
            f"{self.scene.graph.url}/__emulator__/{path}", method="POST", data=json.dumps(body)
        )
        assert heard.status == 200, heard.body
        return heard.json

    async def push(self, told: Any, *, secret: str = SECRET, **fields: str) -> Heard:
        """Send a notification, signed with *secret*."""
        body = told if isinstance(told, bytes) else json.dumps(told).encode()
        given = {"X-Hub-Signature-256": signature(body, secret), "Content-Type": "application/json", **fields}
        return await self.scene.caller.say(self.url, method="POST", data=body, headers=given)

    async def is_fresh(self, path: str) -> bool:
        """Whether *path* costs no call."""
        return (await self.say(path)).cache.startswith("hit")


@pytest.fixture
def pushed(graph: MakeGraph, sidecar: MakeSidecar, ask: MakeAsk, tmp_path: Path) -> Any:
    """A Graph whose webhooks go to a sidecar with these settings."""
    (tmp_path / "secret").write_text(SECRET + "\n")
    (tmp_path / "verify").write_text(VERIFY + "\n")
    files = {"secret_file": tmp_path / "secret", "verify_token_file": tmp_path / "verify"}

    async def make(cache: dict[str, Any] | None = None, **webhooks: Any) -> Pushed:
        behind = await graph(app_secret=SECRET, webhook_verify_token=VERIFY)
        front = await sidecar(behind, cache=cache or FRESH, webhooks={**files, **webhooks})
        url = f"http://{front.webhooks}/webhooks"
        behind.settings.update({"webhook_url": url})
        return Pushed(Scene(behind, front, await ask(front.url)), url)

    return make


def change(node: str = "111", field: str = "feed", value: Any = None) -> dict[str, Any]:
    """A notification of one change."""
    return {"object": "page", "entry": [{"id": node, "time": 1, "changes": [{"field": field, "value": value}]}]}


@pytest.mark.parametrize("own", [False, True])
async def test_a_change_that_nobody_made_through_the_sidecar_is_seen(pushed: Any, *, own: bool) -> None:
    """Somebody renames an object at Meta's own site: Meta tells, and the next read of anybody asks for it."""
    here: Pushed = await pushed(**({"listen": "127.0.0.1:0"} if own else {}))
    assert (await here.control("subscribe")) == {"verified": True, "said": "200 1158201444"}
    for token in ("ann", "bob"):
        await here.scene.say(READ, token=token)
        assert (await here.scene.say(READ, token=token)).cache.startswith("hit")
    await here.say("/v25.0/222")
    await here.control("touch", id="111", fields={"name": "renamed"})
    assert list(here.scene.graph.emulator.webhook_answers) == ["200 ok"]
    for token in ("ann", "bob"):
        assert (await here.scene.say(READ, token=token)).json["name"] == "renamed"
    assert await here.is_fresh("/v25.0/222")
    assert (await here.scene.stats())["webhooks"] == {"heard": 1, "forged": 0, "refused": 0, "events": 1}


async def test_what_an_event_names_ends_with_it(pushed: Any) -> None:
    """The object, its edges, the objects that the value names, and the lists that show any of them."""
    here: Pushed = await pushed()
    post = (await here.say(FEED)).json["data"][0]["id"]
    ended = [READ, FEED, "/v25.0/111/photos?limit=1", f"/v25.0/{post}", f"/v25.0/{post}/comments?limit=1"]
    for path in (*ended, "/v25.0/222/feed?limit=1"):
        await here.say(path)
        assert await here.is_fresh(path)
    value = {"item": "comment", "verb": "add", "post_id": post, "comment_id": "9_9", "from": {"id": "222"}}
    assert (await here.push(change(value=value))).status == 200
    for path in ended:
        assert not await here.is_fresh(path), path
    assert await here.is_fresh("/v25.0/222/feed?limit=1")
    await here.push(change(post, "message"))
    assert not await here.is_fresh(FEED)


async def test_late_and_twice(pushed: Any) -> None:
    """An event that comes late, twice, or in any order ends what was asked for before it, and nothing else."""
    here: Pushed = await pushed()
    await here.say(READ)
    for _time in range(2):
        assert (await here.push(change())).status == 200
        assert not await here.is_fresh(READ)
        assert await here.is_fresh(READ)


async def test_a_lost_event_costs_no_more_than_the_rule_allows(pushed: Any, clock: Clock) -> None:
    """Nothing is fresh because nobody told of a change: freshness ends by the clock."""
    here: Pushed = await pushed({"fresh_s": 60})
    await here.say(READ)
    here.scene.graph.world.touch("111", {"name": "unheard of"})
    here.scene.graph.world.take_changes()
    assert await here.is_fresh(READ)
    clock.ahead += 60
    assert (await here.say(READ)).json["name"] == "unheard of"


async def test_a_forged_event_changes_nothing(pushed: Any) -> None:
    """Without the app's secret nobody ends what is fresh: 403, and not a word of what would have done."""
    here: Pushed = await pushed()
    await here.say(READ)
    body = json.dumps(change()).encode()
    forged = [
        await here.push(change(), secret="another secret"),
        await here.push(change(), **{"X-Hub-Signature-256": signature(body + b" ", SECRET)}),
        await here.push(change(), **{"X-Hub-Signature-256": signature(body, SECRET).upper()}),
        await here.push(change(), **{"X-Hub-Signature-256": "sha1=" + "0" * 40}),
        await here.push(change(), **{"X-Hub-Signature-256": ""}),
        await here.scene.caller.say(here.url, method="POST", data=body),
    ]
    assert [heard.status for heard in forged] == [403] * 6
    assert SECRET.encode() not in b"".join(heard.body for heard in forged)
    assert await here.is_fresh(READ)
    assert (await here.scene.stats())["webhooks"] == {"heard": 0, "forged": 6, "refused": 0, "events": 0}


async def test_what_else_is_refused(pushed: Any) -> None:
    """Too large, compressed, or no notification: refused before or after the signature, and the sidecar lives on."""
    here: Pushed = await pushed()
    large = b'{"object":"page","entry":[]' + b" " * (3 * 2**20) + b"}"
    signed = {"X-Hub-Signature-256": signature(large, SECRET)}
    refused = {
        413: await here.scene.caller.say(here.url, method="POST", data=io.BytesIO(large), headers=signed),
        415: await here.push(change(), **{"Content-Encoding": "gzip"}),
        400: await here.push(b"signed nonsense"),
        405: await here.scene.caller.say(here.url, method="DELETE"),
    }
    assert {status: heard.status for status, heard in refused.items()} == {status: status for status in refused}
    many = {"object": "page", "entry": [{"id": f"{number}", "changed_fields": ["name"]} for number in range(1000)]}
    assert (await here.push(many)).status == 200
    assert (await here.scene.stats())["webhooks"] == {"heard": 1, "forged": 0, "refused": 3, "events": 1000}


@pytest.mark.parametrize(
    "changed", [{"hub.verify_token": "guess"}, {"hub.mode": "x"}, {"hub.challenge": "<b>"}, {"hub.verify_token": ""}]
)
async def test_a_handshake_of_a_stranger(pushed: Any, changed: dict[str, str]) -> None:
    """Who does not know the token, or wants something echoed that is no number, gets 403."""
    here: Pushed = await pushed()
    given = {"hub.mode": "subscribe", "hub.challenge": "1", "hub.verify_token": VERIFY}
    query = "&".join(f"{name}={value}" for name, value in given.items())
    heard = await here.scene.caller.say(f"{here.url}?{query}")
    assert (heard.status, heard.body, heard.headers["Content-Type"]) == (200, b"1", "text/plain; charset=utf-8")
    query = "&".join(f"{name}={value}" for name, value in (given | changed).items())
    assert (await here.scene.caller.say(f"{here.url}?{query}")).status == 403


async def test_a_listener_of_their_own_serves_nothing_else(pushed: Any) -> None:
    """The world may reach that listener, so there is nothing else on it; and then they are not on the admin one."""
    here: Pushed = await pushed(listen="127.0.0.1:0")
    for path in ("/", "/stats", "/livez", "/purge", "/webhooks/x"):
        assert (await here.scene.caller.say(here.url.removesuffix("/webhooks") + path)).status == 404
    assert (await here.scene.caller.say(f"{here.scene.front.admin_url}/webhooks", method="POST")).status == 404
    assert here.url != f"{here.scene.front.admin_url}/webhooks"


async def test_without_a_secret_there_is_no_such_path(graph: MakeGraph, sidecar: MakeSidecar, ask: MakeAsk) -> None:
    """As delivered nothing listens for webhooks."""
    front = await sidecar(await graph())
    caller = await ask(front.url)
    for method in ("GET", "POST"):
        assert (await caller.say(f"{front.admin_url}/webhooks", method=method)).status == 404


async def test_a_changed_secret_needs_no_restart(pushed: Any, tmp_path: Path) -> None:
    """The secret is read from its file each time; one that is gone is 503, so that Meta tries again."""
    here: Pushed = await pushed()
    (tmp_path / "secret").write_text("f" * 32)
    assert [(await here.push(change())).status, (await here.push(change(), secret="f" * 32)).status] == [403, 200]
    (tmp_path / "secret").unlink()
    assert (await here.push(change(), secret="f" * 32)).status == 503


async def test_an_unusable_secret_stops_the_start(graph: MakeGraph, sidecar: MakeSidecar, tmp_path: Path) -> None:
    """A file that is not there, or holds no secret, is told by its setting, before anything is served."""
    (tmp_path / "short").write_text("short")
    behind = await graph()
    for name, file in (("secret_file", tmp_path / "gone"), ("verify_token_file", tmp_path / "short")):
        with pytest.raises(SettingsError, match=f"^webhooks.{name}: "):
            await sidecar(behind, webhooks={name: file})


async def test_what_is_told_of_may_be_fresh_for_longer(pushed: Any, clock: Clock) -> None:
    """With `webhooks.extend_s`, what a rule calls fresh stays so for longer once Meta was heard to tell of it."""
    here: Pushed = await pushed({"fresh_s": 60}, extend_s=3600)
    others = ("/v25.0/111/photos?limit=1", "/v25.0/111?fields=name,fan_count", "/v25.0/222/feed?limit=1")
    await here.push(change())
    await here.push(change(field="name", value="x"))
    for path in (FEED, READ, *others):
        await here.say(path)
    clock.ahead += 61
    assert [await here.is_fresh(path) for path in (FEED, READ, *others)] == [True, True, False, False, False]
    await here.push(change())
    assert not await here.is_fresh(FEED)
    clock.ahead += 3601
    assert not await here.is_fresh(FEED)
