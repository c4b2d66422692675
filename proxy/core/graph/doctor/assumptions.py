"""The table of assumptions about Graph: how each is judged, and what the sidecar does if it holds and if it fails."""

from __future__ import annotations

from typing import NamedTuple

from proxy.core.graph.doctor import judgements
from proxy.core.graph.doctor.answers import Finding, Missing, Transcript, Verdict
from proxy.core.graph.doctor.judgements import Judge


class Assumption(NamedTuple):
    """One assumption: how it is judged, and what the sidecar does if it holds and if it does not."""

    key: str
    says: str
    judge: Judge
    if_so: str
    if_not: str
    settings: tuple[str, ...] = ()


ASSUMPTIONS = (
    Assumption(
        "clock", "this machine's clock is right", judgements.clock,
        "ages, logs and timed proofs are right",
        "ages of entries are wrong by as much, and Graph may refuse an appsecret_proof with a time: set the clock",
    ),
    Assumption(
        "no_proxy", "no proxy stands between the sidecar and Graph", judgements.not_through_a_proxy,
        "replies arrive as Graph sent them",
        "the proxy sees tokens, and may change or store replies: connect to Graph directly",
        ("upstream.origin", "upstream.address", "upstream.nameservers"),
    ),
    Assumption(
        "http_version", "Graph answers in HTTP/1.1", judgements.http_version,
        "calls share connections",
        "replies are read too, but a connection may end after each",
        ("upstream.connections",),
    ),
    Assumption(
        "keep_alive", "a connection stays open for the next call", judgements.keep_alive,
        "calls share connections",
        "each call opens a connection; batches make fewer calls",
        ("upstream.connections", "batch.window_ms"),
    ),
    Assumption(
        "etag_direct", "a direct read carries an ETag", judgements.etag_direct,
        "the reply is stored, and revalidated with If-None-Match",
        "the reply is not stored, and the next read fetches it again",
    ),
    Assumption(
        "etag_slot", "a slot of a batch carries an ETag", judgements.etag_slot,
        "the reply is stored, and revalidated with If-None-Match in the next batch",
        "replies from batches are not stored; to store them, send these reads alone (`batch = false` in a rule)",
        ("batch.enabled",),
    ),
    Assumption(
        "304_direct", "a direct read with a known ETag gets 304", judgements.not_modified_direct,
        "the stored body is served",
        "Graph's new body is served, and no bytes are saved; `fresh_s` saves whole calls",
        ("cache.fresh_s",),
    ),
    Assumption(
        "304_slot", "an operation with a known ETag gets 304", judgements.not_modified_slot,
        "the stored body is served",
        "the slot's new body is served, and no bytes are saved; reads that are sent alone may get 304",
        ("batch.enabled", "cache.fresh_s"),
    ),
    Assumption(
        "304_fields", "a 304 does not repeat the ETag", judgements.not_modified_fields,
        "a 304 confirms the ETag that was sent, and its other fields replace the stored ones",
        "the same; a 304 with another ETag confirms nothing, so the read is sent again without a validator",
    ),
    Assumption(
        "etag_user_agent", "an ETag depends on the User-Agent", judgements.etag_user_agent,
        "every call has one User-Agent, whatever callers send",
        "the same, although it is not necessary",
        ("upstream.user_agent",),
    ),
    Assumption(
        "etag_channel", "the ETag of a direct read is not that of a slot", judgements.etag_channel,
        "an entry remembers its channel (direct or batch), and its ETag is sent by that channel only",
        "the same, although it is not necessary",
        ("batch.enabled",),
    ),
    Assumption(
        "usage_place", "usage headers are on slots alone", judgements.usage_place,
        "each caller gets the usage headers of its own slot",
        "a slot under the batch's top-level token takes missing usage headers from the reply around it; with "
        "`batch.group = token` that is every slot",
        ("batch.group", "quota.enabled"),
    ),
    Assumption(
        "304_counts", "a 304 counts as a call", judgements.not_modified_counts,
        "a revalidation is counted as a call; only fresh entries save calls",
        "the same: the sidecar counts more calls than Graph, never fewer",
        ("cache.fresh_s",),
    ),
    Assumption(
        "slots_count", "each operation of a batch counts as a call", judgements.slots_count,
        "a batch is counted as saving round trips, and no calls",
        "the same: the sidecar counts more calls than Graph, never fewer",
        ("batch.enabled",),
    ),
    Assumption(
        "ids_count", "each id of `ids=` counts as a call", judgements.ids_count,
        "such a read is counted as that many calls",
        "the same: the sidecar counts more calls than Graph, never fewer",
    ),
    Assumption(
        "limit_50", "a batch holds 50 operations at most", judgements.limit_of_50,
        "no batch is larger, and an application's larger batch is split",
        "batches still hold up to 50; if Graph takes fewer, set batch.slots to that number",
        ("batch.slots",),
    ),
    Assumption(
        "slot_links", "paging links in slots are those of a direct read", judgements.transport_marks,
        "links are pointed at the sidecar, and otherwise not changed",
        "`_fb_` parameters are removed from links, because Graph refuses a link with them outside a batch",
        ("paging.rewrite",),
    ),
    Assumption(
        "slot_shape", "header fields of a slot are objects with name and value", judgements.slot_shape,
        "a caller gets them as fields of its reply",
        "they are not read, so slots have no ETag and are not stored; send reads alone",
        ("batch.enabled",),
    ),
    Assumption(
        "slot_order", "header fields of a slot are in a direct reply's order", judgements.slot_order,
        "a caller gets them in Graph's order",
        "a caller gets them in the slot's order; nothing depends on it",
    ),
    Assumption(
        "slot_errors", "an operation that fails has a status of its own, and affects no other", judgements.slot_errors,
        "a caller gets its own error with the status of the slot",
        "an error in the body is recognised whatever the status, and not stored; a batch that fails is split",
        ("batch.enabled",),
    ),
    Assumption(
        "top_proof", "a top-level proof vouches for slots without a token alone", judgements.top_proof,
        "each operation is sent with its own token and proof",
        "the same: correct in either case",
    ),
    Assumption(
        "language_direct", "Accept-Language chooses the language of a read", judgements.language_direct,
        "the language is part of the cache key",
        "the same, although it is not necessary: one body is stored for each language",
    ),
    Assumption(
        "language_slots", "Accept-Language applies on a batch, and on an operation", judgements.language_slots,
        "a batch holds reads of one language, and names it in both places",
        "the same: correct if Graph reads either place",
    ),
)  # fmt: skip
"""In the order of the output."""


def judge(seen: Transcript) -> list[Finding]:
    """Returns the finding for each assumption, from the answers in *seen*."""
    return [_finding(assumption, seen) for assumption in ASSUMPTIONS]


def _finding(assumption: Assumption, seen: Transcript) -> Finding:
    try:
        judged = assumption.judge(seen)
    except Missing as missing:
        judged = missing.judged
    consequences = {Verdict.HOLDS: assumption.if_so, Verdict.DIFFERS: assumption.if_not}
    either = f"if so: {assumption.if_so}; if not: {assumption.if_not}"
    return Finding(
        assumption.key,
        assumption.says,
        judged.verdict,
        judged.detail,
        consequences.get(judged.verdict, either),
        assumption.settings,
    )
