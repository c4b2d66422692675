"""References between operations, `{result=name:$.path}`: finds them, and fills in what the named operation answered.

References stand raw or percent-encoded in `relative_url` and `body`, several in one text; their matches are joined with
bare commas (developers.facebook.com/docs/graph-api/batch-requests). `jsonpath` says what a path finds: what Goessner's
article says, and a bare number is an index.

Graph fills in a reference to an operation of the same call. `fill` does so here in two cases. First, the batch has only
reads, and the first read of each chain has an entry in the cache, so that whole chains can be revalidated
(`shell/downstream/client_batch._are_roots_held`). Second, the operation went in an earlier call, because `split`
divided the batch (`shell/downstream/client_batch_calls`). Both call `fill` by
`shell/downstream/client_batch_slots.texts`.

An operation that refers to one which did not succeed (`slots.is_success`: code 200) is not performed, as in Graph, and
its slot is null (`client_batch_slots.any_failed`). The fast path takes no client batch.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple
from urllib.parse import quote, unquote

from proxy.core.client_batch import jsonpath

LONGEST_VALUE = 65_536
"""The most characters that a text grows by: a URL can hold no more."""

MOST_IN_TEXT = 32
"""The most references in one text that are filled in here; Graph fills in those of a text with more."""

# Each pattern begins with a set of two characters, so that a long text is searched quickly.
_OPENING = re.compile(r"[{%](?:(?<=\{)|(?<=%)7B)result(?:=|%3D)", re.IGNORECASE)
_COLON = re.compile(r"[:%](?:(?<=:)|(?<=%)3A)", re.IGNORECASE)
_CLOSING = re.compile(r"[}%](?:(?<=\})|(?<=%)7D)", re.IGNORECASE)


class _Reference(NamedTuple):
    """A reference: where it stands in its text, the operation that it names, and the JSONPath."""

    start: int
    end: int
    name: str
    path: str


def _references(text: str) -> Iterator[_Reference]:
    """Yields the references in *text* from left to right; name and path are never empty, and no byte is read twice.

    If no colon or no closing brace follows an opening, none follows a later opening either.
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
    """Returns the names of the operations that *text* refers to, each once."""
    return tuple(dict.fromkeys(found.name for found in _references(text)))


def has_too_many(text: str) -> bool:
    """Returns whether *text* has more references than are filled in here."""
    return sum(1 for _found in _OPENING.finditer(text)) > MOST_IN_TEXT


def can_be_followed(text: str) -> bool:
    """Returns whether the paths of all references in *text* are understood; other paths are left to Graph."""
    try:
        for found in _references(text):
            jsonpath.find(found.path, None)
    except jsonpath.BadPath:
        return False
    return True


def paths_in(text: str) -> tuple[tuple[str, str], ...]:
    """Returns name and path of each reference in *text*."""
    return tuple((found.name, found.path) for found in _references(text))


def fill(text: str, results: Mapping[str, Any]) -> str:
    """Returns *text* with references to operations in *results* filled in; others stay for Graph. Raises BadPath.

    A value is percent-encoded, because it stands inside a query or a form; only a text that is one whole reference
    takes the value as it is, for that may be a URL.
    """
    found = tuple(_references(text))
    is_whole = len(found) == 1 and not (text[: found[0].start] + text[found[0].end :]).strip()
    pieces, done, grown, visits = list[str](), 0, 0, jsonpath.VisitBudget()
    for reference in found:
        if reference.name not in results:
            continue
        value = _join_matches(jsonpath.find(reference.path, results[reference.name], visits), visits)
        grown += len(value)
        if grown > LONGEST_VALUE:
            raise jsonpath.BadPath(f"{reference.path} (more than {LONGEST_VALUE} characters)")
        pieces += [text[done : reference.start], value if is_whole else quote(value, safe=",:", errors="replace")]
        done = reference.end
    return "".join([*pieces, text[done:]])


def _join_matches(matches: list[Any], visits: jsonpath.VisitBudget) -> str:
    """Returns the matched values as text, joined with bare commas."""
    for match in matches:
        if isinstance(match, dict | list):
            for _node in jsonpath.nodes_in(match, visits):
                pass
    return ",".join(_as_text(match) for match in matches if match is not None)


def _as_text(value: Any) -> str:
    """Returns a matched value as text: a string as it is, anything else as JSON in ASCII, like Graph's."""
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
