"""The emulator tells a subscriber of what was changed, as Meta's webhooks do."""

from __future__ import annotations

import hmac
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from proxy.emulator import Config, running
from tests.emulator.conftest import Asker

SECRET = "the app's secret"


@dataclass
class Subscriber:
    """Notes what it is told."""

    url: str = ""
    told: list[Any] = field(default_factory=list)

    async def hear(self, request: web.BaseRequest) -> web.StreamResponse:
        """Echo a handshake; check and note a notification."""
        if request.method == "GET":
            return web.Response(text=request.query["hub.challenge"] if request.query["hub.verify_token"] == "v" else "")
        body = await request.read()
        assert (
            request.headers["X-Hub-Signature-256"] == f"sha256={hmac.new(SECRET.encode(), body, 'sha256').hexdigest()}"
        )
        self.told.append(json.loads(body))
        return web.Response(text="ok")


@pytest.fixture
async def subscriber() -> AsyncIterator[Subscriber]:
    """Somebody who listens."""
    made = Subscriber()
    runner = web.ServerRunner(web.Server(made.hear, access_log=None), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}/hook"
    yield made
    await runner.cleanup()


async def test_changes_are_told(subscriber: Subscriber) -> None:
    """Updates, creations and deletions are told by object and field, once, when they are done."""
    config = Config(app_secret=SECRET, webhook_url=subscriber.url, webhook_verify_token="v")
    async with running(config) as graph, aiohttp.ClientSession() as session:
        here = Asker(graph, session)
        shaken = await here.ask("POST", "/__emulator__/subscribe")
        assert shaken.json == {"verified": True, "said": "200 1158201444"}
        await here.post("/111", name="new")
        made = (await here.post("/111/feed", message="hi")).json["id"]
        await here.post(f"/{made}", message="ho")
        await here.ask("POST", "/__emulator__/touch", json={"id": "222"})
        await here.ask("DELETE", f"/{made}?access_token=a")
        await here.get("/111")
        told = [
            (told["object"], entry["id"], [(change["field"], change["value"]) for change in entry["changes"]])
            for told in subscriber.told
            for entry in told["entry"]
        ]

        def of_feed(verb: str) -> tuple[str, Any]:
            return "feed", {"item": "post", "verb": verb, "post_id": made}

        assert told == [
            ("page", "111", [("name", "new")]),
            ("page", "111", [of_feed("add")]),
            ("post", made, [("message", "ho")]),
            ("page", "111", [of_feed("edited")]),
            ("page", "222", [("name", None)]),
            ("post", made, [("status", "deleted")]),
            ("page", "111", [of_feed("remove")]),
        ]
        assert (await here.ask("GET", "/__emulator__/pushed")).json == {"pushed": ["200 ok"] * 7}


@pytest.mark.parametrize(
    "url, said", [("http://192.0.2.1/hook", "calls no other machine"), ("http://127.0.0.1:1/", "127.0.0.1")]
)
async def test_what_cannot_be_told_is_lost(url: str, said: str) -> None:
    """No other machine is called, and a subscriber that is away costs the caller nothing but the news."""
    async with running(Config(webhook_url=url)) as graph, aiohttp.ClientSession() as session:
        assert (await Asker(graph, session).post("/111", name="new")).json == {"success": True}
        assert said in graph.emulator.webhook_answers[0]
