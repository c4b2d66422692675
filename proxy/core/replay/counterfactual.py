"""The Graph of a log: what it would have answered had other calls been made, as far as what it did answer tells.

A read is answered as it was then. Of limits it is taken that each call uses up as much as calls did on the average, and
that nobody but those in the log makes any; what was used before the log began is taken to run out evenly. So the same
calls find the very percents and throttles that were recorded, and fewer calls lower ones.
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
from proxy.core.merge.ids import ids_in
from proxy.core.merge.selection import selection, with_fields
from proxy.core.model import ANSWERED_NOW, Mode, Reply, Request
from proxy.core.observe.access_log import AccessLogEntry
from proxy.core.quota import usage_headers
from proxy.core.quota.bucket import HOUR_S, Stages
from proxy.core.quota.buckets import BucketName
from proxy.core.quota.descriptors import QuotaSubject, tightest
from proxy.core.quota.limiter import Limiter, throttle
from proxy.core.quota.usage_headers import FORGOTTEN_S, UsageLevel
from proxy.core.routing import target

_STEP_S = HOUR_S / 60
_FULL = 100.0
_USUAL_S = 0.1  # of an answer, until one is seen


class SupposedReply(NamedTuple):
    """What Graph says, in how many *seconds*, and after how many *calls*, some of which it may not have counted."""

    reply: Reply
    seconds: float
    calls: int
    uncertain: int = 0


class _Hour:
    """Calls within the last hour, in steps of a minute."""

    __slots__ = ("_steps", "total")

    def __init__(self) -> None:
        self._steps: deque[list[float]] = deque()
        self.total = 0

    def add(self, calls: int, now: float) -> None:
        self.look(now)
        if not self._steps or now - self._steps[-1][0] >= _STEP_S:
            self._steps.append([now, 0])
        self._steps[-1][1] += calls
        self.total += calls

    def look(self, now: float) -> int:
        while self._steps and now - self._steps[0][0] >= HOUR_S:
            self.total -= int(self._steps.popleft()[1])
        return self.total


@dataclass(slots=True)
class _Refusal:
    """A throttle that was recorded, and how many calls had then been made."""

    told: AccessLogEntry
    calls: int


@dataclass(slots=True)
class _Truth:
    """What Graph was last seen to hold, by its mark, and since when it is known to."""

    body: str
    since: float = -math.inf


@dataclass(slots=True, eq=False)
class _Meter:
    """One pool: the calls that were made of it and those that are supposed, and what Graph told of it."""

    then: _Hour = field(default_factory=_Hour)
    supposed: _Hour = field(default_factory=_Hour)
    percent: float = 0.0
    lasts_s: float = 0.0
    told: float = 0.0  # when; 0 for never
    began: tuple[float, float] = (0.0, 0.0)  # the percent that was told first, and when
    cost: float = 0.0  # percent of a call
    refusal: _Refusal | None = None

    def tell(self, gauge: UsageLevel, now: float) -> None:
        """Graph said so."""
        if not self.told:
            self.began = gauge.percent, now
        self.percent, self.lasts_s, self.told = gauge.percent, gauge.regain_s, now
        calls = self.then.look(now)
        if calls and gauge.percent < _FULL:
            self.cost = max(0.0, gauge.percent - self._from_before(now)) / calls

    def at(self, now: float) -> float:
        """The percent that Graph would tell."""
        then, supposed = self.then.look(now), self.supposed.look(now)
        if then == supposed:
            return self.percent
        if self.percent < _FULL:
            return min(max(0.0, self.percent + self.cost * (supposed - then)), _FULL)
        return min(self._from_before(now) + self.cost * supposed, _FULL) if self.cost else self.percent

    def refuses(self, now: float) -> bool:
        """Whether a call is one too many: as many were when it was recorded, or the percents now come to all."""
        then, supposed = self.then.look(now), self.supposed.look(now)
        if self.refusal is not None:
            return supposed >= self.refusal.calls
        return supposed > then and self.percent < _FULL <= self.at(now)

    def _from_before(self, now: float) -> float:
        percent, since = self.began
        return percent * max(0.0, 1 - (now - since) / HOUR_S)


class Counterfactual:
    """Knows the log up to now; `hear` takes a line, `answer` says what a call would have been told."""

    METERS = 20_000

    def __init__(self, keys: Keys, *, shared: bool) -> None:
        """Know nothing; *shared*: all tokens are of one app."""
        self._keys = keys
        self._truths: dict[bytes, _Truth] = {}  # by read, and by what may be asked together
        self._then = Limiter(Stages(enabled=False), shared=shared)
        self._meters: OrderedDict[BucketName, _Meter] = OrderedDict()
        self._learnt: dict[QuotaSubject, tuple[tuple[str, str, str], ...]] = {}
        self._seconds: dict[str, float] = {}  # of the last answer, by route

    def observe(self, told: AccessLogEntry, request: Request, asker: QuotaSubject, sent: int, now: float) -> None:
        """A line was written about a read, or what else Graph was *sent*, that came in at *now*."""
        names = self._names(asker)
        for meter in self._known(names):
            meter.then.add(sent, now)
        if told.mode in ANSWERED_NOW:
            self._seconds[told.route] = self._seconds[""] = seconds_of(told)
            self._hear_of_limits(told, asker, now)
            if told.etag and told.status == 200:
                self._hear_of_truth(told.body, request, now)

    def made(self, asker: QuotaSubject, calls: int, now: float) -> None:
        """So many calls are supposed to be made."""
        for meter in self._known(self._names(asker)):
            meter.supposed.add(calls, now)

    def changed(self, request: Request) -> float:
        """When Graph was first seen to say otherwise of what *request* reads than before; long ago if never."""
        return self._truths[key].since if (key := self._keys.entry(request)) in self._truths else -math.inf

    def answer(
        self, told: AccessLogEntry, request: Request, asker: QuotaSubject, now: float, *, held: float
    ) -> SupposedReply:
        """What *request* is answered, for the sake of the line *told*; what is held was asked for at *held*."""
        was_asked = told.mode in ANSWERED_NOW or told.mode == Mode.FAILED
        seconds = seconds_of(told) if was_asked else self._seconds.get(told.route, self._seconds.get("", _USUAL_S))
        calls, uncertain = target.calls_of(request.query) if told.ids else told.calls, 0
        if was_asked and told.sent is not None:
            calls = max(0, calls + told.sent - (told.calls - told.avoided))
            uncertain = min(told.uncertain, calls)
        self.made(asker, calls, now)
        names = self._names(asker)
        fields = usage_headers.usage_headers_of(self._gauges(names, now))
        for name in names:
            if (meter := self._meters.get(name)) is not None and meter.refuses(now):
                return SupposedReply(_refused(name, meter, fields), seconds, calls, uncertain)
        reply = _said(told, request, fields)
        if reply.status == 200 and request.validator and self._changed_together(request) <= held:
            reply = Reply(304, fields, b"")
        return SupposedReply(reply, seconds, calls, uncertain)

    def _hear_of_truth(self, body: str, request: Request, now: float) -> None:
        truth = self._truths.setdefault(self._keys.entry(request), _Truth(body))
        if truth.body == body:
            return
        truth.body, truth.since = body, now
        if selection(request):
            self._truths[self._keys.entry(with_fields(request, frozenset()))] = _Truth("", now)

    def _changed_together(self, request: Request) -> float:
        """The same of one read of many fields, which nobody may have asked for: when any of them changed."""
        if (key := self._keys.entry(request)) in self._truths:
            return self._truths[key].since
        family = self._keys.entry(with_fields(request, frozenset())) if selection(request) else b""
        return self._truths[family].since if family in self._truths else -math.inf

    def _hear_of_limits(self, told: AccessLogEntry, asker: QuotaSubject, now: float) -> None:
        if told.usage:
            self._learn(asker, told.usage, now)
        for name, gauge in tightest(self._then.descriptors.levels_by_bucket(asker, told.usage)):
            self._meter(name).tell(gauge, now)
        if told.code in THROTTLED and (error := throttle(_error(told, ()))) is not None:
            for name in self._then.descriptors.stopped_by(asker, error):
                meter = self._meter(name)
                meter.refusal = meter.refusal or _Refusal(told, meter.then.look(now))
        else:
            for meter in self._known(self._names(asker)):
                meter.refusal = None

    def _learn(self, asker: QuotaSubject, told: tuple[UsageLevel, ...], now: float) -> None:
        """Whose limits these reads draw on: said once, it is known."""
        about = tuple(gauge[:3] for gauge in told)
        if self._learnt.get(asker) != about:
            if len(self._learnt) >= self.METERS:
                self._learnt.clear()
            self._learnt[asker] = about
            self._then.on_usage(asker, usage_headers.usage_headers_of(told), now)

    def _gauges(self, names: Iterable[BucketName], now: float) -> list[UsageLevel]:
        found = [(name, self._meters[name]) for name in names if name in self._meters]
        return [
            UsageLevel(name.kind, name.id if name.type else "", name.type, round(meter.at(now), 2), meter.lasts_s)
            for name, meter in found
            if meter.told and now - meter.told < FORGOTTEN_S and (name.type or name.kind != "business")
        ]

    def _names(self, asker: QuotaSubject) -> list[BucketName]:
        names = self._then.descriptors.bucket_names(asker)
        for name in names:
            if name.kind == "app":
                self._meter(name)
        return names

    def _known(self, names: Iterable[BucketName]) -> list[_Meter]:
        return [self._meters[name] for name in names if name in self._meters]

    def _meter(self, name: BucketName) -> _Meter:
        meter = self._meters.get(name)
        if meter is None:
            meter = self._meters[name] = _Meter()
            if len(self._meters) > self.METERS:
                self._meters.popitem(last=False)
        return meter


def seconds_of(told: AccessLogEntry) -> float:
    """How long Graph took, company included."""
    if told.upstream_ms is None:
        return told.total_ms / 1000
    return (told.upstream_ms + (told.window_ms or 0.0)) / 1000


_ETAG = ("ETag", '"recorded"')


def _said(told: AccessLogEntry, request: Request, fields: tuple[tuple[str, str], ...]) -> Reply:
    """As it was answered then; what was throttled then, or not asked, is taken to be well."""
    if told.mode == Mode.FAILED:
        return Reply(told.status, (), b"", Mode.FAILED)
    if told.mode == Mode.STALE and told.detail == "stale-if-error":
        return Reply(503, fields, b'{"error":{"code":2}}')
    if told.code and told.code not in THROTTLED:
        return _error(told, fields)
    parts = ",".join(f'"{each}":{{}}' for each in ids_in(request.path, request.query))
    return Reply(200, (*fields, _ETAG), f"{{{parts}}}".encode())


def _error(told: AccessLogEntry, fields: tuple[tuple[str, str], ...]) -> Reply:
    error = {"code": told.code, "error_subcode": told.subcode}
    return Reply(told.status, fields, msgspec.json.encode({"error": error}))


def _refused(name: BucketName, meter: _Meter, fields: tuple[tuple[str, str], ...]) -> Reply:
    if meter.refusal is not None:
        return _error(meter.refusal.told, fields)
    code, subcode = usual_code(name.kind, name.type)  # nobody had reached it when the log was written
    return Reply(400, fields, msgspec.json.encode({"error": {"code": code, "error_subcode": subcode}}))
