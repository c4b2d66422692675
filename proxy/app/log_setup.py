"""Where and how the process tells what it does: lines of text on a terminal, lines of JSON elsewhere."""

from __future__ import annotations

import json
import logging
import sys
import time
import traceback
from collections import deque
from datetime import UTC, datetime
from functools import lru_cache
from threading import Event, Thread
from typing import Any, TextIO

import msgspec

from proxy.settings import LogSettings
from proxy.shell.observe.access_log import LOG as REPLIES

MOST_LINES = 20_000
"""Lines that wait to be written; what comes on top while nobody reads is lost, and counted."""

MOST_CHARACTERS = 8 * 2**20
"""Characters of the lines that wait, and as many again that are being written: a path may be long."""

GATHERED_S = 0.02
"""Seconds for which lines are gathered into one write."""


class _Lines(logging.Formatter):
    """Lines for people."""

    def formatException(self, ei: Any) -> str:  # noqa: N802 - the base class's name
        """Where it happened, without the error's own text: of a request that cannot be read it holds the first line."""
        return "".join(traceback.format_tb(ei[2])) + getattr(ei[0], "__name__", "")


class _JsonLines(_Lines):
    """Lines for machines."""

    def format(self, record: logging.LogRecord) -> str:
        """One object on one line; `where` in it only where there was an exception, and a reply's own words flat."""
        head = (
            f'{{"time": "{_when(record.created)}", "level": "{record.levelname.lower()}", "logger": "{record.name}", '
        )
        if (reply := getattr(record, "told", None)) is not None:
            return head + _encode(reply).decode()[1:]
        told = {"message": record.getMessage()}
        if record.exc_info:
            told["where"] = self.formatException(record.exc_info)
        return head + json.dumps(told)[1:]


_encode = msgspec.json.Encoder().encode


def _when(seconds: float) -> str:
    """The time in UTC, as ISO 8601 has it, to the microsecond."""
    whole = int(seconds)
    return f"{_second(whole)}.{int((seconds - whole) * 1e6):06}+00:00"


@lru_cache(maxsize=2)
def _second(whole: int) -> str:
    return datetime.fromtimestamp(whole, UTC).strftime("%Y-%m-%dT%H:%M:%S")


class _Behind(logging.Handler):
    """Writes in a thread of its own: whoever reads the lines may be slow, and callers do not wait for that."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self._stream = stream
        self._lines: deque[str] = deque()
        self._taken = self._written = 0  # characters; each is added to by one thread alone
        self._news, self._ended, self._lost = Event(), False, 0
        self._thread = Thread(target=self._write, name="log", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        """Take a line."""
        if len(self._lines) >= MOST_LINES or self._taken - self._written > MOST_CHARACTERS:
            self._lost += 1
            return
        line = self.format(record) + "\n"
        self._taken += len(line)
        self._lines.append(line)
        if not self._news.is_set():
            self._news.set()

    def flush(self) -> None:
        """Wait until all is written, a little while if nobody reads."""
        patience = time.monotonic() + 2
        while (self._lines or self._news.is_set()) and self._thread.is_alive() and time.monotonic() < patience:
            time.sleep(0.001)

    def close(self) -> None:
        """Write what is left and end the thread."""
        self.flush()
        self._ended = True
        self._news.set()
        super().close()

    def _write(self) -> None:
        while not self._ended:
            self._news.wait()
            time.sleep(GATHERED_S)
            text = "".join(self._lines.popleft() for _ in range(len(self._lines)))
            self._written += len(text)
            if self._lost:
                text += f'{{"level": "warning", "lost_lines": {self._lost}}}\n'
                self._lost = 0
            try:
                self._stream.write(text)
                self._stream.flush()
            except (OSError, ValueError):
                pass  # whoever read has gone, and there is nowhere to say so
            if not self._lines:
                self._news.clear()


def set_up(log: LogSettings) -> None:
    """Send what everybody logs to standard error, as *log* says."""
    _look_for_less()
    as_json = log.format == "json" or (log.format == "auto" and not sys.stderr.isatty())
    handler = _Behind(sys.stderr)
    handler.setFormatter(_JsonLines() if as_json else _Lines("%(asctime)s %(levelname)-7s %(message)s", "%H:%M:%S"))
    logging.basicConfig(handlers=[handler], force=True)
    logging.getLogger("aiohttp").setLevel(logging.WARNING)
    logging.getLogger("asyncio").setLevel(logging.WARNING)
    change(level=log.level, replies=log.replies)


def _look_for_less() -> None:
    """What no line shows is not looked for: a third of the cost of one (docs.python.org/3/howto/logging.html)."""
    logging._srcfile = None  # noqa: SLF001 - documented there, and so called
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False


def change(*, level: str | None = None, replies: bool | None = None) -> dict[str, object]:
    """Tell from *level* on, and of *replies* or not; what holds now. What is None stays."""
    if level is not None:
        logging.getLogger().setLevel(level.upper())
    if replies is not None:
        logging.getLogger(REPLIES).setLevel(logging.NOTSET if replies else logging.WARNING)
    now = logging.getLevelName(logging.getLogger().level).lower()
    return {"level": now, "replies": logging.getLogger(REPLIES).isEnabledFor(logging.INFO)}
