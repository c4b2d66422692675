"""The batch planner: waiting reads become batches within Graph's limit, and Graph's array becomes one outcome per read.

Source: developers.facebook.com/docs/graph-api/batch-requests; what SDKs and their users met beyond it stands at the
rules.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from enum import Enum
from typing import Any

import msgspec
from msgspec.structs import replace

from proxy.core import headers, lax, ledger, paging
from proxy.core.errors import ABORTED, Blame, GraphError, blame, read_error
from proxy.core.limits import THROTTLED
from proxy.core.memo import Recent, memo
from proxy.core.messages import Channel, Credential, Headers, Reply, Request
from proxy.core.normal import form, join_pairs

GRAPH_LIMIT = 50
"""Operations that Graph takes in one batch."""

TOPS_TRIED = 3
"""Credentials that one batch is tried under."""

_OF_THE_ROOT = frozenset({"facebook-api-version"})  # what served the batch says nothing of its slots' versions


class Limits(msgspec.Struct):
    """What holds for every group; the window in seconds. A reload changes them where they are."""

    slots: int = GRAPH_LIMIT
    window_s: float = 0.005
    in_flight: int = 8
    queue: int = 10_000
    by_token: bool = False  # a batch holds one token
    queue_s: float = 2.0

    def take(self, other: Limits) -> None:
        """From now on let *other* hold."""
        for name in self.__struct_fields__:
            setattr(self, name, getattr(other, name))


def unlanded(limits: Limits) -> Limits:
    """*limits* for reads that need company but no place in a batch: flights do not widen their window."""
    return replace(limits, slots=GRAPH_LIMIT, in_flight=limits.queue)


def group_of(request: Request, limits: Limits) -> Hashable:
    """What requests must share to ride together: all that the outer call says once for everyone in it."""
    token = request.credential.token if limits.by_token and request.credential else ""
    return request.host, request.language, token


def due(queued: int, oldest: float, in_flight: int, limits: Limits, now: float) -> float | None:
    """When the next batch of a group leaves if a connection is free (not after *now*: at once); None: nothing waits.

    A group with nothing in flight waits for nobody; behind a flight there is time to gather company (as in Nagle's
    algorithm, RFC 896). Flights never hold a batch back, for one may be slow. Those beyond `in_flight` widen the window
    in proportion, so that a group that is asked a lot gathers larger batches.
    """
    if not queued:
        return None
    if not in_flight or queued >= limits.slots:
        return now
    return oldest + window(in_flight, limits)


def window(in_flight: int, limits: Limits) -> float:
    """Seconds in which company is gathered behind so many flights."""
    return limits.window_s * max(1.0, in_flight / limits.in_flight)


STANDING = 0.25
"""The part of `queue_s` after which a queue is called standing: it takes in nobody until it has become shorter."""


def refusal(queued: int, waited: float, limits: Limits) -> str:
    """Why a newcomer may not wait: *queued* do, and the one whose place it would take has *waited* so long; "": it may.

    The oldest go first. A queue that is bounded by time when somebody joins is short, so the order costs little: all
    who are let in wait about equally long, nobody is overtaken, and a refusal is told at once, while the other order
    would let those who were let in wait in vain. What is measured is a wait that has happened, as in CoDel (RFC 8289):
    a burst that leaves as quickly as it came is taken in whole.
    """
    if queued >= limits.queue:
        return f"{queued} requests wait for a place in a batch already (setting batch.queue)"
    if waited > limits.queue_s * STANDING:
        return f"requests wait for {waited:.1f} s already (setting batch.queue_s)"
    return ""


def waited_out(limits: Limits) -> str:
    """What is told to a read that has waited as long as it may."""
    return f"no connection to Graph became free within {limits.queue_s:g} s (setting batch.queue_s)"


def encode(requests: Sequence[Request], top: Credential) -> bytes:
    """The urlencoded form that asks *requests* in one call, *top* vouching for the call as a whole.

    Every slot carries its own token and proof: the top-level ones are a fallback, and would lend a stranger's rights to
    a slot that had none. Raises ValueError for such a request.
    """
    if any(request.credential is None for request in requests):
        raise ValueError("an operation without a token of its own never enters a batch")
    operations = msgspec.json.encode([operation(request) for request in requests]).decode()
    return form({**top.parameters, "include_headers": "true", "batch": operations})


def relative_url(request: Request) -> str:
    """What stands behind the host: version as asked, path, query in normal form, the caller's own token and proof."""
    own = "" if request.credential is None else vouching(request.credential)
    both = "&" if own and request.query else ""
    return f"{request.version}{request.path}?{request.query}{both}{own}".removeprefix("/").removesuffix("?")


@memo()
def vouching(credential: Credential) -> str:
    """The parameters that carry *credential*, as they stand in a query."""
    return join_pairs(tuple(credential.parameters.items()))


def operation(request: Request) -> dict[str, Any]:
    """*request* as an operation of a batch, with what it is conditional on."""
    # The language stands on the outer call too; nothing says that its slots inherit it.
    named = {"If-None-Match": request.validator, "Accept-Language": request.language}
    told: dict[str, Any] = {"method": "GET", "relative_url": relative_url(request)}
    if fields := [f"{name}: {value}" for name, value in named.items() if value]:
        told["headers"] = fields
    return told


class Tops:
    """Which credentials were refused on top of a batch lately, and so do not go there."""

    REST_S = 60
    PLACES = 1024

    def __init__(self) -> None:
        """Trust every credential."""
        self._rested = Recent[Credential, tuple[float, Blame]](self.PLACES)

    def choose(self, requests: Sequence[Request], now: float) -> Credential | None:
        """A credential of *requests* that may stand on top; None if Graph refused them all as tokens.

        One that is only out of quota is better than none: its reads keep the form of asking that their ETags hold for.
        """
        own = [request.credential for request in requests if request.credential]
        free = (known for known in own if self._rest(known)[0] <= now)
        spent = (known for known in own if self._rest(known)[1] is Blame.QUOTA)
        return next(free, None) or next(spent, None)

    def refuse(self, credential: Credential, blame: Blame, now: float) -> None:
        """Keep *credential* off the top for a while, for what Graph blamed."""
        self._rested.put(credential, (now + self.REST_S, blame))

    def _rest(self, credential: Credential) -> tuple[float, Blame]:
        return self._rested.get(credential) or (0.0, Blame.OTHER)


class Call(Enum):
    """How a whole batch call went, where there is no reply to look into."""

    CUT = "cut"  # the connection ended before the reply did
    LARGE = "large"  # the reply was larger than is held


class Sorted(msgspec.Struct, frozen=True, gc=False):
    """What became of a batch: replies by index, the rest to be asked again in smaller batches or each alone."""

    replies: dict[int, Reply]
    again: tuple[tuple[int, ...], ...] = ()
    alone: tuple[int, ...] = ()
    refused_top: Blame | None = None  # why the credential on top is not to be used there for a while
    cause: str = ""  # a word for the retry
    counted: tuple[bool, ...] = ()  # of which Graph has counted the call for certain


def sort_out(requests: Sequence[Request], top: Credential, answer: Reply | Call, attempt: int) -> Sorted:
    """Exactly one fate for each of *requests*, whatever Graph's *answer* to their batch was.

    *attempt* counts the batches that these requests have been in: first a smaller batch, then each alone.
    """
    everyone = range(len(requests))
    if isinstance(answer, Call):
        return _apart(everyone, attempt, answer.value)
    slots = slots_of(answer, len(requests))
    if slots is None:
        return _refused(requests, top, answer, attempt)
    read = [
        reply_of(slot, answer, conditional=bool(request.validator), is_top=request.credential == top)
        for slot, request in zip(slots, requests, strict=True)
    ]
    replies = {at: reply for at, reply in enumerate(read) if reply is not None}
    troubled = tuple(at for at in everyone if at not in replies and _is_trouble(slots[at]))
    missing = tuple(at for at in everyone if at not in replies and at not in troubled)
    rest = _again(missing, len(requests), attempt)
    cause, counted = "slot" if missing or troubled else "", tuple(map(is_counted, slots))
    return replace(rest, replies=replies, alone=rest.alone + troubled, cause=cause, counted=counted)


def slots_of(answer: Reply, count: int) -> list[Any] | None:
    """The slots of *answer*, or None if it is not an array of just *count*.

    A shorter array is seen in the wild (arsduo/koala PR 572), and nothing says which slots are missing: were one left
    out in the middle, its neighbours' bodies would go to the wrong callers. So no slot of it is trusted.
    """
    if answer.status != 200:
        return None
    try:
        slots = lax.decode(answer.body)
    except lax.UNREADABLE:
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
        return is_array(answer) and not isinstance(lax.decode(answer.body), list)
    except lax.UNREADABLE:
        return True


def reply_of(slot: Any, outer: Reply, *, conditional: bool, is_top: bool) -> Reply | None:
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


def is_counted(slot: Any) -> bool:
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
        return lax.text(body)
    return b"" if body is None and status >= 300 else None


def _fields(listed: Any) -> Headers:
    """An item's header fields, which are objects with a name and a value; anything else there is left out."""
    if not isinstance(listed, list):
        return ()
    pairs = ((field.get("name"), field.get("value")) for field in listed if isinstance(field, dict))
    return tuple(pair for pair in pairs if headers.is_field(pair))


def _refused(requests: Sequence[Request], top: Credential, answer: Reply, attempt: int) -> Sorted:
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
    return _with_another_top(everyone, attempt if others else TOPS_TRIED, whose)


def _with_another_top(indices: tuple[int, ...], attempt: int, whose: Blame) -> Sorted:
    """The same reads under another credential; after a few refusals each alone, for every try costs all of them."""
    if attempt < TOPS_TRIED:
        return Sorted({}, again=_one_group(indices), refused_top=whose, cause=whose.value)
    return Sorted({}, alone=indices, refused_top=whose, cause=whose.value)


def _apart(everyone: Iterable[int], attempt: int, cause: str) -> Sorted:
    """Two halves, then each alone: one bad read costs its mates a second call, not their answers."""
    whole = tuple(everyone)
    half = (len(whole) + 1) // 2
    if attempt or len(whole) == 1:
        return Sorted({}, alone=whole, cause=cause)
    return Sorted({}, again=(whole[:half], whole[half:]), cause=cause)


def _again(missing: tuple[int, ...], of: int, attempt: int) -> Sorted:
    """Those *missing* out of a batch *of* so many: in a smaller batch once, then alone."""
    if len(missing) == of:
        return _apart(missing, attempt, "slot")
    if attempt or len(missing) == 1:
        return Sorted({}, alone=missing)
    return Sorted({}, again=_one_group(missing))


def _one_group(indices: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
    return (indices,) if indices else ()
