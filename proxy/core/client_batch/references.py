"""`{result=name:$.path}`: found in an operation's text, and filled in with what the named operation answered.

References stand raw or percent-encoded in `relative_url` and `body`, several in one text; what they match is joined
with bare commas (developers.facebook.com/docs/graph-api/batch-requests).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple
from urllib.parse import quote, unquote

from proxy.core.client_batch import jsonpath

LONGEST_VALUE = 65_536
"""Characters that one text grows by: a URL can hold no more."""

MOST_IN_TEXT = 32
"""References in one text that are followed here; where there are more, Graph follows them."""

# Each begins with a set of two marks, for which a long text is searched quickly.
_OPENING = re.compile(r"[{%](?:(?<=\{)|(?<=%)7B)result(?:=|%3D)", re.IGNORECASE)
_COLON = re.compile(r"[:%](?:(?<=:)|(?<=%)3A)", re.IGNORECASE)
_CLOSING = re.compile(r"[}%](?:(?<=\})|(?<=%)7D)", re.IGNORECASE)


class _Reference(NamedTuple):
    """A reference, and where in its text it stands."""

    start: int
    end: int
    name: str
    path: str


def _references(text: str) -> Iterator[_Reference]:
    """The references in *text*, from left to right; name and path are never empty, and no byte is read twice.

    Where no colon or no brace follows one opening, none follows a later opening either.
    """
    at = 0
    while opening := _OPENING.search(text, at):
        colon = _COLON.search(text, opening.end() + 1)
        closing = colon and _CLOSING.search(text, colon.end() + 1)
        if not colon or not closing:
            return
        at = closing.end()
        name, path = text[opening.end() : colon.start()], text[colon.end() : closing.start()]
        yield _Reference(opening.start(), at, unquote(name), unquote(path))


def names_in(text: str) -> tuple[str, ...]:
    """The operations that *text* refers to, each once."""
    return tuple(dict.fromkeys(found.name for found in _references(text)))


def has_too_many(text: str) -> bool:
    """Whether *text* has more references than are followed here."""
    return sum(1 for _found in _OPENING.finditer(text)) > MOST_IN_TEXT


def can_be_followed(text: str) -> bool:
    """Whether the paths of all references in *text* are known here; what others mean, only Graph can say."""
    try:
        for found in _references(text):
            jsonpath.find(found.path, None)
    except jsonpath.BadPath:
        return False
    return True


def paths_in(text: str) -> tuple[tuple[str, str], ...]:
    """Each reference in *text*: the operation that it names, and what of its answer."""
    return tuple((found.name, found.path) for found in _references(text))


def fill(text: str, results: Mapping[str, Any]) -> str:
    """*text* with its references to operations among *results* replaced; others stay for Graph. Raises BadPath.

    A value goes in percent-encoded, for it stands inside a query or a form; a text that is nothing but a reference to a
    URL keeps that URL's own marks.
    """
    found = tuple(_references(text))
    is_whole = len(found) == 1 and not (text[: found[0].start] + text[found[0].end :]).strip()
    pieces, done, grown, visits = list[str](), 0, 0, jsonpath.Visits()
    for reference in found:
        if reference.name not in results:
            continue
        value = _joined(jsonpath.find(reference.path, results[reference.name], visits), visits)
        grown += len(value)
        if grown > LONGEST_VALUE:
            raise jsonpath.BadPath(f"{reference.path} (more than {LONGEST_VALUE} characters)")
        pieces += [text[done : reference.start], value if is_whole else quote(value, safe=",:", errors="replace")]
        done = reference.end
    return "".join([*pieces, text[done:]])


def _joined(matches: list[Any], visits: jsonpath.Visits) -> str:
    """What was matched, with bare commas between."""
    for match in matches:
        if isinstance(match, dict | list):
            for _node in jsonpath.nodes_in(match, visits):
                pass
    return ",".join(_plain(match) for match in matches if match is not None)


def _plain(value: Any) -> str:
    """A matched value as it goes into a text: a string as it is, anything else as its JSON, in ASCII as Graph's is."""
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
