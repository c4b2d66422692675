"""Resolves Graph's answer to a batch into one outcome for each read: a reply, or how the read is tried again.

A read whose slot is null, malformed or aborted is retried once in a smaller batch (in two halves if every slot is
missing), then alone (`_retry_missing`). A read whose slot is an error on Graph's side is retried alone at once
(`_is_trouble`). `shell/pipeline/batcher` sends the retries. In an application's own batch the same reads are retried
(`client_batch/slots.is_unanswered`), by `shell/downstream/client_batch_calls`. The fast path takes only slots with a
200 or a 304 (`usual_slots`; `shell/downstream/fast_flight`, `core/fast_path/batch_answer` and
`core/fast_path/new_entries`), whose heads `slot_reply` makes (`core/fast_path/answer_template`). It leaves
all others to `resolve`.

Source: developers.facebook.com/docs/graph-api/batch-requests; findings from SDKs and their users are cited where they
matter.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from enum import Enum
from functools import lru_cache
from typing import Any

import msgspec
from msgspec.structs import replace

from proxy.core.batch.request import MOST_LEAD_TOKENS
from proxy.core.graph import lax_json, paging
from proxy.core.graph.errors import ABORTED, Blame, GraphError, blame, read_error
from proxy.core.graph.throttles import THROTTLED
from proxy.core.http import headers
from proxy.core.model import Channel, Credential, Headers, Reply, Request
from proxy.core.quota import ledger


class BatchFailure(Enum):
    """How a batch call failed as a whole, without a reply that can be read."""

    CUT = "cut"  # the connection ended before the reply did
    LARGE = "large"  # the reply was larger than the sidecar keeps in memory


class Outcomes(msgspec.Struct, frozen=True, gc=False):
    """What became of a batch: replies by index; the rest is retried in smaller batches or each alone."""

    replies: dict[int, Reply]
    batches: tuple[tuple[int, ...], ...] = ()
    singles: tuple[int, ...] = ()
    refused_lead: Blame | None = None  # why the top-level credential is not to be used there for a while
    cause: str = ""  # the reason of the retry, for metrics
    counted: tuple[bool, ...] = ()  # for each operation, whether Graph has certainly counted it


class Slot(msgspec.Struct, frozen=True, gc=False):
    """A slot in the shape that Graph's pages show, its header fields unparsed; no other shape decodes as one."""

    code: int
    headers: msgspec.Raw = msgspec.Raw()
    body: str | None = None

    def __repr__(self) -> str:
        """Returns the code alone: fields and bodies may hold a token."""
        return f"Slot({self.code})"


_slots = msgspec.json.Decoder(list[Slot | None])
_undecoded = msgspec.json.Decoder(list[msgspec.Raw])
_LARGE = 2**20  # bytes of an answer


def usual_slots(answer: Reply | BatchFailure, count: int) -> Sequence[Slot | None]:
    """Returns the slots of *answer* where all *count* of them have the usual shape, else (); see `slots_of`."""
    if isinstance(answer, BatchFailure) or answer.status != 200:
        return ()
    try:
        slots = _slots.decode(answer.body)
    except lax_json.UNREADABLE:
        return ()
    return slots if len(slots) == count else ()


NONE_ANSWERED: frozenset[int] = frozenset()


def resolve(
    requests: Sequence[Request],
    top: Credential,
    answer: Reply | BatchFailure,
    attempt: int,
    answered: Collection[int] = NONE_ANSWERED,
) -> Outcomes:
    """Returns exactly one outcome for each of *requests*, whatever Graph's *answer* to their batch was.

    *attempt* counts the batches that these requests were in before: they are retried in a smaller batch, then alone.
    The fast path has *answered* the slots at these indices; each is a 200 or a 304, which Graph has counted.
    """
    all_indices = range(len(requests))
    if len(answered) == len(requests):
        return Outcomes({}, counted=(True,) * len(requests))
    if isinstance(answer, BatchFailure):
        return _split_or_single(all_indices, attempt, answer.value)
    slots = _slots_one_by_one(answer, len(requests))
    if slots is None:
        return _resolve_refusal(requests, top, answer, attempt)
    replies, counted, troubled, missing = dict[int, Reply](), list[bool](), list[int](), list[int]()
    for at, (request, slot) in enumerate(zip(requests, slots, strict=True)):
        counted.append(at in answered or is_slot_counted(slot))
        if at in answered:
            continue
        is_top = request.credential == top
        reply = slot_reply(slot, answer, conditional=bool(request.validator), is_top=is_top)
        if reply is not None:
            replies[at] = reply
        else:
            (troubled if _is_trouble(slot) else missing).append(at)
    rest = _retry_missing(tuple(missing), len(requests), attempt)
    cause = "slot" if missing or troubled else ""
    singles = (*rest.singles, *troubled)
    return replace(rest, replies=replies, singles=singles, cause=cause, counted=tuple(counted))


def slots_of(answer: Reply, count: int) -> list[Any] | None:
    """The slots of *answer*, or None if it is not an array of just *count*.

    A shorter array is seen in the wild (arsduo/koala PR 572), and nothing says which slots are missing: were one left
    out in the middle, its neighbours' bodies would go to the wrong callers. So no slot of it is trusted.
    """
    if answer.status != 200:
        return None
    try:
        slots = lax_json.decode(answer.body)
    except lax_json.UNREADABLE:
        return None
    return slots if isinstance(slots, list) and len(slots) == count else None


def _slots_one_by_one(answer: Reply, count: int) -> Iterable[Any] | None:
    """Returns what `slots_of` does; the slots of a large answer are decoded one after the other, to hold less."""
    if len(answer.body) <= _LARGE or answer.status != 200:
        return slots_of(answer, count)
    try:
        undecoded = _undecoded.decode(answer.body)
    except lax_json.UNREADABLE:
        return slots_of(answer, count)
    return map(_slot_of, undecoded) if len(undecoded) == count else None


def _slot_of(undecoded: msgspec.Raw) -> Any:
    """Returns the slot that is *undecoded*; None, as for a missing one, if it cannot be read."""
    try:
        return lax_json.decode(bytes(undecoded))
    except lax_json.UNREADABLE:
        return None


def is_array(answer: Reply) -> bool:
    """Returns whether *answer* is an array of slots, of whatever length."""
    return answer.status == 200 and answer.body.lstrip()[:1] == b"["


def is_batch_array(body: bytes) -> bool:
    """Returns whether *body* is a non-empty array; no single read gets one (an empty one is PHP's empty object)."""
    return body.lstrip()[:1] == b"[" and body.lstrip()[1:].lstrip()[:1] != b"]"


def is_single(body: bytes) -> bool:
    """Returns whether *body* is an object without an error; no batch gets one."""
    return body.lstrip()[:1] == b"{" and read_error(body) is None


def is_garbled(answer: Reply) -> bool:
    """Returns whether *answer* begins like an array of slots, but is no JSON even to lenient readers."""
    try:
        return is_array(answer) and not isinstance(lax_json.decode(answer.body), list)
    except lax_json.UNREADABLE:
        return True


def slot_reply(slot: Any, outer: Reply, *, conditional: bool, is_top: bool) -> Reply | None:
    """Returns the direct reply that *slot* stands for; None if it is null, malformed, aborted or an error of Graph's.

    A 304 stands for a reply only where the operation was *conditional*; *outer* is the batch's own reply. The batch's
    usage headers are about the top-level token; only slots of its reads (*is_top*) get them.
    """
    if not isinstance(slot, dict) or not isinstance(status := slot.get("code"), int) or not 200 <= status < 600:
        return None
    if (body := _body_bytes(slot.get("body"), status)) is None or (status == 304 and not conditional):
        return None
    if status >= 400 and is_worth_a_retry(status, read_error(body)):
        return None
    given = _header_fields(slot.get("headers"))
    fields = headers.for_caller(given) if headers.is_redirect(status) and not body else headers.for_slot(given)
    own = headers.without(fields, headers.CODED)  # its body is text
    usage, lent = _from_batch(outer.headers)
    names = frozenset([headers.lower_name(name) for name, _ in own])
    from_outer = (*lent, *usage) if is_top else lent
    slot_fields = (*own, *[field for field in from_outer if headers.lower_name(field[0]) not in names])
    body = paging.as_asked_alone(body)
    return Reply(status, slot_fields, body, channel=Channel.BATCH, upstream_s=outer.upstream_s, usage_of_top=usage)


@lru_cache(maxsize=2)
def _from_batch(fields: Headers) -> tuple[Headers, Headers]:
    """Returns the usage fields among the *fields* of a batch's own reply, and the others that its slots take over."""
    return headers.pick(fields, headers.USAGE), headers.pick(fields, headers.TRACE | headers.OF_ANY_REPLY)


def is_worth_a_retry(status: int, error: GraphError | None) -> bool:
    """Returns whether a failed slot may succeed in another call: aborted, or an error of Graph's; never a throttle."""
    if error is not None and error.code in THROTTLED:
        return False
    return status >= 500 or (error is not None and error.code == ABORTED)


def is_slot_counted(slot: Any) -> bool:
    """Returns whether Graph has certainly counted the operation of *slot*."""
    if not isinstance(slot, dict) or not isinstance(status := slot.get("code"), int):
        return False
    if status < 400:
        return True
    return ledger.is_counted(status, read_error(str(slot.get("body")).encode("utf-8", "replace")))


def _is_trouble(slot: Any) -> bool:
    """Returns whether *slot* is an error on Graph's side with this one read, which another batch would not avoid."""
    if not isinstance(slot, dict) or not isinstance(status := slot.get("code"), int) or status < 500:
        return False
    error = read_error(str(slot.get("body")).encode("utf-8", "replace"))
    return error is None or error.code != ABORTED


def _body_bytes(body: Any, status: int) -> bytes | None:
    if isinstance(body, str):
        return lax_json.text(body)
    return b"" if body is None and status >= 300 else None


def _header_fields(listed: Any) -> Headers:
    """Returns a slot's header fields, which are objects with a name and a value; anything else is left out."""
    if not isinstance(listed, list):
        return ()
    pairs = ((field.get("name"), field.get("value")) for field in listed if isinstance(field, dict))
    return tuple(pair for pair in pairs if headers.is_field(pair))


def _resolve_refusal(requests: Sequence[Request], top: Credential, answer: Reply, attempt: int) -> Outcomes:
    """Resolves a batch that was refused as a whole: another top-level credential if that was to blame, else a split."""
    all_indices = tuple(range(len(requests)))
    blamed = blame(answer.status, answer.body)
    if blamed is Blame.OTHER:
        return _split_or_single(all_indices, attempt, "refused")
    others = tuple(at for at in all_indices if requests[at].credential != top)
    if (
        blamed is Blame.QUOTA
    ):  # the throttle answers the reads of the top-level token; to ask again would prolong the block
        slot_fields = headers.without(headers.for_caller(answer.headers), headers.NOT_FROM_REFUSED_BATCH)
        throttled = replace(answer, status=max(answer.status, 400), headers=slot_fields, channel=Channel.BATCH)
        replies = {at: throttled for at in all_indices if at not in others}
        return replace(_with_another_lead_token(others, attempt, blamed), replies=replies)
    return _with_another_lead_token(all_indices, attempt if others else MOST_LEAD_TOKENS, blamed)


def _with_another_lead_token(indices: tuple[int, ...], attempt: int, blamed: Blame) -> Outcomes:
    """Retries the reads under another top-level credential; after a few refusals each alone, for a try costs all."""
    if attempt < MOST_LEAD_TOKENS:
        return Outcomes({}, batches=_one_group(indices), refused_lead=blamed, cause=blamed.value)
    return Outcomes({}, singles=indices, refused_lead=blamed, cause=blamed.value)


def _split_or_single(all_indices: Iterable[int], attempt: int, cause: str) -> Outcomes:
    """Retries the reads in two halves, then each alone: one bad read costs the others a second call at most."""
    whole = tuple(all_indices)
    half = (len(whole) + 1) // 2
    if attempt or len(whole) == 1:
        return Outcomes({}, singles=whole, cause=cause)
    return Outcomes({}, batches=(whole[:half], whole[half:]), cause=cause)


def _retry_missing(missing: tuple[int, ...], of: int, attempt: int) -> Outcomes:
    """Retries the reads *missing* from a batch *of* so many: in a smaller batch once, then alone."""
    if len(missing) == of:
        return _split_or_single(missing, attempt, "slot")
    if attempt or len(missing) == 1:
        return Outcomes({}, singles=missing)
    return Outcomes({}, batches=_one_group(missing))


def _one_group(indices: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
    return (indices,) if indices else ()
