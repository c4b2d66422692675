"""The emulator's own paths, under a prefix that Graph does not have."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from inspect import isawaitable
from typing import Any

from aiohttp.web import BaseRequest, Response

from proxy.emulator.server import notifications, webhooks
from proxy.emulator.server.parts import Parts

PREFIX = "/__emulator__/"

_HIDDEN = ("app_secret", "webhook_verify_token", "refused_tokens", "refused_on_top")


async def answer(parts: Parts, request: BaseRequest) -> Response:
    """Perform a control call; a malformed call is answered 400 with the reason."""
    action = _ACTIONS.get((request.method, request.path.removeprefix(PREFIX)))
    if action is None:
        return _json({"error": "no such control call", "known": sorted(f"{m} {p}" for m, p in _ACTIONS)}, 404)
    try:
        text = await request.text()
        said = action(parts, json.loads(text) if text.strip() else {})
        said = await said if isawaitable(said) else said
        await notifications.deliver(parts.graph.async_jobs)
        await webhooks.deliver(parts)
        return _json(said)
    except (ValueError, TypeError, KeyError) as error:
        return _json({"error": str(error)}, 400)


def _json(value: Any, status: int = 200) -> Response:
    return Response(text=json.dumps(value, indent=1), status=status, content_type="application/json")


def _ledger(parts: Parts, _asked: Any) -> Any:
    return parts.ledger.as_json()


def _reset(parts: Parts, asked: Any) -> Any:
    """Reset what `{"what": […]}` names; without it, everything."""
    what = asked.get("what") or list(_RESETS)
    for name in what:
        _RESETS[name](parts)
    return {"reset": what}


def _faults(parts: Parts, _asked: Any) -> Any:
    return {"faults": parts.faults.as_json()}


def _add_faults(parts: Parts, asked: Any) -> Any:
    """Put a fault, or a list of them, in force."""
    several = asked if isinstance(asked, list) else asked.get("faults", [asked])
    for fault in several:
        parts.faults.add(fault)
    return _faults(parts, asked)


def _clear_faults(parts: Parts, _asked: Any) -> Any:
    parts.faults.clear()
    return _faults(parts, _asked)


def _touch(parts: Parts, asked: Any) -> Any:
    """Change the object `id` now, to `fields` where they are given."""
    parts.world.touch(str(asked["id"]), asked.get("fields"))
    return {"touched": str(asked["id"])}


def _world(parts: Parts, _asked: Any) -> Any:
    return parts.world_as_json()


def _advance(parts: Parts, asked: Any) -> Any:
    """Advance the set or session `id`, or all, to `share` of its work; 1, the default, completes it."""
    moved = parts.graph.async_jobs.advance(float(asked.get("share", 1.0)), asked.get("id"))
    return {"moved": {group.id: group.is_completed for group in moved}}


def _subscribe(parts: Parts, _asked: Any) -> Any:
    """Verify `webhook_url`."""
    return webhooks.subscribe(parts)


def _pushed(parts: Parts, _asked: Any) -> Any:
    return {"pushed": list(parts.webhook_answers)}


def _settings(parts: Parts, _asked: Any) -> Any:
    """The settings in force, without secrets."""
    shown = asdict(parts.settings.config)
    return {name: bool(value) if name in _HIDDEN else value for name, value in shown.items()}


def _change_settings(parts: Parts, asked: Any) -> Any:
    parts.settings.update(asked)
    return _settings(parts, asked)


_RESETS: dict[str, Callable[[Parts], None]] = {
    "ledger": lambda parts: parts.ledger.clear(),
    "faults": lambda parts: parts.faults.clear(),
    "world": lambda parts: parts.restore_world(),
    "settings": lambda parts: parts.settings.reset(),
}
_ACTIONS: dict[tuple[str, str], Callable[[Parts, Any], Any]] = {
    ("GET", "ledger"): _ledger,
    ("POST", "reset"): _reset,
    ("GET", "faults"): _faults,
    ("POST", "faults"): _add_faults,
    ("DELETE", "faults"): _clear_faults,
    ("POST", "touch"): _touch,
    ("GET", "world"): _world,
    ("POST", "advance"): _advance,
    ("POST", "subscribe"): _subscribe,
    ("GET", "pushed"): _pushed,
    ("GET", "settings"): _settings,
    ("POST", "settings"): _change_settings,
}
