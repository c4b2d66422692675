"""One POST to Graph on a kept connection: without a task, as long as its response is plain.

Plain is a `200 OK` whose head, length or chunks, and coding are of the usual form, and whose body is an array of JSON,
as the response to a batch is, with nothing behind it. Any other response is read by a task with aiohttp's parser and
`core/http/codings`, from the first byte, as the responses to all other requests are.
"""

from __future__ import annotations

import re
import zlib
from functools import lru_cache
from itertools import repeat
from typing import TYPE_CHECKING, NamedTuple, Protocol

import aiohttp

from proxy.core.http import headers
from proxy.core.memory.budget import SMALL, Share
from proxy.core.model import Headers

if TYPE_CHECKING:  # these import this module
    from proxy.shell.upstream.connection import UpstreamConnection
    from proxy.shell.upstream.http1 import Check, Http1Client, Http1Response
    from proxy.shell.upstream.idle_connections import Connection

LARGEST_HEAD = 16_384
"""Bytes of a head that is read here."""

LARGEST_COUNTED = 2**20
"""Bytes of a body whose length its head says that is read here."""

LARGEST_IN_CHUNKS = 2**19
"""Bytes of a body in chunks that is read here."""

LARGEST_PACKED, LARGEST_UNPACKED = 65_536, 2**20
"""Bytes of a coded body that is decoded in one turn of the event loop, and of what it becomes."""

_START = b"HTTP/1.1 200 OK\r\n"
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
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
"""Fields that say how the body is read, or whether the connection goes on; in lower case."""
_SIZE = re.compile(rb"([0-9A-Fa-f]{1,7})\r\n")
_PART_OF_SIZE = re.compile(rb"[0-9A-Fa-f]{1,7}\r?")
_LAST = b"0\r\n\r\n"
_SPACE = ord(" ")
_MOST_FIELDS, _MOST_HEADS = 100, 64
"""The most fields of a head that is read here, and the most heads of which the names of the fields are remembered."""
_GZIP = 16 + zlib.MAX_WBITS


class Taker(Protocol):
    """What takes the response to a POST that was sent without a task."""

    def take(self, fields: Headers, body: bytes) -> None:
        """Take the fields and the body of a plain response."""

    def read_on(self) -> None:
        """Let a task await `PlainExchange.response`: the response is not plain, or does not come."""


class PlainHead(NamedTuple):
    """The head of a plain response."""

    fields: Headers
    start: int  # where the body begins
    length: int  # of the body; -1: it comes in chunks
    is_packed: bool  # whether the body is coded with gzip


def read_head(data: bytes) -> PlainHead | None:
    """Return the plain head at the beginning of *data*; None if there is none, or any of it is unusual."""
    end = data.find(b"\r\n\r\n", 0, LARGEST_HEAD)
    if end < 0 or not data.startswith(_START):
        return None
    head = data[len(_START) : end].decode("latin-1")
    names, marks, values = zip(*map(str.partition, head.split("\r\n"), repeat(": ")), strict=True)
    places, text = _find_framing(names), "".join(values)
    if places is None or not all(marks) or not all(values) or not (text.isascii() and text.isprintable()):
        return None
    if ":  " in head or " \r\n" in head or head[-1] == " ":
        return None
    framing = {name: values[at].lower() for name, at in places}
    if framing.pop("connection", "keep-alive") != "keep-alive" or framing.get("content-encoding", "gzip") != "gzip":
        return None
    is_packed, length = bool(framing.pop("content-encoding", "")), framing.pop("content-length", "")
    if framing == ({} if length else {"transfer-encoding": "chunked"}):
        size = _size(length) if length else -1
        return PlainHead(tuple(zip(names, values, strict=True)), end + 4, size, is_packed) if size else None
    return None


@lru_cache(maxsize=_MOST_HEADS)
def _find_framing(names: tuple[str, ...]) -> tuple[tuple[str, int], ...] | None:
    """Return the names in lower case and the places of those fields with these *names* that frame the body.

    None if there are too many fields, if a name has characters that no name has, or if such a field stands twice.
    """
    if len(names) > _MOST_FIELDS or not all(map(_NAME.fullmatch, names)):
        return None
    found = [(name.lower(), at) for at, name in enumerate(names) if name.lower() in _FRAMING]
    return tuple(found) if len(dict(found)) == len(found) else None


def _size(length: str) -> int:
    """Return the size of a body of which Content-Length is *length*; 0 if no such body is read here."""
    return int(length) if len(length) < 10 and length.isascii() and length.isdigit() else 0


class HeadForm(NamedTuple):
    """What plain heads have in common that have the same fields, and in some of these the same values."""

    start: bytes  # up to the first value that varies
    behind: tuple[bytes, ...]  # each such value, up to the next one or to the body
    places: tuple[int, ...]  # of the fields whose values vary
    length_at: int  # the place of Content-Length; -1: the body comes in chunks
    last: PlainHead  # one of these heads

    def read(self, data: bytes) -> PlainHead | None:
        """Return what `read_head` does for *data*; None if the head there is of another form."""
        if not data.startswith(self.start):
            return None
        at, fields, values = len(self.start), list(self.last.fields), list[str]()
        for place, behind in zip(self.places, self.behind, strict=True):
            end = data.find(b"\r", at, LARGEST_HEAD)
            if end <= at or data[at] == _SPACE or data[end - 1] == _SPACE or not data.startswith(behind, end):
                return None
            value = data[at:end].decode("latin-1")
            values.append(value)
            fields[place] = (fields[place][0], value)
            at = end + len(behind)
        said = "".join(values)
        size = -1 if self.length_at < 0 else _size(fields[self.length_at][1])
        if not size or not (said.isascii() and said.isprintable()):
            return None
        return PlainHead(tuple(fields), at, size, self.last.is_packed)

    @classmethod
    def of(cls, head: PlainHead, earlier: HeadForm | None) -> HeadForm | None:
        """Return the form of *head* and of heads of an *earlier* form; None if they are not read in one way."""
        framing = dict(_find_framing(tuple([name for name, _ in head.fields])) or ())
        length_at = framing.pop("content-length", -1)
        varying = {length_at} - {-1}
        if earlier is not None:
            pairs = zip(earlier.last.fields, head.fields, strict=True)
            varying |= {*earlier.places, *[at for at, (last, field) in enumerate(pairs) if last != field]}
        if not varying.isdisjoint(framing.values()):
            return None
        pieces = [_START.decode()]
        for at, (name, value) in enumerate(head.fields):
            pieces[-1] += f"{name}: "
            if at in varying:
                pieces.append("")
            else:
                pieces[-1] += value
            pieces[-1] += "\r\n"
        pieces[-1] += "\r\n"
        start, *behind = [piece.encode("latin-1") for piece in pieces]
        return cls(start, tuple(behind), tuple(sorted(varying)), length_at, head)


class PlainHeads:
    """Reads the heads of plain responses, most lines of which stand in each of them."""

    def __init__(self) -> None:
        """Know no head yet."""
        self._forms: dict[tuple[str, ...], HeadForm] = {}  # by the names of their fields
        self._last: HeadForm | None = None  # that of the last head

    def read(self, data: bytes) -> PlainHead | None:
        """Return what `read_head` does."""
        found = None if self._last is None else self._last.read(data)
        if found is not None:
            return found
        self._last, found = None, read_head(data)
        if found is not None:
            names = tuple([name for name, _ in found.fields])
            form = self._last = HeadForm.of(found, self._forms.get(names))
            if len(self._forms) >= _MOST_HEADS:
                self._forms.clear()
            if form is not None:
                self._forms[names] = form
        return found


class PlainExchange:
    """A POST that was sent, until a plain response is whole; it holds its connection."""

    __slots__ = (
        "_at",
        "_chunks",
        "_client",
        "_connection",
        "_end",
        "_head",
        "_last",
        "_line",
        "_pieces",
        "_share",
        "_size",
        "_taker",
        "now",
        "sent",
    )

    def __init__(
        self,
        client: Http1Client,
        end: aiohttp.ClientRequest,
        kept: tuple[Connection, UpstreamConnection],
        taker: Taker,
        within_s: float,
    ) -> None:
        """Let *taker* have the response on the connection *kept* to *end*, which has to be whole *within_s* seconds."""
        self._client = client
        self._end = end
        self._taker: Taker | None = taker  # until it has the response, for it holds this exchange
        self._connection: Connection | None = kept[0]
        self._line = kept[1]
        self.now = self._line.now  # the event loop's clock
        self.sent = self.now()
        self._last = self.sent + within_s
        self._share: Share | None = None  # of the budget, while the body is not whole
        self._head: PlainHead | None = None
        self._pieces: list[bytes] = []  # all that has come
        self._size = 0  # of it
        self._chunks: list[bytes] = []
        self._at = 0  # where the next chunk begins, in the body

    def send(self, message: bytes) -> None:
        """Send the request *message*. Raises ServerDisconnectedError where nothing can be sent any more."""
        self._line.send_plain(self, message, min(self.sent + self._client.reply_timeout_s, self._last))

    def data_received(self, data: bytes, *, is_early: bool) -> None:
        """Take *data*, the next bytes of the response; *is_early*: the request has not been sent whole."""
        self._pieces.append(data)
        self._size += len(data)
        if self._head is None and len(self._pieces) == 1:
            self._head = self._client.heads.read(data)
        body = None if self._head is None or is_early else self._body(self._head)
        is_small = body is not None and self._share is None and len(data) <= SMALL and 0 < len(body) <= SMALL
        if body is None or not (is_small or self._has_room(len(data), len(body))):
            self.give_over()
        elif body:
            self._complete(body)
        else:
            self._wait()

    def _has_room(self, size: int, whole: int) -> bool:
        """Return whether *size* more bytes are within the budget of all replies that are being read.

        *whole* is the size of the body, if that is whole.
        """
        budget = self._client.replies.budget
        if self._share is None:
            if whole:
                return budget.has_room(max(size, whole))
            self._share = budget.share()
        return self._share.grow(size) and budget.has_room(whole)

    def _body(self, head: PlainHead) -> bytes | None:
        """Return the body of the response with this *head*, b"" until it is whole; None if it is not a plain one."""
        if head.length > LARGEST_COUNTED:
            return None
        if head.length < 0:
            body = self._unchunked(head)
        elif (missing := head.start + head.length - self._size) <= 0:
            body = None if missing else self._joined(head)
        else:
            return b""
        if body and head.is_packed:
            body = unpacked(body)
        return body if not body or body.startswith(b"[") else None

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
        first = self._pieces[0][head.start :]
        return first if len(self._pieces) == 1 else b"".join((first, *self._pieces[1:]))

    def _wait(self) -> None:
        self._line.deadline.set(min(self.now() + self._client.reply_timeout_s, self._last))

    def _complete(self, body: bytes) -> None:
        """Hand over the response with this *body*, which is whole."""
        head = self._head
        assert head is not None  # noqa: S101 - a body has a head
        self._line.end_plain()
        if self._share is not None:
            self._share.end()
        if self._connection is not None:
            self._client.idle.keep(self._end, self._connection, self._line)
            self._connection = None
        self._pieces, self._chunks = [], []  # they may be large
        fields = headers.without(head.fields, headers.CODED) if head.is_packed else head.fields
        taker, self._taker = self._taker, None
        if taker is not None:
            taker.take(fields, body)

    def give_over(self, *, is_late: bool = False) -> None:
        """Let a task read the response, from the first byte on; *is_late*: it did not come in time."""
        line = self._line
        self._end_share()
        line.read_with_parser(self._client.reply_timeout_s)
        taker, self._taker = self._taker, None
        if taker is not None:
            taker.read_on()
        pieces, self._pieces, self._chunks = self._pieces, [], []
        for piece in pieces:
            line.data_received(piece)
        if is_late:
            line.fail_for_silence()

    async def response(self, check: Check) -> Http1Response:
        """Return the response that is not plain, after *check*. Raises aiohttp's errors, and Large."""
        connection, self._connection = self._connection, None
        assert connection is not None, "this is awaited once"  # noqa: S101 - a mistake of ours
        return await self._client.receive(self._end, connection, self._line, check)

    def close(self) -> None:
        """Close the connection, unless the response was handed over or is being awaited."""
        if self._connection is not None:
            self._line.end_plain()
            self._end_share()
            self._connection.close()
            self._connection = None

    def _end_share(self) -> None:
        """Give the share of the budget back."""
        if self._share is not None:
            self._share.end()


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
