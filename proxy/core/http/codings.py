"""The codings in which Graph's replies are packed for the way (RFC 9110 section 8.4.1), undone a piece at a time."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from proxy.core.model import Headers

ACCEPTED = "gzip, deflate"
"""The codings that Graph is asked for."""

STEP = 65_536
"""Bytes that are unpacked at a time: a little that is packed may be very much."""

_MAGIC = b"\x1f\x8b"
_GZIP, _ZLIB, _RAW = 16 + zlib.MAX_WBITS, zlib.MAX_WBITS, -zlib.MAX_WBITS


class Broken(ValueError):  # noqa: N818 - said of a stream
    """The packed stream makes no sense."""


class Ended(ValueError):  # noqa: N818 - said of a stream
    """The packed stream ended before it was whole."""


class Unpacker(Protocol):
    """Undoes a coding; `feed` gives what a piece holds, at most `STEP` bytes at a time, and `end` raises Ended."""

    def feed(self, piece: bytes) -> Iterator[bytes]:
        """What *piece* holds. Raises Broken."""

    def end(self) -> None:
        """Raises Ended where more was to come."""


class Gzip:
    """Undoes gzip, one member after another (RFC 1952 section 2.2); what follows and is none is left out."""

    def __init__(self) -> None:
        """Nothing has come yet."""
        self._stream = zlib.decompressobj(_GZIP)
        self._rest = b""  # that has come, and may begin a member
        self._is_over = False

    def feed(self, piece: bytes) -> Iterator[bytes]:
        """What *piece* holds. Raises Broken."""
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
            yield from _unpacked(self._stream, data)
            data = self._stream.unused_data

    def end(self) -> None:
        """Raises Ended where more was to come."""
        if not self._stream.eof:
            raise Ended


class Deflate:
    """Undoes deflate, with the zlib wrapper that RFC 9110 section 8.4.1.2 asks for, or without, as some send it."""

    def __init__(self) -> None:
        """Nothing has come yet."""
        self._begun = b""
        self._stream = zlib.decompressobj(_ZLIB)
        self._is_known = False

    def feed(self, piece: bytes) -> Iterator[bytes]:
        """What *piece* holds. Raises Broken."""
        if not self._is_known:
            self._begun += piece
            if len(self._begun) < len(_MAGIC):
                return
            piece, self._begun, self._is_known = self._begun, b"", True
            if piece[0] & 0xF != zlib.DEFLATED or int.from_bytes(piece[:2]) % 31:
                self._stream = zlib.decompressobj(_RAW)
        if not self._stream.eof:
            yield from _unpacked(self._stream, piece)

    def end(self) -> None:
        """Raises Ended where more was to come."""
        if not self._stream.eof:
            raise Ended


def _unpacked(stream: zlib._Decompress, data: bytes) -> Iterator[bytes]:
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


def named(fields: Headers) -> Sequence[str]:
    """The codings that Content-Encoding among *fields* names, in lower case, without `identity`."""
    values = [value for name, value in fields if name.lower() == "content-encoding"]
    names = [each.strip().lower() for value in values for each in value.split(",")]
    return [name for name in names if name and name != "identity"]


def is_known(codings: Sequence[str]) -> bool:
    """Whether a body in *codings* can be unpacked here: it is packed once, as asked for, or not at all."""
    return not codings or (len(codings) == 1 and codings[0] in _UNPACKERS)


def unpacker(codings: Sequence[str]) -> Unpacker | None:
    """What undoes *codings*; None where the body stays as it came."""
    return _UNPACKERS[codings[0]]() if codings and is_known(codings) else None
