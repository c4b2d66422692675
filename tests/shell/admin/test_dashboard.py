"""The page comes whole from the package, and nothing that it loads or does leads elsewhere."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
import zipfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from proxy.core.routing.admin_access import Guard
from proxy.shell.admin import dashboard
from proxy.shell.admin.app import admin
from proxy.shell.admin.dashboard import PAGE, Dashboard
from proxy.shell.admin.event_stream import EventStream
from tests.conftest import ROOT
from tests.told import STATS

Ask = Callable[..., Awaitable[aiohttp.ClientResponse]]
FILES = sorted(path.name for path in PAGE.iterdir())


@pytest.fixture
async def ask() -> AsyncIterator[Ask]:
    """Ask a server that has the dashboard and nothing else."""
    watch = EventStream(lambda: STATS, lambda: 0.0, "run")
    runner = web.AppRunner(admin([Dashboard(watch).routes()], Guard), shutdown_timeout=0)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    async with AsyncExitStack() as open_ones, aiohttp.ClientSession() as session, watch.sampling():

        async def get(path: str, **headers: str) -> aiohttp.ClientResponse:
            fields = {name.replace("_", "-"): value for name, value in headers.items()}
            return await open_ones.enter_async_context(session.get(url + path, headers=fields))

        yield get
    await runner.cleanup()


async def test_the_page_may_load_from_here_alone(ask: Ask) -> None:
    """A strict policy stands on the page and on all that it loads; no cookie is set."""
    for path in ("/", *(f"/assets/{name}" for name in FILES)):
        heard = await ask(path)
        assert heard.status == 200
        policy = heard.headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'none';")
        assert not {"unsafe-inline", "unsafe-eval", "*", "http:", "https:", "data:"} & set(re.split(r"[ ;']+", policy))
        assert heard.headers["X-Content-Type-Options"] == "nosniff"
        assert "Set-Cookie" not in heard.headers


@pytest.mark.parametrize("name", FILES)
def test_no_file_names_an_outside_address(name: str) -> None:
    """But for the name space of SVG, which nobody asks for, and Graph's own address in a sentence."""
    addresses = set(re.findall(r"(?:https?:)?//[a-z][a-z0-9.]+\.[a-z]+[^\s'\"<]*", (PAGE / name).read_text()))
    assert addresses <= {"http://www.w3.org/2000/svg", "https://graph.facebook.com"}


def test_what_the_page_loads_is_there() -> None:
    """Every file that a file names is in the package, by a relative name: the page may stand below a path."""
    named = set(re.findall(r'(?:href|src)="assets/([^"]+)"', (PAGE / "index.html").read_text()))
    for path in PAGE.glob("*.js"):
        named |= set(re.findall(r"from '\./([^']+)'", path.read_text()))
    assert named == set(FILES) - {"index.html"}


def test_the_wheel_has_it_all(tmp_path: Path) -> None:
    """What is installed from the wheel shows the same page."""
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    [wheel] = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as packed:
        assert {f"proxy/dashboard/{name}" for name in FILES} <= set(packed.namelist())


async def test_what_the_browser_holds_is_not_sent_again(ask: Ask) -> None:
    """A file is asked for each time, so that an upgrade shows at once, and comes only if it has changed."""
    first = await ask("/assets/app.js")
    assert first.headers["Cache-Control"] == "no-cache"
    again = await ask("/assets/app.js", If_None_Match=first.headers["ETag"])
    assert (again.status, await again.read()) == (304, b"")


@pytest.mark.parametrize("path", ["/assets/none.js", "/assets/..%2f__init__.py", "/assets/"])
async def test_no_other_file_is_reachable(ask: Ask, path: str) -> None:
    """Names are looked up among the files of the page, never on the disk."""
    assert (await ask(path)).status == 404


async def test_events_are_a_stream(ask: Ask) -> None:
    """The first is the history; what was told before is not told again."""
    heard = await ask("/events")
    assert heard.headers["Content-Type"] == "text/event-stream"
    assert await heard.content.readline() == b"id: run-1\n"
    assert await heard.content.readline() == b"event: history\n"
    again = await ask("/events", Last_Event_ID="run-1")
    assert await again.content.readline() == b"event: stats\n"


async def test_lookers_are_bounded(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    """One too many is told so."""
    monkeypatch.setattr(dashboard, "MAX_STREAMS", 2)
    for _ in range(2):
        await (await ask("/events")).content.readline()
    heard = await ask("/events")
    assert heard.status == 503
    assert (await heard.json())["error"][
        "message"
    ] == "graph-sidecar: 2 event streams are open already; close one of them"


async def test_our_page_gets_in_beside_programs(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where programs hold every place, the first of them makes room for the operator's page; a page for nobody."""
    monkeypatch.setattr(dashboard, "MAX_STREAMS", 2)
    first, second = [await ask("/events") for _each in range(2)]
    pages = [await ask("/events", Sec_Fetch_Site="same-origin") for _each in range(3)]
    assert [heard.status for heard in pages] == [200, 200, 503]
    for gone in (first, second):
        with pytest.raises(aiohttp.ClientError):
            await gone.read()
    assert await pages[1].content.readline() == b"id: run-1\n"


async def test_one_address_does_not_hold_every_place(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who comes from elsewhere gets in, as long as another address has more places."""
    monkeypatch.setattr(dashboard, "MAX_STREAMS", 4)
    near = [await ask("/events") for _each in range(4)]
    monkeypatch.setattr(web.Request, "remote", "192.0.2.7")
    far = [await ask("/events") for _each in range(3)]
    assert [heard.status for heard in far] == [200, 200, 503]
    for gone in near[:2]:
        with pytest.raises(aiohttp.ClientError):
            await gone.read()
    assert await near[2].content.readline() == b"id: run-1\n"


async def test_one_that_takes_nothing_is_let_go(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    """It does not keep its place for ever."""

    async def never(response: web.StreamResponse, data: bytes) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(dashboard, "WRITE_TIMEOUT_S", 0)
    monkeypatch.setattr(web.StreamResponse, "write", never)
    heard = await ask("/events")
    with pytest.raises(aiohttp.ClientError):
        await heard.read()
