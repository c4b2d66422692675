"""Reads and writes JSON as leniently as clients do: half surrogate pairs, raw control characters, broken UTF-8.

Graph cuts texts within an emoji and quotes what users typed (cardcorp/fbRads issues 23 and 49, restfb issue 943). What
msgspec refuses is read once more in Python's own way, which JavaScript, PHP and Java share.
"""

from __future__ import annotations

import json
import re
from typing import Any

import msgspec

from proxy.core.memory import json_text

UNREADABLE = (ValueError, RecursionError)
"""The exceptions that `decode` raises for bytes that are no JSON to any client."""

_HALF = re.compile("[\ud800-\udfff]")


def decode(raw: bytes) -> Any:
    """Returns the value of the JSON in *raw*. Raises one of UNREADABLE."""
    try:
        return json_text.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        if json_text.is_heavy(raw):
            raise
        return json.loads(raw.decode("utf-8", "replace"), strict=False, parse_float=json_text.number)


def encode(value: Any) -> bytes:
    """Returns *value* as JSON; half a surrogate pair is written as its escape, for UTF-8 has no bytes for it."""
    try:
        return msgspec.json.encode(value)
    except UnicodeEncodeError:
        return json.dumps(value, separators=(",", ":")).encode()


def text(found: str) -> bytes:
    """Returns the bytes of *found*, a text that is JSON already; half a surrogate pair is written as its escape."""
    try:
        return found.encode()
    except UnicodeEncodeError:
        return _HALF.sub(lambda half: f"\\u{ord(half[0]):04x}", found).encode()
