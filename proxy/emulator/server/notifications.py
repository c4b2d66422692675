"""Calls the `notification_uri` of request sets that are complete.

Meta does not say what the call looks like; this one is a POST of the set as JSON. Only this machine is ever called.
"""

from __future__ import annotations

from typing import Any

from aiohttp import ClientError, ClientSession, ClientTimeout
from yarl import URL

from proxy.emulator.objects.async_jobs import STATUSES, AsyncJobs, RequestGroup

LOCAL = ("127.0.0.1", "localhost", "::1")
TIMEOUT_S = 2.0


async def deliver(async_jobs: AsyncJobs) -> None:
    """Send the queued notifications, and record their results."""
    for group in async_jobs.take_notifications():
        try:
            group.notification_result = await _send(group)
            group.notification_status = "sent"
        except (ClientError, OSError, ValueError) as error:
            group.notification_result = str(error) or type(error).__name__
            group.notification_status = "not_sent"


async def _send(group: RequestGroup) -> str:
    uri = URL(group.notification_uri)
    if uri.host not in LOCAL:
        raise ValueError("The emulator calls no other machine")
    async with (
        ClientSession(timeout=ClientTimeout(TIMEOUT_S)) as session,
        session.post(uri, json=_notification_body(group)) as reply,
    ):
        return f"HTTP {reply.status}"


def _notification_body(group: RequestGroup) -> dict[str, Any]:
    counts = {f"{status}_count": group.count(status) for status in STATUSES}
    return {"id": group.id, "name": group.name, "is_completed": True, "total_count": len(group.requests), **counts}
