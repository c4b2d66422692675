"""Reads a plain response to a batch: a `200 OK` whose head, length or chunks, and coding are of the usual form.

What is unusual in any way is None here, and left to aiohttp's parser and `core/http/codings`.
"""

from __future__ import annotations

import re
import zlib
from typing import NamedTuple

from proxy.core.http import headers
from proxy.core.model import Headers

LARGEST_HEAD = 16_384
"""Bytes of a head that is read here."""

LARGEST_COUNTED = 2**20
"""Bytes of a body whose length its head says that is read here."""

LARGEST_IN_CHUNKS = 2**19
"""Bytes of a body in chunks that is read here."""

LARGEST_PACKED, LARGEST_UNPACKED = 65_536, 2**20
"""Bytes of a coded body that is decoded in one turn of the event loop, and of what it becomes."""

_START = b"HTTP/1.1 200 OK\r\n"
_FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+): ([!-~](?:[ -~]*[!-~])?)")
_LENGTH = re.compile(r"[0-9]{1,9}")
_SIZE = re.compile(rb"([0-9A-Fa-f]{1,7})\r\n")
_PART_OF_SIZE = re.compile(rb"[0-9A-Fa-f]{1,7}\r?")
_LAST = b"0\r\n\r\n"
_MOST_FIELDS = 100
_GZIP = 16 + zlib.MAX_WBITS
_FRAMING = frozenset(
    {
        "connection",
        "content-encoding",
        "content-length",
        "proxy-connection",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
"""Fields that say how the body is read, or whether the connection goes on."""


class PlainHead(NamedTuple):
    """The head of a plain response."""

    fields: Headers
    start: int  # where the body begins
    length: int  # of the body; -1: it comes in chunks
    is_packed: bool  # whether the body is coded with gzip


class HeadReader:
    """Reads plain heads. Most lines of a head are those of the last one, and are read once."""

    MOST_LINES, LONGEST_LINE = 512, 512

    def __init__(self) -> None:
        """Know no lines yet."""
        self._known: dict[bytes, tuple[str, str]] = {}

    def read(self, data: bytes) -> PlainHead | None:
        """Return the plain head at the beginning of *data*."""
        end = data.find(b"\r\n\r\n", 0, LARGEST_HEAD)
        if end < 0 or not data.startswith(_START):
            return None
        fields, framing, known = list[tuple[str, str]](), dict[str, str](), self._known
        for line in data[len(_START) : end].split(b"\r\n"):
            field = known.get(line)
            if field is None:
                field = self._read_line(line, framing)
                if field is None:
                    return None
            fields.append(field)
        length = _body_length(framing)
        if length is None or len(fields) > _MOST_FIELDS:
            return None
        return PlainHead(tuple(fields), end + 4, length, "content-encoding" in framing)

    def _read_line(self, line: bytes, framing: dict[str, str]) -> tuple[str, str] | None:
        """Return the field in *line*, which is remembered unless it belongs to *framing*; None if it is unusual."""
        found = _FIELD.fullmatch(line)
        if found is None:
            return None
        field = found[1].decode(), found[2].decode()
        name = field[0].lower()
        if name in _FRAMING:
            if name in framing:
                return None
            framing[name] = field[1].lower()
        elif len(line) <= self.LONGEST_LINE:
            if len(self._known) >= self.MOST_LINES:
                self._known.clear()
            self._known[line] = field
        return field


def _body_length(framing: dict[str, str]) -> int | None:
    """Return the length of a body with these fields, -1 for chunks; None if one of the fields is unusual."""
    if framing.get("connection", "keep-alive") != "keep-alive" or framing.get("content-encoding", "gzip") != "gzip":
        return None
    length, coding = framing.get("content-length", ""), framing.get("transfer-encoding", "")
    if framing.keys() & {"proxy-connection", "trailer", "upgrade"} or bool(length) == bool(coding):
        return None
    if coding:
        return -1 if coding == "chunked" else None
    return int(length) or None if _LENGTH.fullmatch(length) else None


class PlainResponse:
    """A plain response, of which more and more comes."""

    __slots__ = ("_at", "_chunks", "_head", "_heads", "_size", "body", "pieces")

    def __init__(self, heads: HeadReader) -> None:
        """Let *heads* read the head."""
        self._heads = heads
        self._head: PlainHead | None = None
        self._size = 0
        self._chunks: list[bytes] = []
        self._at = 0  # where the next chunk begins, in the body
        self.pieces: list[bytes] = []
        """All that has come."""
        self.body = b""

    @property
    def fields(self) -> Headers:
        """Return the header fields, without one about the coding that the body no longer has."""
        if self._head is None:
            return ()
        return headers.without(self._head.fields, headers.CODED) if self._head.is_packed else self._head.fields

    def release(self) -> None:
        """Hold none of it any more."""
        self.pieces, self._chunks, self.body = [], [], b""

    def feed(self, data: bytes) -> bool | None:
        """Take *data*, which comes next; return whether the response is whole, None if it is not a plain one."""
        self.pieces.append(data)
        self._size += len(data)
        if len(self.pieces) == 1:
            self._head = self._heads.read(data)
        head = self._head
        if head is None:
            return None
        body = self._counted(head) if head.length > 0 else self._unchunked(head)
        if not body:
            return None if body is None else False
        if head.is_packed:
            body = unpacked(body)
        if body is None or body[:1] != b"[":
            return None
        self.body = body
        return True

    def _counted(self, head: PlainHead) -> bytes | None:
        """Return the body whose length the head says, b"" until it is whole; None if more has come."""
        if head.length > LARGEST_COUNTED:
            return None
        missing = head.start + head.length - self._size
        return None if missing < 0 else b"" if missing else self._joined(head)

    def _unchunked(self, head: PlainHead) -> bytes | None:
        """Return the body that comes in chunks (RFC 9112 section 7.1), b"" until it is whole; None if it is unusual."""
        if self._size > LARGEST_IN_CHUNKS:
            return None
        came = self._joined(head)
        while size := _SIZE.match(came, self._at):
            start, end = size.end(), size.end() + int(size[1], 16)
            if end == start:
                return b"".join(self._chunks) or None if came[self._at :] == _LAST else self._begun(came)
            if len(came) < end + 2:
                return b""
            if came[end : end + 2] != b"\r\n":
                return None
            self._chunks.append(came[start:end])
            self._at = end + 2
        return self._begun(came)

    def _begun(self, came: bytes) -> bytes | None:
        """Return b"" if *came* may end in the middle of the line that begins a chunk, or of the last one; else None."""
        rest = came[self._at :]
        return b"" if _LAST.startswith(rest) or _PART_OF_SIZE.fullmatch(rest) else None

    def _joined(self, head: PlainHead) -> bytes:
        """Return all that has come of the body."""
        first = self.pieces[0][head.start :]
        return first if len(self.pieces) == 1 else b"".join((first, *self.pieces[1:]))


def unpacked(packed: bytes) -> bytes | None:
    """Return the body that *packed* is in gzip, as one member; None if it is large, or not whole."""
    if len(packed) > LARGEST_PACKED:
        return None
    stream = zlib.decompressobj(_GZIP)
    try:
        body = stream.decompress(packed, LARGEST_UNPACKED)
    except zlib.error:
        return None
    return body if stream.eof and not stream.unused_data else None
