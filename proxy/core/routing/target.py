"""The normal form: many spellings of one read become one `Request`, which is also what Graph is asked.

Names and values are read as Graph's PHP reads them: `+` is a space, the last of several equal names wins, `a[]`
collects.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import quote

import msgspec

from proxy.core.memory.memo import MEMO_BYTES, Memo, memo
from proxy.core.routing.fields_param import MEMBER, normal_fields
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


def calls_of(query: str) -> int:
    """As how many calls a read with this *query* counts: each of its `ids` is one."""
    return _ids(query) if "ids" in query else 1


@memo()
def _ids(query: str) -> int:
    pairs = split_pairs(query)
    of_array = [value for name, value in pairs if name != "ids" and php_name(name) == "ids"]
    return max(1, len(listed(of_array or dict(pairs).get("ids", ""))))


TRANSPORT = "_fb_"
"""How the parameters begin that Graph itself adds to links in a batch: they are no part of what is read."""

MOST_PARAMETERS = 1000
"""Parameters of a query that is read, as many as PHP takes; a longer one is passed on as it came."""
_VERSION = re.compile(r"v[0-9]{1,4}\.[0-9]{1,4}\Z")
_AUTHORITY = re.compile(r"(?:[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?")


@dataclass(frozen=True, slots=True, repr=False)
class Target:
    """A request target taken apart: *query* is in normal form, *lifted* holds every value of the lifted names."""

    authority: str  # of an absolute-form target (RFC 9112 section 3.2.2), else ""
    version: str
    path: str
    query: str
    pairs: Pairs
    lifted: dict[str, tuple[str, ...]]
    odd: str  # why this target is not understood well enough to be answered here, else ""
    fields: str = ""  # the `fields` that PHP would see, as they came

    def last(self, name: str) -> str:
        """The value of the lifted parameter *name* that PHP would see."""
        values = self.lifted.get(name, ())
        return values[-1] if values else ""

    def get(self, name: str) -> str:
        """The value of the parameter *name* that PHP would see."""
        return next((value for key, value in reversed(self.pairs) if key == name), "")


def read_target(target: str) -> Target:
    """Take *target*, as it stood in the request line, to its normal form."""
    return _read_again(target)


@lru_cache(maxsize=1)  # one message asks for its target several times, and a long one is not remembered below
def _read(target: str) -> Target:
    if not _is_text(target):
        return Target("", "", "/", "", (), {}, "text")
    authority, rest = _split_authority(target)
    raw_path, _, raw_query = rest.partition("?")
    version, path, odd = _read_path(raw_path)
    pairs = tuple(pair for pair in split_pairs(raw_query) if not pair[0].startswith(TRANSPORT))
    given = LIFTED.intersection(name for name, _ in pairs)
    lifted = {name: tuple(value for key, value in pairs if key == name) for name in given}
    if len(pairs) > MOST_PARAMETERS:
        return Target(authority, version, path, "", (), lifted, odd or "parameters")
    kept = normal_pairs(pair for pair in pairs if pair[0] not in LIFTED)
    fields = next((value for key, value in reversed(pairs) if key == "fields"), "")
    return Target(authority, version, path, join_pairs(kept), kept, lifted, odd or odd_names(pairs), fields)


def _is_text(target: str) -> bool:
    """Whether *target* can be written as bytes; JSON may hold half a surrogate pair, a socket never gives one."""
    try:
        target.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return False
    return True


_read_again = Memo(_read, 4 * MEMO_BYTES)
"""Programs repeat themselves; what they repeat is read once."""


def _split_authority(target: str) -> tuple[str, str]:
    if target.startswith("/"):
        return "", target
    _, _, rest = target.partition("://")
    authority, slash, path = rest.partition("/")
    if not slash and "?" in authority:
        authority, _, query = authority.partition("?")
        return authority.lower(), f"/?{query}"
    return authority.lower(), slash + path or "/"


def _read_path(raw: str) -> tuple[str, str, str]:
    """Version, path, and what is odd about them; a slash at the end says nothing (`/111/` is `/111`)."""
    segments = [unquote(piece) for piece in raw.removesuffix("/").split("/")[1:]]
    odd = "path" if any(piece in {"", ".", ".."} for piece in segments) else ""
    version = segments.pop(0) if segments and _VERSION.match(segments[0]) else ""
    return version, "/" + "/".join(quote(piece, safe="-._~,:()", errors="surrogateescape") for piece in segments), odd


def origin_form(target: str) -> str:
    """*target* byte for byte, less the authority of an absolute form (RFC 9112 section 3.2.1)."""
    return without_transport(_split_authority(target)[1])


def without_transport(target: str) -> str:
    """*target*, a path and a query, without the parameters that Graph added to a link in a batch."""
    if TRANSPORT not in target:
        return target
    path, mark, query = target.partition("?")
    kept = "&".join(piece for piece in query.split("&") if not decode(piece).startswith(TRANSPORT))
    return f"{path}?{kept}" if mark and kept else path


def version_of(path: str) -> str:
    """The version that *path* begins with, "" for none."""
    first = path.removeprefix("/").partition("/")[0]
    return first if _VERSION.match(first) else ""


def is_authority(text: str) -> bool:
    """Whether *text* is a host and perhaps a port, and so safe inside a link."""
    return _AUTHORITY.fullmatch(text) is not None


def nodes(path: str, query: str) -> tuple[str, ...]:
    """The objects that a call is about: the first segment of its path, else its `ids` or `id`; () if it names none."""
    first = path[1:].partition("/")[0]
    return (first,) if first else named(dict(split_pairs(query)))


def named(given: Mapping[str, object]) -> tuple[str, ...]:
    """The objects that the parameters *given* name: `ids=1,2`, `ids=["1","2"]`, `ids[]=1&ids[]=2` or `id=1`."""
    several = [each for name, value in given.items() if php_name(name) == "ids" for each in listed(value)]
    return (*several, *listed(given.get("id", "")))


def listed(value: object) -> tuple[str, ...]:
    """The members of a list: a list already, a JSON array, in which a URL may hold commas, or what commas part."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        with contextlib.suppress(msgspec.DecodeError, UnicodeEncodeError, RecursionError):
            value = msgspec.json.decode(value)
    if isinstance(value, list):
        return tuple(str(each) for each in value)
    return tuple(member for piece in MEMBER.findall(str(value)) if (member := piece.strip()))


def normal_pairs(pairs: Iterable[tuple[str, str]]) -> Pairs:
    """Sorted by PHP's name, equal names in their order; of identical pairs the last stays, for there the last wins.

    `a[]=1&a[]=1` are two elements of a PHP array: they are all kept, in their order.
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
