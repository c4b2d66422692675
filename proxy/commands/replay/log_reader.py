"""Reads a log file line by line, gzipped or not, and records the lines that could not be parsed."""

from __future__ import annotations

import gzip
import io
import os
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from datetime import datetime
from pathlib import Path

import msgspec
from rich.console import Console
from rich.progress import Progress

from proxy.core.model import Mode
from proxy.core.observe.access_log import AccessLogEntry
from proxy.core.replay.replay import Recorded
from proxy.settings.load import SettingsError

MOST_REPORTED = 20
"""The most unreadable lines that are reported one by one."""

_LOGGER = b'"graph_sidecar.reply"'
_GZIP_MAGIC = b"\x1f"  # the first of two bytes (RFC 1952 section 2.3.1): a pipe may bring one byte at first
_LARGE_LOG = 5_000_000  # bytes from which on progress is shown
_LINES_PER_UPDATE = 1000  # lines between two updates of the progress
_MOST_MS = 1e9
_MODES = frozenset(Mode)


class _LogLine(AccessLogEntry, frozen=True, kw_only=True):
    """A line of the access log, with its time, and the share of such lines that were written."""

    time: datetime
    sample: float = 1.0


_decoder = msgspec.json.Decoder(_LogLine)


class LogReader:
    """One log; `-` is standard input."""

    def __init__(self, file: str) -> None:
        """Read *file*."""
        self.name = "standard input" if file == "-" else file
        self.bad: list[dict[str, object]] = []  # lines that could not be read: their numbers, and why
        self.sample = 1.0  # the smallest share of the lines of good replies that were written
        self._file = file

    def lines(self) -> Iterator[Recorded]:
        """Yields the lines about replies; other lines are skipped. Raises SettingsError."""
        try:
            with self._opened() as (stream, raw), _progress(raw) as looked:
                for number, line in enumerate(stream, 1):
                    if number % _LINES_PER_UPDATE == 0:
                        looked(number)
                    if found := self._read(number, line):
                        yield found
        except (OSError, EOFError, zlib.error) as error:
            why = getattr(error, "strerror", None) or error
            raise SettingsError([f"{self.name}: cannot be read: {why}"]) from None

    def complaints(self) -> Iterator[str]:
        """Yields messages about the lines that could not be parsed."""
        for line in self.bad[:MOST_REPORTED]:
            yield f"{self.name}:{line['line']}: {line['why']}"
        if len(self.bad) > MOST_REPORTED:
            yield f"{self.name}: and {len(self.bad) - MOST_REPORTED:,} more lines that cannot be read"

    @contextmanager
    def _opened(self) -> Iterator[tuple[Iterable[bytes], io.BufferedReader]]:
        opened = nullcontext(sys.stdin.buffer) if self._file == "-" else Path(self._file).open("rb")  # noqa: SIM115
        with opened as raw:
            assert isinstance(raw, io.BufferedReader)  # noqa: S101 - only typeshed knows less
            yield (gzip.GzipFile(fileobj=raw) if raw.peek(1)[:1] == _GZIP_MAGIC else raw), raw

    def _read(self, number: int, line: bytes) -> Recorded | None:
        """Returns the entry in *line*, without what a container's runtime has written before it."""
        start = line.find(b"{")
        if not line.strip() or (_LOGGER not in line and start >= 0):
            return None
        try:
            logged = _decoder.decode(line[max(start, 0) :])
            self.sample = min(self.sample, logged.sample)
            return _recorded(logged)
        except (msgspec.DecodeError, ValueError, OverflowError) as error:
            self.bad.append({"line": number, "why": str(error)})
            return None


def _recorded(logged: _LogLine) -> Recorded:
    if logged.mode not in _MODES:
        raise ValueError("a mode that no reply has")
    if not 0 <= logged.total_ms < _MOST_MS:
        raise ValueError("total_ms is no time")
    return Recorded(logged.time.timestamp(), logged)


@contextmanager
def _progress(raw: io.BufferedReader) -> Iterator[Callable[[int], None]]:
    """Show the progress on a terminal: in bytes, or in lines where the size of the log is not known."""
    size = None if raw is sys.stdin.buffer else os.fstat(raw.fileno()).st_size
    if not sys.stderr.isatty() or (size is not None and size < _LARGE_LOG):
        yield lambda _number: None
        return
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("replaying", total=size)
        yield lambda number: bar.update(task, completed=number if size is None else raw.tell())
