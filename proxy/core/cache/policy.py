"""The cache policy: `plan` decides what to do before Graph is asked, `settle` what to store after Graph has answered.

Graph sends `no-store` with every reply, meant for shared caches. Here every entry belongs to one credential, is sealed
with that credential's token, and is by default served only after Graph has confirmed it. This deviation from RFC 9111
section 5.2.2.5 is deliberate and documented in the README.

`shell/pipeline/cache` asks `plan`, then `settle`; where `settle` returns None (a 304 that does not match the entry, see
`confirms`), its `resolve` asks Graph again without a validator. A 304 without an ETag confirms the validator that was
sent.

The fast path asks for the same decisions. `shell/downstream/fast_path` asks `fresh_lifetime_s` for hits in memory,
which `core/fast_path/prepared_reply` renders from `reuse`. For the ordinary slots of a batch
`shell/downstream/fast_flights` asks `validator_for` before, and `core/fast_path/batch_answer` asks `confirms` or
`is_etag` after; their heads are made from `settle` (`core/fast_path/answer_template`), and every other slot is left to
it.
"""

from __future__ import annotations

import re
from typing import NamedTuple

import msgspec
from msgspec.structs import replace

from proxy.core.cache import signed_links
from proxy.core.cache.cacheability import is_final
from proxy.core.graph.errors import is_clean, is_trouble
from proxy.core.http import headers
from proxy.core.model import CacheDirectives, Channel, Entry, EntryMeta, Mode, Reply, Request
from proxy.core.routing.rules import Rule

PROOFS_KEPT = 4
"""The most proofs that one entry remembers: programs that share a token may send different ones, but only a few."""

_ETAG = re.compile(r'(?:W/)?"[!#-~]*"')  # RFC 9110 section 8.8.3, in ASCII


class Terms(NamedTuple):
    """What decides about one read besides the entry. A NamedTuple is quick to make, and every read makes one."""

    rule: Rule
    proof: bytes = b""  # the digest of `appsecret_proof` and its time
    invalidated_at: float = 0.0  # when a tag of the read was last invalidated, epoch seconds
    pressure: float = 0.0  # how scarce calls are: 0 calm, 1 nothing is sent


class Reuse(msgspec.Struct, frozen=True, gc=False):
    """The plan to serve the entry without waiting for Graph; *in_background*: revalidate it for the next caller."""

    in_background: bool = False
    detail: str = ""  # why it is served although it is not fresh


class Ask(msgspec.Struct, frozen=True, gc=False):
    """The plan to ask Graph, with the entry's ETag as *validator* where it is valid."""

    validator: str = ""


class Refuse(msgspec.Struct, frozen=True, gc=False):
    """The plan to answer 504: the caller said only-if-cached, and no entry may be served."""


Plan = Reuse | Ask | Refuse
_FRESH = Reuse()


def plan(request: Request, meta: EntryMeta | None, terms: Terms, now: float) -> Plan:
    """Returns what to do with *request* at *now*; *meta* describes the stored entry, None without one."""
    if meta is None or not terms.rule.cache:
        return Refuse() if request.directives.only_if_cached else Ask()
    if is_usable_unasked(meta, request.directives, terms, now) and (
        decision := _reuse_without_asking(meta, request.directives, terms, now)
    ):
        return decision
    if request.directives.only_if_cached:
        return Refuse()
    return Ask(validator_for(meta, request))


def _reuse_without_asking(meta: EntryMeta, directives: CacheDirectives, terms: Terms, now: float) -> Reuse | None:
    """Returns how the entry may be served without asking: fresh, or as stale as the rule or the caller allows.

    The token is the caller's own, so the caller may accept an older entry than the rule does (`max-stale`, RFC 9111
    section 5.2.1.2) or only a younger one. An entry with an expired link is not served.
    """
    age, ttl = now - meta.asked_at, _lifetime_s(meta, terms) - (now - meta.asked_at)
    if directives.max_age is not None and age >= directives.max_age:
        return None
    if ttl > 0 and ttl >= (directives.min_fresh or 0):
        return _FRESH
    if directives.min_fresh is not None or signed_links.has_expired(meta, now):
        return None
    if age < _stretched_lifetime_s(meta, terms):
        return Reuse(detail="stretched")
    if terms.pressure >= 1 and may_cover(meta, directives, terms, now):
        return Reuse(detail="throttled")
    if directives.max_stale is not None and -ttl > directives.max_stale:
        return None
    if -ttl < terms.rule.stale_while_revalidate_s and (directives.max_age is None or directives.max_stale is not None):
        return Reuse(in_background=True, detail="stale-while-revalidate")
    return Reuse(detail="max-stale") if directives.max_stale is not None else None


def validator_for(meta: EntryMeta, request: Request) -> str:
    """Returns the ETag that *request* may send: only an ETag of the same channel (direct or batch)."""
    return meta.etag if meta.channel == request.channel and not request.directives.no_store else ""


def fresh_lifetime_s(meta: EntryMeta, directives: CacheDirectives, rule: Rule, proof: bytes) -> float:
    """Returns for how many seconds after it was fetched the entry is served as fresh while nothing changes; 0: never.

    This is `plan` for a caller whose *directives* name no age.
    """
    terms = Terms(rule, proof)
    is_usable = rule.cache and is_usable_unasked(meta, directives, terms, meta.asked_at)
    return _lifetime_s(meta, terms) if is_usable else 0.0


class Settled(msgspec.Struct, frozen=True, gc=False):
    """What `settle` decided: the caller's reply, and the entry to store, if any."""

    reply: Reply
    keep: Entry | None = None
    write: bool = True  # to disk as well as to memory


def settle(request: Request, entry: Entry | None, answer: Reply, terms: Terms, asked: float) -> Settled | None:
    """Returns the reply and the entry to store after Graph's *answer* to a request sent at *asked*.

    None means a 304 that does not confirm *entry*: then Graph is asked again without a validator. The reply tells if a
    change had ended the entry's freshness, for the log: a replay cannot know which changes concern a read.
    """
    settled = _settle(request, entry, answer, terms, asked)
    if settled is None or entry is None or terms.invalidated_at < entry.meta.asked_at:
        return settled
    return replace(settled, reply=replace(settled.reply, invalidated_s=asked - terms.invalidated_at))


def _settle(request: Request, entry: Entry | None, answer: Reply, terms: Terms, asked: float) -> Settled | None:
    if answer.status == 304:
        if (
            entry is None
            or not request.validator
            or entry.meta.etag != request.validator
            or not confirms(answer.header("etag"), request.validator)
        ):
            return None
        return _confirmed(request, entry, answer, terms, asked)
    if entry is not None and may_cover(entry.meta, request.directives, terms, asked) and is_trouble(answer):
        return Settled(cover(entry, terms, asked))
    reply = replace(answer, mode=Mode.MISS if entry is None else Mode.CHANGED)
    if not _storable(answer):
        return Settled(reply, None if entry is None or is_trouble(answer) else _without_proof(entry, terms.proof))
    if request.directives.no_store or not terms.rule.cache:
        return Settled(reply)
    return Settled(replace(reply, stored=True), _entry(request, answer, _proofs(request, terms), asked))


def learn(request: Request, entry: Entry | None, answer: Reply, terms: Terms, asked: float) -> Settled:
    """Returns what to store for *request* when *answer* is a part of Graph's reply to a merged read.

    Such a part has no ETag, so its entry is useful only while it is fresh; if the stored body is the same, the stored
    ETag is kept.
    """
    if not is_clean(answer.body) or (entry is not None and entry.meta.asked_at > asked):
        return Settled(answer)
    if entry is not None and entry.body == answer.body:
        return replace(_confirmed(request, entry, answer, terms, asked), reply=answer)
    return Settled(answer, _entry(request, answer, _proofs(request, terms), asked))


def reuse(entry: Entry, decision: Reuse, terms: Terms, now: float) -> Reply:
    """Returns the reply from *entry* without asking Graph."""
    if decision.detail == "stretched":
        return _held_reply(entry, Mode.REUSED, _stretched_lifetime_s(entry.meta, terms), now, decision.detail)
    return _held_reply(
        entry, Mode.STALE if decision.detail else Mode.REUSED, _lifetime_s(entry.meta, terms), now, decision.detail
    )


def may_cover(meta: EntryMeta, directives: CacheDirectives, terms: Terms, now: float) -> bool:
    """Returns whether the entry may be served in place of an error or a throttle (RFC 5861 section 4).

    The caller's own `stale-if-error` takes the place of the rule's.
    """
    allowed = terms.rule.stale_if_error_s if directives.stale_if_error is None else directives.stale_if_error
    age = now - meta.asked_at
    if (
        not allowed
        or not is_usable_unasked(meta, directives, terms, now)
        or (directives.max_age is not None and age > directives.max_age)
    ):
        return False
    return age - _lifetime_s(meta, terms) < allowed


def cover(entry: Entry, terms: Terms, now: float, detail: str = "stale-if-error") -> Reply:
    """Returns the stale reply from *entry* where Graph failed or is not to be asked."""
    return _held_reply(entry, Mode.STALE, _lifetime_s(entry.meta, terms), now, detail)


def is_usable_unasked(meta: EntryMeta, directives: CacheDirectives, terms: Terms, now: float) -> bool:
    """Returns whether the entry may be served unasked: final, confirmed under this proof, not invalidated since."""
    if directives.no_cache or directives.no_store or not meta.may_be_fresh or terms.proof not in meta.proofs:
        return False
    return terms.invalidated_at < meta.asked_at <= now  # the clock may have been set back since


def _lifetime_s(meta: EntryMeta, terms: Terms) -> float:
    """Returns the freshness lifetime in seconds: the rule's, or until the first signed link expires."""
    return signed_links.lifetime_s(meta, terms.rule.fresh_s)


def _stretched_lifetime_s(meta: EntryMeta, terms: Terms) -> float:
    """Returns the lifetime, stretched from the rule's `fresh_s` towards its `stretch_s` as the pressure rises."""
    fresh = terms.rule.fresh_s
    return signed_links.lifetime_s(meta, fresh + max(0.0, terms.rule.stretch_s - fresh) * min(terms.pressure, 1.0))


def confirms(etag: str | None, validator: str) -> bool:
    """Returns whether a 304 with this *etag* confirms the *validator* that was sent.

    It does where it has no ETag, as in Graph's batches, or the same one by weak comparison (RFC 9110 section 8.8.3).
    `settle` asks this, and `core/fast_path/batch_answer.confirming` for the ordinary slots of a batch.
    """
    return etag is None or etag.removeprefix("W/") == validator.removeprefix("W/")


def _confirmed(request: Request, entry: Entry, answer: Reply, terms: Terms, asked: float) -> Settled:
    """Returns the confirmed entry after a 304, its fields updated (RFC 9111 section 4.3.4), and the reply from it."""
    fields = headers.updated_by_304(headers.from_stored(entry.headers, entry.meta.etag), answer.headers)
    proofs = entry.meta.proofs
    for proof in _proofs(request, terms):
        proofs = with_proof(proofs, proof)
    confirmed = replace(entry.meta, asked_at=asked, proofs=proofs)
    reply = replace(answer, status=200, headers=fields, body=entry.body, mode=Mode.REVALIDATED)
    return Settled(reply, Entry(confirmed, headers.stored(fields, confirmed.etag), entry.body), write=False)


def with_proof(proofs: tuple[bytes, ...], proof: bytes) -> tuple[bytes, ...]:
    """Returns *proofs* with *proof* as the newest."""
    return (proof, *(known for known in proofs if known != proof))[:PROOFS_KEPT]


def is_etag(text: str) -> bool:
    """Returns whether *text* is a well-formed ETag (RFC 9110 section 8.8.3)."""
    return _ETAG.fullmatch(text) is not None


def _without_proof(entry: Entry, proof: bytes) -> Entry | None:
    """Returns the entry without *proof*, after a reply that cannot be stored: it is never served unasked again.

    It stays for its ETag. If a token is refused now, or an object is gone, an older entry must not answer for it.
    """
    left = tuple(known for known in entry.meta.proofs if known != proof)
    if left == entry.meta.proofs:
        return None
    return Entry(replace(entry.meta, proofs=left), entry.headers, entry.body)


def _proofs(request: Request, terms: Terms) -> tuple[bytes, ...]:
    """Returns the proofs to remember with an entry: none with an `appsecret_time`, for that proof is valid once."""
    return () if request.credential is not None and request.credential.time else (terms.proof,)


def _held_reply(entry: Entry, mode: Mode, lifetime_s: float, now: float, detail: str) -> Reply:
    age = max(0.0, now - entry.meta.asked_at)
    fields = headers.from_stored(entry.headers, entry.meta.etag)
    return Reply(
        200, fields, entry.body, mode, Channel(entry.meta.channel), ttl=lifetime_s - age, age=age, detail=detail
    )


def _entry(request: Request, answer: Reply, proofs: tuple[bytes, ...], asked: float) -> Entry:
    may_be_fresh, expires = is_final(request, answer.body), signed_links.expiry(answer.body)
    meta = EntryMeta(answer.header("etag") or "", answer.channel.value, asked, may_be_fresh, proofs, expires)
    return Entry(meta, headers.stored(answer.headers, meta.etag), answer.body)


def _storable(answer: Reply) -> bool:
    """Returns whether *answer* may be stored: a 200, a JSON object without an error, with a well-formed ETag."""
    etag = answer.header("etag") or ""
    is_whole = answer.status == 200 and answer.header("content-encoding") is None
    return is_whole and is_etag(etag) and is_clean(answer.body)
