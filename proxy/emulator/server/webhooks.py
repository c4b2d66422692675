"""Sends a webhook notification for every change of an object, signed with the app secret ("Webhooks: Getting Started").

Only this machine is ever called. A notification that cannot be delivered is lost, as it is at Meta in the end.
"""

from __future__ import annotations

import hmac
import json
from collections import defaultdict
from typing import Any

from aiohttp import ClientError, ClientSession, ClientTimeout
from yarl import URL

from proxy.emulator.objects.object_types import object_type_of
from proxy.emulator.objects.world import Change
from proxy.emulator.server.notifications import LOCAL, TIMEOUT_S
from proxy.emulator.server.parts import Parts

_CHALLENGE = "1158201444"
_MAX_CHANGES = 1000
"""The most changes in one notification."""


def signature(body: bytes, secret: str) -> str:
    """The value of X-Hub-Signature-256 for *body*."""
    return f"sha256={hmac.new(secret.encode(), body, 'sha256').hexdigest()}"


async def deliver(parts: Parts) -> None:
    """Send the changes since the last time, one call for each object type."""
    changes, config = parts.world.take_changes(), parts.settings.config
    if not config.webhook_url:
        return
    for start in range(0, len(changes), _MAX_CHANGES):
        for told in _notifications(changes[start : start + _MAX_CHANGES]):
            body = json.dumps(told).encode()
            fields = {"Content-Type": "application/json", "X-Hub-Signature-256": signature(body, config.app_secret)}
            parts.webhook_answers.append(await _call("POST", config.webhook_url, headers=fields, data=body))


async def subscribe(parts: Parts) -> dict[str, Any]:
    """Verify the subscriber's address, as Meta does when it is entered in the App Dashboard."""
    config = parts.settings.config
    asked = {"hub.mode": "subscribe", "hub.challenge": _CHALLENGE, "hub.verify_token": config.webhook_verify_token}
    said = await _call("GET", config.webhook_url, params=asked)
    return {"verified": said == f"200 {_CHALLENGE}", "said": said}


async def _call(method: str, url: str, **given: Any) -> str:
    """The answer's status and text, or the error if there is none."""
    try:
        if URL(url).host not in LOCAL:
            raise ValueError("The emulator calls no other machine")
        patience = ClientTimeout(TIMEOUT_S)
        async with ClientSession(timeout=patience) as session, session.request(method, url, **given) as reply:
            return f"{reply.status} {(await reply.text())[:200]}".strip()
    except (ClientError, OSError, ValueError) as error:
        return str(error) or type(error).__name__


def _notifications(changes: list[Change]) -> list[dict[str, Any]]:
    entries: dict[str, dict[str, dict[str, Any]]] = defaultdict(dict)
    for change in changes:
        kind = object_type_of(change.node)
        of_kind = entries[kind.name.lower() if kind else "page"]
        entry = of_kind.setdefault(change.node, {"id": change.node, "time": int(change.at), "changes": []})
        entry["changes"].append({"field": change.field, "value": change.value})
    return [{"object": kind, "entry": list(of_kind.values())} for kind, of_kind in entries.items()]
