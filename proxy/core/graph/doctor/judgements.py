"""Judges each assumption from Graph's answers. Each function raises Missing if an answer that it needs is missing."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from email.utils import parsedate_to_datetime
from typing import Any

from proxy.core.graph.doctor.answers import (
    Answer,
    AnswerSlot,
    Judged,
    Missing,
    Transcript,
    Verdict,
    described,
    field,
    json_of,
    slots,
)
from proxy.core.graph.doctor.counting import counted
from proxy.core.http.headers import USAGE
from proxy.core.model import Headers

Judge = Callable[[Transcript], Judged]

CLOCK_S = 5.0
"""Seconds that this machine's clock may differ from Graph's."""

_LIMIT = re.compile(r"[Mm]aximum batch size is (\d{1,4})")
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9-]{0,63}")


def verdict_of(holds: bool, yes: str, no: str) -> Judged:  # noqa: FBT001 - the question itself
    """Returns HOLDS with the detail *yes*, or DIFFERS with the detail *no*."""
    return Judged(Verdict.HOLDS, yes) if holds else Judged(Verdict.DIFFERS, no)


# --- ETags


def etag_direct(seen: Transcript) -> Judged:
    """Whether a direct read carries an ETag."""
    return verdict_of(bool(seen["first"].header("etag")), "the reply has an ETag", "the reply has no ETag")


def etag_slot(seen: Transcript) -> Judged:
    """Whether a slot of a batch carries an ETag."""
    slot = seen.slot("batch", 0)
    return verdict_of(bool(field(slot.fields, "etag")), "the slot has an ETag", "the slot has no ETag")


def not_modified_direct(seen: Transcript) -> Judged:
    """Whether a direct conditional read is answered 304."""
    return _not_modified(seen["conditional"], seen["first"])


def not_modified_slot(seen: Transcript) -> Judged:
    """Whether a conditional operation of a batch is answered 304."""
    return _not_modified(seen.slot("batch_conditional", 0), seen.slot("batch", 0))


def _not_modified(answer: Answer | AnswerSlot, before: Answer | AnswerSlot) -> Judged:
    if answer.status == 304:
        return Judged(Verdict.HOLDS, "status 304")
    if answer.status == 200 and json_of(answer.body) != json_of(before.body):
        return Judged(Verdict.UNKNOWN, "the object changed meanwhile")
    return Judged(Verdict.DIFFERS, f"{described(answer)}, with the body")


def not_modified_fields(seen: Transcript) -> Judged:
    """Which header fields come with a 304."""
    found = {"alone": _of_304(seen["conditional"])}
    try:
        found["in a slot"] = _of_304(seen.slot("batch_conditional", 0))
    except Missing:
        pass  # `not_modified_slot` says why
    lists = {place: names for place, names in found.items() if names is not None}
    if not lists:
        raise Missing(Verdict.UNKNOWN, "no 304 came")
    text = "; ".join(f"{place}: {', '.join(names)}" for place, names in lists.items())
    return verdict_of(not any("etag" in names for names in lists.values()), text, text)


def _of_304(answer: Answer | AnswerSlot) -> list[str] | None:
    return _names(answer.fields) if answer.status == 304 else None


def _names(fields: Headers) -> list[str]:
    """Returns the names of *fields* in lower case, without invalid ones."""
    return [name.lower() for name, _ in fields if _NAME.fullmatch(name)]


def etag_user_agent(seen: Transcript) -> Judged:
    """Whether an ETag depends on the User-Agent."""
    first, again, other = (_etag(seen[step].fields) for step in ("first", "again", "other_agent"))
    if first != again:
        return Judged(Verdict.UNKNOWN, "the ETag changes from call to call")
    return verdict_of(first != other, "another User-Agent got another ETag", "another User-Agent got the same ETag")


def etag_channel(seen: Transcript) -> Judged:
    """Whether an ETag of a direct read differs from that of a slot."""
    alone, slot = _etag(seen["again"].fields), _etag(seen.slot("batch", 0).fields)
    return verdict_of(alone != slot, "the slot's ETag differs", "the slot's ETag is the same")


def _etag(fields: Headers) -> str:
    if found := field(fields, "etag"):
        return found
    raise Missing(Verdict.UNKNOWN, "there was no ETag to compare")


# --- limits


def usage_place(seen: Transcript) -> Judged:
    """Whether the usage headers of a batch are on its slots alone, and not on the reply around them."""
    inside, outside = _usage(seen.slot("batch", 0).fields), _usage(seen["batch"].fields)
    if not inside and not outside:
        if _usage(seen["first"].fields):
            return Judged(
                Verdict.DIFFERS, "only direct reads have usage headers, neither the slots nor the reply around them"
            )
        return Judged(Verdict.UNKNOWN, "no reply has usage headers")
    names = {"on slots": inside, "on the reply around them": outside}
    text = "; ".join(f"{place}: {', '.join(sorted(found))}" for place, found in names.items() if found)
    return verdict_of(bool(inside) and not outside, text, text)


def _usage(fields: Headers) -> set[str]:
    return {name.lower() for name, _ in fields} & USAGE


def not_modified_counts(seen: Transcript) -> Judged:
    """Whether a 304 counts as a call."""
    tries = [step for step in seen.answers if step.startswith("304_")]
    if not tries or any(seen.answers[step].status != 304 for step in tries):
        raise Missing(*(seen.rest if not tries else Judged(Verdict.UNKNOWN, "no 304 came")))
    return counted(_base(seen), (seen["plain_2"], seen["after_304"]), len(tries), 0)


def slots_count(seen: Transcript) -> Judged:
    """Whether each operation of a batch counts as a call."""
    number = len(slots(seen["counted_batch"]) or ())
    seen.slot("counted_batch", 0)
    return counted(_base(seen), (seen["after_304"], seen["after_batch"]), number, 1)


def ids_count(seen: Transcript) -> Judged:
    """Whether each of `ids=` counts as a call."""
    found = json_of(seen["ids"].body)
    if seen["ids"].status != 200 or not isinstance(found, dict):
        raise Missing(Verdict.UNKNOWN, f"the read was refused ({described(seen['ids'])})")
    return counted(_base(seen), (seen["after_batch"], seen["after_ids"]), len(found), 1)


def _base(seen: Transcript) -> tuple[Answer, Answer, int]:
    return seen["plain_0"], seen["plain_2"], 2


def limit_of_50(seen: Transcript) -> Judged:
    """Whether a batch of 51 operations is refused, as one too many."""
    answer = seen["limit"]
    if (found := slots(answer)) is not None:
        return Judged(Verdict.DIFFERS, f"a batch of {len(found)} was taken")
    error = answer.error
    limit = _LIMIT.search(error.message or "") if error else None
    if limit is None:
        return Judged(Verdict.UNKNOWN, f"51 were refused, and the message names no limit ({described(answer)})")
    return verdict_of(limit[1] == "50", f"51 were refused ({described(answer)})", f"the limit is {limit[1]}")


# --- slots


def transport_marks(seen: Transcript) -> Judged:
    """Whether paging links in a slot are free of `_fb_` parameters."""
    if seen["edge"].status != 200:
        raise Missing(Verdict.FAILED, f"the edge cannot be read ({described(seen['edge'])})")
    body = seen.slot("batch", 1).body
    paging = (json_of(body) or {}).get("paging") if isinstance(json_of(body), dict) else None
    if not isinstance(paging, dict) or not {"next", "previous"} & set(paging):
        raise Missing(Verdict.UNKNOWN, "the edge had no further page, so no link")
    return verdict_of(b"_fb_" not in body, "links as of a direct read", "links with `_fb_` parameters")


def slot_shape(seen: Transcript) -> Judged:
    """Whether the header fields of a slot are objects with name and value."""
    shape = seen.slot("batch", 0).shape
    return verdict_of(shape == "objects", "objects with name and value", f"another shape: {shape}")


def slot_order(seen: Transcript) -> Judged:
    """Whether the header fields of a slot stand in a direct reply's order."""
    alone, slot = _names(seen["first"].fields), _names(seen.slot("batch", 0).fields)
    if len(shared := [name for name in slot if name in alone]) < 2:
        raise Missing(Verdict.UNKNOWN, "too few fields to compare")
    text = ", ".join(slot)
    return verdict_of(shared == sorted(shared, key=alone.index), text, text)


def slot_errors(seen: Transcript) -> Judged:
    """Whether an operation that fails has an error status of its own, and leaves the others alone."""
    found = slots(seen["batch_error"])
    if not found or len(found) < 2:
        return Judged(Verdict.DIFFERS, f"the batch was refused as a whole ({described(seen['batch_error'])})")
    bad, good = found
    if bad is None or good is None:
        return Judged(Verdict.DIFFERS, "a slot came back empty")
    text = f"{described(bad)}; the other operation: {described(good)}"
    return verdict_of(bad.status >= 400 and bad.error is not None and good.status == 200, text, text)


def top_proof(seen: Transcript) -> Judged:
    """Whether the proof on top of a batch is good for slots without a token, and for no other."""
    if seen["unproved"].status == 200:
        raise Missing(Verdict.SKIPPED, "the app asks for no appsecret_proof")
    bare, own = (_is_good(seen, index) for index in (0, 1))
    words = {True: "taken", False: "refused"}
    text = f"a slot without a token: {words[bare]}; a slot with a token and no proof: {words[own]}"
    return verdict_of(bare and not own, text, text)


def _is_good(seen: Transcript, index: int) -> bool:
    return seen.slot("batch_proof", index).status == 200


# --- language


def language_direct(seen: Transcript) -> Judged:
    """Whether Accept-Language chooses the language of a direct read."""
    english, by_header, by_parameter = (_text(seen[step]) for step in ("english", "german", "german_locale"))
    if by_parameter == english and by_header == english:
        return Judged(Verdict.UNKNOWN, "nothing in the object depends on the language; a Page with a category does")
    return verdict_of(by_header != english, "the header changed the reply", "only `locale` changed the reply")


def language_slots(seen: Transcript) -> Judged:
    """Whether the Accept-Language of a batch applies to its operations, and that of an operation to its slot."""
    direct = language_direct(seen)
    if direct.verdict is not Verdict.HOLDS:
        raise Missing(Verdict.UNKNOWN, "Accept-Language changed no direct read")
    english = _text(seen["english"])
    outer, own = (json_of(seen.slot(step, 0).body) != english for step in ("language_outer", "language_own"))
    words = {True: "changes the slot", False: "changes nothing"}
    text = f"on the batch: {words[outer]}; on the operation: {words[own]}"
    return verdict_of(outer and own, text, text)


def _text(answer: Answer) -> Any:
    if answer.status != 200:
        raise Missing(Verdict.UNKNOWN, "the object has no category; a Page has one")
    return json_of(answer.body)


# --- the wire


def http_version(seen: Transcript) -> Judged:
    """Whether Graph answers in HTTP/1.1."""
    version = seen["first"].version
    return verdict_of(version == "1.1", f"HTTP/{version}", f"HTTP/{version}")


def keep_alive(seen: Transcript) -> Judged:
    """Whether a connection carries a second call."""
    return verdict_of(
        seen["again"].reused, "the second call used the first call's connection", "each call opened a connection"
    )


def clock(seen: Transcript) -> Judged:
    """Whether this machine's clock is Graph's."""
    first = seen["first"]
    try:
        off = first.at - parsedate_to_datetime(first.header("date")).timestamp()
    except (TypeError, ValueError):
        raise Missing(Verdict.UNKNOWN, "the reply has no Date") from None
    return verdict_of(abs(off) <= CLOCK_S, f"within {CLOCK_S:g} s of Graph's", f"{off:+.0f} s from Graph's")


def not_through_a_proxy(seen: Transcript) -> Judged:
    """Whether no proxy names itself in Graph's reply (RFC 9110 section 7.6.3)."""
    names = _present(seen["first"].fields, ("via", "x-cache", "proxy-connection", "x-forwarded-for"))
    return verdict_of(not names, "no proxy named itself", f"the reply has a proxy's fields: {', '.join(names)}")


def _present(fields: Headers, names: Iterable[str]) -> list[str]:
    return [name for name in names if field(fields, name)]
