"""The counterfactual model: what Graph would have answered to other calls, derived from what the log recorded.

A read is answered as it was recorded. For limits the model assumes that each call costs the recorded average, that only
the callers in the log make calls, and that use from before the log fades evenly within an hour. So the same calls meet
exactly the recorded percentages and throttles, and fewer calls meet lower ones.
"""

from __future__ import annotations

import math
from collections import OrderedDict, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec

from proxy.core.cache.key import Keys
from proxy.core.graph.throttles import THROTTLED, usual_code
from proxy.core.merge.ids_split import ids_in
from proxy.core.merge.selection import selection, with_fields
from proxy.core.model import ANSWERED_NOW, Mode, Reply, Request
from proxy.core.observe.access_log import AccessLogEntry
from proxy.core.quota import usage_headers
from proxy.core.quota.bucket import HOUR_S, Stages
from proxy.core.quota.buckets import BucketName
from proxy.core.quota.descriptors import QuotaSubject, tightest
from proxy.core.quota.limiter import Limiter, throttle
from proxy.core.quota.usage_headers import FORGOTTEN_S, UsageLevel
from proxy.core.routing.nodes import calls_of

_STEP_S = HOUR_S / 60
_FULL = 100.0
_USUAL_S = 0.1  # seconds of an answer, until one was recorded


class SimulatedReply(NamedTuple):
    """A reply of the simulated Graph: after how many *seconds*, for how many *calls*, and how many may not count."""

    reply: Reply
    seconds: float
    calls: int
    uncertain: int = 0


class _Hour:
    """The number of calls within the last hour, in steps of a minute."""

    __slots__ = ("_steps", "total")

    def __init__(self) -> None:
        self._steps: deque[list[float]] = deque()
        self.total = 0

    def add(self, calls: int, now: float) -> None:
        self.count(now)
        if not self._steps or now - self._steps[-1][0] >= _STEP_S:
            self._steps.append([now, 0])
        self._steps[-1][1] += calls
        self.total += calls

    def count(self, now: float) -> int:
        while self._steps and now - self._steps[0][0] >= HOUR_S:
            self.total -= int(self._steps.popleft()[1])
        return self.total


@dataclass(slots=True)
class _RecordedThrottle:
    """The line of a throttle, and how many calls had been made when it was recorded."""

    line: AccessLogEntry
    calls: int


@dataclass(slots=True)
class _KnownAnswer:
    """The digest of Graph's latest recorded answer, and since when that is known."""

    body: str
    since: float = -math.inf


@dataclass(slots=True, eq=False)
class _Meter:
    """One limit: the recorded calls, the simulated calls, and the levels that Graph reported."""

    then: _Hour = field(default_factory=_Hour)
    supposed: _Hour = field(default_factory=_Hour)
    percent: float = 0.0
    regain_s: float = 0.0
    reported_at: float = 0.0  # 0 for never
    began: tuple[float, float] = (0.0, 0.0)  # the first reported percent, and when
    cost: float = 0.0  # percent per call
    refusal: _RecordedThrottle | None = None

    def record(self, level: UsageLevel, now: float) -> None:
        """Record a reported *level*."""
        if not self.reported_at:
            self.began = level.percent, now
        self.percent, self.regain_s, self.reported_at = level.percent, level.regain_s, now
        calls = self.then.count(now)
        if calls and level.percent < _FULL:
            self.cost = max(0.0, level.percent - self._from_before(now)) / calls

    def at(self, now: float) -> float:
        """Returns the percent that Graph would report after the simulated calls."""
        then, supposed = self.then.count(now), self.supposed.count(now)
        if then == supposed:
            return self.percent
        if self.percent < _FULL:
            return min(max(0.0, self.percent + self.cost * (supposed - then)), _FULL)
        return min(self._from_before(now) + self.cost * supposed, _FULL) if self.cost else self.percent

    def refuses(self, now: float) -> bool:
        """Returns whether Graph would refuse a call: as many calls as at the recorded throttle, or 100 % used."""
        then, supposed = self.then.count(now), self.supposed.count(now)
        if self.refusal is not None:
            return supposed >= self.refusal.calls
        return supposed > then and self.percent < _FULL <= self.at(now)

    def _from_before(self, now: float) -> float:
        percent, since = self.began
        return percent * max(0.0, 1 - (now - since) / HOUR_S)


class Counterfactual:
    """The simulated Graph: `observe` learns from a line of the log, `answer` replies to a simulated call."""

    METERS = 20_000

    def __init__(self, keys: Keys, *, shared: bool) -> None:
        """Start without lines; *shared* means that all tokens belong to one app."""
        self._keys = keys
        self._answers: dict[bytes, _KnownAnswer] = {}  # by read, and by family of reads that may be merged
        self._then = Limiter(Stages(enabled=False), shared=shared)
        self._meters: OrderedDict[BucketName, _Meter] = OrderedDict()
        self._learned: dict[QuotaSubject, tuple[tuple[str, str, str], ...]] = {}
        self._seconds: dict[str, float] = {}  # of the last answer, by route

    def observe(self, line: AccessLogEntry, request: Request, subject: QuotaSubject, sent: int, now: float) -> None:
        """Learn from a *line* about a request that came in at *now*, and for which *sent* calls were sent."""
        names = self._bucket_names(subject)
        for meter in self._meters_of(names):
            meter.then.add(sent, now)
        if line.mode in ANSWERED_NOW:
            self._seconds[line.route] = self._seconds[""] = seconds_of(line)
            self._learn_limits(line, subject, now)
            if line.etag and line.status == 200:
                self._learn_answer(line.body, request, now)

    def add_calls(self, subject: QuotaSubject, calls: int, now: float) -> None:
        """Count simulated *calls*."""
        for meter in self._meters_of(self._bucket_names(subject)):
            meter.supposed.add(calls, now)

    def changed_at(self, request: Request) -> float:
        """Returns when Graph's answer to *request* is first known to have changed; minus infinity if never."""
        return self._answers[key].since if (key := self._keys.entry(request)) in self._answers else -math.inf

    def answer(
        self, line: AccessLogEntry, request: Request, subject: QuotaSubject, now: float, *, held: float
    ) -> SimulatedReply:
        """Returns the reply to *request*, which the recorded *line* is about; the entry was fetched at *held*."""
        was_asked = line.mode in ANSWERED_NOW or line.mode == Mode.FAILED
        seconds = seconds_of(line) if was_asked else self._seconds.get(line.route, self._seconds.get("", _USUAL_S))
        calls, uncertain = calls_of(request.query) if line.ids else line.calls, 0
        if was_asked and line.sent is not None:
            calls = max(0, calls + line.sent - (line.calls - line.avoided))
            uncertain = min(line.uncertain, calls)
        self.add_calls(subject, calls, now)
        names = self._bucket_names(subject)
        fields = usage_headers.usage_headers_of(self._levels(names, now))
        for name in names:
            if (meter := self._meters.get(name)) is not None and meter.refuses(now):
                return SimulatedReply(_refusal_under(name, meter, fields), seconds, calls, uncertain)
        reply = _reply_of_line(line, request, fields)
        if reply.status == 200 and request.validator and self._changed_together(request) <= held:
            reply = Reply(304, fields, b"")
        return SimulatedReply(reply, seconds, calls, uncertain)

    def _learn_answer(self, body: str, request: Request, now: float) -> None:
        truth = self._answers.setdefault(self._keys.entry(request), _KnownAnswer(body))
        if truth.body == body:
            return
        truth.body, truth.since = body, now
        if selection(request):
            self._answers[self._keys.entry(with_fields(request, frozenset()))] = _KnownAnswer("", now)

    def _changed_together(self, request: Request) -> float:
        """Returns when any field of *request* changed; a merged read may never have been recorded itself."""
        if (key := self._keys.entry(request)) in self._answers:
            return self._answers[key].since
        family = self._keys.entry(with_fields(request, frozenset())) if selection(request) else b""
        return self._answers[family].since if family in self._answers else -math.inf

    def _learn_limits(self, line: AccessLogEntry, subject: QuotaSubject, now: float) -> None:
        if line.usage:
            self._learn_descriptors(subject, line.usage, now)
        for name, level in tightest(self._then.descriptors.levels_by_bucket(subject, line.usage)):
            self._meter(name).record(level, now)
        if line.code in THROTTLED and (error := throttle(_error_reply(line, ()))) is not None:
            for name in self._then.descriptors.stopped_by(subject, error):
                meter = self._meter(name)
                meter.refusal = meter.refusal or _RecordedThrottle(line, meter.then.count(now))
        else:
            for meter in self._meters_of(self._bucket_names(subject)):
                meter.refusal = None

    def _learn_descriptors(self, subject: QuotaSubject, levels: tuple[UsageLevel, ...], now: float) -> None:
        """Learn under which limits these reads fall; done once for equal levels."""
        about = tuple(level[:3] for level in levels)
        if self._learned.get(subject) != about:
            if len(self._learned) >= self.METERS:
                self._learned.clear()
            self._learned[subject] = about
            self._then.on_usage(subject, usage_headers.usage_headers_of(levels), now)

    def _levels(self, names: Iterable[BucketName], now: float) -> list[UsageLevel]:
        found = [(name, self._meters[name]) for name in names if name in self._meters]
        return [
            UsageLevel(name.kind, name.id if name.type else "", name.type, round(meter.at(now), 2), meter.regain_s)
            for name, meter in found
            if meter.reported_at and now - meter.reported_at < FORGOTTEN_S and (name.type or name.kind != "business")
        ]

    def _bucket_names(self, subject: QuotaSubject) -> list[BucketName]:
        names = self._then.descriptors.bucket_names(subject)
        for name in names:
            if name.kind == "app":
                self._meter(name)
        return names

    def _meters_of(self, names: Iterable[BucketName]) -> list[_Meter]:
        return [self._meters[name] for name in names if name in self._meters]

    def _meter(self, name: BucketName) -> _Meter:
        meter = self._meters.get(name)
        if meter is None:
            meter = self._meters[name] = _Meter()
            if len(self._meters) > self.METERS:
                self._meters.popitem(last=False)
        return meter


def seconds_of(line: AccessLogEntry) -> float:
    """Returns how long the answer took in seconds, with the time spent waiting for a batch."""
    if line.upstream_ms is None:
        return line.total_ms / 1000
    return (line.upstream_ms + (line.window_ms or 0.0)) / 1000


_ETAG = ("ETag", '"recorded"')


def _reply_of_line(line: AccessLogEntry, request: Request, fields: tuple[tuple[str, str], ...]) -> Reply:
    """Returns the recorded reply; a read that was throttled or not sent then gets a good one."""
    if line.mode == Mode.FAILED:
        return Reply(line.status, (), b"", Mode.FAILED)
    if line.mode == Mode.STALE and line.detail == "stale-if-error":
        return Reply(503, fields, b'{"error":{"code":2}}')
    if line.code and line.code not in THROTTLED:
        return _error_reply(line, fields)
    parts = ",".join(f'"{each}":{{}}' for each in ids_in(request.path, request.query))
    return Reply(200, (*fields, _ETAG), f"{{{parts}}}".encode())


def _error_reply(line: AccessLogEntry, fields: tuple[tuple[str, str], ...]) -> Reply:
    error = {"code": line.code, "error_subcode": line.subcode}
    return Reply(line.status, fields, msgspec.json.encode({"error": error}))


def _refusal_under(name: BucketName, meter: _Meter, fields: tuple[tuple[str, str], ...]) -> Reply:
    if meter.refusal is not None:
        return _error_reply(meter.refusal.line, fields)
    code, subcode = usual_code(
        name.kind, name.type
    )  # only the simulation reached this limit, so no recorded error exists
    return Reply(400, fields, msgspec.json.encode({"error": {"code": code, "error_subcode": subcode}}))
