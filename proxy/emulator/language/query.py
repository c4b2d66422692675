"""Parameters as PHP reads them: the last of two names wins, `+` is a space, `a[]` makes a list."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import unquote, urlencode

from proxy.emulator.language.json_style import parameter_text

Params = dict[str, Any]

_NOT_A_VALUE = frozenset(
    {"access_token", "appsecret_proof", "appsecret_time", "method", "id", "format", "pretty", "redownload", "debug"}
)

_KEYS = re.compile(r"\[([^\]]*)\]")
_TRUE = frozenset({"1", "true", "yes", "on"})


def parse_query(text: str) -> Params:
    """The parameters in a query string or urlencoded body."""
    params: Params = {}
    for pair in text.split("&"):
        if pair:
            name, _, value = pair.partition("=")
            _put(params, _decoded(name), _decoded(value))
    return params


def encode_query(params: Params) -> str:
    """*params* as a query string."""
    return urlencode([pair for name, value in params.items() for pair in _flat(name, value)])


def written_values(params: Params) -> Params:
    """The values that a write sets: the parameters that are not about the call itself."""
    return {name: value for name, value in params.items() if name not in _NOT_A_VALUE}


def truthy(value: Any) -> bool:
    """Returns whether a parameter says yes."""
    return str(value).lower() in _TRUE


def falsy(value: Any) -> bool:
    """Returns whether a parameter was given and says no."""
    return value is not None and not truthy(value)


def _flat(name: str, value: Any) -> list[tuple[str, str]]:
    if not isinstance(value, dict):
        return [(name, parameter_text(value))]
    return [pair for key, inner in value.items() for pair in _flat(f"{name}[{key}]", inner)]


def _decoded(text: str) -> str:
    return unquote(text.replace("+", " ")) if "+" in text or "%" in text else text


def _put(params: Params, name: str, value: str) -> None:
    base, bracket, rest = name.partition("[")
    if not bracket or not base or "]" not in rest:
        params[name] = value
        return
    _put_inside(params, base, _KEYS.findall(bracket + rest), value)


def _put_inside(params: Params, base: str, keys: list[str], value: str) -> None:
    """Follow PHP: `a[]` appends, `a[k]` sets, and a list is a map with counted keys."""
    holder: dict[str, Any] = params
    for key in [base, *keys[:-1]]:
        inner = holder.get(key)
        if not isinstance(inner, dict):
            inner = holder[key] = {}
        holder = inner
    holder[keys[-1] or str(len(holder))] = value
