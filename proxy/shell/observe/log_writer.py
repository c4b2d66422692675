"""Writes log lines in a thread of its own, in blocks; the lines of replies are encoded there, too."""

from __future__ import annotations

import json
import logging
import time
import traceback
from collections import deque
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import lru_cache
from random import random
from threading import Event, Thread
from typing import Any, TextIO

from proxy.core.observe.access_log import AccessLogEntry, PreparedLine, Varying, encode, encode_varying, is_routine

LOG = "graph_sidecar.reply"
"""The logger of the lines that tell of replies."""

MOST_BYTES = 8 * 2**20
"""Bytes of the lines that wait to be written; later lines are dropped and counted while the other end does not read."""

BLOCK_S = 0.002
"""Seconds in which a block of lines is encoded and written at once: between two blocks the event loop has its turn.

After each block the thread waits for the interpreter, up to 5 ms while the event loop is busy: shorter blocks would
leave it behind a hundred thousand replies a second.
"""

_PIECE = 64
"""Lines from one look at the clock to the next."""

GATHERED_S = 0.05
"""Seconds for which lines are gathered into blocks."""

_ENTRY = 700
"""Bytes of an entry that waits, without its texts that a caller may choose the length of."""

MOST_PREPARED = 20_000
"""Prepared lines that wait, of some 200 bytes each: what does not differ is kept once, with its read."""

_Hit = tuple[PreparedLine, float, float, float]
"""A prepared line, epoch seconds, seconds that the reply took, and its age."""

_Reply = tuple[PreparedLine, float, Varying]
"""A prepared line, epoch seconds, and what differs this time."""

_Replies = tuple[Sequence[PreparedLine], float, Varying]
"""Prepared lines of which all have the same epoch seconds, and differ alike."""

_Waiting = _Hit | _Reply | tuple[int, str | tuple[float, AccessLogEntry] | _Replies]
"""A line that waits: prepared, or a pair of its size in bytes and the line, or lines."""


class TextLines(logging.Formatter):
    """Formats log lines as text, for people."""

    def formatException(self, ei: Any) -> str:  # noqa: N802 - the base class's name
        """Returns where the error happened, without its text, which may quote a request."""
        return "".join(traceback.format_tb(ei[2])) + getattr(ei[0], "__name__", "")

    def entry(self, now: float, entry: AccessLogEntry) -> bytes:
        """Returns the line of a reply."""
        record = logging.LogRecord(LOG, logging.INFO, "", 0, "%s", (entry,), None)
        record.created = now
        return self.format(record).encode("utf-8", "backslashreplace")

    def reply(self, line: PreparedLine, now: float, varying: Varying) -> bytes:
        """Returns the line of a reply whose line was prepared."""
        return self.entry(now, line.entry(varying))

    def replies(self, lines: Sequence[PreparedLine], now: float, varying: Varying) -> bytes:
        """Returns the lines of replies whose lines were prepared."""
        return b"\n".join([self.reply(line, now, varying) for line in lines])

    def hit(self, line: PreparedLine, now: float, seconds: float, age: float) -> bytes:
        """Returns the line of a hit in memory whose line was prepared."""
        return self.entry(now, line.entry(Varying(seconds, age)))


class JsonLines(TextLines):
    """Formats log lines as JSON, for machines."""

    def __init__(self, sample: float = 1.0) -> None:
        """Write `sample` into lines of which only the share *sample* is written."""
        super().__init__()
        self._sample = b'"sample":%b,' % encode(sample) if sample < 1 else b""

    def format(self, record: logging.LogRecord) -> str:
        """Returns one JSON object on one line: with `where` after an exception, or an access log entry's own fields."""
        head = _head(record.created, record.levelname.lower(), record.name)
        if (reply := getattr(record, "entry", None)) is not None:
            return head + encode(reply).decode()[1:]
        line = {"message": record.getMessage()}
        if record.exc_info:
            line["where"] = self.formatException(record.exc_info)
        return head + json.dumps(line)[1:]

    def entry(self, now: float, entry: AccessLogEntry) -> bytes:
        """Returns the line of a reply."""
        sample = self._sample if self._sample and is_routine(entry) else b""
        return _head(now, "info", LOG).encode() + sample + encode(entry)[1:]

    def reply(self, line: PreparedLine, now: float, varying: Varying) -> bytes:
        """Returns the line of a reply whose line was prepared."""
        return _head(now, "info", LOG).encode() + self._sample + line.encoded(varying)

    def replies(self, lines: Sequence[PreparedLine], now: float, varying: Varying) -> bytes:
        """Returns the lines of replies whose lines were prepared."""
        start = _head(now, "info", LOG).encode() + self._sample + encode_varying(varying)
        return start + (b"\n" + start).join([line.json for line in lines])

    def hit(self, line: PreparedLine, now: float, seconds: float, age: float) -> bytes:
        """Returns the line of a hit in memory whose line was prepared."""
        whole = int(now)
        return _hit_line(whole) % (int((now - whole) * 1e6), self._sample, seconds * 1000, age, line.json)


def _head(created: float, level: str, logger: str) -> str:
    return f'{{"time": "{_when(created)}", "level": "{level}", "logger": "{logger}", '


def _when(seconds: float) -> str:
    """Returns the time in UTC as ISO 8601 writes it, to the microsecond."""
    whole = int(seconds)
    return f"{_second(whole)}.{int((seconds - whole) * 1e6):06}+00:00"


@lru_cache(maxsize=2)
def _hit_line(whole: int) -> bytes:
    """Returns the line of a hit in the second *whole*, to format with what `JsonLines.hit` gives."""
    return _head(whole, "info", LOG).replace(".000000+", ".%06d+").encode() + b'%b"total_ms":%.2f,"age_s":%.3f,%b'


@lru_cache(maxsize=2)
def _second(whole: int) -> str:
    return datetime.fromtimestamp(whole, UTC).strftime("%Y-%m-%dT%H:%M:%S")


class LogWriter(logging.Handler):
    """Takes lines at once; a thread encodes and writes them in order, so no caller waits for a slow reader."""

    def __init__(self, stream: TextIO, lines: TextLines, sample: float = 1.0) -> None:
        """Write to *stream* as *lines* lays them out; of the lines of good replies only a *sample*."""
        super().__init__()
        self.setFormatter(lines)
        self._lines = lines
        self._stream = stream
        self._sample = sample
        self._waiting: deque[_Waiting] = deque()
        self._taken = self._written = 0  # bytes; each is added to by one thread alone
        self._lost = 0  # lines that were dropped
        self._broken = self._reported = 0  # lines that could not be encoded; how many of both kinds were reported
        self._news, self._ended = Event(), False
        self._is_awake = False  # whether the thread will look for lines before it sleeps
        self._thread = Thread(target=self._write, name="log", daemon=True)
        self._thread.start()

    @property
    def is_sampled(self) -> bool:
        """Whether some lines of good replies are left out."""
        return self._sample < 1

    def emit(self, record: logging.LogRecord) -> None:
        """Take the line of *record*."""
        line = self.format(record)
        self._take(len(line) + 1, line)

    def entry(self, now: float, entry: AccessLogEntry) -> None:
        """Take the line of a reply at *now*."""
        if self._sample < 1 and is_routine(entry) and random() >= self._sample:
            return
        size = _ENTRY + len(entry.path) + len(entry.node) + len(entry.fields) + len(entry.ids) + len(entry.host)
        self._take(size, (now, entry))

    def reply(self, line: PreparedLine, now: float, varying: Varying) -> None:
        """Take a prepared *line* of a good reply at *now*."""
        if self._sample < 1 and random() >= self._sample:
            return
        if len(self._waiting) < MOST_PREPARED:
            self._waiting.append((line, now, varying))
        else:
            self._lost += 1
        if not self._is_awake:
            self._wake()

    def replies(self, lines: Sequence[PreparedLine], now: float, varying: Varying) -> None:
        """Take prepared *lines* of good replies at *now*."""
        if self._sample < 1:
            lines = [line for line in lines if random() < self._sample]
        if lines:
            self._take(sum([len(line.json) for line in lines]), (lines, now, varying), len(lines))

    def sampled_hit(self, line: PreparedLine, now: float, seconds: float, age: float) -> None:
        """Take a prepared *line* of a hit in memory at *now*, or leave it out."""
        if random() < self._sample:
            self.hit(line, now, seconds, age)

    def hit(self, line: PreparedLine, now: float, seconds: float, age: float) -> None:
        """Take a prepared *line* of a hit in memory at *now*; by a writer of all lines, or if it was drawn."""
        if len(self._waiting) < MOST_PREPARED:
            self._waiting.append((line, now, seconds, age))
        else:
            self._lost += 1
        if not self._is_awake:
            self._wake()

    def flush(self) -> None:
        """Wait until all lines are written, or a little while if the other end of the stream does not read."""
        deadline = time.monotonic() + 2
        while (self._waiting or self._news.is_set()) and self._thread.is_alive() and time.monotonic() < deadline:
            time.sleep(0.001)

    def close(self) -> None:
        """Write what is left and end the thread."""
        self.flush()
        self._ended = True
        self._news.set()
        super().close()

    def _take(self, size: int, line: str | tuple[float, AccessLogEntry] | _Replies, lines: int = 1) -> None:
        if self._taken - self._written + size > MOST_BYTES:
            self._lost += lines
            return
        self._taken += size
        self._waiting.append((size, line))
        if not self._is_awake:
            self._wake()

    def _wake(self) -> None:
        """Wake the thread that writes; it sleeps only after it has announced it and then found no line."""
        self._is_awake = True
        self._news.set()

    def _write(self) -> None:
        while not self._ended:
            self._news.wait()
            time.sleep(GATHERED_S)
            while self._has_news():
                self._write_block()
            self._news.clear()
            self._is_awake = False
            if self._has_news():  # a line came in between
                self._wake()

    def _has_news(self) -> bool:
        return bool(self._waiting) or self._lost + self._broken > self._reported

    def _write_block(self) -> None:
        """Write the next lines; they count until they are written."""
        size, block, end = 0, list[bytes](), time.monotonic() + BLOCK_S
        while self._waiting and time.monotonic() < end:
            try:
                for _ in range(min(_PIECE, len(self._waiting))):
                    line = self._waiting.popleft()
                    if len(line) == 4:
                        block.append(self._lines.hit(*line))
                    elif len(line) == 3:
                        block.append(self._lines.reply(*line))
                    else:
                        size += line[0]
                        block.append(self._encoded(line[1]))
            except Exception:  # noqa: BLE001 - a line that cannot be encoded is counted as lost; no other is
                self._broken += 1
        if lost := self._lost + self._broken - self._reported:
            self._reported += lost
            block.append(f'{{"level": "warning", "lost_lines": {lost}}}'.encode())
        self._put(b"\n".join((*block, b"")))
        self._written += size

    def _encoded(self, line: str | tuple[float, AccessLogEntry] | _Replies) -> bytes:
        if isinstance(line, str):
            return line.encode("utf-8", "backslashreplace")
        return self._lines.entry(*line) if len(line) == 2 else self._lines.replies(*line)

    def _put(self, block: bytes) -> None:
        try:
            binary: Any = getattr(self._stream, "buffer", None)
            if binary:
                binary.write(block)
            else:
                self._stream.write(block.decode())
            self._stream.flush()
        except (OSError, ValueError):
            pass  # whoever read has gone, and there is nowhere to say so
