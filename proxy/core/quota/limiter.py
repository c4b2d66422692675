"""What Graph's answers say of limits, and whether a read is asked now, later or not."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from msgspec.structs import replace

from proxy.core.graph.errors import GraphError, read_error
from proxy.core.graph.throttles import THROTTLED, meaning
from proxy.core.http import headers
from proxy.core.memory.memo import Recent, short
from proxy.core.model import LOW_PRIORITY, Headers, Mode, Reply, Request
from proxy.core.quota.bucket import Refusal, Stages
from proxy.core.quota.buckets import BucketName, Buckets
from proxy.core.quota.descriptors import Descriptors, QuotaSubject, tightest
from proxy.core.quota.returning_callers import Returning
from proxy.core.quota.usage_headers import LatestUsage, UsageLevel, retry_after_s, usage_in, usage_levels
from proxy.core.routing.target import nodes

FOLLOWING = 2
"""Reads that may follow when one that had waited is answered: a line that has room again goes in slow start."""

_SEEN_IN = 512  # bytes of a good reply in which an error of Graph's would begin
_NEVER_AGAIN = headers.USAGE | headers.TRACE | {"retry-after", "date"}
_SAID = 1024
_LONGEST_REFUSAL = 8192
"""Bytes of a refusal that is said again; Graph's have a few hundred."""

_URGENT = 16_384
_MOMENT_S = 1.0


@dataclass(slots=True)
class _Said:
    """What was last said, when, and how many calls it was since said with again."""

    at: float
    usage: Headers
    calls: int = 0


@dataclass(frozen=True, slots=True)
class Wait:
    """Not yet: *pool* has room for one more read in so many *seconds*."""

    seconds: float
    bucket: BucketName


@dataclass(frozen=True, slots=True)
class Halt:
    """Do not ask: *reply* is what Graph said of this pool."""

    reply: Reply


@dataclass(frozen=True, slots=True)
class Go:
    """Ask, for the sake of the stopped pools in *probes* too."""

    probes: tuple[BucketName, ...] = ()


GO = Go()
Verdict = Go | Wait | Halt


@dataclass(frozen=True, slots=True)
class LimitChanges:
    """What an answer changed: the pools that it stopped, and whether any came to a calmer stage."""

    stopped: tuple[BucketName, ...] = ()
    eased: bool = False


NO_CHANGES, EASED = LimitChanges(), LimitChanges(eased=True)


class Lately:
    """When each asker last came, of the newest askers alone; every question takes the same few steps."""

    def __init__(self, places: int = _URGENT) -> None:
        """Remember *places* askers."""
        self._places = places
        self._last: OrderedDict[bytes, float] = OrderedDict()
        self._newest = self._forgotten = -math.inf

    def came(self, who: bytes, now: float) -> None:
        """*who* came."""
        self._last[who] = self._newest = now
        self._last.move_to_end(who)
        if len(self._last) > self._places:
            self._forgotten = max(self._forgotten, self._last.popitem(last=False)[1])

    def any_since(self, when: float) -> bool:
        """Whether any asker has come after *when*."""
        return self._newest > when

    def has_come(self, who: bytes, when: float) -> bool:
        """Whether *who* came after *when*; an asker who was forgotten may have come as late as any forgotten one."""
        return self._last.get(who, self._forgotten) > when


class Limiter:
    """Everything known of limits; `heard` takes Graph's answers, `admit` decides before Graph is asked."""

    def __init__(self, stages: Stages, *, shared: bool = False) -> None:
        """Decide by *stages*; *shared*: all tokens are of one app."""
        self._usage = LatestUsage()
        self._said = Recent[tuple[bytes, str], _Said](_SAID)
        self._urgent = Lately()  # whose reads that had no time came last
        self._returning = Returning()
        self.descriptors = Descriptors(shared=shared)
        self.buckets = Buckets(stages)

    @property
    def stages(self) -> Stages:
        """What is decided by."""
        return self.buckets.stages

    def replace(self, stages: Stages) -> None:
        """Decide by *stages* from now on."""
        self.buckets.stages = stages

    # --- before Graph is asked ---

    def newest_usage(self, asker: QuotaSubject, now: float) -> Headers:
        """The usage headers for a reply that Graph did not give now; none rather than old ones."""
        return self._usage.newest(asker.fingerprint, _first_node(asker), now)

    def pressure(self, asker: QuotaSubject, now: float) -> float:
        """How scarce the calls are that *asker* would need: 0 calm, 1 not to be had."""
        if self.buckets.are_calm or not self.stages.enabled:
            return 0.0
        return self.buckets.pressure(self.descriptors.names(asker), now)

    def returning(self, request: Request, asker: QuotaSubject) -> Request:
        """*request*, which is *asker*'s, and whether it comes back after a refusal."""
        return replace(request, returns=True) if self.returns(asker) else request

    @property
    def has_refused(self) -> bool:
        """Whether anybody was told of a refusal for a limit lately."""
        return bool(self._returning)

    def returns(self, asker: QuotaSubject) -> bool:
        """Whether what *asker* was last told of this read is a refusal for a limit."""
        return asker in self._returning

    def admit(
        self, asker: QuotaSubject, priority: int, now: float, *, has_waited: bool = False, returns: bool = False
    ) -> Verdict:
        """Whether a read that Graph would have to answer is asked now.

        A read that *has_waited* long enough goes, and so does that of a caller that *returns* after a refusal, unless
        Graph named a time: it asks no more often than it would ask Graph itself, and its answer is for all.
        """
        has_time = priority >= LOW_PRIORITY
        if not has_time:
            self._urgent.came(asker.fingerprint, now)
        if (self.buckets.are_calm and not has_time) or not self.stages.enabled:
            return GO
        names = self.descriptors.names(asker)
        if has_time:
            self.buckets.note_low_priority(names, now)
        stops = {name: pool.stop for name in names for pool in self.buckets.known((name,)) if pool.stop}
        probed = {name: stop for name, stop in stops.items() if stop.lets(now, returns=returns)}
        halts = [stop for name, stop in stops.items() if stop.error and name not in probed]
        if halts:
            last = max(halts, key=lambda stop: (stop.rest_s(now), stop.until))
            return Halt(_said_again(last.error or Reply(400, (), b""), asker, last.rest_s(now)))
        for stop in probed.values():
            stop.is_probed |= stop.is_due(now)
        if probed:
            return Go(tuple(probed))
        return self._turn(asker, names, now) if has_time and not has_waited else GO

    def _turn(self, asker: QuotaSubject, names: Sequence[BucketName], now: float) -> Verdict:
        """A patient read goes as soon as each of the pools that are spared has room for one; the longest wait holds."""
        spared = self.buckets.contended(names, now, contested=self._is_contested(asker, now))
        seconds, name = max(((pool.wait_s(self.stages, now), name) for name, pool in spared), default=(0.0, None))
        if name is not None and seconds > 0:
            return Wait(seconds, name)
        for _name, pool in spared:
            pool.last_admitted_at = now
        return GO

    def _is_contested(self, asker: QuotaSubject, now: float) -> bool:
        """Whether reads that have no time were asked for lately under the same limits."""
        since = now - self.stages.foresight_s
        return (
            self._urgent.any_since(since)
            if self.descriptors.shared
            else self._urgent.has_come(asker.fingerprint, since)
        )

    # --- when Graph has answered ---

    def on_reply(
        self, asker: QuotaSubject, reply: Reply, now: float, probes: tuple[BucketName, ...] = ()
    ) -> LimitChanges:
        """Take what Graph's *reply* says of limits; *probes* are the stopped pools for whose sake it was asked."""
        error, usage = throttle(reply), usage_in(reply.headers)
        if error is None and not probes and self._is_old_news(asker, usage, now):
            return NO_CHANGES
        told, eased = self._note(asker, usage, now)
        if (error is None and not probes) or not self.stages.enabled:
            return EASED if eased else NO_CHANGES
        names = self.descriptors.stopped_by(asker, error) if error is not None else ()
        regains = [gauge.lasts_s for name, gauge in told if _is_of(name, gauge, names, self.stages)]
        refusal = None
        if error is not None and len(reply.body) <= _LONGEST_REFUSAL:
            regain_s = max([*regains, retry_after_s(reply.headers, now)])
            lasts_s = meaning(error.code, error.error_subcode).lasts_s
            refusal = Refusal(_kept(reply, asker), regain_s, lasts_s)
        for name in probes:
            self._conclude(name, reply, refusal if name in names else None, now, is_throttled=error is not None)
        stopped = tuple(
            name for name in names if name not in probes and refusal and self.buckets.stop(name, refusal, now)
        )
        return LimitChanges(stopped, eased or bool(probes))

    def on_usage(self, asker: QuotaSubject, fields: Headers, now: float) -> None:
        """Take what the usage headers among *fields* say, of a reply whose body nobody here looks at."""
        self._note(asker, usage_in(fields), now)

    def on_no_reply(self, probes: Iterable[BucketName], now: float, *, at_once: bool = False) -> None:
        """A read that was to probe these pools got no answer of Graph's; another one may do so *at_once*, or later."""
        for name in probes:
            self.buckets.on_probe_lost(name, now, at_once=at_once)

    def answered(self, asker: QuotaSubject, reply: Reply, now: float) -> None:
        """Note whether *reply*, which is what the caller gets, refuses *asker* for a limit."""
        if self.buckets.are_calm and not self._returning:
            return
        self.ended(asker, now, is_refused=throttle(reply) is not None)

    def ended(self, asker: QuotaSubject, now: float, *, is_refused: bool) -> None:
        """Note whether the caller was told of a refusal: then it is let through when it comes back."""
        if is_refused:
            self._returning.refused(asker, now)
        else:
            self._returning.answered(asker, now)

    def _conclude(
        self, name: BucketName, reply: Reply, refusal: Refusal | None, now: float, *, is_throttled: bool
    ) -> None:
        """Trouble of another sort tells nothing of this pool."""
        if refusal is None and (is_throttled or reply.status >= 500):
            self.buckets.on_probe_lost(name, now, at_once=False)
        else:
            self.buckets.on_probe(name, refusal, now)

    def _is_old_news(self, asker: QuotaSubject, usage: Headers, now: float) -> bool:
        """Whether the same was said a moment ago: percents are whole, and most replies repeat them."""
        if not usage:
            return True
        said = self._said.get((asker.fingerprint, ""))  # of the app: most replies tell of nothing else
        if said is None or said.usage != usage:
            said = self._said.get(_subject(asker, usage))
        if said is not None and said.usage == usage and 0 <= now - said.at < _MOMENT_S:
            said.calls += 1
            return True
        return False

    def _note(
        self, asker: QuotaSubject, usage: Headers, now: float
    ) -> tuple[list[tuple[BucketName, UsageLevel]], bool]:
        if not usage:
            return [], False
        asked = nodes(asker.path, asker.query)
        self._usage.note(asker.fingerprint, _first_node(asker), usage, now)
        told = usage_levels(usage)
        self.descriptors.learn(asker, told)
        named = self.descriptors.named(asker, told)
        calls, eased = max(1, len(asked)), False
        if said := self._said.pop(subject := _subject(asker, usage)):
            calls += said.calls
        self._said.put(subject, _Said(now, usage))
        for name, gauge in tightest(named) if len(named) > 1 else named:
            eased |= self.buckets.record(name, gauge, calls, now)
        return named, eased


def throttle(reply: Reply) -> GraphError | None:
    """Graph's word that a limit is reached, whatever the status; None for any other reply."""
    if reply.status < 400 and reply.body.find(b'"error', 0, _SEEN_IN) < 0:
        return None
    error = read_error(reply.body)
    return error if error is not None and error.code in THROTTLED else None


def _kept(reply: Reply, asker: QuotaSubject) -> Reply:
    """Graph's refusal without what belonged to that one call; `suppress_http_code` had asked for another status."""
    status = 400 if reply.status == 200 and _wants_no_code(asker) else reply.status
    fields = headers.without(reply.headers, _NEVER_AGAIN)
    return Reply(status, fields, reply.body, Mode.REUSED, reply.channel, detail="throttled")


def _said_again(error: Reply, asker: QuotaSubject, seconds: float) -> Reply:
    """*error* for one more caller, and when to come back (RFC 9110 section 10.2.3): at the soonest in a second."""
    status = 200 if _wants_no_code(asker) else error.status
    return replace(error, status=status, headers=(*error.headers, ("Retry-After", str(max(1, math.ceil(seconds))))))


def _wants_no_code(asker: QuotaSubject) -> bool:
    return "suppress_http_code" in asker.query


def _is_of(name: BucketName, gauge: UsageLevel, stopped: Iterable[BucketName], stages: Stages) -> bool:
    """Whether *gauge* says when a stopped pool is open again; an account's own reset counts once it is used up."""
    is_told = bool(gauge.type) or gauge.percent >= stages.stop_pct
    return is_told and any(name[:3] == other[:3] for other in stopped)


def _subject(asker: QuotaSubject, usage: Headers) -> tuple[bytes, str]:
    """What *usage* is about: the app whatever was read, if it tells of nothing else; else the very read."""
    if len(usage) == 1 and usage[0][0].lower() == "x-app-usage":
        return asker.fingerprint, ""
    return asker.fingerprint, short(asker.path if len(asker.path) > 1 else asker.query)


def _first_node(asker: QuotaSubject) -> str:
    return short(next(iter(nodes(asker.path, asker.query)), ""))
