"""Checks the framing of a request head, and escapes bytes that aiohttp refuses and Graph accepts."""

from __future__ import annotations

import re
from collections.abc import Sequence


def framing_fault(version: tuple[int, int], codings: Sequence[str]) -> str:
    """Returns the fault in the framing of a request, "" without one: servers might disagree on where it ends.

    Source: RFC 9112 sections 6.1 and 6.3; *codings* are the values of its Transfer-Encoding.
    """
    if version < (1, 0):
        return "this version of HTTP is not spoken here"
    if codings and version < (1, 1):
        return "HTTP/1.0 knows no Transfer-Encoding (RFC 9112 section 6.1)"
    if codings and [coding.strip().lower() for coding in codings] != ["chunked"]:
        return "no Transfer-Encoding but chunked is known here (RFC 9112 section 6.1)"
    return ""


_REQUEST_LINE = re.compile(rb"[A-Z]+ (\S+) HTTP/1\.[01]\r?\n")
_NOT_ASCII = re.compile(rb"[\x80-\xff]")
ESCAPED_BYTES = tuple((mark.encode(), f"%{ord(mark):02X}".encode()) for mark in '%"{}[]:,/?=&|+\\')  # "%" first


def escaped(head: bytes) -> bytes:
    """Returns *head*, the start of a message, with the bytes of its target that are not ASCII percent-encoded.

    curl sends such bytes unescaped; RFC 3987 section 3.1 defines their meaning.
    """
    line = _REQUEST_LINE.match(head)
    if line is None:
        return head
    target = _NOT_ASCII.sub(lambda byte: b"%%%02X" % byte[0][0], line[1])
    return head[: line.start(1)] + target + head[line.end(1) :]
