"""`{result=name:path}`: finding references in an operation's text and filling them in.

They stand in `relative_url` and `body`, raw or percent-encoded (developers.facebook.com, "Batch Requests").
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, unquote

from proxy.emulator.language import jsonpath
from proxy.emulator.language.json_style import parameter_text

_REFERENCE = re.compile(
    r"(?:\{|%7B)result(?:=|%3D)(?P<name>.(?:(?!:|%3A).)*+)(?::|%3A)(?P<path>.(?:(?!\}|%7D).)*+)(?:\}|%7D)",
    re.IGNORECASE,
)


def _may_refer(text: str) -> bool:
    """Returns whether *text* may hold a reference: a brace stands there, or an escape."""
    return "{" in text or "%7" in text


def referenced_names(text: str) -> list[str]:
    """The names of the operations that *text* refers to."""
    if not _may_refer(text):
        return []
    return [unquote(found["name"]) for found in _REFERENCE.finditer(text)]


def fill_references(text: str, results: Mapping[str, Any]) -> str:
    """Returns *text* with every reference replaced by its matches in *results*."""
    if not _may_refer(text):
        return text
    whole = _REFERENCE.match(text.strip())
    if whole and whole.end() == len(text.strip()):
        # An operation may be nothing but a reference to a URL, which must keep its `?` and `&`.
        return _value(whole, results)
    return _REFERENCE.sub(lambda found: quote(_value(found, results), safe=",:"), text)


def _value(found: re.Match[str], results: Mapping[str, Any]) -> str:
    result = results.get(unquote(found["name"]))
    matches = jsonpath.find(unquote(found["path"]), result)
    return ",".join(parameter_text(match) for match in matches if match is not None)
