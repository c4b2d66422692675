"""The cache layer: asks `core/cache/policy` what to do before Graph is asked and what to store after, and does it.

It finds the entry in memory or on disk, asks the next layer, stores what is to be stored, and asks again without a
validator where a 304 confirms nothing (`resolve`). The fast path uses it for the same decisions (`forward_from_memory`,
`apply_answer`) and stores entries through it (`keep_new`, `keep_confirmed`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec
from msgspec.structs import replace

from proxy.core.cache import policy
from proxy.core.cache.encryption import CompressedBody
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

    def put_all(self, keys: Sequence[bytes], token: str, entries: Sequence[Entry]) -> None:
        """Store *entries*, each the first of its key, on disk too."""

    def note_compressed(self, key: bytes, body: bytes, compressed: CompressedBody) -> None:
        """Take that *body*, which was just put under *key*, is already *compressed*."""

    def renew(self, key: bytes, token: str, entry: Entry) -> None:
        """Store *entry*, of which only the times are newer than those of the entry in memory."""

    def drop(self, key: bytes) -> None:
        """Forget *key* everywhere."""


class _Found:
    """The entry of one key. Its metadata is known; its body may still be on its way from the disk."""

    def __init__(
        self, held: EntryMeta | None, entry: Entry | None, loading: asyncio.Task[Entry | None] | None = None
    ) -> None:
        self.held = held
        self.in_memory = entry
        self._loading = loading

    async def entry(self) -> Entry | None:
        return await self._loading if self._loading is not None else self.in_memory


class ForwardedRead(msgspec.Struct, frozen=True):
    """A read that is forwarded to Graph, and the entry that the answer may confirm."""

    request: Request  # with the ETag of the entry as validator, where Graph may confirm that
    key: bytes
    terms: policy.Terms
    found: _Found
    asked: float
    cost: RequestCost | None = None  # what the calls to Graph are charged to


class Cache:
    """A layer: serves entries where the rules allow that, else asks the next layer with their validators."""

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

        *on_background_reply* is called with the replies to revalidations in the background.
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
        self._in_background: dict[bytes, asyncio.Task[Reply]] = {}

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
            return await self._ask(self._forwarded(request, plan.validator, key, terms, found, cost=cost))
        reply = await self._reuse(request, plan, key, terms, found, cost=cost)
        return reply or await self._ask(self._forwarded(request, "", key, terms, NOTHING, cost=cost))

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

    async def prepare_forward(self, request: Request) -> ForwardedRead:
        """Return *request* for a caller that asks Graph by itself; `on_answer` takes the answer."""
        key, terms = self._keys.entry(request), self._terms(request)
        found = await self._find(key, request)
        validator = policy.validator_for(found.held, request) if found.held else ""
        return self._forwarded(request, validator, key, terms, found, cost=None)

    async def holds(self, request: Request) -> bool:
        """Return whether *request* can be sent with a validator."""
        return bool((await self.prepare_forward(request)).request.validator)

    async def on_answer(self, forwarded: ForwardedRead, answer: Reply) -> Reply | None:
        """Return the reply after Graph's *answer*; None if a 304 confirms no entry: ask again without a validator."""
        return self.apply_answer(forwarded, await forwarded.found.entry(), answer)

    def forward_from_memory(self, request: Request, key: bytes) -> tuple[ForwardedRead, Entry | None] | None:
        """Return *request* for the fast path, prepared without the disk, and its entry in memory.

        Return None if the entry is served without a call, or if the disk has to be read first.
        """
        found = self._find_near(key, request)
        return None if found is None else self._forward_if_asked(request, key, found)

    def forward_loaded(
        self, request: Request, key: bytes, entry: Entry | None
    ) -> tuple[ForwardedRead, Entry | None] | None:
        """Return the same as `forward_from_memory`; *entry* was loaded from disk, None if there is none."""
        is_found = entry is not None and self._rule(request).cache
        found = _Found(entry.meta, entry) if entry is not None and is_found else NOTHING
        return self._forward_if_asked(request, key, self._unless_forgotten(key, request, found))

    def note_loaded(self, request: Request, key: bytes, fingerprint: bytes) -> None:
        """Note the tags of an entry that was loaded from disk, so that purge orders find it."""
        if not self._purges.knows(key):
            tags = self._invalidations.tags_of(request, fingerprint)
            self._purges.note(key, PurgeSubject(request.path, tags, fingerprint))

    def _forward_if_asked(
        self, request: Request, key: bytes, found: _Found
    ) -> tuple[ForwardedRead, Entry | None] | None:
        terms = self._terms(request)
        plan = policy.plan(request, found.held, terms, self._now())
        if not isinstance(plan, policy.Ask):
            return None
        return self._forwarded(request, plan.validator, key, terms, found, cost=None), found.in_memory

    def forwarded(self, request: Request, key: bytes, entry: Entry | None, asked: float) -> ForwardedRead:
        """Return *request* as the fast path sent it at *asked*, with the validator of *entry*."""
        return ForwardedRead(
            request, key, self._terms(request), NOTHING if entry is None else _Found(entry.meta, entry), asked
        )

    @property
    def has_orders(self) -> bool:
        """Whether a purge order is in force."""
        return self._purges.any

    def may_be_forgotten(self, held: EntryMeta) -> bool:
        """Return whether a purge order may cover *held*: it was not asked for after the latest order."""
        return self._purges.any and not self._purges.latest < held.asked_at <= self._now()

    def keep_new(self, request: Request, key: bytes, fingerprint: bytes, entry: Entry) -> bool:
        """Store *entry*, Graph's new answer to *request*; return whether it is stored."""
        tags = self._invalidations.on_stored(key, request, fingerprint, entry.body, entry.meta.asked_at)
        self._purges.note(key, PurgeSubject(request.path, tags, fingerprint))
        return self._store.put(key, request.credential.token if request.credential is not None else "", entry)

    def keep_all_new(
        self, requests: Sequence[Request], keys: Sequence[bytes], fingerprint: bytes, entries: Sequence[Entry]
    ) -> None:
        """Store *entries*, Graph's first answers to *requests* of one token, that the store is certain to take."""
        tags = self._invalidations.on_all_stored(keys, requests, fingerprint, entries)
        self._purges.note_all(keys, [request.path for request in requests], tags, fingerprint)
        self._store.put_all(keys, _token(requests[0]), entries)

    @property
    def changed_at(self) -> float:
        """The time of the last invalidation, in epoch seconds."""
        return self._invalidations.changed_at

    def keep_confirmed(self, request: Request, key: bytes, entry: Entry) -> None:
        """Store *entry*, which Graph has confirmed."""
        self._store.put(key, _token(request), entry, write=False)

    def _find_near(self, key: bytes, request: Request) -> _Found | None:
        """Return the entry as `_find` does, without the disk; None if only the disk knows."""
        if not self._rule(request).cache:
            return NOTHING
        entry = self._store.in_memory(key)
        if entry is None:
            return NOTHING if self._store.is_unknown(key) else None
        if self._purges.any and self._is_forgotten(request, entry.meta):
            self._store.drop(key)
            return NOTHING
        return _Found(entry.meta, entry)

    def apply_answer(self, forwarded: ForwardedRead, entry: Entry | None, answer: Reply) -> Reply | None:
        """Do what `on_answer` does, for the loaded *entry*."""
        terms = self._terms_of(forwarded.request, forwarded.key, entry)
        settled = policy.settle(forwarded.request, entry, answer, terms, forwarded.asked)
        if settled is None:
            return None
        reply = settled.reply
        if answer.status >= 400 and forwarded.request.credential and ends_token(answer.body):
            self._invalidations.record_refused_token(self._keys.fingerprint(forwarded.request.credential), self._now())
        if settled.keep is not None:
            is_held = self._keep(forwarded, settled)
            reply = replace(reply, stored=reply.stored and is_held)
        return reply

    async def cover(self, request: Request) -> Reply | None:
        """Return the stale entry of *request* where a rule allows that after an error of Graph's (stale-if-error)."""
        return await self._cover(await self.prepare_forward(request), "stale-if-error")

    async def answer_while_throttled(self, forwarded: ForwardedRead, throttled: Throttled) -> Reply:
        """Return the entry while a limit is reached, where a rule allows that, else Graph's last refusal."""
        return await self._cover(forwarded, "throttled") or throttled.reply

    async def learn(self, request: Request, answer: Reply, asked: float) -> None:
        """Store *answer*, the part about *request* of the reply to another read that was sent at *asked*."""
        key, terms = self._keys.entry(request), self._terms(request)
        found = await self._find(key, request)
        entry = await found.entry()
        if entry is not None and entry.meta.asked_at > self._now():
            entry = None  # the clock was ahead then: nothing tells which of the two is newer
        settled = policy.learn(request, entry, answer, terms, asked)
        if settled.keep is not None:
            self._keep(ForwardedRead(request, key, terms, found, asked), settled)

    async def close(self) -> None:
        """End the revalidations in the background."""
        for task in self._in_background.values():
            task.cancel()
        await asyncio.gather(*self._in_background.values(), return_exceptions=True)

    def _terms(self, request: Request) -> policy.Terms:
        invalidated_at = self._invalidations.invalidated_at(request, self._keys.fingerprint(request.credential))
        proof, pressure = self._keys.proof(request.credential), self._pressure(request)
        return policy.Terms(self._rule(request), proof, invalidated_at, pressure)

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
        """Return the reply from the entry; None if its body is gone."""
        entry = await found.entry()
        if entry is None:
            return None
        if plan.in_background:
            self._revalidate_in_background(
                self._forwarded(request, policy.validator_for(entry.meta, request), key, terms, found, cost=cost)
            )
        return policy.reuse(entry, plan, terms, self._now())

    def _keep(self, forwarded: ForwardedRead, settled: policy.Settled) -> bool:
        """Store the entry of *settled*, and learn the tags of a new body; return whether it is stored."""
        entry, request = settled.keep, forwarded.request
        assert entry is not None  # noqa: S101 - the caller has looked
        if entry.meta.asked_at < forwarded.asked and self._has_changed_since(forwarded, entry.meta):
            self._store.drop(forwarded.key)
            return False
        if settled.write:
            fingerprint = self._keys.fingerprint(request.credential)
            self._invalidations.on_stored(forwarded.key, request, fingerprint, entry.body, entry.meta.asked_at)
            self._purges.note(forwarded.key, self._subject(request))
        return self._store.put(forwarded.key, _token(request), entry, write=settled.write)

    def _has_changed_since(self, forwarded: ForwardedRead, meta: EntryMeta) -> bool:
        """Return whether another read, sent before *forwarded*, has stored an entry since one with *meta* was found."""
        held = self._store.known_meta(forwarded.key)
        return held is not None and meta.asked_at < held.asked_at < forwarded.asked

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
        """Return whether a purge order covers *held*; a time in the future (the clock was set back) counts as 0."""
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

    def _forwarded(
        self,
        request: Request,
        validator: str,
        key: bytes,
        terms: policy.Terms,
        found: _Found,
        *,
        cost: RequestCost | None,
    ) -> ForwardedRead:
        return ForwardedRead(request.with_validator(validator), key, terms, found, self._now(), cost)

    async def _ask(self, forwarded: ForwardedRead) -> Reply:
        answer: Reply | SidecarError | Throttled
        try:
            answer = await self._onward(forwarded.request, forwarded.cost)
        except (SidecarError, Throttled) as error:
            answer = error
        return await self.resolve(forwarded, answer)

    async def resolve(self, forwarded: ForwardedRead, answer: Reply | SidecarError | Throttled) -> Reply:
        """Return the reply to *forwarded* after the next layer's *answer*. Raises a SidecarError.

        A 304 that confirms no entry is asked again without a validator.
        """
        if isinstance(answer, Throttled):
            return await self.answer_while_throttled(forwarded, answer)
        if isinstance(answer, Large):  # Graph has an answer, and it is streamed
            raise answer
        if isinstance(answer, SidecarError):
            if covered := await self._cover(forwarded, "stale-if-error"):
                return covered
            raise answer
        reply = await self.on_answer(forwarded, answer)
        if reply is None:
            return await self._ask(
                self._forwarded(forwarded.request, "", forwarded.key, forwarded.terms, NOTHING, cost=forwarded.cost)
            )
        return reply

    async def _cover(self, forwarded: ForwardedRead, detail: str) -> Reply | None:
        """Return the stale entry where a rule allows that after an error, or while a limit is reached."""
        entry, now = await forwarded.found.entry(), self._now()
        terms = self._terms_of(forwarded.request, forwarded.key, entry)
        if entry and policy.may_cover(entry.meta, forwarded.request.directives, terms, now):
            return policy.cover(entry, terms, now, detail)
        return None

    def _revalidate_in_background(self, forwarded: ForwardedRead) -> None:
        """Revalidate in the background, once per key at a time; errors reach no caller."""
        if forwarded.key not in self._in_background:
            patient = replace(forwarded.request, priority=max(forwarded.request.priority, LOW_PRIORITY))
            forwarded = replace(forwarded, request=patient, cost=forwarded.cost and forwarded.cost.for_background())
            task = self._in_background[forwarded.key] = asyncio.ensure_future(self._ask(forwarded))
            task.add_done_callback(lambda done: self._on_revalidated(forwarded, done))

    def _on_revalidated(self, forwarded: ForwardedRead, done: asyncio.Task[Reply]) -> None:
        del self._in_background[forwarded.key]
        if done.cancelled():
            return
        error = done.exception()
        if forwarded.cost is not None and (error is None or isinstance(error, SidecarError)):
            reply = reply_of(error) if error else done.result()
            self._on_background_reply(forwarded.request, reply, forwarded.cost, self._now() - forwarded.asked)


NOTHING = _Found(None, None)
"""Stands for no entry."""


def _token(request: Request) -> str:
    return request.credential.token if request.credential else ""
