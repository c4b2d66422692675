"""JSON as Graph writes it: escaped slashes, ASCII only, and three spaces when indented."""

from __future__ import annotations

import json
from typing import Any

_compact = json.JSONEncoder(separators=(",", ":")).encode
_pretty = json.JSONEncoder(indent=3).encode


def to_json(value: Any, *, pretty: bool = False) -> str:
    r"""*value* as text in which `/` is `\/`, `@` is `\u0040` and `%` is `\u0025`."""
    # All three can stand only inside strings, so replacing them in the finished text is safe.
    text = _pretty(value) if pretty else _compact(value)
    return text.replace("/", "\\/").replace("@", "\\u0040").replace("%", "\\u0025")


def parameter_text(value: Any) -> str:
    """A parameter's *value* as the text that a query string would hold."""
    return value if isinstance(value, str) else _compact(value)
