import asyncio
import io
import json
import logging
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from proxy import logs
from proxy.app import sidecar
from proxy.settings import Address, Log, Settings


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    """What goes to standard error while logging is set up as in `serve`."""
    root = logging.getLogger()
    before = root.handlers[:], root.level
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    logs.set_up(Log(level="debug", format="text"))
    yield sys.stderr  # type: ignore[misc] # it is the one put there above
    root.handlers[:], root.level = before
    for name in ("aiohttp", "asyncio"):
        logging.getLogger(name).setLevel(logging.NOTSET)


def test_where_it_happened_is_told_without_the_words() -> None:
    """An exception is told in either format by its place and its kind; its text may quote a token."""
    record = logging.LogRecord(
        "graph_sidecar.store", logging.ERROR, __file__, 1, "met %s", ("trouble",), _raised("sesame")
    )
    told = json.loads(logs._JsonLines().format(record))
    assert (told["level"], told["logger"], told["message"]) == ("error", "graph_sidecar.store", "met trouble")
    for text in (told["where"], logs._Lines().format(record)):
        assert "_raised" in text
        assert text.endswith("ValueError")
        assert "sesame" not in text


def _raised(text: str) -> Any:
    try:
        raise ValueError(text)
    except ValueError:
        return sys.exc_info()


async def test_a_line_that_cannot_be_parsed_is_not_quoted(told: io.StringIO) -> None:
    """A request line with a stray space is refused, and the token in it stays out of the log."""
    settings = Settings(listen=Address("127.0.0.1", 0), admin=Address("127.0.0.1", 0), cache={"disk_mb": 0})  # type: ignore[arg-type] # pydantic takes a table
    async with sidecar(settings) as running:
        reader, writer = await asyncio.open_connection(running.listen.host, running.listen.port)
        writer.write(b"GET /v25.0/me?access_token=sesame&name=a b HTTP/1.1\r\nHost: a\r\n\r\n")
        assert b" 400 " in await reader.readline()
        writer.close()
    assert "sesame" not in told.getvalue()
