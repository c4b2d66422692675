"""Renders an answer as text: indentation, JSONP, `debug`; computes its ETag."""

from __future__ import annotations

import hashlib
import re
from typing import Any

from proxy.emulator.config import Config
from proxy.emulator.language.calls import Call
from proxy.emulator.language.json_style import to_json
from proxy.emulator.language.query import Params, falsy, truthy

_CALLBACK = re.compile(r"[\w$.\[\]]+")
_NO_FIELDS = {
    "message": "No fields were asked for; the reply holds the default ones.",
    "type": "info",
    "link": "https://developers.facebook.com/docs/graph-api/overview#fields",
}


def render_body(value: Any, call: Call, config: Config) -> str:
    """The body that holds *value* for this call."""
    if isinstance(value, dict) and call.params.get("debug"):
        value = {**value, "__debug__": _debug(call.params)}
    text = to_json(value, pretty=_is_pretty(call, config))
    return wrap_jsonp(text, call.params) if call.channel == "single" else text


def wrap_jsonp(text: str, params: Params) -> str:
    """*text* as a call of the JSONP `callback`, if there is one."""
    return f"/**/ {params['callback']}({text});" if is_jsonp(params) else text


def is_jsonp(params: Params) -> bool:
    """Returns whether a JSONP callback was asked for."""
    callback = params.get("callback")
    return callback is not None and _CALLBACK.fullmatch(str(callback)) is not None


def etag_of(text: str, call: Call, config: Config) -> str:
    """The ETag: forty hex digits over the whole formatted body ("Marketing API: ETags")."""
    digest = hashlib.sha1(text.encode(), usedforsecurity=False)
    if config.etag_by_user_agent:
        digest.update(call.user_agent.encode())
    if config.etag_by_channel:
        digest.update(call.channel.encode())
    return f'"{digest.hexdigest()}"'


def matches_if_none_match(etag: str, call: Call) -> bool:
    """Returns whether the caller's If-None-Match names this ETag, quotes included."""
    asked = call.headers.get("if-none-match")
    return asked is not None and etag in (part.strip() for part in asked.split(","))


def _is_pretty(call: Call, config: Config) -> bool:
    if call.channel == "batch" and config.batch_formatting != "same":
        return config.batch_formatting == "pretty"
    asked = call.params.get("pretty")
    if truthy(asked) or falsy(asked):
        return truthy(asked)
    return config.pretty_for_browsers and call.user_agent.startswith("Mozilla")


def _debug(params: Params) -> dict[str, Any]:
    """Returns the member that `debug=all` adds (developers.facebook.com, "Debug Requests")."""
    wanted = str(params["debug"]).lower() in {"all", "info"} and not params.get("fields")
    return {"messages": [_NO_FIELDS]} if wanted else {}
