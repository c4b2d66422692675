"""The rate limiter: learns the limits from Graph's replies, and decides whether a read is sent, waits or is refused."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from msgspec.structs import replace

from proxy.core.cache.generation import Generation
from proxy.core.graph.errors import GraphError, read_error
from proxy.core.graph.throttles import THROTTLED, throttle_meaning
from proxy.core.memory.memo import Recent, short
from proxy.core.model import LOW_PRIORITY, Headers, Reply, Request
from proxy.core.quota.bucket import Stages
from proxy.core.quota.buckets import BucketName, Buckets
from proxy.core.quota.descriptors import Descriptors, QuotaSubject, tightest
from proxy.core.quota.refused_reads import RefusedReads
from proxy.core.quota.retry_after import LONGEST_REFUSAL, repeated_refusal, retry_after_s, stored_refusal
from proxy.core.quota.stop import LimitRefusal
from proxy.core.quota.usage_headers import LatestUsage, UsageLevel, usage_in, usage_levels
from proxy.core.routing.nodes import nodes

RELEASED_PER_REPLY = 2
"""Waiting reads that are released for each one that Graph answers: a slow start, as in TCP."""

_ERROR_BEGINS_WITHIN = 512  # bytes at the start of a 200 reply within which an error object would begin
_MOST_RECENT_USAGES = 1024
_MOST_CALLERS = 16_384
_REPEATED_WITHIN_S = 1.0


@dataclass(slots=True)
class RecentUsage:
    """The newest usage headers, when they came, and how many calls since then repeated them."""

    at: float
    usage: Headers
    calls: int = 0


@dataclass(frozen=True, slots=True)
class Wait:
    """The verdict to wait: *bucket* has room for one more read in so many *seconds*."""

    seconds: float
    bucket: BucketName


@dataclass(frozen=True, slots=True)
class Halt:
    """The verdict to refuse: the caller gets *reply*, Graph's own refusal under the same limit."""

    reply: Reply


@dataclass(frozen=True, slots=True)
class Go:
    """The verdict to send the read; it is the probe of the stopped limits in *probes*."""

    probes: tuple[BucketName, ...] = ()


GO = Go()
QuotaVerdict = Go | Wait | Halt


@dataclass(frozen=True, slots=True)
class LimitChanges:
    """The changes by one reply: the limits that it stopped, and whether any limit came to a calmer stage."""

    stopped: tuple[BucketName, ...] = ()
    eased: bool = False


NO_CHANGES, EASED = LimitChanges(), LimitChanges(eased=True)


class LastSeen:
    """When each caller was last seen, for a bounded number of callers; every lookup takes constant time."""

    def __init__(self, capacity: int = _MOST_CALLERS) -> None:
        """Remember the newest *capacity* callers."""
        self._capacity = capacity
        self._last: OrderedDict[bytes, float] = OrderedDict()
        self._newest = self._forgotten = -math.inf

    def record(self, caller: bytes, now: float) -> None:
        """Record that *caller* was seen at *now*."""
        self._last[caller] = self._newest = now
        self._last.move_to_end(caller)
        if len(self._last) > self._capacity:
            self._forgotten = max(self._forgotten, self._last.popitem(last=False)[1])

    def any_since(self, when: float) -> bool:
        """Returns whether any caller was seen after *when*."""
        return self._newest > when

    def is_seen_since(self, caller: bytes, when: float) -> bool:
        """Returns whether *caller* was seen after *when*; for a forgotten caller the latest forgotten time counts."""
        return self._last.get(caller, self._forgotten) > when


class Limiter:
    """The state of all limits: `admit` decides before a read is sent, `on_reply` learns from what Graph answers."""

    def __init__(self, stages: Stages, *, shared: bool = False, generation: Generation | None = None) -> None:
        """Decide by the thresholds in *stages*; *shared* means that all tokens belong to one app.

        *generation* advances when a limit is no longer calm or a caller is refused: hits in memory are checked anew.
        """
        self._generation = generation or Generation()
        self._usage = LatestUsage(self._generation)
        self._recent_usage = Recent[tuple[bytes, str], RecentUsage](_MOST_RECENT_USAGES)
        self._urgent_callers = LastSeen()  # by token: when its last read of ordinary priority came
        self._refused_reads = RefusedReads()
        self.descriptors = Descriptors(shared=shared)
        self.buckets = Buckets(stages, self._generation)

    @property
    def stages(self) -> Stages:
        """The thresholds in force."""
        return self.buckets.stages

    def replace(self, stages: Stages) -> None:
        """Use the thresholds in *stages* from now on."""
        self.buckets.stages = stages

    # --- before Graph is asked ---

    def newest_usage(self, subject: QuotaSubject, now: float) -> Headers:
        """Returns the newest usage headers for a reply from the cache; none where they are outdated."""
        return self._usage.newest(subject.fingerprint, first_node(subject), now)

    def newest_usage_of(self, fingerprint: bytes, node: str, now: float) -> tuple[Headers, float]:
        """Returns the same for the credential with *fingerprint* and a read of *node*, and for how many seconds."""
        return self._usage.newest_and_lasts_s(fingerprint, node, now)

    @property
    def is_quiet(self) -> bool:
        """Whether every limit is calm, and no caller was refused of late: then a hit in memory concerns no limit."""
        return self.buckets.are_calm and not self._refused_reads.refused.bytes

    def pressure(self, subject: QuotaSubject, now: float) -> float:
        """Returns how scarce calls are for *subject*: 0 calm, 1 nothing is sent."""
        if self.buckets.are_calm or not self.stages.enabled:
            return 0.0
        return self.buckets.pressure(self.descriptors.bucket_names(subject), now)

    def mark_after_refusal(self, request: Request, subject: QuotaSubject) -> Request:
        """Returns *request* with `after_refusal` set if its caller was last refused for a limit."""
        return replace(request, after_refusal=True) if self.comes_after_refusal(subject) else request

    @property
    def has_refused(self) -> bool:
        """Whether any caller was refused for a limit lately."""
        return self._refused_reads.refused.bytes > 0

    def comes_after_refusal(self, subject: QuotaSubject) -> bool:
        """Returns whether the last answer to this read was a refusal for a limit."""
        return subject in self._refused_reads

    def admit(
        self, subject: QuotaSubject, priority: int, now: float, *, has_waited: bool = False, after_refusal: bool = False
    ) -> QuotaVerdict:
        """Returns whether a read is sent now, waits, or is refused.

        A read that *has_waited* long enough is sent. So is the retry of a caller *after_refusal*, unless Graph named a
        time: without the sidecar the caller would retry just as often, and the answer shows whether the limit is over.
        """
        is_low_priority = priority >= LOW_PRIORITY
        if not is_low_priority:
            self._urgent_callers.record(subject.fingerprint, now)
        if (self.buckets.are_calm and not is_low_priority) or not self.stages.enabled:
            return GO
        names = self.descriptors.bucket_names(subject)
        if is_low_priority:
            self.buckets.note_low_priority(names, now)
        stops = {name: bucket.stop for name in names for bucket in self.buckets.tight((name,)) if bucket.stop}
        probe_stops = {name: stop for name, stop in stops.items() if stop.allows(now, after_refusal=after_refusal)}
        refusals = [stop for name, stop in stops.items() if stop.error and name not in probe_stops]
        if refusals:
            last = max(refusals, key=lambda stop: (stop.seconds_left(now), stop.until))
            return Halt(repeated_refusal(last.error or Reply(400, (), b""), subject, last.seconds_left(now)))
        for stop in probe_stops.values():
            stop.is_probed |= stop.is_due(now)
        if probe_stops:
            return Go(tuple(probe_stops))
        return self._take_turn(subject, names, now) if is_low_priority and not has_waited else GO

    def _take_turn(self, subject: QuotaSubject, names: Sequence[BucketName], now: float) -> QuotaVerdict:
        """Returns Go if every contended limit has room for one more low-priority read, else the longest Wait."""
        contended = self.buckets.contended(names, now, is_contested=self._is_contested(subject, now))
        seconds, name = max(
            ((bucket.wait_s(self.stages, now), name) for name, bucket in contended), default=(0.0, None)
        )
        if name is not None and seconds > 0:
            return Wait(seconds, name)
        for _name, bucket in contended:
            bucket.last_admitted_at = now
        return GO

    def _is_contested(self, subject: QuotaSubject, now: float) -> bool:
        """Returns whether reads of ordinary priority came lately under the same limits."""
        since = now - self.stages.foresight_s
        return (
            self._urgent_callers.any_since(since)
            if self.descriptors.shared
            else self._urgent_callers.is_seen_since(subject.fingerprint, since)
        )

    # --- when Graph has answered ---

    def on_reply(
        self, subject: QuotaSubject, reply: Reply, now: float, probes: tuple[BucketName, ...] = ()
    ) -> LimitChanges:
        """Learn what Graph's *reply* says of limits; *probes* are the stopped limits that its read was the probe of."""
        error, usage = throttle(reply), usage_in(reply.headers)
        if error is None and not probes and self._is_old_news(subject, usage, now):
            return NO_CHANGES
        levels, eased = self._note(subject, usage, now)
        if (error is None and not probes) or not self.stages.enabled:
            return EASED if eased else NO_CHANGES
        names = self.descriptors.stopped_by(subject, error) if error is not None else ()
        regains = [level.regain_s for name, level in levels if _names_regain(name, level, names, self.stages)]
        refusal = None
        if error is not None and len(reply.body) <= LONGEST_REFUSAL:
            regain_s = max([*regains, retry_after_s(reply.headers, now)])
            lasts_s = throttle_meaning(error.code, error.error_subcode).block_s
            refusal = LimitRefusal(stored_refusal(reply, subject), regain_s, lasts_s)
        for name in probes:
            self._end_probe(name, reply, refusal if name in names else None, now, is_throttled=error is not None)
        stopped = tuple(
            name for name in names if name not in probes and refusal and self.buckets.stop(name, refusal, now)
        )
        return LimitChanges(stopped, eased or bool(probes))

    def on_usage_of_reply(self, subject: QuotaSubject, usage: Headers, now: float) -> LimitChanges:
        """Learn what the *usage* headers of a good reply say: `on_reply` for a reply that is known to hold no error."""
        if self._is_old_news(subject, usage, now):
            return NO_CHANGES
        return EASED if self._note(subject, usage, now)[1] else NO_CHANGES

    def recent_usage_of_app(self, fingerprint: bytes, usage: Headers) -> RecentUsage | None:
        """Returns what counts the calls that repeat *usage*, where it is about the app alone and came just now."""
        recent = self._recent_usage.get((fingerprint, ""))
        return recent if recent is not None and recent.usage == usage else None

    def note_urgent(self, fingerprint: bytes, now: float) -> None:
        """Record that a read of ordinary priority came, which is sent without `admit`: no limit is near."""
        self._urgent_callers.record(fingerprint, now)

    def on_usage(self, subject: QuotaSubject, fields: Headers, now: float) -> None:
        """Learn from the usage headers among *fields*, of a reply whose body the sidecar does not read."""
        self._note(subject, usage_in(fields), now)

    def on_no_reply(self, probes: Iterable[BucketName], now: float, *, at_once: bool = False) -> None:
        """Record that the probe of these limits got no answer; the next is sent *at_once*, or after a pause."""
        for name in probes:
            self.buckets.on_probe_lost(name, now, at_once=at_once)

    def on_delivered_reply(self, subject: QuotaSubject, reply: Reply, now: float) -> None:
        """Record whether *reply*, which the caller gets, is a refusal for a limit."""
        if self.is_quiet:
            return
        self.on_delivered(subject, now, is_refused=throttle(reply) is not None)

    def on_ordinary_delivery(self, subject: QuotaSubject, now: float) -> None:
        """Record that the caller got a good reply."""
        if self._refused_reads.refused.bytes:
            self._refused_reads.record_answer(subject, now)

    def on_delivered(self, subject: QuotaSubject, now: float, *, is_refused: bool) -> None:
        """Record whether the caller got a refusal for a limit: then its retry will be sent to Graph."""
        if is_refused:
            self._generation.advance()
            self._refused_reads.record_refusal(subject, now)
        else:
            self._refused_reads.record_answer(subject, now)

    def _end_probe(
        self, name: BucketName, reply: Reply, refusal: LimitRefusal | None, now: float, *, is_throttled: bool
    ) -> None:
        """Record the outcome of one probe; an error of another kind says nothing about this limit."""
        if refusal is None and (is_throttled or reply.status >= 500):
            self.buckets.on_probe_lost(name, now, at_once=False)
        else:
            self.buckets.on_probe(name, refusal, now)

    def _is_old_news(self, subject: QuotaSubject, usage: Headers, now: float) -> bool:
        """Returns whether a reply repeats the usage headers of a moment ago: percents are whole, most are repeats."""
        if not usage:
            return True
        recent = self._recent_usage.get((subject.fingerprint, ""))  # the app's: most replies have no other
        if recent is None or recent.usage != usage:
            recent = self._recent_usage.get(_usage_scope(subject, usage))
        if recent is not None and recent.usage == usage and 0 <= now - recent.at < _REPEATED_WITHIN_S:
            recent.calls += 1
            return True
        return False

    def _note(
        self, subject: QuotaSubject, usage: Headers, now: float
    ) -> tuple[list[tuple[BucketName, UsageLevel]], bool]:
        if not usage:
            return [], False
        node_ids = nodes(subject.path, subject.query)
        self._usage.note(subject.fingerprint, first_node(subject), usage, now)
        levels = usage_levels(usage)
        self.descriptors.learn(subject, levels)
        named = self.descriptors.levels_by_bucket(subject, levels)
        calls, eased = max(1, len(node_ids)), False
        if recent := self._recent_usage.pop(scope := _usage_scope(subject, usage)):
            calls += recent.calls
        self._recent_usage.put(scope, RecentUsage(now, usage))
        for name, level in tightest(named) if len(named) > 1 else named:
            eased |= self.buckets.record(name, level, calls, now)
        return named, eased


def throttle(reply: Reply) -> GraphError | None:
    """Returns Graph's error if *reply* says that a limit is reached, whatever the status; else None."""
    if reply.status < 400 and reply.body.find(b'"error', 0, _ERROR_BEGINS_WITHIN) < 0:
        return None
    error = read_error(reply.body)
    return error if error is not None and error.code in THROTTLED else None


def _names_regain(name: BucketName, level: UsageLevel, stopped: Iterable[BucketName], stages: Stages) -> bool:
    """Returns whether *level* says when a stopped limit ends; an account's reset time counts only at 100 %."""
    names_time = bool(level.type) or level.percent >= stages.stop_pct
    return names_time and any(name[:3] == other[:3] for other in stopped)


def _usage_scope(subject: QuotaSubject, usage: Headers) -> tuple[bytes, str]:
    """Returns what *usage* is about: the app, if there is only the app's header; else this one read."""
    if len(usage) == 1 and usage[0][0].lower() == "x-app-usage":
        return subject.fingerprint, ""
    return subject.fingerprint, short(subject.path if len(subject.path) > 1 else subject.query)


def first_node(subject: QuotaSubject) -> str:
    """Returns the object by which the usage headers of a read of *subject* are remembered."""
    return short(next(iter(nodes(subject.path, subject.query)), ""))
