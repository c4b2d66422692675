"""The cache layer: asks `core/cache/policy` what to do before Graph is asked and what to store after, and does it.

It finds the entry in memory or on disk, asks the next layer, stores what is to be stored, and asks again without a
validator where a 304 confirms nothing (`resolve`). The fast path asks it for the same decisions (`question`,
`conclude`), and stores by it what it has confirmed (`keep_new`, `renew`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

import msgspec
from msgspec.structs import replace

from proxy.core.cache import policy
from proxy.core.cache.invalidation import InvalidationIndex
from proxy.core.cache.key import Keys
from proxy.core.cache.purge import Purges, PurgeSubject
from proxy.core.graph.errors import ends_token
from proxy.core.http.errors import Large, NotHeld, SidecarError, Throttled, reply_of
from proxy.core.model import LOW_PRIORITY, Entry, EntryMeta, Reply, Request
from proxy.core.quota.ledger import RequestCost
from proxy.core.routing.rules import Rule
from proxy.shell import Layer

OnBackgroundReply = Callable[[Request, Reply, RequestCost, float], None]
"""Called with a revalidated read, its reply, its cost record, and the seconds that the revalidation took."""


class EntryStore(Protocol):
    """What the cache needs of a store; none of it raises."""

    def in_memory(self, key: bytes) -> Entry | None:
        """The entry, if it is in memory."""

    def known_meta(self, key: bytes) -> EntryMeta | None:
        """The entry without its body, as far as memory knows it; the disk is not read."""

    def is_unknown(self, key: bytes) -> bool:
        """Whether neither memory nor disk has an entry of *key*, for certain and without reading the disk."""

    async def load(self, key: bytes, token: str) -> Entry | None:
        """The entry, if it is there and opens under *token*."""

    def put(self, key: bytes, token: str, entry: Entry, *, write: bool = True) -> bool:
        """Store *entry*, on disk too, after the reply, if *write*; True if it is stored."""

    def renew(self, key: bytes, token: str, entry: Entry) -> None:
        """Store *entry*, of which only the times are newer than those of the entry in memory."""

    def drop(self, key: bytes) -> None:
        """Forget *key* everywhere."""


class _Found:
    """What is held under one key: its validator known now, its body perhaps still on its way from the disk."""

    def __init__(
        self, held: EntryMeta | None, entry: Entry | None, loading: asyncio.Task[Entry | None] | None = None
    ) -> None:
        self.held = held
        self.in_memory = entry
        self._loading = loading

    async def entry(self) -> Entry | None:
        return await self._loading if self._loading is not None else self.in_memory


class Inquiry(msgspec.Struct, frozen=True):
    """A read that Graph is asked now, and the entry that the answer may confirm."""

    request: Request  # with the validator of what is held, where that is of use
    key: bytes
    terms: policy.Terms
    found: _Found
    asked: float
    cost: RequestCost | None = None  # what the calls to Graph are charged to


class Cache:
    """A layer: serves what is held where the rules allow, else asks onward with its validator."""

    def __init__(
        self,
        onward: Layer,
        *,
        store: EntryStore,
        keys: Keys,
        rule: Callable[[Request], Rule],
        invalidations: InvalidationIndex,
        purges: Purges,
        now: Callable[[], float],
        pressure: Callable[[Request], float] = lambda _request: 0.0,
        on_background_reply: OnBackgroundReply = lambda *_heard: None,
    ) -> None:
        """Hold replies of *onward* in *store*; *now* gives epoch seconds, *pressure* how scarce calls are.

        *on_background_reply* is told of replies that nobody waits for.
        """
        self._onward = onward
        self._store = store
        self._keys = keys
        self._rule = rule
        self._invalidations = invalidations
        self._purges = purges
        self._now = now
        self._pressure = pressure
        self._on_background_reply = on_background_reply
        self._behind: dict[bytes, asyncio.Task[Reply]] = {}

    async def __call__(self, request: Request, cost: RequestCost | None = None) -> Reply:
        """Answer *request*. Raises NotHeld, and what the next layer raises."""
        key = self._keys.entry(request)
        return await self._answer(key, request, cost, await self._find(key, request))

    async def _answer(self, key: bytes, request: Request, cost: RequestCost | None, found: _Found) -> Reply:
        """Answer *request*, of which *found* is held."""
        plan, terms = await self._plan(request, key, found)
        if isinstance(plan, policy.Refuse):
            raise NotHeld("only-if-cached, and nothing fresh is held")
        if isinstance(plan, policy.Ask):
            return await self._ask(self._inquiry(request, plan.validator, key, terms, found, cost=cost))
        reply = await self._reuse(request, plan, key, terms, found, cost=cost)
        return reply or await self._ask(self._inquiry(request, "", key, terms, NOTHING, cost=cost))

    async def answer_held(self, request: Request, cost: RequestCost | None = None) -> Reply | None:
        """Return the reply to *request* from its entry without waiting for Graph; None if that is not allowed."""
        key = self._keys.entry(request)
        held = self._store.known_meta(key)
        if held and not isinstance(policy.plan(request, held, self._terms(request), self._now()), policy.Reuse):
            return None
        found = await self._find(key, request)
        plan, terms = await self._plan(request, key, found)
        return (
            await self._reuse(request, plan, key, terms, found, cost=cost) if isinstance(plan, policy.Reuse) else None
        )

    async def inquire(self, request: Request) -> Inquiry:
        """Prepare *request* for a caller that asks Graph itself, in a call of its own; `settle` takes the answer."""
        key, terms = self._keys.entry(request), self._terms(request)
        found = await self._find(key, request)
        validator = policy.validator_for(found.held, request) if found.held else ""
        return self._inquiry(request, validator, key, terms, found, cost=None)

    async def holds(self, request: Request) -> bool:
        """Whether *request* can be asked with a validator."""
        return bool((await self.inquire(request)).request.validator)

    async def settle(self, inquiry: Inquiry, answer: Reply) -> Reply | None:
        """Return the reply after Graph's *answer*; None if a 304 confirms no entry: ask again without a validator."""
        return self.conclude(inquiry, await inquiry.found.entry(), answer)

    def question(self, request: Request, key: bytes) -> tuple[Inquiry, Entry | None] | None:
        """Prepare *request* from memory alone, for the fast path; return the inquiry and the entry in memory.

        None if the entry is served without asking Graph, or if the disk has to be read first.
        """
        found = self._find_near(key, request)
        return None if found is None else self._question(request, key, found)

    def question_of(self, request: Request, key: bytes, entry: Entry | None) -> tuple[Inquiry, Entry | None] | None:
        """Return what `question` does, where *entry* was loaded from disk, or None because there is none."""
        is_found = entry is not None and self._rule(request).cache
        found = _Found(entry.meta, entry) if entry is not None and is_found else NOTHING
        return self._question(request, key, self._unless_forgotten(key, request, found))

    def note_loaded(self, request: Request, key: bytes, fingerprint: bytes) -> None:
        """Note what an entry that was loaded from disk is about, for orders to forget it."""
        if not self._purges.knows(key):
            tags = self._invalidations.tags_of(request, fingerprint)
            self._purges.note(key, PurgeSubject(request.path, tags, fingerprint))

    def _question(self, request: Request, key: bytes, found: _Found) -> tuple[Inquiry, Entry | None] | None:
        terms = self._terms(request)
        plan = policy.plan(request, found.held, terms, self._now())
        if not isinstance(plan, policy.Ask):
            return None
        return self._inquiry(request, plan.validator, key, terms, found, cost=None), found.in_memory

    def inquiry(self, request: Request, key: bytes, entry: Entry | None, asked: float) -> Inquiry:
        """Prepare again what the fast path sent at *asked* with the validator of *entry*, for `settle`."""
        return Inquiry(
            request, key, self._terms(request), NOTHING if entry is None else _Found(entry.meta, entry), asked
        )

    @property
    def has_orders(self) -> bool:
        """Whether an order to forget entries is in force."""
        return self._purges.any

    def may_be_forgotten(self, held: EntryMeta) -> bool:
        """Whether an order to forget entries may apply to *held*, which was not asked for after the latest order."""
        return self._purges.any and not self._purges.latest < held.asked_at <= self._now()

    def keep_new(self, request: Request, key: bytes, fingerprint: bytes, entry: Entry) -> bool:
        """Hold *entry*, Graph's new answer to *request*; whether it is held."""
        invalidations = self._invalidations
        invalidations.on_stored(key, request, fingerprint, entry.body, entry.meta.asked_at)
        self._purges.note(key, PurgeSubject(request.path, invalidations.tags_of(request, fingerprint), fingerprint))
        return self._store.put(key, _token(request), entry)

    @property
    def changed_at(self) -> float:
        """When anything was last changed, in epoch seconds."""
        return self._invalidations.changed_at

    def renew(self, request: Request, key: bytes, entry: Entry) -> None:
        """Hold *entry*, which Graph has confirmed without new header fields."""
        self._store.renew(key, _token(request), entry)

    def keep_confirmed(self, request: Request, key: bytes, entry: Entry) -> None:
        """Hold *entry*, which Graph has confirmed."""
        self._store.put(key, _token(request), entry, write=False)

    def _find_near(self, key: bytes, request: Request) -> _Found | None:
        """What is held, as `_find` has it; None where only the disk can say."""
        if not self._rule(request).cache:
            return NOTHING
        entry = self._store.in_memory(key)
        if entry is None:
            return NOTHING if self._store.is_unknown(key) else None
        if self._purges.any and self._is_forgotten(request, entry.meta):
            self._store.drop(key)
            return NOTHING
        return _Found(entry.meta, entry)

    def conclude(self, inquiry: Inquiry, entry: Entry | None, answer: Reply) -> Reply | None:
        """Do what `settle` does, with *entry* as the entry that was found."""
        terms = self._terms_of(inquiry.request, inquiry.key, entry)
        settled = policy.settle(inquiry.request, entry, answer, terms, inquiry.asked)
        if settled is None:
            return None
        reply = settled.reply
        if answer.status >= 400 and inquiry.request.credential and ends_token(answer.body):
            self._invalidations.record_refused_token(self._keys.fingerprint(inquiry.request.credential), self._now())
        if settled.keep is not None:
            is_held = self._keep(inquiry, settled)
            reply = replace(reply, stored=reply.stored and is_held)
        return reply

    async def cover(self, request: Request) -> Reply | None:
        """What is held of *request*, where a rule lets it stand in for an answer that Graph could not give."""
        return await self._cover(await self.inquire(request), "stale-if-error")

    async def stand_in(self, inquiry: Inquiry, throttled: Throttled) -> Reply:
        """What answers *inquiry* while a limit is reached: what is held, where a rule allows it, else Graph's words."""
        return await self._cover(inquiry, "throttled") or throttled.reply

    async def learn(self, request: Request, answer: Reply, asked: float) -> None:
        """Hold what Graph said of *request* in *answer* to another read, asked for at *asked*."""
        key, terms = self._keys.entry(request), self._terms(request)
        found = await self._find(key, request)
        entry = await found.entry()
        if entry is not None and entry.meta.asked_at > self._now():
            entry = None  # the clock was ahead then: nothing tells which of the two is newer
        settled = policy.learn(request, entry, answer, terms, asked)
        if settled.keep is not None:
            self._keep(Inquiry(request, key, terms, found, asked), settled)

    async def close(self) -> None:
        """End the revalidations in the background."""
        for task in self._behind.values():
            task.cancel()
        await asyncio.gather(*self._behind.values(), return_exceptions=True)

    def _terms(self, request: Request) -> policy.Terms:
        touched = self._invalidations.invalidated_at(request, self._keys.fingerprint(request.credential))
        proof, pressure = self._keys.proof(request.credential), self._pressure(request)
        return policy.Terms(self._rule(request), proof, touched, pressure)

    def _terms_of(self, request: Request, key: bytes, entry: Entry | None) -> policy.Terms:
        """Return the terms of *request* after the objects that *entry* lists are learned: one may have changed."""
        if entry is not None and self._invalidations.must_learn(key, entry.meta.asked_at):
            fingerprint = self._keys.fingerprint(request.credential)
            self._invalidations.learn(key, request, fingerprint, entry.body, entry.meta.asked_at)
        return self._terms(request)

    async def _plan(self, request: Request, key: bytes, found: _Found) -> tuple[policy.Plan, policy.Terms]:
        terms = self._terms(request)
        plan = policy.plan(request, found.held, terms, self._now())
        if isinstance(plan, policy.Reuse) and found.held and self._invalidations.must_learn(key, found.held.asked_at):
            terms = self._terms_of(request, key, await found.entry())
            plan = policy.plan(request, found.held, terms, self._now())
        return plan, terms

    async def _reuse(
        self,
        request: Request,
        plan: policy.Reuse,
        key: bytes,
        terms: policy.Terms,
        found: _Found,
        *,
        cost: RequestCost | None,
    ) -> Reply | None:
        """What is held as a reply; None if its body is gone."""
        entry = await found.entry()
        if entry is None:
            return None
        if plan.in_background:
            self._revalidate_in_background(
                self._inquiry(request, policy.validator_for(entry.meta, request), key, terms, found, cost=cost)
            )
        return policy.reuse(entry, plan, terms, self._now())

    def _keep(self, inquiry: Inquiry, settled: policy.Settled) -> bool:
        """Hold what *settled* says is to be kept, and learn from a body that is new; whether it is held."""
        entry, request = settled.keep, inquiry.request
        assert entry is not None  # noqa: S101 - the caller has looked
        if entry.meta.asked_at < inquiry.asked and self._has_changed_since(inquiry, entry.meta):
            self._store.drop(inquiry.key)
            return False
        if settled.write:
            fingerprint = self._keys.fingerprint(request.credential)
            self._invalidations.on_stored(inquiry.key, request, fingerprint, entry.body, entry.meta.asked_at)
            self._purges.note(inquiry.key, self._subject(request))
        return self._store.put(inquiry.key, _token(request), entry, write=settled.write)

    def _has_changed_since(self, inquiry: Inquiry, meta: EntryMeta) -> bool:
        """Whether another read has stored another entry since one with *meta* was found, and before *inquiry*."""
        held = self._store.known_meta(inquiry.key)
        return held is not None and meta.asked_at < held.asked_at < inquiry.asked

    def _subject(self, request: Request) -> PurgeSubject:
        fingerprint = self._keys.fingerprint(request.credential)
        return PurgeSubject(request.path, self._invalidations.tags_of(request, fingerprint), fingerprint)

    async def _find(self, key: bytes, request: Request) -> _Found:
        """Find the entry, unless a purge applies; whether one applies to an earlier run's entry is known only here."""
        if not self._rule(request).cache:
            return NOTHING
        return self._unless_forgotten(key, request, await self._look(key, request))

    def _unless_forgotten(self, key: bytes, request: Request, found: _Found) -> _Found:
        if found.held and self._purges.any and self._is_forgotten(request, found.held):
            self._store.drop(key)
            return NOTHING
        return found

    def _is_forgotten(self, request: Request, held: EntryMeta) -> bool:
        """Whether a purge applies to *held*; a time in the future, left by a clock that was set back, counts as 0."""
        asked = held.asked_at if held.asked_at <= self._now() else 0.0
        return self._purges.has_forgotten(self._subject(request), asked)

    async def _look(self, key: bytes, request: Request) -> _Found:
        """Look in memory, then on disk; where the ETag is known, return at once while the disk is still read."""
        if entry := self._store.in_memory(key):
            return _Found(entry.meta, entry)
        loading = self._store.load(key, _token(request))
        if held := self._store.known_meta(key):
            self._purges.note(key, self._subject(request))
            return _Found(held, None, asyncio.ensure_future(loading))
        if (entry := await loading) is None:
            return NOTHING
        self._purges.note(key, self._subject(request))
        return _Found(entry.meta, entry)

    def _inquiry(
        self,
        request: Request,
        validator: str,
        key: bytes,
        terms: policy.Terms,
        found: _Found,
        *,
        cost: RequestCost | None,
    ) -> Inquiry:
        return Inquiry(request.with_validator(validator), key, terms, found, self._now(), cost)

    async def _ask(self, inquiry: Inquiry) -> Reply:
        answer: Reply | SidecarError | Throttled
        try:
            answer = await self._onward(inquiry.request, inquiry.cost)
        except (SidecarError, Throttled) as error:
            answer = error
        return await self.resolve(inquiry, answer)

    async def resolve(self, inquiry: Inquiry, answer: Reply | SidecarError | Throttled) -> Reply:
        """Return the reply to *inquiry* after the next layer's *answer*. Raises a SidecarError.

        A 304 that confirms no entry is asked again without a validator.
        """
        if isinstance(answer, Throttled):
            return await self.stand_in(inquiry, answer)
        if isinstance(answer, Large):  # Graph has an answer, and it is streamed
            raise answer
        if isinstance(answer, SidecarError):
            if covered := await self._cover(inquiry, "stale-if-error"):
                return covered
            raise answer
        reply = await self.settle(inquiry, answer)
        if reply is None:
            return await self._ask(
                self._inquiry(inquiry.request, "", inquiry.key, inquiry.terms, NOTHING, cost=inquiry.cost)
            )
        return reply

    async def _cover(self, inquiry: Inquiry, detail: str) -> Reply | None:
        """What is held, where a rule lets it stand in for an answer that Graph could not give, or was not asked for."""
        entry, now = await inquiry.found.entry(), self._now()
        terms = self._terms_of(inquiry.request, inquiry.key, entry)
        if entry and policy.may_cover(entry.meta, inquiry.request.directives, terms, now):
            return policy.cover(entry, terms, now, detail)
        return None

    def _revalidate_in_background(self, inquiry: Inquiry) -> None:
        """Revalidate in the background, once per key at a time; errors reach no caller."""
        if inquiry.key not in self._behind:
            patient = replace(inquiry.request, priority=max(inquiry.request.priority, LOW_PRIORITY))
            inquiry = replace(inquiry, request=patient, cost=inquiry.cost and inquiry.cost.for_background())
            task = self._behind[inquiry.key] = asyncio.ensure_future(self._ask(inquiry))
            task.add_done_callback(lambda done: self._landed(inquiry, done))

    def _landed(self, inquiry: Inquiry, done: asyncio.Task[Reply]) -> None:
        del self._behind[inquiry.key]
        if done.cancelled():
            return
        error = done.exception()
        if inquiry.cost is not None and (error is None or isinstance(error, SidecarError)):
            reply = reply_of(error) if error else done.result()
            self._on_background_reply(inquiry.request, reply, inquiry.cost, self._now() - inquiry.asked)


NOTHING = _Found(None, None)
"""What is found where nothing is held."""


def _token(request: Request) -> str:
    return request.credential.token if request.credential else ""
