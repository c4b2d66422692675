"""Repeats a share of the reads directly at Graph and counts how the replies differ, without delaying callers."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from proxy.core.cache.key import Keys
from proxy.core.http.errors import SidecarError
from proxy.core.model import Reply
from proxy.core.quota.descriptors import QuotaSubject
from proxy.core.quota.ledger import was_counted
from proxy.core.quota.limiter import Limiter, throttle
from proxy.core.quota.usage_headers import usage_levels
from proxy.core.reply.comparison import LARGEST_COMPARED, Comparison, compare_in_steps
from proxy.core.routing.classify import Read
from proxy.core.routing.hosts import Head
from proxy.core.routing.nodes import calls_of
from proxy.core.routing.normal_form import origin_form
from proxy.shell.http.turns import pause
from proxy.shell.observe.counters import Counters
from proxy.shell.observe.faults import log_fault
from proxy.shell.pipeline.limiter_bypass import LimiterBypass
from proxy.shell.upstream.http1 import OnSent

MOST_IN_FLIGHT = 4
"""The most calls for comparison in flight; no further ones begin above this."""

_SENT_ALONG = {
    "accept": "Accept",
    "accept-language": "Accept-Language",
    "authorization": "Authorization",
    "user-agent": "User-Agent",
}
"""Header fields of the caller that may change Graph's reply, and are sent with the direct call."""

_log = logging.getLogger("graph_sidecar.compare")

AskAsSent = Callable[[str, str, Mapping[str, str], OnSent], Awaitable[Reply]]
"""Graph's reply to a GET of a target on a host, with these fields."""


class Comparer(Protocol):
    """Compares replies to plain reads with Graph's direct replies."""

    percent: float
    """The share of the reads that are compared."""

    def wants(self) -> bool:
        """Return whether this read takes the handler's path instead of the fast path; called once for each read."""

    def offer(self, head: Head, host: str, read: Read, reply: Reply) -> None:
        """Consider *reply* to *read*, which *head* requested of *host*, for a comparison."""


@dataclass(slots=True)
class DirectComparer:
    """Compares a share of the replies with direct ones."""

    ask: AskAsSent
    limiter: Limiter
    bypass: LimiterBypass
    keys: Keys
    telemetry: Counters
    steady: Callable[[], float]
    percent: float = 0.0
    _dice: random.Random = field(default_factory=random.Random)
    _is_wanted: bool = False
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def replace(self, percent: float) -> None:
        """Compare *percent* of the reads from now on."""
        self.percent = percent
        self._is_wanted = False

    def wants(self) -> bool:
        """Return whether this read is drawn: then it takes the usual way, since the fast path offers no replies."""
        if self.percent and not self._is_wanted:
            self._is_wanted = self._drawn()
        return self._is_wanted

    def offer(self, head: Head, host: str, read: Read, reply: Reply) -> None:
        """Begin to compare *reply* if it was drawn and one more call is allowed."""
        is_wanted, self._is_wanted = self._is_wanted or self._drawn(), False
        if not is_wanted:
            return
        try:
            self._begin(head, host, read, reply)
        except Exception as fault:  # noqa: BLE001 - whatever is wrong here, the caller gets its reply
            log_fault(fault)

    def _begin(self, head: Head, host: str, read: Read, reply: Reply) -> None:
        if reason := self._obstacle(head, read, reply):
            self.telemetry.not_compared[reason] += 1
            return
        task = asyncio.get_running_loop().create_task(self._compare(head, host, read, reply))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Cancel the comparisons in progress."""
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _drawn(self) -> bool:
        return bool(self.percent) and self._dice.random() * 100 < self.percent

    def _obstacle(self, head: Head, read: Read, reply: Reply) -> str:
        """Return the reason why *reply* is not compared, in a word; "" if it is."""
        if head.method != "GET" or read.callback or read.request.directives.if_none_match:
            return "form"
        if len(reply.body) > LARGEST_COMPARED:
            return "large"
        if len(self._tasks) >= MOST_IN_FLIGHT:
            return "busy"
        return "limit" if self._is_limit_near(read, reply) else ""

    def _is_limit_near(self, read: Read, reply: Reply) -> bool:
        """Whether a limit of *read* is stopped or near: the remaining calls are for callers."""
        request = read.request
        subject = QuotaSubject(self.keys.fingerprint(request.credential), request.path, request.query)
        watch = self.limiter.stages.watch_pct
        is_near = any(level.percent >= watch for level in usage_levels(reply.headers))
        return is_near or throttle(reply) is not None or self.limiter.pressure(subject, self.steady()) > 0

    async def _compare(self, head: Head, host: str, read: Read, reply: Reply) -> None:
        try:
            await self._ask_and_count(head, host, read, reply)
        except SidecarError:  # Large among them
            self.telemetry.not_compared["failed"] += 1
        except Exception as fault:  # noqa: BLE001 - no caller waits for the outcome
            log_fault(fault)
            self.telemetry.not_compared["failed"] += 1

    async def _ask_and_count(self, head: Head, host: str, read: Read, reply: Reply) -> None:
        request = read.request
        fields = {sent_name: head.headers[name] for name, sent_name in _SENT_ALONG.items() if name in head.headers}
        with self.telemetry.single(None, calls_of(request.query)) as sending:
            direct = await self.ask(host, origin_form(head.target), fields, sending.left)
            sending.answered([was_counted(direct)])
        self.bypass.on_reply(request.credential, direct, request.path, request.query)
        if throttle(direct) is not None:
            self.telemetry.not_compared["limit"] += 1
        elif len(direct.body) > LARGEST_COMPARED:
            self.telemetry.not_compared["large"] += 1
        else:
            await self._count(request.path, reply, direct)

    async def _count(self, path: str, reply: Reply, direct: Reply) -> None:
        kinds, places = await _compared(reply, direct)
        route = self.telemetry.compared_with_graph(path, kinds)
        if kinds:
            _log.info("%s differs from Graph's direct reply in %s: %s", route, ", ".join(kinds), ", ".join(places))


async def _compared(reply: Reply, direct: Reply) -> Comparison:
    """Return how two replies differ, computed in turns of the event loop."""
    steps = compare_in_steps(reply, direct)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            found: Comparison = end.value
            return found
        await pause()
