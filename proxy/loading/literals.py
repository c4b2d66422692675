"""What text stands for where a setting is no string."""

from __future__ import annotations

import json
import tomllib
from typing import get_origin

from pydantic.fields import FieldInfo

from proxy.loading.words import kind_of


def decode(text: str, info: FieldInfo) -> object:
    """The value that *text* stands for: JSON or TOML where the setting is no string, else the text itself."""
    value = _literal(text)
    if _is_text(info):
        return value if isinstance(value, str) else text
    if isinstance(value, str) or value is None:
        return text
    return value


def _literal(text: str) -> object:
    """*text* read as JSON (how charts write lists), else as TOML (how the file does), else None."""
    # Helm and compose files write True as readily as true.
    text = text.strip().lower() if text.strip().lower() in {"true", "false"} else text
    try:
        if text.lstrip().startswith(("[", "{", '"')):
            return json.loads(text)
    except (ValueError, RecursionError):
        pass
    try:
        table = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):
        return None
    return table["value"] if len(table) == 1 else None


def _is_text(info: FieldInfo) -> bool:
    """Whether the setting is written as a plain string: a word, a path, an address."""
    kind = kind_of(info)
    return kind not in {bool, int, float} and get_origin(kind) is not tuple
