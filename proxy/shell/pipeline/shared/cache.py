"""The cache layer of a replica that shares: entries and flights of other replicas come before a call to Graph.

It is the layer of one replica with four steps changed: the terms of a read (`_terms`), the search for an entry
(`_look`), the call to Graph (`_ask`), and storing (`_keep`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypedDict, Unpack

from msgspec.structs import replace

from proxy.core.cache import policy
from proxy.core.cache.encryption import CompressedBody, compress
from proxy.core.cache.invalidation import InvalidationIndex, tag_of_token
from proxy.core.cache.key import FlightKey, Keys, parts_of
from proxy.core.cache.purge import Purges
from proxy.core.fast_path.prepared_read import PreparedRead
from proxy.core.graph.errors import ends_token
from proxy.core.http import headers
from proxy.core.http.errors import SidecarError
from proxy.core.model import CacheDirectives, Channel, Entry, EntryMeta, Reply, Request
from proxy.core.quota.ledger import RequestCost
from proxy.core.routing.rules import Rule
from proxy.core.shared.lease import FlightOutcome
from proxy.core.shared.records import Refused
from proxy.core.shared.wire import BEGIN
from proxy.shell import Layer
from proxy.shell.pipeline.cache import NOTHING, Cache, EntryStore, ForwardedRead, OnBackgroundReply, _Found, _token
from proxy.shell.pipeline.shared.forwarded_read import SharedFlight, SharedForwardedRead
from proxy.shell.valkey.entries import Found, life_ms
from proxy.shell.valkey.leases import Joined, LeaseAnswer, Led
from proxy.shell.valkey.shared import ENDS_AT, HAS_CAUGHT_UP, Shared

_ANY_AGES = CacheDirectives().ages
_NO_AGES = repr(_ANY_AGES).encode()


class CacheOptions(TypedDict):
    """The keyword arguments of `Cache`."""

    store: EntryStore
    keys: Keys
    rule: Callable[[Request], Rule]
    invalidations: InvalidationIndex
    purges: Purges
    now: Callable[[], float]
    pressure: Callable[[Request], float]
    on_background_reply: OnBackgroundReply


class SharedCache(Cache):
    """A pipeline layer: `Cache` for one of several replicas."""

    def __init__(self, onward: Layer, *, shared: Shared, **options: Unpack[CacheOptions]) -> None:
        """As `Cache`; entries and flights are shared through *shared*."""
        super().__init__(onward, **options)
        self._shared = shared

    async def __call__(self, request: Request, cost: RequestCost | None = None) -> Reply:
        """Answer *request*. Raises NotHeld, and what the next layer raises."""
        mark, caught_up = ENDS_AT.set(self._shared.ends_at), HAS_CAUGHT_UP.set(HAS_CAUGHT_UP.get())
        try:
            key = self._keys.entry(request)
            if self._is_cold(key, request):
                return await self._answer_cold(key, request, cost)
            return await super().__call__(request, cost)
        finally:
            ENDS_AT.reset(mark)
            HAS_CAUGHT_UP.reset(caught_up)

    # --- what this replica has never had ---

    def _is_cold(self, key: bytes, request: Request) -> bool:
        """Whether one visit can both look for an entry and take the lease of the flight that fetches it."""
        if self._store.in_memory(key) is not None or not self._store.is_unknown(key):
            return False
        if request.directives.forbids_sharing or not self._rule(request).cache:
            return False
        return self._shared.fleet.client.is_up and self._shared.trust.until > self._shared.steady()

    async def _answer_cold(self, key: bytes, request: Request, cost: RequestCost | None) -> Reply:
        """Answer *request*, of which nothing is held here: by an entry of the store, or by a flight."""
        shared, token = self._shared, _token(request)
        forwarded = self._forwarded(request, "", key, self._terms(request), NOTHING, cost=cost)
        name, has_time = shared.fleet.wire.names.entry(key), request.is_low_priority
        lease_request = shared.flights.look_request(self._flight(request), token, name, has_time=has_time)
        role, value = await shared.flights.lead_or_join(lease_request, self._left())
        loaded = shared.entries.read(key, token, value, self._now(), shared.steady())
        if value is None:
            return await self.fly(forwarded, role, None)
        return await self._answer(key, request, cost, self.hold(request, key, loaded))

    # --- what bears on a read ---

    def _terms(self, request: Request) -> policy.Terms:
        terms = super()._terms(request)
        doubt = self._shared.doubt(lambda: self._keys.entry(request), lambda: self._tags(request))
        return terms if doubt <= terms.invalidated_at else terms._replace(invalidated_at=doubt)

    async def _plan(self, request: Request, key: bytes, found: _Found) -> tuple[policy.Plan, policy.Terms]:
        """A stall of this process costs no call: the log is read once more before what would be fresh is not."""
        if found.held is not None and not self._shared.is_believed:
            calm = super()._terms(request)
            if isinstance(policy.plan(request, found.held, calm, self._now()), policy.Reuse):
                HAS_CAUGHT_UP.set(await self._shared.catch_up(self._left()))
        return await super()._plan(request, key, found)

    def _tags(self, request: Request) -> tuple[str, ...]:
        fingerprint = self._keys.fingerprint(request.credential)
        return self._invalidations.tags_of(request, fingerprint)

    def _left(self) -> float:
        return min(self._shared.budget_s, ENDS_AT.get() - self._shared.steady())

    # --- what is held ---

    async def _look(self, key: bytes, request: Request) -> _Found:
        found = await super()._look(key, request)
        if found.held is not None:
            return found
        steady = self._shared.steady()
        loaded = await self._shared.entries.load(key, _token(request), self._now(), steady, self._left())
        return NOTHING if loaded is None else self._take(key, request, loaded)

    def _take(self, key: bytes, request: Request, loaded: Found) -> _Found:
        """Hold what another replica fetched: as old as it is if all that was told since is known, else as validator."""
        entry = loaded.entry
        if self._is_current(key, request, loaded):
            self._shared.vouch(key, entry.meta.asked_at)
        else:
            entry = replace(entry, meta=replace(entry.meta, asked_at=0.0))
        self._store.put(key, _token(request), entry)
        self._purges.note(key, self._subject(request))
        return _Found(entry.meta, entry)

    def _is_current(self, key: bytes, request: Request, loaded: Found) -> bool:
        """Whether nothing that *loaded* shows was changed after its fetch began, as far as the log tells."""
        index, position = self._shared.index, loaded.position
        if not index.knows(position):
            return False
        if index.latest <= position.last:
            return True
        fingerprint = self._keys.fingerprint(request.credential)
        tags = self._invalidations.all_tags(key, request, fingerprint, loaded.entry.body, loaded.entry.meta.asked_at)
        return index.last(tags) <= position.last

    # --- asking ---

    def _forwarded(
        self,
        request: Request,
        validator: str,
        key: bytes,
        terms: policy.Terms,
        found: _Found,
        *,
        cost: RequestCost | None,
    ) -> SharedForwardedRead:
        made = super()._forwarded(request, validator, key, terms, found, cost=cost)
        return SharedForwardedRead(
            made.request,
            made.key,
            made.terms,
            made.found,
            made.asked,
            made.cost,
            self._shared.index.position,
            self._shared.fleet.clock.at(0.0, self._shared.steady()),
        )

    def _revalidate_in_background(self, forwarded: ForwardedRead) -> None:
        mark = ENDS_AT.set(self._shared.steady() + self._shared.budget_s)
        try:
            super()._revalidate_in_background(forwarded)
        finally:
            ENDS_AT.reset(mark)

    async def _ask(self, forwarded: ForwardedRead) -> Reply:
        """Ask Graph, or wait for another replica that does."""
        role, loaded = await self._lead_or_join(forwarded)
        if loaded is not None and (reply := await self._reuse_loaded(forwarded, loaded)):
            if isinstance(role, Led):
                self._shared.flights.release(role)
            return reply
        return await self.fly(forwarded, role, loaded)

    async def fly(self, forwarded: ForwardedRead, role: Led | Joined | None, loaded: Found | None) -> Reply:
        """Lead or follow the flight of *forwarded*, or ask alone; *loaded* is what the shared store holds."""
        if role is None:
            return await super()._ask(forwarded)
        ended = await self._shared.flights.follow(role) if isinstance(role, Joined) else role
        if isinstance(ended, Led):
            return await self._lead(forwarded, ended, loaded.entry.meta.etag if loaded else "")
        reply = await self._follow(forwarded, ended) if ended is not None else None
        return reply or await super()._ask(forwarded)

    async def _lead_or_join(self, forwarded: ForwardedRead) -> tuple[Led | Joined | None, Found | None]:
        """Lead or join the flight of *forwarded*; None to ask alone. With it, what the shared store holds by now."""
        request, shared = forwarded.request, self._shared
        if request.directives.forbids_sharing or not forwarded.terms.rule.cache:
            return shared.flights.go_alone("wish"), None
        if not shared.fleet.client.is_up:
            return shared.flights.go_alone("away"), None
        if not await shared.catch_up(self._left()):
            return shared.flights.go_alone("doubt"), None
        tags = self._tags(request)
        if shared.open_writes.cover(tags):
            return shared.flights.go_alone("write"), None
        flight = self._flight(request, tags)
        entry = shared.fleet.wire.names.entry(forwarded.key) if _may_gain(forwarded.terms.rule) else b""
        lease_request = shared.flights.lease_request(flight, _token(request), entry, has_time=request.is_low_priority)
        role, value = await shared.flights.lead_or_join(lease_request, self._left())
        loaded = None
        if entry:
            loaded = shared.entries.read(forwarded.key, _token(request), value, self._now(), shared.steady())
        return role, loaded

    def _flight(self, request: Request, tags: tuple[str, ...] = ()) -> bytes:
        """The name of the flight that *request*, which shows *tags*, may join: after a write it is another one."""
        fingerprint = self._keys.fingerprint(request.credential)
        return self._flight_name(self._keys.flight(request), fingerprint, lambda: tags or self._tags(request))

    def _flight_name(self, flight: FlightKey, fingerprint: bytes, tags: Callable[[], tuple[str, ...]]) -> bytes:
        index, (entry_key, proof, ages) = self._shared.index, parts_of(flight)
        last = BEGIN if index.latest == BEGIN else index.last((tag_of_token(fingerprint), *tags()))
        ages_text = _NO_AGES if ages == _ANY_AGES else repr(ages).encode()
        return self._shared.fleet.wire.names.flight(entry_key, proof, ages_text, bytes(last), index.lineage)

    async def _reuse_loaded(self, forwarded: ForwardedRead, loaded: Found) -> Reply | None:
        """Returns the reply from *loaded* without asking Graph, if it is newer than ours and may be served."""
        request, key = forwarded.request, forwarded.key
        if not self.is_better(request, key, forwarded.found.held, loaded):
            return None
        found = self._take(key, request, loaded)
        plan, terms = await self._plan(request, key, found)
        if not isinstance(plan, policy.Reuse):
            return None
        return await self._reuse(request, plan, key, terms, found, cost=forwarded.cost)

    def is_better(self, request: Request, key: bytes, held: EntryMeta | None, loaded: Found | None) -> bool:
        """Returns whether *loaded* is newer than what is *held*, and nothing is known to have changed since."""
        if loaded is None or (held is not None and loaded.entry.meta.asked_at <= held.asked_at):
            return False
        is_forgotten = self._purges.any and self._is_forgotten(request, loaded.entry.meta)
        return not is_forgotten and self._is_current(key, request, loaded)

    # --- leading ---

    async def _lead(self, forwarded: ForwardedRead, led: Led, shared_etag: str) -> Reply:
        """Ask Graph for all replicas that wait."""
        flight = SharedFlight(led, shared_etag)
        shared = self._shared
        now = shared.steady()
        leading = SharedForwardedRead(
            forwarded.request,
            forwarded.key,
            forwarded.terms,
            forwarded.found,
            self._now(),
            forwarded.cost,
            shared.index.position,
            shared.fleet.clock.at(0.0, now),
            flight,
        )
        try:
            reply = await super()._ask(leading)
            self.land(leading, flight)
            return reply
        except SidecarError:
            self.land(leading, flight)
            raise
        finally:
            shared.flights.release(led)

    def land(self, forwarded: SharedForwardedRead, flight: SharedFlight) -> None:
        """Write the outcome; if that fails, the followers call Graph themselves."""
        answer, entry = flight.answer, flight.entry
        outcome = FlightOutcome(flight.led.lease.token, 0, (), b"", "", "")
        if answer is not None:
            is_shared = bool(flight.value) or (entry is not None and entry.meta.etag == flight.shared_etag)
            body = b"" if is_shared or answer.status == 304 else answer.body
            if len(body) <= self._shared.entries.largest:
                outcome = FlightOutcome(
                    flight.led.lease.token,
                    answer.status,
                    answer.headers,
                    body,
                    answer.channel.value,
                    flight.mode.value,
                    entry.meta.etag if entry is not None else "",
                    forwarded.shared_asked,
                    forwarded.position.pack(),
                    is_shared,
                )
        life = life_ms(_life_s(forwarded.terms))
        name = self._shared.fleet.wire.names.entry(forwarded.key)
        self._shared.flights.land(flight.led, outcome, _token(forwarded.request), (name, flight.value, life))

    def apply_answer(self, forwarded: ForwardedRead, entry: Entry | None, answer: Reply) -> Reply | None:
        """As `Cache.apply_answer`; other replicas learn of a refused token, and of the answer to a shared flight."""
        reply = super().apply_answer(forwarded, entry, answer)
        credential = forwarded.request.credential
        if answer.status >= 400 and credential and ends_token(answer.body):
            self._shared.publish(Refused(self._keys.fingerprint(credential)))
        if reply is not None and isinstance(forwarded, SharedForwardedRead) and forwarded.flight is not None:
            forwarded.flight.answer, forwarded.flight.mode = answer, reply.mode
        if reply is not None and reply.invalidated_s == -math.inf:  # doubt is no change, and has no time
            reply = replace(reply, invalidated_s=None)
        return reply

    def _keep(self, forwarded: ForwardedRead, settled: policy.Settled) -> bool:
        is_held = super()._keep(forwarded, settled)
        if isinstance(forwarded, SharedForwardedRead) and settled.keep is not None:
            self.share(forwarded, settled.keep, is_new=settled.write)
        return is_held

    def share(self, forwarded: SharedForwardedRead, entry: Entry, *, is_new: bool) -> None:
        """Let others have *entry*: one only confirmed by Graph where that makes it fresh, or where it is gone there."""
        flight, shared = forwarded.flight, self._shared
        is_gone = flight is not None and _may_gain(forwarded.terms.rule) and flight.shared_etag != entry.meta.etag
        if flight is not None:
            flight.entry = entry
        if not (is_new or is_gone or _may_gain(forwarded.terms.rule)) or not shared.fleet.client.is_up:
            return
        steady = shared.steady()
        compressed = self._compressed(forwarded.key, entry) if shared.entries.takes(entry, steady) else None
        value = shared.entries.value(
            forwarded.key,
            _token(forwarded.request),
            entry,
            compressed,
            asked=forwarded.shared_asked,
            position=forwarded.position,
            steady=steady,
        )
        if flight is not None:
            flight.value = value
        else:
            shared.entries.keep(forwarded.key, value, _life_s(forwarded.terms), steady)

    def _compressed(self, key: bytes, entry: Entry) -> CompressedBody:
        """Return the body of *entry* as both stores seal it: it is compressed once."""
        compressed = compress(entry.body)
        self._store.note_compressed(key, entry.body, compressed)
        return compressed

    # --- for reads that no task waits for ---

    @property
    def changed_at(self) -> float:
        """When anything was last changed; infinity while changes of other replicas may be unknown."""
        trust = self._shared.trust
        return max(super().changed_at, trust.since) if trust.until > self._shared.steady() else math.inf

    def begin_lead_or_join(
        self, read: PreparedRead, entry: Entry | None, on_end: Callable[[LeaseAnswer], None]
    ) -> None:
        """Ask the store who leads the flight of *read*, and for an entry unless *entry*, held here, is as good."""
        flights, request, has_time = self._shared.flights, read.request, read.is_low_priority
        flight = self._flight_name(read.flight, read.fingerprint, lambda: self._tags(request))
        name, token = b"", _token(request)
        if entry is None or _may_gain(self._rule(request)):
            name = self._shared.fleet.wire.names.entry(read.key)
        make = flights.look_request if entry is None else flights.lease_request
        flights.begin(make(flight, token, name, has_time=has_time), self._left(), on_end)

    def read_value(self, request: Request, key: bytes, value: bytes) -> Found | None:
        """Return the entry in a *value* of the shared store; None for anything else."""
        return self._shared.entries.read(key, _token(request), value, self._now(), self._shared.steady())

    def hold(self, request: Request, key: bytes, loaded: Found | None) -> _Found:
        """Hold what another replica fetched."""
        return NOTHING if loaded is None else self._unless_forgotten(key, request, self._take(key, request, loaded))

    def is_in_memory(self, key: bytes) -> bool:
        """Return whether memory holds an entry of *key*."""
        return self._store.in_memory(key) is not None

    async def answer_found(self, request: Request, key: bytes, cost: RequestCost, found: _Found) -> Reply:
        """Answer *request*, of which *found* is held. Raises NotHeld, and what the next layer raises."""
        return await self._answer(key, request, cost, found)

    def asked_now(
        self, read: PreparedRead, entry: Entry | None, asked: float, led: Led | None, loaded: Found | None
    ) -> SharedForwardedRead:
        """Return *read* as it is asked now, at *asked*, with the validator of *entry*.

        It is asked for all replicas if there is *led*; *loaded* is what the shared store holds.
        """
        shared, request = self._shared, read.asked or read.request
        return SharedForwardedRead(
            request,
            read.key,
            policy.Terms(self._rule(request), read.proof),
            NOTHING if entry is None else _Found(entry.meta, entry),
            asked,
            position=shared.index.position,
            shared_asked=shared.fleet.clock.at(0.0, shared.steady()),
            flight=None if led is None else SharedFlight(led, loaded.entry.meta.etag if loaded else ""),
        )

    # --- following ---

    async def _follow(self, forwarded: ForwardedRead, outcome: FlightOutcome) -> Reply | None:
        """The reply that the leader's *outcome* makes here; None where it is of no use."""
        if not outcome.status:
            self._shared.flights.go_alone("gone")
            return None
        shared = self._shared
        asked = self._now() - max(0.0, shared.fleet.clock.age(outcome.asked, shared.steady()))
        request, found = forwarded.request, forwarded.found
        answer = Reply(outcome.status, outcome.headers, outcome.body, channel=Channel(outcome.channel))
        held = found.held
        if outcome.etag and held is not None and held.etag == outcome.etag and held.channel == outcome.channel:
            answer = replace(answer, status=304, body=b"")
            request = request.with_validator(outcome.etag)
        elif outcome.is_shared or outcome.status == 304:
            entry = await self._fetch_shared(forwarded, outcome)
            if entry is None:
                shared.flights.go_alone("gone")
                return None
            fields = outcome.headers
            if outcome.status == 304:
                fields = headers.updated_by_304(headers.from_stored(entry.headers, entry.meta.etag), fields)
            answer = Reply(200, fields, entry.body, channel=Channel(entry.meta.channel))
        followed = ForwardedRead(request, forwarded.key, forwarded.terms, found, asked, forwarded.cost)
        if outcome.etag:
            shared.vouch(forwarded.key, asked)
        settled = await self.on_answer(followed, answer)
        return None if settled is None else settled.shared()

    async def _fetch_shared(self, forwarded: ForwardedRead, outcome: FlightOutcome) -> Entry | None:
        """The entry that the leader made or confirmed."""
        shared = self._shared
        loaded = await shared.entries.load(
            forwarded.key, _token(forwarded.request), self._now(), shared.steady(), shared.budget_s
        )
        return loaded.entry if loaded is not None and loaded.entry.meta.etag == outcome.etag else None


def _may_gain(rule: Rule) -> bool:
    """Returns whether the shared store may have a better entry than a replica that holds one."""
    return rule.fresh_s > 0 or rule.stretch_s > 0 or rule.stale_while_revalidate_s > 0


def _life_s(terms: policy.Terms) -> float:
    rule = terms.rule
    return rule.fresh_s + max(rule.stale_if_error_s, rule.stale_while_revalidate_s, rule.stretch_s)
