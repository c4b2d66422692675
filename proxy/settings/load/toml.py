"""Values as TOML, and what a setting takes, in words."""

from __future__ import annotations

import json
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from proxy.settings import Address


def to_toml(value: object) -> str:
    """A value as TOML."""
    match value:
        case bool():
            return "true" if value else "false"
        case int() | float():
            return f"{value:.15g}"
        case str() | Path() | Address():
            return json.dumps(str(value), ensure_ascii=False)
        case BaseModel():
            return to_toml(value.model_dump(exclude_unset=True))
        case list() | tuple():
            return f"[{', '.join(to_toml(item) for item in value)}]"
        case dict():
            return f"{{ {', '.join(f'{key} = {to_toml(item)}' for key, item in value.items())} }}"
    return str(value)


def description_with_bounds(info: FieldInfo) -> str:
    """The description of a setting, with its bounds."""
    takes = allowed(info)
    return (
        f"{info.description} ({takes})"
        if takes.startswith(("a number", "a whole", "one of"))
        else str(info.description)
    )


def allowed(info: FieldInfo | None) -> str:
    """Returns in words what a setting allows."""
    kind = kind_of(info) if info else None
    if kind is bool:
        return "true or false"
    if get_origin(kind) is Literal:
        return f"one of {', '.join(get_args(kind))}"
    if kind in {int, float}:
        low, high = _bounds(info)
        return f"a {'whole ' if kind is int else ''}number from {low:g} to {high:.15g}"
    if info and item_of(info):
        return "a table with at least a path"
    return "text"


def _bounds(info: FieldInfo | None) -> tuple[float, float]:
    found = info.metadata if info else []
    low = next(bound.ge for bound in found if hasattr(bound, "ge"))
    high = next(bound.le for bound in found if hasattr(bound, "le"))
    return low, high


def kind_of(info: FieldInfo) -> Any:
    """Returns the type of a setting, without the None of an optional one."""
    arms = get_args(info.annotation)
    return next(arm for arm in arms if arm is not NoneType) if NoneType in arms else info.annotation


def item_of(info: FieldInfo) -> type[BaseModel] | None:
    """Returns the model of a list's items, None if the setting is no list of tables."""
    first = next(iter(get_args(info.annotation)), None)
    return first if isinstance(first, type) and issubclass(first, BaseModel) else None
