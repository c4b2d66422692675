"""What is held, and what it is good for. Before Graph is asked: `plan`. After it answered: `settle`.

Graph says `no-store` of every reply and means caches that others share. Here every entry belongs to one credential, is
sealed with that credential's token, and is by default never served without asking Graph whether it still holds; that
deviation from RFC 9111 section 5.2.2.5 is deliberate and written in the README.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

import msgspec

from proxy.core import headers
from proxy.core.errors import is_trouble
from proxy.core.messages import Channel, Entry, Held, Mode, Reply, Request, Wishes
from proxy.core.rules import Rule

PROOFS_KEPT = 4
"""Programs that share a token may vouch for it differently; more than a few at once is a timed proof."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What bears on one read besides what is held."""

    rule: Rule
    proof: bytes = b""  # the digest of what vouches for the token
    touched: float = 0.0  # when a write last went to the object that is read, epoch seconds


@dataclass(frozen=True, slots=True)
class Reuse:
    """Serve what is held; *behind*: ask Graph as well, for the next caller."""

    behind: bool = False


@dataclass(frozen=True, slots=True)
class Ask:
    """Ask Graph, with the ETag of what is held where that is of use."""

    validator: str = ""


@dataclass(frozen=True, slots=True)
class Refuse:
    """The caller takes only what is held, and nothing that is held will do."""


Plan = Reuse | Ask | Refuse


def plan(request: Request, held: Held | None, terms: Terms, now: float) -> Plan:
    """What to do with *request* at *now*, knowing what is *held*."""
    if held is None or not terms.rule.cache:
        return Refuse() if request.wishes.only_if_cached else Ask()
    ttl = _ttl(held, request.wishes, terms, now)
    if ttl is not None and ttl > 0:
        return Reuse()
    if ttl is not None and -ttl < terms.rule.stale_while_revalidate_s and request.wishes.max_age is None:
        return Reuse(behind=True)
    if request.wishes.only_if_cached:
        return Refuse()
    return Ask(validator_for(held, request))


def validator_for(held: Held, request: Request) -> str:
    """The ETag that *request* may carry: one that was given in the form in which Graph is asked now."""
    return held.etag if held.channel == request.channel and not request.wishes.no_store else ""


@dataclass(frozen=True, slots=True)
class Settled:
    """The caller's reply, and what to do with what is held: *keep* an entry (*write* it to disk too), or nothing."""

    reply: Reply
    keep: Entry | None = None
    write: bool = True


def settle(request: Request, entry: Entry | None, answer: Reply, terms: Terms, asked: float) -> Settled | None:
    """What Graph's *answer*, asked for at *asked*, makes of *entry*; None for a 304 whose body is gone: ask again."""
    if answer.status == 304:
        if (
            entry is None
            or entry.held.etag != request.validator
            or answer.header("etag") not in {None, request.validator}
        ):
            return None
        return _confirmed(entry, answer, terms, asked)
    if entry is not None and is_trouble(answer) and may_cover(entry.held, request.wishes, terms, asked):
        return Settled(cover(entry, terms.rule, asked))
    mode = Mode.MISS if entry is None else Mode.CHANGED
    if request.wishes.no_store or not terms.rule.cache or not _storable(answer):
        return Settled(replace(answer, mode=mode))
    kept = _entry(answer, (terms.proof,), asked)
    return Settled(replace(answer, mode=mode, stored=True), kept)


def reuse(entry: Entry, rule: Rule, now: float, *, behind: bool) -> Reply:
    """The reply that *entry* gives without asking."""
    mode = Mode.STALE if behind else Mode.REUSED
    return _held_reply(entry, mode, rule, now, "stale-while-revalidate" if behind else "")


def may_cover(held: Held, wishes: Wishes, terms: Terms, now: float) -> bool:
    """Whether what is held may stand in for an answer that Graph could not give (RFC 5861 section 4)."""
    ttl = _ttl(held, wishes, terms, now)
    return ttl is not None and -ttl < terms.rule.stale_if_error_s


def cover(entry: Entry, rule: Rule, now: float) -> Reply:
    """The reply that *entry* gives where Graph could not."""
    return _held_reply(entry, Mode.STALE, rule, now, "stale-if-error")


def _ttl(held: Held, wishes: Wishes, terms: Terms, now: float) -> float | None:
    """Seconds for which *held* is fresh, below zero if it was; None if only Graph can say."""
    if wishes.no_cache or wishes.no_store or not held.lasting:
        return None
    if terms.proof not in held.proofs or held.asked <= terms.touched:
        return None
    life = terms.rule.fresh_s if wishes.max_age is None else min(terms.rule.fresh_s, wishes.max_age)
    return life - (now - held.asked)


def _confirmed(entry: Entry, answer: Reply, terms: Terms, asked: float) -> Settled:
    """A 304 confirms the one validator that was sent, whether it repeats the ETag or not (RFC 9111 section 4.3.4)."""
    fields = headers.refreshed(headers.from_held(entry.headers), answer.headers)
    held = entry.held
    proofs = (terms.proof, *(known for known in held.proofs if known != terms.proof))[:PROOFS_KEPT]
    now_held = Held(held.etag, held.channel, asked, held.lasting, proofs)
    reply = replace(answer, status=200, headers=fields, body=entry.body, mode=Mode.REVALIDATED)
    if not terms.rule.cache:
        return Settled(reply)
    return Settled(reply, Entry(now_held, headers.held(fields), entry.body), write=False)


def _held_reply(entry: Entry, mode: Mode, rule: Rule, now: float, detail: str) -> Reply:
    age = max(0.0, now - entry.held.asked)
    fields = headers.from_held(entry.headers)
    return Reply(
        200, fields, entry.body, mode, Channel(entry.held.channel), ttl=rule.fresh_s - age, age=age, detail=detail
    )


def _entry(answer: Reply, proofs: tuple[bytes, ...], asked: float) -> Entry:
    held = Held(answer.header("etag") or "", answer.channel.value, asked, is_lasting(answer.body), proofs)
    return Entry(held, headers.held(answer.headers), answer.body)


class _Probe(msgspec.Struct):
    error: msgspec.Raw | None = None


_probe = msgspec.json.Decoder(_Probe)


def _storable(answer: Reply) -> bool:
    """Only a 200 with an ETag whose body is a JSON object without a top-level `error`: errors come as 200, too."""
    if answer.status != 200 or not answer.header("etag"):
        return False
    try:
        return _probe.decode(answer.body).error is None
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False


_PROGRESS = re.compile(
    rb'"(async_status|async_percent_completion|is_completed|status_code|status)"\s*:\s*("(?:[^"\\]|\\.)*"|true|false|-?\d+)',
)
_FINAL = {
    b"async_status": frozenset({b'"job completed"', b'"job failed"', b'"job skipped"'}),
    b"async_percent_completion": frozenset({b"100"}),
    b"is_completed": frozenset({b"true"}),
    b"status_code": frozenset({b'"published"', b'"expired"', b'"error"'}),
}
_UNFINISHED = frozenset(
    {b'"initial"', b'"in_progress"', b'"not_started"', b'"pending"', b'"processing"', b'"unknown"', b'"running"'}
)


def is_lasting(body: bytes) -> bool:
    """Whether *body* may ever be fresh: not while a job, an async set or a media container in it is unfinished."""
    for name, value in _PROGRESS.findall(body):
        word = value.lower()
        if word in _UNFINISHED if name == b"status" else word not in _FINAL[name]:
            return False
    return True
