"""`{result=name:$.path}`: found in an operation's text, and filled in with what the named operation answered.

References stand raw or percent-encoded in `relative_url` and `body`, several in one text; what they match is joined
with bare commas (developers.facebook.com/docs/graph-api/batch-requests).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote, unquote

from proxy.core import jsonpath

_REFERENCE = re.compile(
    r"(?:\{|%7B)result(?:=|%3D)(?P<name>.+?)(?::|%3A)(?P<path>.+?)(?:\}|%7D)",
    re.IGNORECASE | re.DOTALL,
)


def names_in(text: str) -> tuple[str, ...]:
    """The operations that *text* refers to, each once."""
    return tuple(dict.fromkeys(unquote(found["name"]) for found in _REFERENCE.finditer(text)))


def can_be_followed(text: str) -> bool:
    """Whether the paths of all references in *text* are known here; what others mean, only Graph can say."""
    try:
        for found in _REFERENCE.finditer(text):
            jsonpath.find(unquote(found["path"]), None)
    except jsonpath.BadPath:
        return False
    return True


def paths_in(text: str) -> tuple[tuple[str, str], ...]:
    """Each reference in *text*: the operation that it names, and what of its answer."""
    return tuple((unquote(found["name"]), unquote(found["path"])) for found in _REFERENCE.finditer(text))


def fill(text: str, results: Mapping[str, Any]) -> str:
    """*text* with its references to operations among *results* replaced; others stay for Graph. Raises BadPath.

    A value goes in percent-encoded, for it stands inside a query or a form; a text that is nothing but a reference to a
    URL keeps that URL's own marks.
    """
    stripped = text.strip()
    first = _REFERENCE.match(stripped)
    is_whole = first is not None and first.end() == len(stripped)
    encode: Callable[[str], str] = str if is_whole else lambda value: quote(value, safe=",:")

    def value(found: re.Match[str]) -> str:
        name = unquote(found["name"])
        if name not in results:
            return found[0]
        matches = jsonpath.find(unquote(found["path"]), results[name])
        return encode(",".join(_plain(match) for match in matches if match is not None))

    return _REFERENCE.sub(value, text)


def _plain(value: Any) -> str:
    """A matched value as it goes into a text: a string as it is, anything else as its JSON, in ASCII as Graph's is."""
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
