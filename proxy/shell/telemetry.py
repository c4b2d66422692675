"""Counts what happened, in the words of `Mode` and in Meta's units; at debug, one log line for each reply."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable

from proxy.core.errors import SidecarError
from proxy.core.messages import Mode, Reply, Request
from proxy.core.normal import nodes

_log = logging.getLogger("graph_sidecar.reply")


class Telemetry:
    """What `/stats` tells. Calls, bytes and round trips avoided are three numbers and are never added up."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """Begin at nothing; *clock* gives monotonic seconds."""
        self._clock = clock
        self._began = clock()
        self._replies: Counter[Mode] = Counter()
        self._slots: Counter[int] = Counter()
        self._again: Counter[str] = Counter()
        self._calls_avoided: Counter[str] = Counter()
        self._alone = 0
        self._client_batches = 0
        self._client_operations = 0
        self._bytes_avoided = 0

    def replied(self, request: Request, reply: Reply, fingerprint: bytes, seconds: float) -> None:
        """A read was answered, *seconds* after it came in."""
        self._replies[reply.mode] += 1
        self._save(request, reply)
        if _log.isEnabledFor(logging.DEBUG):
            route = f"{request.version}/{'{id}' if request.path[1:2].isdigit() else request.path[1:].partition('/')[0]}"
            _log.debug(
                "%s %s %s %.1f ms token %s", reply.mode, reply.status, route, seconds * 1000, fingerprint.hex()[:12]
            )

    def passed(self, reason: str, status: int, seconds: float) -> None:
        """A message passed through for *reason*, and ended *seconds* after it came in."""
        self._replies[Mode.SKIPPED] += 1
        _log.debug("%s %s %s %.1f ms", Mode.SKIPPED, status, reason, seconds * 1000)

    def failed(self, error: SidecarError) -> None:
        """A message got an error of ours before it was anything's business."""
        self._replies[Mode.FAILED] += 1
        _log.debug("%s %s", Mode.FAILED, type(error).__name__)

    def unbatched(self, operations: int) -> None:
        """The application sent a batch of *operations* itself."""
        self._client_batches += 1
        self._client_operations += operations

    def sent(self, slots: int) -> None:
        """A batch of *slots* left."""
        self._slots[slots] += 1

    def sent_alone(self) -> None:
        """A read left in a call of its own."""
        self._alone += 1

    def asked_again(self, slots: int, cause: str) -> None:
        """*slots* reads of a batch have to be asked again."""
        self._again[cause] += slots

    def stats(self) -> dict[str, object]:
        """All of it, as JSON has it."""
        batches, slots = sum(self._slots.values()), sum(size * count for size, count in self._slots.items())
        return {
            "uptime_s": round(self._clock() - self._began, 1),
            "replies": {mode.value: self._replies[mode] for mode in Mode},
            "calls": {"batches": batches, "slots": slots, "alone": self._alone},
            "client_batches": {"batches": self._client_batches, "operations": self._client_operations},
            "slots_per_batch": {str(size): self._slots[size] for size in sorted(self._slots)},
            "asked_again": dict(sorted(self._again.items())),
            "calls_avoided": {"collapsed": self._calls_avoided["collapsed"], "reused": self._calls_avoided["reused"]},
            "bytes_avoided": self._bytes_avoided,
            "round_trips_avoided": slots - batches,
        }

    def _save(self, request: Request, reply: Reply) -> None:
        if reply.mode is Mode.COALESCED:
            self._calls_avoided["collapsed"] += _calls(request)
        elif reply.mode is Mode.REUSED:
            self._calls_avoided["reused"] += _calls(request)
        elif reply.mode is Mode.REVALIDATED:
            self._bytes_avoided += len(reply.body)


def _calls(request: Request) -> int:
    """What Meta would have counted for it: of `ids=` each is a call."""
    return max(1, len(nodes(request.path, request.query)))
