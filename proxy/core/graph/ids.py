"""Recognises the ids of Graph's objects."""

from __future__ import annotations

import re

AD_ACCOUNT = re.compile(r"act_[0-9]+")
NUMBER = re.compile(r"[0-9]+(?:_[0-9]+)*")


def is_id(segment: str) -> bool:
    """Returns whether *segment* is an id of Graph's: digits, several joined by `_`, or `act_` and digits."""
    return len(segment) <= 64 and (NUMBER.fullmatch(segment.removeprefix("act_")) is not None)


def account(node: str) -> str:
    """Returns *node* if it is an ad account's id, else ""."""
    return node if AD_ACCOUNT.fullmatch(node) and len(node) <= 64 else ""
