"""Finds when the first signed link in a body expires: a parameter `oe=` (8 hex digits) or `ext=` (10 digits) in a URL.

Meta's CDN signs links so; the host of a link is not looked at.

`expiry` is stored with the entry (`EntryMeta.expires`), by `cache/policy` and, for ordinary slots of a batch, by
`core/fast_path/batch_answer.new`. `cache/policy` asks `lifetime_s` for how long the entry is fresh, and `has_expired`
before it serves the entry stale without asking Graph. `shell/downstream/fast_path` has the lifetime of a hit in memory
from `policy.fresh_lifetime_s`.
"""

from __future__ import annotations

import re

from proxy.core.model import EntryMeta


def _expiry_parameter(name: str, digits: str) -> re.Pattern[bytes]:
    """Returns a pattern for *name*, a parameter of a link in JSON: written plainly, escaped, or in a link in a link."""
    before = "|".join(f"(?<={mark}{name})" for mark in ("[?&;]", r"\\u0026", r"\\u003[fF]", "%26", "%3[fF]"))
    return re.compile(rf"{name}(?:{before})(?:=|%3[dD]|\\u003[dD])({digits})(?![0-9A-Za-z])".encode())


_EXPIRIES = ((_expiry_parameter("oe", "[0-9A-Fa-f]{8}"), 16), (_expiry_parameter("ext", "[0-9]{10}"), 10))
"""The expiry of a signed link in epoch seconds: `oe=` in hexadecimal digits, `ext=` in decimal ones."""


def expiry(body: bytes) -> float:
    """Returns the epoch seconds at which the first of the signed links in *body* expires; 0 if it has none."""
    if b"=" not in body and b"%" not in body and (b"\\" not in body or b"\\u003" not in body):
        return 0.0  # no parameter has a value
    return float(min((int(digits, base) for pattern, base in _EXPIRIES for digits in pattern.findall(body)), default=0))


def lifetime_s(meta: EntryMeta, by_rule_s: float) -> float:
    """Returns the freshness lifetime *by_rule_s* of an entry, shortened to end when its first signed link expires."""
    return min(by_rule_s, meta.expires - meta.asked_at) if meta.expires else by_rule_s


def has_expired(meta: EntryMeta, now: float) -> bool:
    """Returns whether a signed link in the entry has expired.

    Such an entry is served only where Graph failed or a limit is reached (`policy.may_cover`).
    """
    return bool(meta.expires) and meta.expires <= now
