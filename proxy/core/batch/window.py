"""Decides when a batch leaves, and which reads may leave together; `shell/pipeline/batch_queue` waits and sends.

`shell/upstream/fair_share` says when a connection is free. `shell/pipeline/batcher` has a queue for each group, in
which reads of the fast path wait, too; `shell/pipeline/merger` has another, with `merge_limits`.
"""

from __future__ import annotations

from collections.abc import Hashable

import msgspec
from msgspec.structs import replace

from proxy.core.batch.lanes import Lane
from proxy.core.model import Request

GRAPH_LIMIT = 50
"""The most operations that Graph takes in one batch."""

STANDING_SHARE = 0.25
"""The share of `queue_s` after which a queue counts as standing: it refuses new reads until it has become shorter."""


class Limits(msgspec.Struct):
    """The settings of batches, for every group; times in seconds. A reload changes this object in place."""

    slots: int = GRAPH_LIMIT
    window_s: float = 0.005
    in_flight: int = 8
    queue: int = 10_000
    by_token: bool = False  # whether a batch holds reads of one token only
    queue_s: float = 2.0
    lanes: bool = True  # whether a batch holds reads of routes of one speed only
    answer_bytes: int = 64 * 2**20  # that the answers which are being read may have together

    def replace(self, other: Limits) -> None:
        """Take over the values of *other*."""
        for name in self.__struct_fields__:
            setattr(self, name, getattr(other, name))


def merge_limits(limits: Limits) -> Limits:
    """Returns the limits of the merge queue: full batches, and a window that does not widen with calls in flight."""
    # No group has as many batches in flight as reads may wait, so the window never widens.
    return replace(limits, slots=GRAPH_LIMIT, in_flight=limits.queue, lanes=False)


def group_of(request: Request, limits: Limits, lane: Lane | None = None) -> Hashable:
    """Returns what requests must have in common to share a batch: all that the batch call states once, and the lane."""
    token = request.credential.token if limits.by_token and request.credential else ""
    return request.host, request.language, token, lane


def due(queued: int, oldest: float, in_flight: int, limits: Limits, now: float) -> float | None:
    """Returns when the next batch of a group leaves, given a free connection (a past time: at once); None: none waits.

    A batch leaves at the end of this turn of the event loop if nothing is in flight, or if it is full (`slots`).
    While a batch is in flight, the next one waits for the window, so that more reads join it (as in Nagle's
    algorithm, RFC 896). It never waits for an earlier batch to end, for that may be slow. More batches than
    `in_flight` widen the window in proportion, so that a busy group sends larger batches. A late batch
    (`lanes.late_after`) no longer counts as *in_flight*: it neither opens nor widens a window.
    """
    if not queued:
        return None
    if not in_flight or queued >= limits.slots:
        return now
    return oldest + window_s(in_flight, limits)


def window_s(in_flight: int, limits: Limits) -> float:
    """Returns the seconds that a batch waits for more reads while *in_flight* batches are under way."""
    return limits.window_s * max(1.0, in_flight / limits.in_flight)


def queue_refusal(queued: int, waited: float, limits: Limits) -> str:
    """Returns why a new read is refused when *queued* reads wait and the next has *waited* so long; "" if it is not.

    The oldest read leaves first. Because the queue is bounded by time when a read joins, it is short: all reads that
    are let in wait about equally long, and a refusal comes at once. With the newest first, reads that were let in would
    wait in vain. The measure is a wait that has happened, as in CoDel (RFC 8289): a burst that leaves as quickly as it
    came is let in whole.
    """
    if queued >= limits.queue:
        return f"{queued} requests wait for a place in a batch already (setting batch.queue)"
    if waited > limits.queue_s * STANDING_SHARE:
        return f"requests wait for {waited:.1f} s already (setting batch.queue_s)"
    return ""


def queue_timeout_message(limits: Limits) -> str:
    """Returns the error message for a read that has waited for `queue_s`."""
    return f"no connection to Graph became free within {limits.queue_s:g} s (setting batch.queue_s)"
