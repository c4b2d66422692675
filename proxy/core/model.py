"""The values that every layer passes: a request, its reply, and the entry that the cache keeps."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, ClassVar

import msgspec
from msgspec.structs import replace

Headers = tuple[tuple[str, str], ...]
"""Header fields in the order and spelling in which they came."""

USUAL_PRIORITY = 3
"""The urgency of a read that names none (RFC 9218 section 4.1)."""

LOW_PRIORITY = 5
"""The urgency (RFC 9218 section 4.1: 0 first, 7 last) from which on a read may wait while calls are scarce."""


class Mode(StrEnum):
    """How a reply came about; the same word in headers, logs, metrics and docs."""

    MISS = "MISS"  # no entry was stored: Graph was asked and answered
    REVALIDATED = "REVALIDATED"  # Graph answered 304: the stored body was served
    CHANGED = "CHANGED"  # an entry was stored, and Graph answered with another body
    REUSED = "REUSED"  # the entry was fresh by its rule: Graph was not asked
    STALE = "STALE"  # the entry was stale, and the rule allows that: Graph was not asked, or could not answer
    COALESCED = "COALESCED"  # joined an identical request that was already in flight
    SKIPPED = "SKIPPED"  # not a plain read: passed through
    FAILED = "FAILED"  # the sidecar's own error: Graph gave no usable answer


ANSWERED_NOW = frozenset({Mode.MISS, Mode.CHANGED, Mode.REVALIDATED})
"""The modes of replies that Graph itself gave to this request."""


class Channel(StrEnum):
    """How Graph is asked: in a batch or by a call of its own; an ETag is valid only for the channel it came by."""

    BATCH = "batch"
    DIRECT = "direct"


class Redacted(msgspec.Struct, frozen=True, gc=False):
    """A struct that may hold tokens: the fields named in `hidden` do not appear in its repr.

    It is a struct because every step of a read makes one: that takes a tenth of a frozen dataclass's time.
    """

    hidden: ClassVar[tuple[str, ...]]

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        """Returns the fields that may be shown, by name."""
        return [(name, getattr(self, name)) for name in self.__struct_fields__ if name not in self.hidden]

    def __repr__(self) -> str:
        """Returns the same as text."""
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in self.__rich_repr__())})"


class Credential(Redacted, frozen=True, gc=False):
    """A caller's access token, and its `appsecret_proof` with the proof's time; none of them appears in a repr."""

    hidden = ("token", "proof", "time")

    token: str
    proof: str = ""
    time: str = ""

    @property
    def parameters(self) -> dict[str, str]:
        """The parameters that send this credential, by name; a proof and its time only where there are any."""
        proof = {"appsecret_proof": self.proof, "appsecret_time": self.time}
        return {"access_token": self.token, **{name: value for name, value in proof.items() if value}}


class CacheDirectives(msgspec.Struct, frozen=True, gc=False):
    """The caller's cache directives and validators (RFC 9111 section 5.2.1, RFC 9110 section 13.1.2)."""

    no_cache: bool = False
    no_store: bool = False
    only_if_cached: bool = False
    max_age: int | None = None
    min_fresh: int | None = None
    max_stale: int | None = None
    stale_if_error: int | None = None  # RFC 5861 section 4
    if_none_match: str = ""

    @property
    def forbids_sharing(self) -> bool:
        """Whether the caller's directives keep its request from sharing one call with others."""
        return self.no_cache or self.no_store or self.only_if_cached

    @property
    def ages(self) -> tuple[int | None, ...]:
        """The directives that say how old an answer may be: max-age, min-fresh, max-stale, stale-if-error."""
        return self.max_age, self.min_fresh, self.max_stale, self.stale_if_error


NO_DIRECTIVES = CacheDirectives()


class Request(msgspec.Struct, frozen=True, gc=False):
    """One plain read in normal form: equal reads of one caller differ in directives and priority at most."""

    host: str
    version: str  # "v25.0", or "" for an unversioned call
    path: str  # "/act_1/campaigns", "/" for the root
    query: str  # normal form, without credential, callback and method
    language: str = ""
    credential: Credential | None = None
    channel: Channel = Channel.BATCH
    directives: CacheDirectives = NO_DIRECTIVES
    priority: int = USUAL_PRIORITY  # urgency, from 0 first to 7 last
    validator: str = ""  # the ETag that goes to Graph; the cache sets it
    after_refusal: bool = False  # whether it repeats a read that was refused for a limit

    @property
    def is_low_priority(self) -> bool:
        """Whether this read may wait while calls are scarce."""
        return self.priority >= LOW_PRIORITY

    def with_validator(self, validator: str) -> Request:
        """Returns the same read, conditional on *validator*; unconditional if that is empty."""
        return replace(self, validator=validator)


class Reply(Redacted, frozen=True, gc=False):
    """A reply to a request: status, fields and body as Graph gave them, and how the reply came about."""

    hidden = ("headers", "body", "usage_of_top")  # paging links hold tokens

    status: int
    headers: Headers
    body: bytes
    mode: Mode = Mode.MISS
    channel: Channel = Channel.BATCH
    joined: Mode | None = None  # the mode of the reply that this one shares
    stored: bool = False
    ttl: float | None = None  # seconds of freshness left; negative: seconds past it
    age: float | None = None  # seconds since Graph was asked; only where Graph was not asked now
    detail: str = ""  # the `detail` of Cache-Status
    window_s: float | None = None  # seconds spent waiting for a batch to fill
    upstream_s: float | None = None  # seconds spent waiting for Graph
    usage_of_top: Headers = ()  # usage headers of the batch that it came in; they are about the top-level token
    batch: str = ""  # the name that logs and traces give to the batch that it came in
    lane: str = ""  # the name of the lane of that batch
    avoided: tuple[tuple[str, int], ...] = ()  # calls avoided, by cause, where the mode does not tell
    invalidated_s: float | None = None  # seconds before Graph was asked at which the entry had been invalidated

    @property
    def origin_mode(self) -> Mode:
        """The mode of the reply as it was fetched, also for callers that share it."""
        return self.joined or self.mode

    def shared(self) -> Reply:
        """Returns this reply for a request that shared the call; a held one, for which none was made, is as it was."""
        if self.mode is Mode.REUSED:
            return self
        return replace(self, mode=Mode.COALESCED, joined=self.mode, avoided=())

    def header(self, name: str) -> str | None:
        """Returns the value of the first field called *name* (in any case); None if there is none."""
        wanted = name.lower()
        return next((value for key, value in self.headers if key.lower() == wanted), None)


USUAL_PROOFS = (b"",)
"""Those of an entry whose callers send no `appsecret_proof`."""


class EntryMeta(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """An entry's metadata; small enough to stay in memory for every entry on disk."""

    etag: str
    channel: str
    asked_at: float  # epoch seconds at which the request was sent that the entry answers
    may_be_fresh: bool  # False for a body of something that Graph still works on
    proofs: tuple[bytes, ...]  # digests of the proofs under which Graph has answered this, newest first
    expires: float = 0.0  # epoch seconds at which the first of its signed links ends; 0 if it has none


class Entry(Redacted, frozen=True, gc=False):
    """A stored 200 reply of Graph's."""

    hidden = ("headers", "body")

    meta: EntryMeta
    headers: bytes
    """"Name: value" lines joined by CRLF: one object, not a list, for the collector's sake.

    The value of the ETag is left out, which `meta` has (`core/http/headers.stored`): so entries share one object.
    """
    body: bytes
