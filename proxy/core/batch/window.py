"""Decides when a batch leaves, and which reads may leave together."""

from __future__ import annotations

from collections.abc import Hashable

import msgspec
from msgspec.structs import replace

from proxy.core.model import Request

GRAPH_LIMIT = 50
"""Operations that Graph takes in one batch."""

STANDING = 0.25
"""The part of `queue_s` after which a queue is called standing: it takes in nobody until it has become shorter."""


class Limits(msgspec.Struct):
    """What holds for every group; the window in seconds. A reload changes them where they are."""

    slots: int = GRAPH_LIMIT
    window_s: float = 0.005
    in_flight: int = 8
    queue: int = 10_000
    by_token: bool = False  # a batch holds one token
    queue_s: float = 2.0

    def replace(self, other: Limits) -> None:
        """From now on let *other* hold."""
        for name in self.__struct_fields__:
            setattr(self, name, getattr(other, name))


def merge_limits(limits: Limits) -> Limits:
    """*limits* for reads that need company but no place in a batch: flights do not widen their window."""
    return replace(limits, slots=GRAPH_LIMIT, in_flight=limits.queue)


def group_of(request: Request, limits: Limits) -> Hashable:
    """What requests must share to ride together: all that the outer call says once for everyone in it."""
    token = request.credential.token if limits.by_token and request.credential else ""
    return request.host, request.language, token


def due(queued: int, oldest: float, in_flight: int, limits: Limits, now: float) -> float | None:
    """When the next batch of a group leaves if a connection is free (not after *now*: at once); None: nothing waits.

    A group with nothing in flight waits for nobody; behind a flight there is time to gather company (as in Nagle's
    algorithm, RFC 896). Flights never hold a batch back, for one may be slow. Those beyond `in_flight` widen the window
    in proportion, so that a group that is asked a lot gathers larger batches.
    """
    if not queued:
        return None
    if not in_flight or queued >= limits.slots:
        return now
    return oldest + window_s(in_flight, limits)


def window_s(in_flight: int, limits: Limits) -> float:
    """Seconds in which company is gathered behind so many flights."""
    return limits.window_s * max(1.0, in_flight / limits.in_flight)


def refusal(queued: int, waited: float, limits: Limits) -> str:
    """Why a newcomer may not wait: *queued* do, and the one whose place it would take has *waited* so long; "": it may.

    The oldest go first. A queue that is bounded by time when somebody joins is short, so the order costs little: all
    who are let in wait about equally long, nobody is overtaken, and a refusal is told at once, while the other order
    would let those who were let in wait in vain. What is measured is a wait that has happened, as in CoDel (RFC 8289):
    a burst that leaves as quickly as it came is taken in whole.
    """
    if queued >= limits.queue:
        return f"{queued} requests wait for a place in a batch already (setting batch.queue)"
    if waited > limits.queue_s * STANDING:
        return f"requests wait for {waited:.1f} s already (setting batch.queue_s)"
    return ""


def waited_out(limits: Limits) -> str:
    """What is told to a read that has waited as long as it may."""
    return f"no connection to Graph became free within {limits.queue_s:g} s (setting batch.queue_s)"
