"""Compares a reply of the sidecar with Graph's direct reply to the same request: status, JSON, header fields."""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator
from typing import Any, NamedTuple

from proxy.core.graph import lax_json
from proxy.core.http.cache_status import NOT_FROM_CACHE
from proxy.core.http.headers import USAGE
from proxy.core.model import Reply
from proxy.core.routing.normal_form import read_target

KINDS = ("status", "json", "headers", "aged")
"""How two replies may differ; `aged`: the JSON differs, and the sidecar's came from the cache without asking Graph."""

LARGEST_COMPARED = 1_048_576
"""The largest body in bytes that is compared."""

_MOST_PLACES = 8
_BY_VALUE = (
    "content-type",
    "facebook-api-version",
    "location",
    "www-authenticate",
    "access-control-allow-origin",
    "content-disposition",
)
_VOLATILE = frozenset({"fbtrace_id"})
"""Members of JSON that name one exchange."""

_PARTS = frozenset({"merged", "superset"})
"""The `detail` of replies that are parts of another reply, and so have no ETag."""

_LINKS = frozenset({"next", "previous"})
_SIGNED = re.compile(r"[?&](?:oe|oh|ext|hash|_nc_[a-z]+)=")
_PLAIN_KEY = re.compile(r"[a-z][a-z_]{0,39}")


_VALUES_A_STEP, _LINK_COST = 1000, 40
"""The number of values that are compared in one step, and as how many of them a link counts."""


class _Pair(NamedTuple):
    """Two values that stand at the same place, the member *name* at *path*."""

    ours: Any
    direct: Any
    name: str
    path: str


class Comparison(NamedTuple):
    """How two replies differ, () if they do not, and where: names of fields, paths in JSON, and no values."""

    kinds: tuple[str, ...]
    places: tuple[str, ...]


def compare(ours: Reply, direct: Reply) -> Comparison:
    """Returns how *ours*, as a caller got it, differs from Graph's *direct* reply.

    Of links only target and token are compared. Signatures of media URLs, trace ids, dates, and the values of ETags and
    usage headers are not compared. If the statuses differ, nothing else is compared.
    """
    steps = compare_in_steps(ours, direct)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            found: Comparison = end.value
            return found


def compare_in_steps(ours: Reply, direct: Reply) -> Generator[None, None, Comparison]:
    """Does the work of `compare`, whose result it returns; yields after each millisecond or so."""
    if ours.status != direct.status:
        return Comparison(("status",), (f"{ours.status}, directly {direct.status}",))
    in_json = yield from _json_places(ours.body, direct.body)
    in_fields = _field_places(ours, direct)
    json_kind = "json" if ours.age is None else "aged"
    kinds = ((json_kind,) if in_json else ()) + (("headers",) if in_fields else ())
    return Comparison(kinds, tuple(in_json + in_fields))


def _field_places(ours: Reply, direct: Reply) -> list[str]:
    """Returns the names of header fields that differ."""
    found = [name for name in _BY_VALUE if not _is_same_field(ours.header(name), direct.header(name))]
    present = [] if ours.detail in _PARTS else ["etag"]
    if ours.origin_mode in NOT_FROM_CACHE:  # a reply from the cache has the newest usage headers, or none
        present += sorted(USAGE)
    return found + [name for name in present if bool(ours.header(name)) != bool(direct.header(name))]


def _is_same_field(ours: str | None, direct: str | None) -> bool:
    if ours is None or direct is None:
        return ours is direct
    return _is_same_text("", ours, direct) or _without_spaces(ours) == _without_spaces(direct)


def _without_spaces(value: str) -> str:
    return value.replace(" ", "").lower()


def _json_places(ours: bytes, direct: bytes) -> Generator[None, None, list[str]]:
    """Returns the paths at which two bodies differ; "body" where one is no JSON and they are not the same bytes."""
    if ours == direct:
        return []
    try:
        one = lax_json.decode(ours)
        yield
        other = lax_json.decode(direct)
        yield
    except lax_json.UNREADABLE:
        return ["body"]
    found: dict[str, None] = {}
    levels, cost = [iter((_Pair(one, other, "", ""),))], 0  # the pairs still to compare, the innermost last
    while levels and len(found) < _MOST_PLACES:
        pair = next(levels[-1], None)
        if pair is None:
            levels.pop()
            continue
        cost += _LINK_COST if pair.name in _LINKS else 1
        if cost >= _VALUES_A_STEP:
            yield
            cost = 0
        if (below := _below(pair, found)) is not None:
            levels.append(below)
    return list(found)[:_MOST_PLACES]


def _below(pair: _Pair, found: dict[str, None]) -> Iterator[_Pair] | None:
    """Returns the pairs inside *pair* that are compared next; adds its path to *found* if the two values differ."""
    ours, direct, name, path = pair
    if isinstance(ours, dict) and isinstance(direct, dict):
        keys = [key for key in {**ours, **direct} if key not in _VOLATILE]
        found.update((_member(path, key), None) for key in keys if key not in ours or key not in direct)
        shared = (key for key in keys if key in ours and key in direct)
        return (_Pair(ours[key], direct[key], key, _member(path, key)) for key in shared)
    if isinstance(ours, list) and isinstance(direct, list) and len(ours) == len(direct):
        return (_Pair(one, other, name, f"{path}[]") for one, other in zip(ours, direct, strict=True))
    if not _is_same_value(name, ours, direct):
        found[path or "body"] = None
    return None


def _member(path: str, key: str) -> str:
    """Returns the path of a member; `*` stands for a key that may be an id or a name."""
    return f"{path}.{key if _PLAIN_KEY.fullmatch(key) else '*'}".removeprefix(".")


def _is_same_value(name: str, ours: Any, direct: Any) -> bool:
    if isinstance(ours, str) and isinstance(direct, str):
        return _is_same_text(name, ours, direct)
    return bool(ours == direct) and isinstance(ours, bool) == isinstance(direct, bool)


def _is_same_text(name: str, ours: str, direct: str) -> bool:
    """Returns whether two texts are equal: paging links by target and token, signed URLs by path."""
    if ours == direct:
        return True
    if not (ours.startswith("http") and direct.startswith("http")):
        return False
    if name in _LINKS:
        return _target_and_token(ours) == _target_and_token(direct)
    return bool(_SIGNED.search(ours) and _SIGNED.search(direct)) and _path(ours) == _path(direct)


def _target_and_token(link: str) -> tuple[str, str, str, str]:
    target = read_target(link)
    return target.version, target.path, target.query, target.last("access_token")


def _path(url: str) -> str:
    return url.partition("://")[2].partition("/")[2].partition("?")[0]
