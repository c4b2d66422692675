"""The parts of a multipart body (RFC 2046 section 5.1, RFC 7578), found by its boundary in one pass."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from email.message import Message

from aiohttp import content_disposition_filename, parse_content_disposition

MOST_PARTS = 1000
"""Parts of a body that is looked into; PHP takes as many parameters, and fewer files."""

_LARGEST_HEAD = 2048
_LONGEST_TYPE = 256


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a multipart body: its name, its header fields, and its content."""

    name: str
    fields: dict[str, str]
    content: bytes = field(repr=False)
    is_file: bool


def split_parts(body: bytes, content_type: str) -> Iterator[Part]:
    """The parts of *body* in their order. Raises ValueError for what is no plain form or has too many of them."""
    delimiter = b"\r\n--" + _boundary(content_type)
    pieces = (b"\r\n" + body).split(delimiter, MOST_PARTS + 2)
    if len(pieces) > MOST_PARTS + 2:
        raise ValueError("more parts than are looked into")
    for piece in pieces[1:]:
        if piece.startswith(b"--"):
            return
        padding, _, rest = piece.partition(b"\r\n")
        if padding.strip(b" \t"):
            raise ValueError("a line that only begins like the boundary")
        yield _part(rest)
    raise ValueError("a body without an end")


def _boundary(content_type: str) -> bytes:
    if len(content_type) > _LONGEST_TYPE:
        raise ValueError("a media type that is too long")
    message = Message()
    message["Content-Type"] = content_type
    boundary = message.get_boundary("").encode("ascii")
    if not 0 < len(boundary) <= 70:
        raise ValueError("a boundary of no known length")
    return boundary


def _part(piece: bytes) -> Part:
    head, end, content = piece.partition(b"\r\n\r\n")
    if not end or len(head) > _LARGEST_HEAD:
        raise ValueError("a part without header fields, or with too many")
    fields = dict(map(_field, head.decode("utf-8", "surrogateescape").split("\r\n")))
    by_name = {name.lower(): value for name, value in fields.items()}
    with warnings.catch_warnings(action="ignore"):  # aiohttp's quote the field, which may hold a token
        _, disposition = parse_content_disposition(by_name.get("content-disposition"))
    name = content_disposition_filename(disposition, "name")
    if not name or by_name.get("content-type", "").lower().startswith("multipart/"):
        raise ValueError("a part without a name, or of parts of its own")
    has_filename = content_disposition_filename(disposition, "filename") is not None
    return Part(name, fields, content, is_file=has_filename or "content-transfer-encoding" in by_name)


def _field(line: str) -> tuple[str, str]:
    name, colon, value = line.partition(":")
    if not colon or not name.strip() or line[0] in " \t":
        raise ValueError("a line that is no header field")
    return name.strip(), value.strip()
