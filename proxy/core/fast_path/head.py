"""Parses the head of a plain GET as it came over the wire; anything unusual is left to the HTTP parser."""

from __future__ import annotations

import re

from proxy.core.http.cdn_loop import LOOP_FIELD

LARGEST_HEAD = 16_384
"""Bytes of a head that is looked at here."""

LARGEST_MESSAGE = 32_768
"""Bytes of a message with a body that is looked at here."""

_REQUEST_LINE = re.compile(
    rb"GET (/(?:[A-Za-z0-9._~!$&'()*+,;=:@%?{}|-][A-Za-z0-9._~!$&'()*+,;=:@%/?{}|-]*)?) HTTP/1\.1"
)
_FIELD_LINE = re.compile(rb"([A-Za-z][A-Za-z0-9-]*): ([!-~](?:[ -~]*[!-~])?)")

_MOST_FIELDS = 64

_ELSEWHERE = frozenset(
    {
        LOOP_FIELD.lower(),
        "content-length",
        "expect",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
"""Fields that say more of a message than what it reads: such a message goes the usual way."""

_OF_CONNECTION = frozenset({"connection", "proxy-connection"})
"""Fields that may end the connection; the HTTP parser reads the second, which old clients send, as the first."""

_CHANGING = re.compile(
    rb"\r\n(?:traceparent|tracestate|baggage|b3|x-b3-[a-z]+|sentry-trace|x-(?:request|correlation|trace|client-trace)-id"
    rb"|request-id|x-amzn-trace-id|x-cloud-trace-context|x-datadog-[a-z-]+): [!-~](?:[ -~]*[!-~])?(?=\r\n)",
    re.IGNORECASE,
)
"""Fields of which each message has another value, and which say nothing of what is read."""


_POST_LINE = re.compile(rb"POST (/[A-Za-z0-9._~!$&'()*+,;=:@%?/{}|-]*) HTTP/1\.1")
_LENGTH = re.compile(rb"\r\nContent-Length: ([0-9]{1,6})(?=\r\n)", re.IGNORECASE)


def find_length(data: bytes) -> tuple[slice, int] | None:
    """Where Content-Length stands in the one message in *data*, and where its body begins; None for others.

    Its body is counted, and all of it is there.
    """
    end = data.find(b"\r\n\r\n") + 4
    if not 4 <= end <= LARGEST_HEAD or len(data) > LARGEST_MESSAGE:
        return None
    length = _LENGTH.search(data, 0, end)
    return (slice(*length.span()), end) if length is not None and int(length[1]) == len(data) - end else None


def read_post(data: bytes) -> tuple[str, dict[str, str], bytes] | None:
    """The target, the header fields but Content-Length, and the body of the one POST in *data*; None for others."""
    where = find_length(data)
    if where is None:
        return None
    length, end = where
    line = data[: data.find(b"\r\n")]
    found, fields = _POST_LINE.fullmatch(line), read_fields(data[len(line) : length.start] + data[length.stop : end])
    return None if found is None or fields is None else (found[1].decode(), fields, data[end:])


def without_changing(block: bytes) -> bytes:
    """*block*, from the end of the request line to the empty line, without fields that differ in each message."""
    return _CHANGING.sub(b"", block)


def read_fields(block: bytes) -> dict[str, str] | None:
    """The header fields of *block* by their names in lower case; None where any of them is unusual."""
    fields: dict[str, str] = {}
    lines = block[2:-4].split(b"\r\n")
    if len(lines) > _MOST_FIELDS:
        return None
    for line in lines:
        found = _FIELD_LINE.fullmatch(line)
        if found is None:
            return None
        name, value = found[1].decode().lower(), found[2].decode()
        if name in fields or name in _ELSEWHERE or (name in _OF_CONNECTION and value.lower() != "keep-alive"):
            return None
        fields[name] = value
    return fields if "host" in fields else None


def read_target(line: bytes) -> str | None:
    """The target of the request *line* of a GET; None where the line is unusual."""
    found = _REQUEST_LINE.fullmatch(line)
    return found[1].decode() if found else None
