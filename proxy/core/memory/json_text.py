"""Decodes JSON from outside, and checks beforehand that decoding will not hold up the whole process."""

from __future__ import annotations

import math
from typing import Any

import msgspec

MOST_VALUES = 100_000
"""The most commas and brackets of a JSON text that is parsed; a batch of 1,000 operations has about 5,000."""

_VALUE_MARKS = (b",", b"[", b"{")
_LONG_TEXT = 2**18
_DIGITS_AS_ZERO = bytes.maketrans(b"123456789", b"000000000")
_LONG_NUMBER = b"0" * 400


def number(text: str) -> float:
    """Returns *text* as a float. Raises ValueError if it is too large.

    msgspec itself takes 15 µs for each number with a large exponent, Python a tenth of a microsecond.
    """
    value = float(text)
    if math.isinf(value):
        raise ValueError("number out of range")
    return value


_decode = msgspec.json.Decoder(float_hook=number).decode


def decode(text: bytes | str) -> Any:
    """Returns the value of the JSON in *text*. Raises what `errors.UNREADABLE` lists, and UnicodeEncodeError."""
    return _decode(text)


def is_heavy(raw: bytes) -> bool:
    """Returns whether parsing *raw* would keep other callers waiting: very many values, or numbers of many digits."""
    if sum(map(raw.count, _VALUE_MARKS)) > MOST_VALUES:
        return True
    return len(raw) > _LONG_TEXT and _LONG_NUMBER in raw.translate(_DIGITS_AS_ZERO)


def may_be_nested(text: bytes) -> bool:
    """Returns whether the JSON *text* may have an object inside another value; an answer to one node often has none."""
    return text.find(b"{", 1) >= 0
