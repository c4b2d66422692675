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
from string import ascii_letters, digits
from urllib.parse import quote, quote_from_bytes, unquote_to_bytes

import msgspec

from proxy.core.memo import MEMO_BYTES, Memo

Pairs = tuple[tuple[str, str], ...]

LIFTED = frozenset({"access_token", "appsecret_proof", "appsecret_time", "callback", "method"})
"""Parameters that say who asks and how, not what: they leave the query and so the key."""

BATCHES = frozenset({"batch", "asyncbatch"})
"""Parameters that make a call a batch."""

TRANSPORT = "_fb_"
"""How the parameters begin that Graph itself adds to links in a batch: they are no part of what is read."""

MOST_PARAMETERS = 1000
"""Parameters of a query that is read, as many as PHP takes; a longer one is passed on as it came."""

_DECIDING = LIFTED | BATCHES

_SAFE = "-._~,:()/"
_VERSION = re.compile(r"v[0-9]{1,4}\.[0-9]{1,4}\Z")
_AUTHORITY = re.compile(r"(?:[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?")
_OPEN = {"{": "}", "(": ")", "[": "]"}
_MARK = re.compile(r""""(?:[^"\\]|\\.)*+"|'(?:[^'\\]|\\.)*+'|[,{}()\[\]"']""", re.DOTALL)
_FIELD = re.compile(r"[.{(]")
_MEMBER = re.compile(r"""[^,"'\[\]]+""")
_REQUEST_LINE = re.compile(rb"[A-Z]+ (\S+) HTTP/1\.[01]\r?\n")
_NO_ASCII = re.compile(rb"[\x80-\xff]")
_ESCAPED = tuple((mark.encode(), f"%{ord(mark):02X}".encode()) for mark in '%"{}[]:,/?=&|+\\')  # "%" first
_KNOWN = f"{ascii_letters}{digits}_.~- {b''.join(mark for mark, _ in _ESCAPED).decode()}".encode()
_AS_PHP_NAMES = str.maketrans(" .[", "___")


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
    kept = _normal_pairs(pair for pair in pairs if pair[0] not in LIFTED)
    fields = next((value for key, value in reversed(pairs) if key == "fields"), "")
    return Target(authority, version, path, join_pairs(kept), kept, lifted, odd or _odd_names(pairs), fields)


def _is_text(target: str) -> bool:
    """Whether *target* can be written as bytes; JSON may hold half a surrogate pair, a socket never gives one."""
    try:
        target.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return False
    return True


_read_again = Memo(_read, 4 * MEMO_BYTES)
"""Programs repeat themselves; what they repeat is read once."""


def split_pairs(query: str) -> Pairs:
    """The decoded parameters of a query or an urlencoded body, in their order."""
    return tuple(_split_pair(piece) for piece in query.split("&") if piece)


def join_pairs(pairs: Pairs) -> str:
    """The one way in which the sidecar writes a query."""
    return "&".join(f"{_encode(name)}={_encode(value)}" for name, value in pairs)


def form(parameters: Mapping[str, str]) -> bytes:
    """*parameters* as an urlencoded body."""
    return b"&".join([b"%b=%b" % (_in_form(name), _in_form(value)) for name, value in parameters.items()])


def _in_form(text: str) -> bytes:
    """A batch is long and made of JSON: what JSON is made of is escaped a sort of mark at a time, not byte by byte."""
    if text.isidentifier() and text.isascii():
        return text.encode()
    raw = text.encode("utf-8", "surrogateescape")
    if raw.translate(None, delete=_KNOWN):
        return quote_from_bytes(raw, safe="").encode()
    for mark, escaped in _ESCAPED:
        raw = raw.replace(mark, escaped)
    return raw.replace(b" ", b"+")


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
    segments = [_unquote(piece) for piece in raw.removesuffix("/").split("/")[1:]]
    odd = "path" if any(piece in {"", ".", ".."} for piece in segments) else ""
    version = segments.pop(0) if segments and _VERSION.match(segments[0]) else ""
    return version, "/" + "/".join(quote(piece, safe="-._~,:()", errors="surrogateescape") for piece in segments), odd


def _split_pair(piece: str) -> tuple[str, str]:
    name, _, value = piece.partition("=")
    return _decode(name), _decode(value)


def _decode(text: str) -> str:
    return _unquote(text.replace("+", " "))


def _unquote(text: str) -> str:
    """*text* percent-decoded; bytes that are no UTF-8 stay apart, however many of them were escaped."""
    if "%" not in text:
        return text
    return unquote_to_bytes(text.encode("utf-8", "surrogateescape")).decode("utf-8", "surrogateescape")


def _encode(text: str) -> str:
    return quote(text, safe=_SAFE, errors="surrogateescape")


def _odd_names(pairs: Pairs) -> str:
    """A name that PHP takes for one that decides here, but is spelled so that another program might not."""
    odd = any(name not in _DECIDING and php_name(name) in _DECIDING for name, _ in pairs)
    return "parameter-name" if odd else ""


def php_name(name: str) -> str:
    """The variable that PHP makes of a parameter's name: `.`, a space and a `[` that nothing closes become `_`.

    (main/php_variables.c: it ends at a NUL, spaces before it are dropped, `a[b]` is an element of `a`.)
    """
    plain = name.partition("\0")[0].lstrip(" ")
    root, _, element = plain.partition("[")
    return (root if "]" in element else plain).translate(_AS_PHP_NAMES)


def _normal_pairs(pairs: Iterable[tuple[str, str]]) -> Pairs:
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


def escaped(head: bytes) -> bytes:
    """*head*, the beginning of a message, with the bytes of its target that are no ASCII percent-encoded.

    curl sends them as they were typed; RFC 3987 section 3.1 says what is meant.
    """
    line = _REQUEST_LINE.match(head)
    if line is None:
        return head
    target = _NO_ASCII.sub(lambda byte: b"%%%02X" % byte[0][0], line[1])
    return head[: line.start(1)] + target + head[line.end(1) :]


def origin_form(target: str) -> str:
    """*target* byte for byte, less the authority of an absolute form (RFC 9112 section 3.2.1)."""
    return without_transport(_split_authority(target)[1])


def without_transport(target: str) -> str:
    """*target*, a path and a query, without the parameters that Graph added to a link in a batch."""
    if TRANSPORT not in target:
        return target
    path, mark, query = target.partition("?")
    kept = "&".join(piece for piece in query.split("&") if not _decode(piece).startswith(TRANSPORT))
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
    return tuple(member for piece in _MEMBER.findall(str(value)) if (member := piece.strip()))


def fields_in(query: str) -> str:
    """The `fields` list of a query in normal form, "" for none."""
    _, found, value = f"&{query}".rpartition("&fields=")
    return _decode(value.partition("&")[0]) if found else ""


def normal_fields(text: str) -> str:
    """The `fields` list with its top level in order; what cannot be read safely stays as it is.

    So does a list that names a field twice: Graph refuses it (code 2500) and says at which place.
    """
    names = sorted(field_names(text))
    if not names or _names_twice(names):
        return text
    return msgspec.json.encode(names).decode() if text.startswith("[") else ",".join(names)


def _names_twice(names: list[str]) -> bool:
    """Whether a field stands twice among *names*, whatever is asked of it in each place."""
    each = [_FIELD.split(name, maxsplit=1)[0] for name in _split_top_level(",".join(names)) or names]
    return len(set(each)) < len(each)


def field_names(text: str) -> list[str]:
    """The top level of a `fields` list, which some write as a JSON array; [] if it cannot be read safely."""
    if not text.startswith("["):
        return _split_top_level(text)
    try:
        return msgspec.json.decode(text, type=list[str])
    except (msgspec.DecodeError, UnicodeEncodeError):
        return []


def _split_top_level(text: str) -> list[str]:
    """The pieces between commas outside braces, parentheses and quotes.

    [] when these do not pair up, or when a piece is empty or has white space around it: only Graph knows what it would
    make of those in another place.
    """
    pieces, start, closers = [], 0, []
    for found in _MARK.finditer(text):
        mark = found.group()
        if mark in _OPEN:
            closers.append(_OPEN[mark])
        elif mark in {"'", '"'} or (mark in {"}", ")", "]"} and (not closers or closers.pop() != mark)):
            return []
        elif mark == "," and not closers:
            pieces.append(text[start : found.start()])
            start = found.end()
    pieces.append(text[start:])
    return pieces if not closers and all(piece and piece == piece.strip() for piece in pieces) else []
