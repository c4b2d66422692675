"""Parses a caller's Cache-Control, Pragma and If-None-Match (RFC 9111 section 5.2, RFC 9110 section 13.1.2)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from proxy.core.model import NO_DIRECTIVES, CacheDirectives

_MOST_SECONDS = 2**31
_AGE_DIRECTIVES = {"max-age": 0, "min-fresh": _MOST_SECONDS, "max-stale": 0, "stale-if-error": 0}
"""The directives that limit the age of an answer, each with the strictest value, for a number that cannot be parsed."""


def cache_directives(headers: Mapping[str, str]) -> CacheDirectives:
    """Returns the directives in the caller's Cache-Control, Pragma and If-None-Match (RFC 9111 sections 5.2.1, 5.4)."""
    control, tags = headers.get("cache-control", ""), headers.get("if-none-match", "")
    if not control and not tags and "pragma" not in headers:
        return NO_DIRECTIVES
    given = dict(reversed(list(_directives(control))))  # the first of several counts (RFC 9111 section 4.2.1)
    pragma = "cache-control" not in headers and "no-cache" in headers.get("pragma", "").lower()
    if given.get("max-stale") == "":  # without a value: however stale (RFC 9111 section 5.2.1.2)
        given["max-stale"] = str(_MOST_SECONDS)
    ages = {
        name: _delta_seconds(given[name], strictest) for name, strictest in _AGE_DIRECTIVES.items() if name in given
    }
    return CacheDirectives(
        no_cache="no-cache" in given or pragma,
        no_store="no-store" in given,
        only_if_cached="only-if-cached" in given,
        max_age=ages.get("max-age"),
        min_fresh=ages.get("min-fresh"),
        max_stale=ages.get("max-stale"),
        stale_if_error=ages.get("stale-if-error"),
        if_none_match=tags,
    )


def matches(if_none_match: str, etag: str) -> bool:
    """Returns whether *etag* is in *if_none_match*, by weak comparison (RFC 9110 sections 8.8.3.2 and 13.1.2)."""
    if if_none_match.strip() == "*":
        return True
    return etag.removeprefix("W/") in re.findall(r'"[^"]*"', if_none_match)


def _directives(control: str) -> Iterable[tuple[str, str]]:
    for piece in control.split(","):
        name, _, value = piece.strip().partition("=")
        yield name.strip().lower(), value.strip().strip('"')


def _delta_seconds(text: str, strictest: int) -> int:
    """Returns a number of seconds, at most 2^31 (RFC 9111 section 1.2.2); *strictest* if it cannot be parsed."""
    digits = text.lstrip("0")
    if not (text.isascii() and text.isdecimal()):
        return strictest
    return min(int(digits or "0"), _MOST_SECONDS) if len(digits) <= 10 else _MOST_SECONDS
