"""JSON that others wrote: decoded, and weighed before it is, for a decoder keeps the whole process waiting."""

from __future__ import annotations

import math
from typing import Any

import msgspec

MOST_VALUES = 100_000
"""Commas and brackets of a JSON text that is parsed; a batch of 1,000 operations has about 5,000."""

_MARKS = (b",", b"[", b"{")
_LONG = 2**18
_DIGITS = bytes.maketrans(b"123456789", b"000000000")
_LONG_NUMBER = b"0" * 400


def number(text: str) -> float:
    """The float that *text* is. Raises ValueError for one that is too large.

    msgspec itself takes 15 µs for each number with a large exponent, Python a tenth of a microsecond.
    """
    value = float(text)
    if math.isinf(value):
        raise ValueError("number out of range")
    return value


_decode = msgspec.json.Decoder(float_hook=number).decode


def decode(text: bytes | str) -> Any:
    """The value that *text* is. Raises what `errors.UNREADABLE` lists, and UnicodeEncodeError."""
    return _decode(text)


def is_heavy(raw: bytes) -> bool:
    """Whether parsing *raw* would keep other callers waiting: it holds many values, or numbers of many digits."""
    if sum(map(raw.count, _MARKS)) > MOST_VALUES:
        return True
    return len(raw) > _LONG and _LONG_NUMBER in raw.translate(_DIGITS)
