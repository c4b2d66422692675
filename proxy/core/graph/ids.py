"""Recognises the ids of Graph's objects."""

from __future__ import annotations

import re

AD_ACCOUNT = re.compile(r"act_[0-9]+")
NUMBER = re.compile(r"[0-9]+(?:_[0-9]+)*")


def is_id(segment: str) -> bool:
    """Whether *segment* is an id of Graph's: digits, two of them, or an ad account's."""
    return len(segment) <= 64 and (NUMBER.fullmatch(segment.removeprefix("act_")) is not None)


def account(node: str) -> str:
    """The ad account that *node* is, "" for anything else."""
    return node if AD_ACCOUNT.fullmatch(node) and len(node) <= 64 else ""
