"""What is held, and what it is good for. Before Graph is asked: `plan`. After it answered: `settle`.

Graph says `no-store` of every reply and means caches that others share. Here every entry belongs to one credential, is
sealed with that credential's token, and is by default never served without asking Graph whether it still holds; that
deviation from RFC 9111 section 5.2.2.5 is deliberate and written in the README.
"""

from __future__ import annotations

import re
from typing import NamedTuple

import msgspec
from msgspec.structs import replace

from proxy.core.cache.cacheability import expiry, is_final
from proxy.core.graph.errors import is_clean, is_trouble
from proxy.core.http import headers
from proxy.core.model import CacheDirectives, Channel, Entry, EntryMeta, Mode, Reply, Request
from proxy.core.routing.rules import Rule

PROOFS_KEPT = 4
"""Programs that share a token may vouch for it differently; more than a few at once is a timed proof."""

_ETAG = re.compile(r'(?:W/)?"[!#-~]*"')  # RFC 9110 section 8.8.3, in ASCII


class Terms(NamedTuple):
    """What bears on one read besides what is held; made for each, and so of the cheapest sort."""

    rule: Rule
    proof: bytes = b""  # the digest of what vouches for the token
    invalidated_at: float = 0.0  # when a write last went to the object that is read, epoch seconds
    pressure: float = 0.0  # how scarce the calls are that it would take: 0 calm, 1 not to be had


class Reuse(msgspec.Struct, frozen=True, gc=False):
    """Serve what is held; *behind*: ask Graph as well, for the next caller; *detail*: why, if it is not fresh."""

    behind: bool = False
    detail: str = ""


class Ask(msgspec.Struct, frozen=True, gc=False):
    """Ask Graph, with the ETag of what is held where that is of use."""

    validator: str = ""


class Refuse(msgspec.Struct, frozen=True, gc=False):
    """The caller takes only what is held, and nothing that is held will do."""


Plan = Reuse | Ask | Refuse
_FRESH = Reuse()


def plan(request: Request, held: EntryMeta | None, terms: Terms, now: float) -> Plan:
    """What to do with *request* at *now*, knowing what is *held*."""
    if held is None or not terms.rule.cache:
        return Refuse() if request.directives.only_if_cached else Ask()
    if is_certain(held, request.directives, terms, now) and (use := _use(held, request.directives, terms, now)):
        return use
    if request.directives.only_if_cached:
        return Refuse()
    return Ask(validator_for(held, request))


def _use(held: EntryMeta, wishes: CacheDirectives, terms: Terms, now: float) -> Reuse | None:
    """How what is *held* may be served without asking: fresh, or as stale as the rule or the caller allows.

    A caller owns its token, and so may take what is older than the rule has it (RFC 9111 section 5.2.1.2), or only what
    is younger. A link that has ended is of no use to anyone.
    """
    age, ttl = now - held.asked, _life(held, terms) - (now - held.asked)
    if wishes.max_age is not None and age >= wishes.max_age:
        return None
    if ttl > 0 and ttl >= (wishes.min_fresh or 0):
        return _FRESH
    if wishes.min_fresh is not None or (held.expires and held.expires <= now):
        return None
    if age < _stretched(held, terms):
        return Reuse(detail="stretched")
    if terms.pressure >= 1 and may_cover(held, wishes, terms, now):
        return Reuse(detail="throttled")
    if wishes.max_stale is not None and -ttl > wishes.max_stale:
        return None
    if -ttl < terms.rule.stale_while_revalidate_s and (wishes.max_age is None or wishes.max_stale is not None):
        return Reuse(behind=True, detail="stale-while-revalidate")
    return Reuse(detail="max-stale") if wishes.max_stale is not None else None


def validator_for(held: EntryMeta, request: Request) -> str:
    """The ETag that *request* may carry: one that was given in the form in which Graph is asked now."""
    return held.etag if held.channel == request.channel and not request.directives.no_store else ""


class Settled(msgspec.Struct, frozen=True, gc=False):
    """The caller's reply, and what to do with what is held: *keep* an entry (*write* it to disk too), or nothing."""

    reply: Reply
    keep: Entry | None = None
    write: bool = True


def settle(request: Request, entry: Entry | None, answer: Reply, terms: Terms, asked: float) -> Settled | None:
    """What Graph's *answer*, asked for at *asked*, makes of *entry*; None for a 304 whose body is gone: ask again."""
    if answer.status == 304:
        if (
            entry is None
            or not request.validator
            or entry.held.etag != request.validator
            or not _confirms(answer, request.validator)
        ):
            return None
        return _confirmed(request, entry, answer, terms, asked)
    if entry is not None and may_cover(entry.held, request.directives, terms, asked) and is_trouble(answer):
        return Settled(cover(entry, terms, asked))
    reply = replace(answer, mode=Mode.MISS if entry is None else Mode.CHANGED)
    if not _storable(answer):
        return Settled(reply, None if entry is None or is_trouble(answer) else _doubted(entry, terms.proof))
    if request.directives.no_store or not terms.rule.cache:
        return Settled(reply)
    return Settled(replace(reply, stored=True), _entry(request, answer, _proofs(request, terms), asked))


def learn(request: Request, entry: Entry | None, answer: Reply, terms: Terms, asked: float) -> Settled:
    """What is held once Graph has said *answer* of *request* in its answer to another read: there is no ETag for it.

    So it is good for as long as it is fresh, and never for a validator, unless the very body is held that has one.
    """
    if not is_clean(answer.body) or (entry is not None and entry.held.asked > asked):
        return Settled(answer)
    if entry is not None and entry.body == answer.body:
        return replace(_confirmed(request, entry, answer, terms, asked), reply=answer)
    return Settled(answer, _entry(request, answer, _proofs(request, terms), asked))


def reuse(entry: Entry, use: Reuse, terms: Terms, now: float) -> Reply:
    """The reply that *entry* gives without asking."""
    if use.detail == "stretched":
        return _held_reply(entry, Mode.REUSED, _stretched(entry.held, terms), now, use.detail)
    return _held_reply(entry, Mode.STALE if use.detail else Mode.REUSED, _life(entry.held, terms), now, use.detail)


def may_cover(held: EntryMeta, wishes: CacheDirectives, terms: Terms, now: float) -> bool:
    """Whether what is held may stand in for an answer that Graph could not give (RFC 5861 section 4).

    The caller's own `stale-if-error` takes the place of the rule's.
    """
    allowed = terms.rule.stale_if_error_s if wishes.stale_if_error is None else wishes.stale_if_error
    age = now - held.asked
    if not allowed or not is_certain(held, wishes, terms, now) or (wishes.max_age is not None and age > wishes.max_age):
        return False
    return age - _life(held, terms) < allowed


def cover(entry: Entry, terms: Terms, now: float, detail: str = "stale-if-error") -> Reply:
    """The reply that *entry* gives where Graph could not, or is not to be asked."""
    return _held_reply(entry, Mode.STALE, _life(entry.held, terms), now, detail)


def is_certain(held: EntryMeta, wishes: CacheDirectives, terms: Terms, now: float) -> bool:
    """Whether anyone but Graph can say what *held* is worth: final, vouched for, not touched since it was asked."""
    if wishes.no_cache or wishes.no_store or not held.may_be_fresh or terms.proof not in held.proofs:
        return False
    return terms.invalidated_at < held.asked <= now  # a clock may be set back


def _life(held: EntryMeta, terms: Terms) -> float:
    """Seconds from the asking for which *held* is fresh: those of the rule, or until the first of its links ends."""
    return _until_links_end(held, terms.rule.fresh_s)


def _stretched(held: EntryMeta, terms: Terms) -> float:
    """The same while calls are scarce: from `fresh_s` of the rule towards its `stretch_s`, the scarcer the further."""
    fresh = terms.rule.fresh_s
    return _until_links_end(held, fresh + max(0.0, terms.rule.stretch_s - fresh) * min(terms.pressure, 1.0))


def _until_links_end(held: EntryMeta, life: float) -> float:
    return min(life, held.expires - held.asked) if held.expires else life


def _confirms(answer: Reply, validator: str) -> bool:
    """Whether a 304 speaks of *validator*: Graph seldom repeats an ETag; weakly compared (RFC 9110 section 8.8.3.2)."""
    told = answer.header("etag")
    return told is None or told.removeprefix("W/") == validator.removeprefix("W/")


def _confirmed(request: Request, entry: Entry, answer: Reply, terms: Terms, asked: float) -> Settled:
    """A 304 confirms the one validator that was sent, whether it repeats the ETag or not (RFC 9111 section 4.3.4)."""
    fields = headers.updated_by_304(headers.from_stored(entry.headers), answer.headers)
    new = _proofs(request, terms)
    proofs = (*new, *(known for known in entry.held.proofs if known not in new))[:PROOFS_KEPT]
    now_held = replace(entry.held, asked=asked, proofs=proofs)
    reply = replace(answer, status=200, headers=fields, body=entry.body, mode=Mode.REVALIDATED)
    return Settled(reply, Entry(now_held, headers.stored(fields), entry.body), write=False)


def _doubted(entry: Entry, proof: bytes) -> Entry | None:
    """What is held when Graph says otherwise without a body to hold: good for a validator, never without asking.

    A token that is refused now, or an object that is gone, must not be answered from what was once allowed.
    """
    left = tuple(known for known in entry.held.proofs if known != proof)
    if left == entry.held.proofs:
        return None
    return Entry(replace(entry.held, proofs=left), entry.headers, entry.body)


def _proofs(request: Request, terms: Terms) -> tuple[bytes, ...]:
    """What may vouch for the token again; a proof with an `appsecret_time` was for that time, and is always asked."""
    return () if request.credential is not None and request.credential.time else (terms.proof,)


def _held_reply(entry: Entry, mode: Mode, life: float, now: float, detail: str) -> Reply:
    age = max(0.0, now - entry.held.asked)
    fields = headers.from_stored(entry.headers)
    return Reply(200, fields, entry.body, mode, Channel(entry.held.channel), ttl=life - age, age=age, detail=detail)


def _entry(request: Request, answer: Reply, proofs: tuple[bytes, ...], asked: float) -> Entry:
    final, expires = is_final(request, answer.body), expiry(answer.body)
    held = EntryMeta(answer.header("etag") or "", answer.channel.value, asked, final, proofs, expires)
    return Entry(held, headers.stored(answer.headers), answer.body)


def _storable(answer: Reply) -> bool:
    """Only a 200 whose body is a JSON object without an error, and whose ETag can be sent back as it is."""
    etag = answer.header("etag") or ""
    is_whole = answer.status == 200 and answer.header("content-encoding") is None
    return is_whole and _ETAG.fullmatch(etag) is not None and is_clean(answer.body)
