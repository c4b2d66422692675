"""Notifications: when a set that asked for one is complete, its `notification_uri` is called.

Meta does not say what the call looks like; this one is a POST of the set as JSON. Only this machine is ever called.
"""

from __future__ import annotations

from typing import Any

from aiohttp import ClientError, ClientSession, ClientTimeout
from yarl import URL

from proxy.emulator.objects.async_jobs import STATUSES, Group, Later

LOCAL = ("127.0.0.1", "localhost", "::1")
PATIENCE = 2.0


async def deliver(later: Later) -> None:
    """Send what is due, and keep what came of it."""
    for group in later.due():
        try:
            group.notice_result = await _sent(group)
            group.notice = "sent"
        except (ClientError, OSError, ValueError) as error:
            group.notice_result = str(error) or type(error).__name__
            group.notice = "not_sent"


async def _sent(group: Group) -> str:
    uri = URL(group.uri)
    if uri.host not in LOCAL:
        raise ValueError("The emulator calls no other machine")
    async with ClientSession(timeout=ClientTimeout(PATIENCE)) as session, session.post(uri, json=_told(group)) as reply:
        return f"HTTP {reply.status}"


def _told(group: Group) -> dict[str, Any]:
    counts = {f"{status}_count": group.count(status) for status in STATUSES}
    return {"id": group.id, "name": group.name, "is_completed": True, "total_count": len(group.errands), **counts}
