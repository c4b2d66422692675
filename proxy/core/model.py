"""The nouns every room speaks: a request, its reply, and what is held between the two."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, ClassVar

import msgspec
from msgspec.structs import replace

Headers = tuple[tuple[str, str], ...]
"""Header fields in the order they came, names as they were spelled."""

USUAL_PRIORITY = 3
"""The urgency of a read that names none (RFC 9218 section 4.1)."""

LOW_PRIORITY = 5
"""The urgency (RFC 9218 section 4.1: 0 first, 7 last) from which on a read has time."""


class Mode(StrEnum):
    """How a reply came about; the same word in headers, logs, metrics and docs."""

    MISS = "MISS"  # nothing was held: Graph was asked and answered
    REVALIDATED = "REVALIDATED"  # Graph said 304: the held body was served
    CHANGED = "CHANGED"  # something was held, Graph answered with something else
    REUSED = "REUSED"  # fresh by rule: Graph was not asked
    STALE = "STALE"  # older than fresh, allowed by rule: Graph was not asked, or could not answer
    COALESCED = "COALESCED"  # joined an identical request that was already in flight
    SKIPPED = "SKIPPED"  # not a plain read: passed through
    FAILED = "FAILED"  # the sidecar's own error: Graph gave no usable answer


ANSWERED_NOW = frozenset({Mode.MISS, Mode.CHANGED, Mode.REVALIDATED})
"""Modes of replies that Graph gave now."""


class Channel(StrEnum):
    """The form in which Graph is asked; an ETag holds only for the form that it was given in."""

    BATCH = "batch"
    DIRECT = "direct"


class Redacted(msgspec.Struct, frozen=True, gc=False):
    """A value that may hold tokens: its fields called *hidden* appear in no repr.

    A struct, for one is made or changed at every step of a read, in a tenth of the time that a frozen dataclass takes.
    """

    hidden: ClassVar[tuple[str, ...]]

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        """What may be seen of it, by name."""
        return [(name, getattr(self, name)) for name in self.__struct_fields__ if name not in self.hidden]

    def __repr__(self) -> str:
        """The same as text."""
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in self.__rich_repr__())})"


class Credential(Redacted, frozen=True, gc=False):
    """A caller's token and what vouches for it; its text never appears in a repr."""

    hidden = ("token", "proof", "time")

    token: str
    proof: str = ""
    time: str = ""

    @property
    def parameters(self) -> dict[str, str]:
        """The parameters that carry it, by name; a proof and its time only where there are any."""
        vouching = {"appsecret_proof": self.proof, "appsecret_time": self.time}
        return {"access_token": self.token, **{name: value for name, value in vouching.items() if value}}


class CacheDirectives(msgspec.Struct, frozen=True, gc=False):
    """What the caller's own headers ask of a cache (RFC 9111 section 5.2.1, RFC 9110 section 13.1.2)."""

    no_cache: bool = False
    no_store: bool = False
    only_if_cached: bool = False
    max_age: int | None = None
    min_fresh: int | None = None
    max_stale: int | None = None
    stale_if_error: int | None = None  # RFC 5861 section 4
    if_none_match: str = ""

    @property
    def stays_alone(self) -> bool:
        """Whether the caller wants Graph's own word now, or none: then it joins nobody, and nobody joins it."""
        return self.no_cache or self.no_store or self.only_if_cached

    @property
    def ages(self) -> tuple[int | None, ...]:
        """How old an answer may be, in each way in which a caller can say so."""
        return self.max_age, self.min_fresh, self.max_stale, self.stale_if_error


NO_DIRECTIVES = CacheDirectives()


class Request(msgspec.Struct, frozen=True, gc=False):
    """One plain read in normal form: two spellings of the same read are equal but for credential and wishes."""

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
    returns: bool = False  # whether its caller was refused for a limit, and comes back

    @property
    def has_time(self) -> bool:
        """Whether it may wait where calls are scarce."""
        return self.priority >= LOW_PRIORITY

    def with_validator(self, validator: str) -> Request:
        """The same read, conditional on *validator*; unconditional if that is empty."""
        return replace(self, validator=validator)


class Reply(Redacted, frozen=True, gc=False):
    """What answers a request: Graph's words, and how they were come by."""

    hidden = ("headers", "body", "usage_of_top")  # links hold tokens

    status: int
    headers: Headers
    body: bytes
    mode: Mode = Mode.MISS
    channel: Channel = Channel.BATCH
    joined: Mode | None = None  # how the reply of the flight that was joined came about
    stored: bool = False
    ttl: float | None = None  # seconds of freshness left; negative: seconds past it
    age: float | None = None  # seconds since Graph was asked; only where Graph was not asked now
    detail: str = ""  # a word for Cache-Status
    window_s: float | None = None  # waited for company
    upstream_s: float | None = None  # waited for Graph
    usage_of_top: Headers = ()  # what the batch that it came in told of the usage of the token on top
    batch: str = ""  # the call that it came in, by the name that log and traces give it
    avoided: tuple[tuple[str, int], ...] = ()  # calls avoided, by cause, where the mode does not tell

    @property
    def origin_mode(self) -> Mode:
        """How these words came about, whoever else shares them."""
        return self.joined or self.mode

    def shared(self) -> Reply:
        """The same for one who joined the flight that it answers."""
        return replace(self, mode=Mode.COALESCED, joined=self.mode, avoided=())

    def header(self, name: str) -> str | None:
        """The first field called *name* (any case)."""
        wanted = name.lower()
        return next((value for key, value in self.headers if key.lower() == wanted), None)


class EntryMeta(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """What is known of an entry without its body; small enough to stay in memory for all of the disk."""

    etag: str
    channel: str
    asked: float  # epoch seconds at which the ask that this answers was sent
    may_be_fresh: bool  # False for a body that says of itself that it is not final
    proofs: tuple[bytes, ...]  # digests of the proofs under which Graph has answered this, newest first
    expires: float = 0.0  # epoch seconds at which the first of its signed links ends; 0 if it has none


class Entry(Redacted, frozen=True, gc=False):
    """What the store keeps: one 200 reply of Graph's."""

    hidden = ("headers", "body")

    held: EntryMeta
    headers: bytes  # "Name: value" lines joined by CRLF: one object, not a list, for the collector's sake
    body: bytes
