"""Finds the end of an HTTP/1.1 message in the bytes of its connection (RFC 9112 sections 2 and 6).

aiohttp's parser does not tell which of the bytes that it was given belong to the next message.
"""

from __future__ import annotations

import re
from typing import Protocol

_HEAD_END = re.compile(rb"\n\r?\n")
_SIZE = re.compile(rb"[0-9A-Fa-f]{1,15}(?![0-9A-Fa-f])")
_LINE_LIMIT = 65_536
_LINES_AT_ONCE = 2000
"""The most chunks in one piece of a body: to look for the end behind more would keep other connections waiting."""


class MessagePart(Protocol):
    """A head or a body whose end is looked for."""

    @property
    def is_over(self) -> bool:
        """Whether the end was found."""

    @property
    def is_lost(self) -> bool:
        """Whether the end cannot be found any more."""

    def end(self, data: bytes, at: int) -> int:
        """Returns where in *data* the part ends, which goes on *at* this position; the end of *data* if it goes on."""


class HeadPart:
    """A message head, which ends with an empty line."""

    is_lost = False

    def __init__(self) -> None:
        """Start at the first line."""
        self.is_over = False
        self._before = b""

    def end(self, data: bytes, at: int) -> int:
        """Returns where in *data* the head ends, which goes on *at* this position; the end of *data* if it goes on."""
        before = self._before
        found = _HEAD_END.search(before + data[at : at + 2])
        if found is None:
            before, found = b"", _HEAD_END.search(data, at)
            at = 0
        if found is None:
            self._before = (self._before + data[-2:])[-2:]
            return len(data)
        self.is_over = True
        return at + found.end() - len(before)


class CountedPart:
    """A body with a Content-Length, which may be 0."""

    is_lost = False

    def __init__(self, size: int) -> None:
        """Expect *size* bytes."""
        self._left = size

    @property
    def is_over(self) -> bool:
        """Whether all bytes have come."""
        return not self._left

    def end(self, data: bytes, at: int) -> int:
        """Returns where the body ends in *data*, in which it goes on *at* this place, or how much of it has come."""
        taken = min(self._left, len(data) - at)
        self._left -= taken
        return at + taken


class ChunkedPart:
    """A chunked body with its trailers. It is lost if it is malformed, or has very many chunks in one piece."""

    def __init__(self) -> None:
        """Expect the size of the first chunk."""
        self.is_over = self.is_lost = False
        self._left = 0  # bytes of the chunk and its line end
        self._line = b""
        self._is_last = False

    def end(self, data: bytes, at: int) -> int:
        """Returns where the body ends in *data*, in which it goes on *at* this place, or how much of it has come."""
        lines = 0
        while at < len(data) and not self.is_over:
            if self._left:
                taken = min(self._left, len(data) - at)
                self._left -= taken
                at += taken
                continue
            end = data.find(b"\n", at) + 1
            lines += 1
            self._line += data[at : end or len(data)]
            at = end or len(data)
            if end:
                self._read_line()
            if self.is_lost or lines > _LINES_AT_ONCE or len(self._line) > _LINE_LIMIT:
                self.is_lost = True
                return len(data)
        return at

    def _read_line(self) -> None:
        line, self._line = self._line.rstrip(b"\r\n"), b""
        if self._is_last:
            self.is_over = not line
        elif size := _SIZE.match(line):
            self._is_last = not int(size[0], 16)
            self._left = 0 if self._is_last else int(size[0], 16) + len(b"\r\n")
        else:
            self.is_lost = True
