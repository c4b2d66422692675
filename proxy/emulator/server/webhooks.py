"""Webhooks: whatever changes an object is told to the one who subscribed, signed with the app's secret.

("Webhooks: Getting Started") Only this machine is ever called; what cannot be delivered is lost, as at Meta in the end.
"""

from __future__ import annotations

import hmac
import json
from collections import defaultdict
from typing import Any

from aiohttp import ClientError, ClientSession, ClientTimeout
from yarl import URL

from proxy.emulator.objects.object_types import kind_of
from proxy.emulator.objects.world import Change
from proxy.emulator.server.notifications import LOCAL, PATIENCE
from proxy.emulator.server.parts import Parts

_CHALLENGE = "1158201444"
_MOST = 1000
"""Updates that one call tells of."""


def signature(body: bytes, secret: str) -> str:
    """What stands in X-Hub-Signature-256."""
    return f"sha256={hmac.new(secret.encode(), body, 'sha256').hexdigest()}"


async def deliver(parts: Parts) -> None:
    """Tell of what has changed since the last time, a call for each kind of object."""
    changes, config = parts.world.news(), parts.settings.config
    if not config.webhook_url:
        return
    for start in range(0, len(changes), _MOST):
        for told in _notifications(changes[start : start + _MOST]):
            body = json.dumps(told).encode()
            fields = {"Content-Type": "application/json", "X-Hub-Signature-256": signature(body, config.app_secret)}
            parts.pushed.append(await _called("POST", config.webhook_url, headers=fields, data=body))


async def subscribe(parts: Parts) -> dict[str, Any]:
    """Shake hands with the subscriber, as when an address is entered in the App Dashboard."""
    config = parts.settings.config
    asked = {"hub.mode": "subscribe", "hub.challenge": _CHALLENGE, "hub.verify_token": config.webhook_verify_token}
    said = await _called("GET", config.webhook_url, params=asked)
    return {"verified": said == f"200 {_CHALLENGE}", "said": said}


async def _called(method: str, url: str, **given: Any) -> str:
    """The status and the text of the answer, or why there is none."""
    try:
        if URL(url).host not in LOCAL:
            raise ValueError("The emulator calls no other machine")
        patience = ClientTimeout(PATIENCE)
        async with ClientSession(timeout=patience) as session, session.request(method, url, **given) as reply:
            return f"{reply.status} {(await reply.text())[:200]}".strip()
    except (ClientError, OSError, ValueError) as error:
        return str(error) or type(error).__name__


def _notifications(changes: list[Change]) -> list[dict[str, Any]]:
    entries: dict[str, dict[str, dict[str, Any]]] = defaultdict(dict)
    for change in changes:
        kind = kind_of(change.node)
        of_kind = entries[kind.name.lower() if kind else "page"]
        entry = of_kind.setdefault(change.node, {"id": change.node, "time": int(change.at), "changes": []})
        entry["changes"].append({"field": change.field, "value": change.value})
    return [{"object": kind, "entry": list(of_kind.values())} for kind, of_kind in entries.items()]
