"""Reads the rate limits that a batch reply reports around its slots, in its own header fields and status."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from proxy.core.batch.response import BatchFailure
from proxy.core.model import Credential, Reply, Request
from proxy.core.quota.descriptors import one_node
from proxy.shell.pipeline.batcher import Upstream
from proxy.shell.upstream.http1 import OnSent


class BatchUsage:
    """Wraps the upstream client; usage in a batch's own reply belongs to the token of the batch as a whole."""

    def __init__(self, upstream: Upstream, on_reply: Callable[[Credential, Reply, str], None]) -> None:
        """Ask *upstream*, and let *on_reply* take the replies to batches, with the path of what all slots are about."""
        self._upstream = upstream
        self._on_reply = on_reply
        self.single = upstream.single

    async def batch(
        self, requests: Sequence[Request], top: Credential, on_sent: OnSent, parts: Sequence[bytes] = ()
    ) -> Reply | BatchFailure:
        """Graph's answer to a batch. Raises Unreachable."""
        answer = await self._upstream.batch(requests, top, on_sent, parts)
        if isinstance(answer, Reply):
            self._on_reply(top, answer, one_node(requests))
        return answer
