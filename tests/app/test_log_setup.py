import asyncio
import io
import json
import logging
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from proxy.app import log_setup
from proxy.app.sidecar import sidecar
from proxy.core.observe.access_log import AccessLogEntry, PreparedLine, Varying
from proxy.settings import Address, LogSettings, Settings
from proxy.shell.observe import access_logger, log_writer
from proxy.shell.observe.log_writer import JsonLines, LogWriter, TextLines


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    """What goes to standard error while logging is set up as in `serve`."""
    root = logging.getLogger()
    before = root.handlers[:], root.level
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    log_setup.set_up(LogSettings(level="debug", format="text"))
    yield sys.stderr  # type: ignore[misc] # it is the one put there above
    root.handlers[:], root.level = before
    for name in ("aiohttp", "asyncio", "graph_sidecar.reply"):
        logging.getLogger(name).setLevel(logging.NOTSET)


def test_where_it_happened_is_told_without_the_words() -> None:
    """An exception is told in either format by its place and its kind; its text may quote a token."""
    record = logging.LogRecord(
        "graph_sidecar.store", logging.ERROR, __file__, 1, "met %s", ("trouble",), _raised("sesame")
    )
    told = json.loads(JsonLines().format(record))
    assert (told["level"], told["logger"], told["message"]) == ("error", "graph_sidecar.store", "met trouble")
    for text in (told["where"], TextLines().format(record)):
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
    logging.getLogger().handlers[0].flush()
    assert "a message was refused" in told.getvalue()
    assert "sesame" not in told.getvalue()


def test_whoever_does_not_read_costs_lines_not_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pipe that is full holds nobody up: what does not fit in bytes is dropped, and how much that was is told."""
    stream, may_go = io.StringIO(), threading.Event()
    monkeypatch.setattr(log_writer, "MOST_BYTES", len("first\n") + 3 * len("number 0\n"))
    monkeypatch.setattr(stream, "flush", may_go.wait)
    handler = LogWriter(stream, TextLines())
    handler.emit(_line("first"))
    while not stream.getvalue():  # it is being written, and the flush takes long
        time.sleep(0.001)
    for number in range(10):
        handler.emit(_line(f"number {number}"))
    may_go.set()
    handler.close()
    assert [line for line in stream.getvalue().splitlines() if "number" in line] == [f"number {n}" for n in range(3)]
    assert '"lost_lines": 7' in stream.getvalue()


def test_lines_of_batches_that_nobody_reads_are_bounded_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many lines came at once: what does not fit is dropped, and counted line by line."""
    entry = AccessLogEntry("MISS", 200, "GET", "graph.test", "v25.0", "/{id}", "/111", "0123456789ab", 7.0)
    stream, may_go = io.StringIO(), threading.Event()
    monkeypatch.setattr(log_writer, "MOST_BYTES", 120 * len(PreparedLine(entry).json))
    monkeypatch.setattr(stream, "flush", may_go.wait)
    handler = LogWriter(stream, JsonLines())
    handler.emit(_line("first"))
    while not stream.getvalue():
        time.sleep(0.001)
    for _ in range(20):
        handler.replies([PreparedLine(entry) for _ in range(50)], 1000.0, Varying(0.5))
    may_go.set()
    handler.close()
    assert sum("MISS" in line for line in stream.getvalue().splitlines()) == 100
    assert '"lost_lines": 900' in stream.getvalue()


def test_lines_of_all_kinds_leave_in_order_and_whole() -> None:
    """Messages, replies and prepared replies are written in the order in which they came, in blocks, by the end."""
    entry = AccessLogEntry("REUSED", 200, "GET", "graph.test", "v25.0", "/{id}", "/111", "0123456789ab", 7.0, size=7)
    line = PreparedLine(entry)
    stream = io.StringIO()
    writer = LogWriter(stream, JsonLines())
    for number in range(500):
        writer.emit(_line(f"number {number}"))
        writer.entry(1000.25, replace(entry, batch=f"a-{number}"))
        writer.reply(line, 2000.5, Varying(number / 1000))
    writer.hit(line, 2000.5, 0.5, 12.0)
    writer.reply(line, 2000.5, Varying(0.5, None, 0.001, 0.25, "b-1", "quick"))
    writer.close()
    told = [json.loads(text) for text in stream.getvalue().splitlines()]
    assert [each["message"] for each in told[:-2:3]] == [f"number {number}" for number in range(500)]
    assert [each["batch"] for each in told[1:-1:3]] == [f"a-{number}" for number in range(500)]
    assert [each["total_ms"] for each in told[2:-1:3]] == list(range(500))
    batched = replace(entry, total_ms=500.0, window_ms=1.0, upstream_ms=250.0, batch="b-1", lane="quick")
    for line_told, wanted in ((told[-2], replace(entry, total_ms=500.0, age_s=12.0)), (told[-1], batched)):
        assert line_told == json.loads(msgspec.json.encode(wanted)) | {
            "time": "1970-01-01T00:33:20.500000+00:00",
            "level": "info",
            "logger": "graph_sidecar.reply",
        }


def test_a_line_that_cannot_be_encoded_takes_no_other_along() -> None:
    """It is counted as lost; the lines around it, and those that come later, are written."""
    entry = AccessLogEntry("MISS", 200, "GET", "graph.test", "v25.0", "/{id}", "/111", "0123456789ab", 7.0)
    stream = io.StringIO()
    writer = LogWriter(stream, JsonLines())
    for path in ("/1", "/\ud800", "/2"):
        writer.entry(1000.0, replace(entry, path=path))
    writer.flush()
    writer.entry(1000.0, replace(entry, path="/3"))
    writer.close()
    told = [json.loads(text) for text in stream.getvalue().splitlines()]
    assert [each["path"] for each in told if "path" in each] == ["/1", "/2", "/3"]
    assert [each["lost_lines"] for each in told if "lost_lines" in each] == [1]


def test_of_good_replies_a_sample_is_written() -> None:
    """About that share of them, each with what share it is; errors and writes all, without it."""
    good = AccessLogEntry("REUSED", 200, "GET", "graph.test", "v25.0", "/{id}", "/111", "0123456789ab", 7.0)
    always = [
        replace(good, status=400),
        replace(good, status=0),  # it broke off
        replace(good, code=17),
        replace(good, refused=True),
        replace(good, mode="STALE", detail="stale-if-error"),
        replace(good, method="POST", mode="SKIPPED", writes=True),
        replace(good, mode="FAILED", status=503),
    ]
    stream, line = io.StringIO(), PreparedLine(good)
    writer = LogWriter(stream, JsonLines(0.25), 0.25)
    for entry in always * 10:
        writer.entry(1000.0, entry)
    for number in range(1000):
        writer.entry(1000.0, replace(good, batch=f"a-{number}"))
        if number % 2:
            writer.reply(line, 1000.0, Varying(0.5))
        else:
            writer.sampled_hit(line, 1000.0, 0.5, 1.0)
    writer.close()
    told = [json.loads(text) for text in stream.getvalue().splitlines()]
    assert [each.get("sample") for each in told[:70]] == [None] * 70
    assert {each["sample"] for each in told[70:]} == {0.25}
    for kind in (False, True):
        assert 170 < sum(("batch" in each) is kind for each in told[70:]) < 330  # by chance once in 10^8 runs


def test_replies_are_told_without_records_where_the_writer_alone_listens(told: io.StringIO) -> None:
    """The line of a reply is the same whether `logging` made a record of it or not."""
    entry = AccessLogEntry("MISS", 200, "GET", "graph.test", "v25.0", "/{id}", "/111", "0123456789ab", 83.14)
    access_logger._log_entry(entry)
    logging.getLogger("graph_sidecar.reply").info("%s", entry, extra={"entry": entry})
    logging.getLogger().handlers[0].flush()
    first, second = (text.partition(" ")[2] for text in told.getvalue().splitlines())
    assert first == second == "INFO    MISS 200 GET /{id} 83.1 ms app 0123456789ab"


def _line(text: str) -> logging.LogRecord:
    return logging.LogRecord("graph_sidecar", logging.INFO, __file__, 1, text, (), None)


def test_a_reply_is_one_flat_object(told: io.StringIO) -> None:
    """In JSON its words stand beside time and level; in text it is one short line."""
    line = AccessLogEntry(
        "MISS", 200, "GET", "graph.test", "v25.0", "/{id}", "/111", "0123456789ab", 83.14, batch="a-1", size=7
    )
    record = _line("%s")
    record.args, record.entry = (line,), line
    found = json.loads(JsonLines().format(record))
    assert {"time", "level", "logger", "mode", "status", "route", "app", "batch"} <= found.keys()
    assert (found["mode"], found["total_ms"], found["size"]) == ("MISS", 83.14, 7)
    assert "detail" not in found
    assert record.getMessage() == "MISS 200 GET /{id} 83.1 ms app 0123456789ab batch a-1"
    del told


def test_levels_change_while_it_runs(told: io.StringIO) -> None:
    """`POST /log` ends here: the level of all, and whether replies are told."""
    del told
    assert log_setup.change(level="warning") == {"level": "warning", "replies": False}
    assert log_setup.change(level="info") == {"level": "info", "replies": True}
    assert log_setup.change(replies=False) == {"level": "info", "replies": False}
    assert log_setup.change() == {"level": "info", "replies": False}
