"""The table of what is assumed of Graph, and what the sidecar does in either case."""

from __future__ import annotations

from typing import NamedTuple

from proxy.core.graph.doctor import judgements
from proxy.core.graph.doctor.answers import Finding, Missing, Transcript, Verdict
from proxy.core.graph.doctor.judgements import Judge


class Assumption(NamedTuple):
    """One thing that is assumed: how it is judged, what the sidecar does if it holds and if not."""

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
        "ages of entries go by this clock, and a timed appsecret_proof of yours may be refused: set the clock",
    ),
    Assumption(
        "no_proxy", "no proxy stands between the sidecar and Graph", judgements.not_through_a_proxy,
        "what Graph says arrives as said",
        "replies may be changed or held on the way, and tokens are seen there: go around the proxy",
        ("upstream.origin", "upstream.address", "upstream.nameservers"),
    ),
    Assumption(
        "http_version", "Graph answers in HTTP/1.1", judgements.http_version,
        "calls share connections",
        "replies are read all the same; a connection may end after each",
        ("upstream.connections",),
    ),
    Assumption(
        "keep_alive", "a connection stays open for the next call", judgements.keep_alive,
        "calls share connections",
        "each call opens a connection: batches save most of that",
        ("upstream.connections", "batch.window_ms"),
    ),
    Assumption(
        "etag_direct", "a direct read carries an ETag", judgements.etag_direct,
        "the reply is held, and asked with If-None-Match",
        "the reply is not held, and the next read asks for all of it",
    ),
    Assumption(
        "etag_slot", "a slot of a batch carries an ETag", judgements.etag_slot,
        "the reply is held, and asked with If-None-Match in the next batch",
        "what came in a batch is not held; to hold it, let these reads go alone (or `batch = false` in a rule)",
        ("batch.enabled",),
    ),
    Assumption(
        "304_direct", "a direct read with a known ETag gets 304", judgements.not_modified_direct,
        "the held body answers",
        "Graph's new body answers, and bytes are not saved; `fresh_s` saves the calls themselves",
        ("cache.fresh_s",),
    ),
    Assumption(
        "304_slot", "an operation with a known ETag gets 304", judgements.not_modified_slot,
        "the held body answers",
        "the slot's new body answers, and bytes are not saved; reads that go alone may get 304",
        ("batch.enabled", "cache.fresh_s"),
    ),
    Assumption(
        "304_fields", "a 304 does not repeat the ETag", judgements.not_modified_fields,
        "the 304 confirms the ETag that was sent; its other fields replace the held ones",
        "the same, and a 304 with another ETag confirms nothing: the read is asked again in full",
    ),
    Assumption(
        "etag_user_agent", "an ETag depends on the User-Agent", judgements.etag_user_agent,
        "one User-Agent goes to Graph, whatever callers send",
        "the same, without need",
        ("upstream.user_agent",),
    ),
    Assumption(
        "etag_channel", "the ETag of a direct read is not that of a slot", judgements.etag_channel,
        "an entry remembers how it was asked, and its ETag is sent that way alone",
        "the same, without need",
        ("batch.enabled",),
    ),
    Assumption(
        "usage_place", "usage stands on slots alone", judgements.usage_place,
        "each caller is told the usage of its own slot",
        "what a slot lacks is taken from the reply around it, where the slot's token is the one on top; with "
        "`token` each batch has one token",
        ("batch.group", "quota.enabled"),
    ),
    Assumption(
        "304_counts", "a 304 counts as a call", judgements.not_modified_counts,
        "a revalidation is told as a call; only what is fresh saves calls",
        "the same: more calls are told than Graph counts, never fewer",
        ("cache.fresh_s",),
    ),
    Assumption(
        "slots_count", "each operation of a batch counts as a call", judgements.slots_count,
        "a batch is told as saving round trips, and no calls",
        "the same: more calls are told than Graph counts, never fewer",
        ("batch.enabled",),
    ),
    Assumption(
        "ids_count", "each of `ids=` counts as a call", judgements.ids_count,
        "such a read is told as so many calls",
        "the same: more calls are told than Graph counts, never fewer",
    ),
    Assumption(
        "limit_50", "a batch holds 50 operations at most", judgements.limit_of_50,
        "no batch is larger; a larger one of an application's is split",
        "batches stay at 50; if Graph takes fewer, name that number",
        ("batch.slots",),
    ),
    Assumption(
        "slot_links", "links in slots are those of a direct read", judgements.transport_marks,
        "links point at the sidecar, and are else left as they came",
        "`_fb_` parameters are taken out of links, for Graph refuses them when the link is followed alone",
        ("paging.rewrite",),
    ),
    Assumption(
        "slot_shape", "header fields of a slot are objects with name and value", judgements.slot_shape,
        "a caller gets them as fields of its reply",
        "they are not read: slots have no ETag and are not held; let reads go alone",
        ("batch.enabled",),
    ),
    Assumption(
        "slot_order", "header fields of a slot stand in a direct reply's order", judgements.slot_order,
        "a caller gets them in Graph's order",
        "the same order as in the slot; nothing depends on it",
    ),
    Assumption(
        "slot_errors", "an operation that fails has a status of its own, and spoils no other", judgements.slot_errors,
        "a caller gets its own error with the status of the slot",
        "an error is found in the body, whatever its status, and not held; a batch that fails is taken apart",
        ("batch.enabled",),
    ),
    Assumption(
        "top_proof", "a top-level proof vouches for slots without a token alone", judgements.top_proof,
        "each slot is sent with its own token and proof",
        "the same: right in either case",
    ),
    Assumption(
        "language_direct", "Accept-Language chooses the language of a read", judgements.language_direct,
        "the language is part of what an entry is held under",
        "the same, without need: entries are held once for each language",
    ),
    Assumption(
        "language_slots", "Accept-Language holds on a batch, and on an operation", judgements.language_slots,
        "a batch holds reads of one language, and says it on both",
        "the same: right if either place is looked at",
    ),
)  # fmt: skip
"""In the order in which they are told."""


def judge(seen: Transcript) -> list[Finding]:
    """What holds of each assumption by the answers *seen*."""
    return [_finding(assumption, seen) for assumption in ASSUMPTIONS]


def _finding(assumption: Assumption, seen: Transcript) -> Finding:
    try:
        judged = assumption.judge(seen)
    except Missing as missing:
        judged = missing.judged
    done = {Verdict.HOLDS: assumption.if_so, Verdict.DIFFERS: assumption.if_not}
    either = f"if so: {assumption.if_so}; if not: {assumption.if_not}"
    return Finding(
        assumption.key,
        assumption.says,
        judged.verdict,
        judged.detail,
        done.get(judged.verdict, either),
        assumption.settings,
    )
