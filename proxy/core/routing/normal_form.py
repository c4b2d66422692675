"""Parses a request target into its normal form, so that all spellings of one read have one cache key.

Names and values are read as Graph's PHP reads them: `+` is a space, the last of several equal names counts, and `a[]`
collects values.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import quote

from proxy.core.memory.memo import MEMO_BYTES, Memo
from proxy.core.routing.fields_param import normal_fields
from proxy.core.routing.query import (
    LIFTED,
    Pairs,
    decode,
    join_pairs,
    odd_names,
    php_name,
    split_pairs,
    unquote,
)

TRANSPORT = "_fb_"
"""The prefix of parameters that Graph adds to links in a batch; they do not change what is read."""

MOST_PARAMETERS = 1000
"""The most parameters of a query that is parsed, as many as PHP reads; a longer query passes through."""
_VERSION = re.compile(r"v[0-9]{1,4}\.[0-9]{1,4}\Z")
_AUTHORITY = re.compile(r"(?:[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?")


@dataclass(frozen=True, slots=True, repr=False)
class Target:
    """A parsed request target; *query* is in normal form, *lifted* holds all values of the parameters in LIFTED."""

    authority: str  # of an absolute-form target (RFC 9112 section 3.2.2), else ""
    version: str
    path: str
    query: str
    pairs: Pairs
    lifted: dict[str, tuple[str, ...]]
    odd: str  # the reason why this target has to pass through, else ""
    fields: str = ""  # the `fields` that PHP would see, unchanged

    def last(self, name: str) -> str:
        """Returns the value of the lifted parameter *name* that PHP would see, "" for none."""
        values = self.lifted.get(name, ())
        return values[-1] if values else ""

    def get(self, name: str) -> str:
        """Returns the value of the parameter *name* that PHP would see, "" for none."""
        return next((value for key, value in reversed(self.pairs) if key == name), "")


def read_target(target: str) -> Target:
    """Returns *target*, as it stood in the request line, parsed into its normal form."""
    return _parse_target(target)


@lru_cache(maxsize=1)  # one message asks for its target several times
def _parse_target(target: str) -> Target:
    if not _is_encodable(target):
        return Target("", "", "/", "", (), {}, "text")
    authority, rest = _split_authority(target)
    raw_path, _, raw_query = rest.partition("?")
    version, path, odd = _parse_path(raw_path)
    found = _remembered_query(raw_query)
    return Target(authority, version, path, found.query, found.pairs, found.lifted, odd or found.odd, found.fields)


class _Query(NamedTuple):
    """What `Target` has of a query."""

    query: str
    pairs: Pairs
    lifted: dict[str, tuple[str, ...]]
    odd: str
    fields: str

    def __repr__(self) -> str:
        """Say what kind of thing this is: a query may hold a token."""
        return "_Query()"


def _parse_query(raw_query: str) -> _Query:
    pairs = tuple(pair for pair in split_pairs(raw_query) if not pair[0].startswith(TRANSPORT))
    given = LIFTED.intersection(name for name, _ in pairs)
    lifted = {name: tuple(value for key, value in pairs if key == name) for name in given}
    if len(pairs) > MOST_PARAMETERS:
        return _Query("", (), lifted, "parameters", "")
    kept = normal_pairs(pair for pair in pairs if pair[0] not in LIFTED)
    fields = next((value for key, value in reversed(pairs) if key == "fields"), "")
    return _Query(join_pairs(kept), kept, lifted, odd_names(pairs), fields)


_remembered_query = Memo(_parse_query, MEMO_BYTES // 2)
"""Remembers parsed queries: programs ask many objects the same."""


def _is_encodable(target: str) -> bool:
    """Returns whether *target* can be written as bytes: JSON of a batch may hold half a surrogate pair."""
    try:
        target.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return False
    return True


def _split_authority(target: str) -> tuple[str, str]:
    if target.startswith("/"):
        return "", target
    _, _, rest = target.partition("://")
    authority, slash, path = rest.partition("/")
    if not slash and "?" in authority:
        authority, _, query = authority.partition("?")
        return authority.lower(), f"/?{query}"
    return authority.lower(), slash + path or "/"


def _parse_path(raw: str) -> tuple[str, str, str]:
    """Returns version, path, and a reason to pass through if any; a final slash does not matter (`/111/` is `/111`)."""
    segments = [unquote(piece) for piece in raw.removesuffix("/").split("/")[1:]]
    odd = "path" if any(piece in {"", ".", ".."} for piece in segments) else ""
    version = segments.pop(0) if segments and _VERSION.match(segments[0]) else ""
    return version, "/" + "/".join(quote(piece, safe="-._~,:()", errors="surrogateescape") for piece in segments), odd


def origin_form(target: str) -> str:
    """Returns *target* in origin form (RFC 9112 section 3.2.1), otherwise byte for byte the same."""
    return without_transport(_split_authority(target)[1])


def without_transport(target: str) -> str:
    """Returns *target*, a path and a query, without the parameters that Graph adds to links in a batch."""
    if TRANSPORT not in target:
        return target
    path, mark, query = target.partition("?")
    kept = "&".join(piece for piece in query.split("&") if not decode(piece).startswith(TRANSPORT))
    return f"{path}?{kept}" if mark and kept else path


def version_of(path: str) -> str:
    """Returns the version that *path* begins with, "" for none."""
    first = path.removeprefix("/").partition("/")[0]
    return first if _VERSION.match(first) else ""


def is_authority(text: str) -> bool:
    """Returns whether *text* is a host with or without a port, and so safe inside a link."""
    return _AUTHORITY.fullmatch(text) is not None


def normal_pairs(pairs: Iterable[tuple[str, str]]) -> Pairs:
    """Returns *pairs* sorted by PHP's name, equal names in their order; of identical pairs only the last stays.

    The elements of a PHP array (`a[]=1&a[]=1`) all stay, in their order.
    """
    seen: set[tuple[str, str]] = set()
    kept: list[tuple[str, str]] = []
    for name, raw in reversed(list(pairs)):
        pair = (name, normal_fields(raw) if name == "fields" else raw)
        if "[" in name or pair not in seen:
            seen.add(pair)
            kept.append(pair)
    kept.reverse()
    kept.sort(key=lambda pair: php_name(pair[0]))
    return tuple(kept)
