"""Decodes content codings (RFC 9110 section 8.4.1) of Graph's replies, piece by piece."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from proxy.core.model import Headers

ACCEPTED = "gzip, deflate"
"""The Accept-Encoding of calls to Graph."""

STEP = 65_536
"""The most bytes that are decoded at a time: a few coded bytes may become very many."""

_MAGIC = b"\x1f\x8b"
_GZIP, _ZLIB, _RAW = 16 + zlib.MAX_WBITS, zlib.MAX_WBITS, -zlib.MAX_WBITS


class Broken(ValueError):  # noqa: N818 - said of a stream
    """The coded stream is invalid."""


class Ended(ValueError):  # noqa: N818 - said of a stream
    """The coded stream ended before it was complete."""


class Unpacker(Protocol):
    """A decoder of one coding."""

    def feed(self, piece: bytes) -> Iterator[bytes]:
        """Yields the decoded bytes of *piece*, at most `STEP` at a time. Raises Broken."""

    def end(self) -> None:
        """Raise Ended if the stream is not complete."""


class Gzip:
    """Decodes gzip, one member after another (RFC 1952 section 2.2); bytes after the last member are ignored."""

    def __init__(self) -> None:
        """Start before the first byte."""
        self._stream = zlib.decompressobj(_GZIP)
        self._rest = b""  # received bytes that may begin another member
        self._is_over = False

    def feed(self, piece: bytes) -> Iterator[bytes]:
        """Yields the decoded bytes of *piece*. Raises Broken."""
        data = self._rest + piece
        self._rest = b""
        while data and not self._is_over:
            if self._stream.eof:
                if len(data) < len(_MAGIC) and _MAGIC.startswith(data):
                    self._rest = data
                    return
                if not data.startswith(_MAGIC):
                    self._is_over = True
                    return
                self._stream = zlib.decompressobj(_GZIP)
            yield from _decoded(self._stream, data)
            data = self._stream.unused_data

    def end(self) -> None:
        """Raises Ended where more was to come."""
        if not self._stream.eof:
            raise Ended


class Deflate:
    """Decodes deflate with the zlib wrapper of RFC 9110 section 8.4.1.2, or without it, as some servers send it."""

    def __init__(self) -> None:
        """Start before the first byte."""
        self._start = b""
        self._stream = zlib.decompressobj(_ZLIB)
        self._has_start = False

    def feed(self, piece: bytes) -> Iterator[bytes]:
        """Returns the decoded bytes of *piece*. Raises Broken."""
        if not self._has_start:
            self._start += piece
            if len(self._start) < len(_MAGIC):
                return
            piece, self._start, self._has_start = self._start, b"", True
            if piece[0] & 0xF != zlib.DEFLATED or int.from_bytes(piece[:2]) % 31:
                self._stream = zlib.decompressobj(_RAW)
        if not self._stream.eof:
            yield from _decoded(self._stream, piece)

    def end(self) -> None:
        """Raises Ended where more was to come."""
        if not self._stream.eof:
            raise Ended


def _decoded(stream: zlib._Decompress, data: bytes) -> Iterator[bytes]:
    while data and not stream.eof:
        try:
            found = stream.decompress(data, STEP)
        except zlib.error:
            raise Broken from None
        data = stream.unconsumed_tail
        if found:
            yield found
        elif not data:
            return


_UNPACKERS: dict[str, Callable[[], Unpacker]] = {"gzip": Gzip, "x-gzip": Gzip, "deflate": Deflate}


_FIELD = "content-encoding"
_LENGTH = len(_FIELD)


def content_codings(fields: Headers) -> Sequence[str]:
    """Returns the codings in the Content-Encoding of *fields*, in lower case, without `identity`."""
    values = [value for name, value in fields if len(name) == _LENGTH and name.lower() == _FIELD]
    if not values:
        return ()
    names = [each.strip().lower() for value in values for each in value.split(",")]
    return [name for name in names if name and name != "identity"]


def is_known(codings: Sequence[str]) -> bool:
    """Returns whether a body in *codings* can be decoded here: there is none, or a single known one."""
    return not codings or (len(codings) == 1 and codings[0] in _UNPACKERS)


def unpacker(codings: Sequence[str]) -> Unpacker | None:
    """Returns a decoder of *codings*; None where the body is not coded, or stays as it is."""
    return _UNPACKERS[codings[0]]() if codings and is_known(codings) else None
