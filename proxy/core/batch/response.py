"""The batch planner: waiting reads become batches within Graph's limit, and Graph's array becomes one outcome per read.

Source: developers.facebook.com/docs/graph-api/batch-requests; what SDKs and their users met beyond it stands at the
rules.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import Enum
from typing import Any

import msgspec
from msgspec.structs import replace

from proxy.core.batch.request import LEADS_TRIED
from proxy.core.graph import lax_json, paging
from proxy.core.graph.errors import ABORTED, Blame, GraphError, blame, read_error
from proxy.core.graph.throttles import THROTTLED
from proxy.core.http import headers
from proxy.core.model import Channel, Credential, Headers, Reply, Request
from proxy.core.quota import ledger

_OF_THE_ROOT = frozenset({"facebook-api-version"})  # what served the batch says nothing of its slots' versions


class BatchFailure(Enum):
    """How a whole batch call went, where there is no reply to look into."""

    CUT = "cut"  # the connection ended before the reply did
    LARGE = "large"  # the reply was larger than is held


class Outcomes(msgspec.Struct, frozen=True, gc=False):
    """What became of a batch: replies by index, the rest to be asked again in smaller batches or each alone."""

    replies: dict[int, Reply]
    batches: tuple[tuple[int, ...], ...] = ()
    singles: tuple[int, ...] = ()
    refused_lead: Blame | None = None  # why the credential on top is not to be used there for a while
    cause: str = ""  # a word for the retry
    counted: tuple[bool, ...] = ()  # of which Graph has counted the call for certain


def resolve(requests: Sequence[Request], top: Credential, answer: Reply | BatchFailure, attempt: int) -> Outcomes:
    """Exactly one fate for each of *requests*, whatever Graph's *answer* to their batch was.

    *attempt* counts the batches that these requests have been in: first a smaller batch, then each alone.
    """
    everyone = range(len(requests))
    if isinstance(answer, BatchFailure):
        return _apart(everyone, attempt, answer.value)
    slots = slots_of(answer, len(requests))
    if slots is None:
        return _refused(requests, top, answer, attempt)
    read = [
        slot_reply(slot, answer, conditional=bool(request.validator), is_top=request.credential == top)
        for slot, request in zip(slots, requests, strict=True)
    ]
    replies = {at: reply for at, reply in enumerate(read) if reply is not None}
    troubled = tuple(at for at in everyone if at not in replies and _is_trouble(slots[at]))
    missing = tuple(at for at in everyone if at not in replies and at not in troubled)
    rest = _again(missing, len(requests), attempt)
    cause, counted = "slot" if missing or troubled else "", tuple(map(is_slot_counted, slots))
    return replace(rest, replies=replies, singles=rest.singles + troubled, cause=cause, counted=counted)


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


def is_array(answer: Reply) -> bool:
    """Whether *answer* tells of slots at all, however many."""
    return answer.status == 200 and answer.body.lstrip()[:1] == b"["


def is_of_batch(body: bytes) -> bool:
    """Whether *body* is an array with something in it: no single read gets one (an empty one is PHP's empty object)."""
    return body.lstrip()[:1] == b"[" and body.lstrip()[1:].lstrip()[:1] != b"]"


def is_single(body: bytes) -> bool:
    """Whether *body* is an object that tells of no error: no batch gets one."""
    return body.lstrip()[:1] == b"{" and read_error(body) is None


def is_garbled(answer: Reply) -> bool:
    """Whether *answer* looks like slots, but not even lax readers can read them."""
    try:
        return is_array(answer) and not isinstance(lax_json.decode(answer.body), list)
    except lax_json.UNREADABLE:
        return True


def slot_reply(slot: Any, outer: Reply, *, conditional: bool, is_top: bool) -> Reply | None:
    """The direct reply that *slot* stands for; None if it stands for none: null, malformed, aborted, or in trouble.

    A 304 stands for something only where the operation was *conditional*; *outer* is the batch's own reply. What that
    alone tells of usage is told of the token on top, so only the slot of a read under it *is_top* and takes it over.
    """
    if not isinstance(slot, dict) or not isinstance(status := slot.get("code"), int) or not 200 <= status < 600:
        return None
    if (body := _body(slot.get("body"), status)) is None or (status == 304 and not conditional):
        return None
    if status >= 400 and is_worth_another_call(status, read_error(body)):
        return None
    fields = headers.without(headers.passed_out(_fields(slot.get("headers"))), headers.CODED)  # its body is text
    typed = fields if headers.is_redirect(status) and not body else headers.typed(fields)
    usage = headers.pick(outer.headers, headers.USAGE)
    lent = headers.pick(outer.headers, headers.TRACE | headers.OF_ANY_REPLY) + (usage if is_top else ())
    told = (*typed, *headers.without(lent, frozenset([name.lower() for name, _ in typed])))
    body = paging.as_asked_alone(body)
    return Reply(status, told, body, channel=Channel.BATCH, upstream_s=outer.upstream_s, usage_of_top=usage)


def is_worth_another_call(status: int, error: GraphError | None) -> bool:
    """Whether a slot that failed may fare better alone: it was aborted, or Graph is in trouble; a throttle is final."""
    if error is not None and error.code in THROTTLED:
        return False
    return status >= 500 or (error is not None and error.code == ABORTED)


def is_slot_counted(slot: Any) -> bool:
    """Whether Graph has counted the operation of *slot* for certain."""
    if not isinstance(slot, dict) or not isinstance(status := slot.get("code"), int):
        return False
    if status < 400:
        return True
    return ledger.is_counted(status, read_error(str(slot.get("body")).encode("utf-8", "replace")))


def _is_trouble(slot: Any) -> bool:
    """Whether *slot* tells of trouble on Graph's side with this one read, so that no other batch would do better."""
    if not isinstance(slot, dict) or not isinstance(status := slot.get("code"), int) or status < 500:
        return False
    error = read_error(str(slot.get("body")).encode("utf-8", "replace"))
    return error is None or error.code != ABORTED


def _body(body: Any, status: int) -> bytes | None:
    if isinstance(body, str):
        return lax_json.text(body)
    return b"" if body is None and status >= 300 else None


def _fields(listed: Any) -> Headers:
    """An item's header fields, which are objects with a name and a value; anything else there is left out."""
    if not isinstance(listed, list):
        return ()
    pairs = ((field.get("name"), field.get("value")) for field in listed if isinstance(field, dict))
    return tuple(pair for pair in pairs if headers.is_field(pair))


def _refused(requests: Sequence[Request], top: Credential, answer: Reply, attempt: int) -> Outcomes:
    """A batch refused as a whole: another credential on top where the top one is to blame, else apart."""
    everyone = tuple(range(len(requests)))
    whose = blame(answer.status, answer.body)
    if whose is Blame.OTHER:
        return _apart(everyone, attempt, "refused")
    others = tuple(at for at in everyone if requests[at].credential != top)
    if whose is Blame.QUOTA:  # the throttle is the answer to the top one's reads; to ask again would prolong the block
        told = headers.without(headers.passed_out(answer.headers), _OF_THE_ROOT)
        throttled = replace(answer, status=max(answer.status, 400), headers=told, channel=Channel.BATCH)
        replies = {at: throttled for at in everyone if at not in others}
        return replace(_with_another_top(others, attempt, whose), replies=replies)
    return _with_another_top(everyone, attempt if others else LEADS_TRIED, whose)


def _with_another_top(indices: tuple[int, ...], attempt: int, whose: Blame) -> Outcomes:
    """The same reads under another credential; after a few refusals each alone, for every try costs all of them."""
    if attempt < LEADS_TRIED:
        return Outcomes({}, batches=_one_group(indices), refused_lead=whose, cause=whose.value)
    return Outcomes({}, singles=indices, refused_lead=whose, cause=whose.value)


def _apart(everyone: Iterable[int], attempt: int, cause: str) -> Outcomes:
    """Two halves, then each alone: one bad read costs its mates a second call, not their answers."""
    whole = tuple(everyone)
    half = (len(whole) + 1) // 2
    if attempt or len(whole) == 1:
        return Outcomes({}, singles=whole, cause=cause)
    return Outcomes({}, batches=(whole[:half], whole[half:]), cause=cause)


def _again(missing: tuple[int, ...], of: int, attempt: int) -> Outcomes:
    """Those *missing* out of a batch *of* so many: in a smaller batch once, then alone."""
    if len(missing) == of:
        return _apart(missing, attempt, "slot")
    if attempt or len(missing) == 1:
        return Outcomes({}, singles=missing)
    return Outcomes({}, batches=_one_group(missing))


def _one_group(indices: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
    return (indices,) if indices else ()
