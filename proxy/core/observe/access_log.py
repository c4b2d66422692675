"""The access log entry of a reply: enough to see how it came about and to replay the traffic, and nothing secret.

An entry holds no token, and no name that a user chose (`route_template.redacted_path` leaves names out of paths). Of
the query there are only the top level of `fields`, without arguments, the ids in `ids=`, and keyed hashes.

`shell/observe/access_logger` makes an entry for each reply. For replies of the fast path that differ only in `Varying`
it makes one `PreparedLine`, kept with the read (`core/fast_path/prepared_read`, and `shell/downstream/fast_flights` for
reads that wait for Graph). `shell/observe/log_writer` writes both in a thread of its own, and the lines that are about
no reply.
"""

from __future__ import annotations

import re
from typing import NamedTuple

import msgspec
from msgspec.structs import replace

from proxy.core.cache.key import Keys
from proxy.core.graph import ids as graph_ids
from proxy.core.graph.errors import GraphError, read_error
from proxy.core.memory.memo import MEMO_BYTES, Memo, memo
from proxy.core.merge import ids_split, selection
from proxy.core.model import ANSWERED_NOW, NO_DIRECTIVES, CacheDirectives, Headers, Mode, Redacted, Reply, Request
from proxy.core.observe import route_template
from proxy.core.observe.troubles import COVERED
from proxy.core.quota.ledger import is_refused_here
from proxy.core.quota.usage_headers import UsageLevel, usage_in, usage_levels
from proxy.core.routing.fields_param import field_names, fields_in
from proxy.core.routing.nodes import nodes

_FIELD = re.compile(r"[a-z][a-z0-9_]{0,63}")
_USE_CASE = re.compile(r"[a-z][a-z_]{0,39}")
_MOST_DIGITS = 6
"""The most digits of a field's name that is logged; a secret in hexadecimal has more."""
_ERROR_BEGINS_WITHIN = 512  # bytes of a good reply in which an error of Graph's would begin
_NO_ERROR = GraphError()


class AccessLogEntry(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line of the access log; `shell/observe/log_writer` adds `time`, `level`, `logger` and `sample`.

    Times are in milliseconds, `age_s` in seconds. Fields that do not apply are left out.
    """

    mode: str
    status: int
    method: str
    host: str
    version: str
    route: str
    path: str  # with its ids, without names
    app: str  # the token's fingerprint, its first 12 digits
    total_ms: float
    node: str = ""  # the object that is read, if it is named by an id
    fields: str = ""  # the top level of `fields`; arguments and nested fields are replaced by "…"
    key: str = ""  # the first 16 digits of the cache key: equal for equal reads
    body: str = ""  # a digest, equal for equal answers
    rest: str = ""  # equal for reads that differ in `ids` and plain `fields` alone; "" in lines of older versions
    ids: str = ""  # those of `ids=`, where the read can be split
    proof: str = ""  # a digest of `appsecret_proof`
    timed: bool = False  # whether the proof has an `appsecret_time`
    wishes: str = ""  # the caller's cache directives, as a Cache-Control
    priority: int | None = None  # the urgency that the caller sent
    etag: bool = True  # whether the answer has an ETag
    detail: str = ""
    batch: str = ""
    lane: str = ""  # of the batch: the speed of its routes
    refused: bool = False  # Graph was not asked: its last refusal for a limit was given again
    behind: bool = False  # a call in the background, which no caller waits for
    calls: int = 1
    avoided: int = 0
    sent: int | None = None  # calls that were sent for it, retries included; None in lines of older versions
    uncertain: int = 0  # those of `sent` of which it is uncertain whether Graph counted them
    writes: bool = False
    code: int = 0  # of Graph's error
    subcode: int = 0
    usage: tuple[UsageLevel, ...] = ()  # the levels in the answer's usage headers
    size: int = 0
    age_s: float | None = None
    window_ms: float | None = None
    upstream_ms: float | None = None
    invalidated_s: float | None = None  # the entry had been invalidated so long before Graph was asked

    def __str__(self) -> str:
        """Returns the entry as one short line of text."""
        parts = [self.mode, str(self.status), self.method, self.route, f"{self.total_ms:.1f} ms", f"app {self.app}"]
        named = {"batch": self.batch, "avoided": self.avoided or "", "": self.detail}
        return " ".join([*parts, *(f"{name} {value}".strip() for name, value in named.items() if value)])


def is_routine(entry: AccessLogEntry) -> bool:
    """Returns whether *entry* is of a good reply to a read: of such lines `log.sample` may write a part."""
    is_error = not 0 < entry.status < 400 or entry.code or entry.refused or entry.detail == COVERED
    return not (is_error or entry.writes or entry.mode == Mode.FAILED)


encode = msgspec.json.Encoder().encode
"""An entry, or a part of one, as JSON."""

_NO_TIME = b'"total_ms":0.0,'


class Varying(NamedTuple):
    """The members of a log entry that differ between replies with the same prepared line."""

    seconds: float  # from the request to the reply
    age: float | None = None
    window_s: float | None = None
    upstream_s: float | None = None
    batch: str = ""
    lane: str = ""


class PreparedLine:
    """The log entry of a reply that is given many times: all of it but what `Varying` has."""

    __slots__ = ("json",)

    def __init__(self, entry: AccessLogEntry) -> None:
        """Keep all of *entry* but the members of `Varying`."""
        self._take(replace(entry, total_ms=0.0, age_s=None, window_ms=None, upstream_ms=None, batch="", lane=""))

    def _take(self, bare: AccessLogEntry) -> None:
        self.json = _without_time(bare)  # without the brace that begins it

    def entry(self, varying: Varying) -> AccessLogEntry:
        """Returns the whole entry of one reply."""
        seconds, age, window_s, upstream_s, batch, lane = varying
        return replace(
            _decode_entry(b"{" + _NO_TIME + self.json),
            total_ms=_ms(seconds),
            age_s=None if age is None else round(age, 3),
            window_ms=None if window_s is None else _ms(window_s),
            upstream_ms=None if upstream_s is None else _ms(upstream_s),
            batch=batch,
            lane=lane,
        )

    def encoded(self, varying: Varying) -> bytes:
        """Returns the entry of one reply as JSON, without the brace that begins it."""
        return encode_varying(varying) + self.json


def encode_varying(varying: Varying) -> bytes:
    """Returns what *varying* adds to the JSON of a prepared line, before it."""
    seconds, age, window_s, upstream_s, batch, lane = varying
    text = b'"total_ms":%.2f,' % (seconds * 1000)
    if age is not None:
        text += b'"age_s":%.3f,' % age
    if batch:
        text += b'"batch":%b,"lane":%b,' % (encode(batch), encode(lane)) if lane else b'"batch":%b,' % encode(batch)
    if window_s is not None:
        text += b'"window_ms":%.2f,' % (window_s * 1000)
    if upstream_s is not None:
        text += b'"upstream_ms":%.2f,' % (upstream_s * 1000)
    return text


def _without_time(bare: AccessLogEntry) -> bytes:
    before, _, after = encode(bare)[1:].partition(_NO_TIME)
    return before + after


class LineTemplate:
    """Makes the log lines of replies that differ only in the id of the object that is read, and in `Varying`."""

    __slots__ = ("_format",)

    def __init__(self, text: bytes) -> None:
        """Make lines from *text*, a format (`line_template`)."""
        self._format = text

    def line(self, node: bytes, key: bytes, body: bytes, size: int) -> PreparedLine:
        """Returns the line of the reply whose entry says *node*, an id, *key* and *body*, both as hex, and *size*."""
        made = PreparedLine.__new__(PreparedLine)
        made.json = self._format % (node, node, key, body, size)
        return made


_MARK, _MARKED_SIZE = "\ue000", 2**62 + 1
"""What hardly any log entry says: a character for private use, and more bytes than a body has."""

_PLACES = 4
"""How often the mark stands in a line: in the path, and for node, key and body."""


def line_template(bare: AccessLogEntry) -> LineTemplate | None:
    """Returns what makes lines like that of *bare*, which says nothing of what varies; None where its form is unusual.

    Its path has to begin with its node.
    """
    behind = bare.path.removeprefix(f"/{bare.node}")
    if not graph_ids.is_id(bare.node) or behind == bare.path or behind[:1] not in {"", "/"}:
        return None
    marked = replace(bare, path=f"/{_MARK}{behind}", node=_MARK, key=_MARK, body=_MARK, size=_MARKED_SIZE)
    text, size = _without_time(marked).replace(b"%", b"%%"), encode(_MARKED_SIZE)
    if text.count(_MARK.encode()) != _PLACES or text.count(size) != 1:
        return None
    return LineTemplate(text.replace(_MARK.encode(), b"%b").replace(size, b"%d"))


_decode_entry = msgspec.json.Decoder(AccessLogEntry).decode


class PassedMessage(Redacted, frozen=True, gc=False):
    """A message that passes through, or an operation that is no plain read."""

    hidden = ("query",)

    method: str
    host: str
    version: str
    path: str
    query: str
    reason: str
    writes: bool


class Outcome(msgspec.Struct, frozen=True, gc=False):
    """What the caller got, how long it took, and what it cost."""

    status: int
    size: int
    seconds: float
    calls: int
    avoided: int = 0
    sent: int = 0
    uncertain: int = 0


def of_read(
    request: Request,
    reply: Reply,
    outcome: Outcome,
    route: str,
    keys: Keys,
    *,
    named: int | None = None,
    behind: bool = False,
    key: bytes = b"",
) -> AccessLogEntry:
    """Returns the log entry of a *reply* to a read; *named* is the urgency that the caller sent, None for none.

    *key* is the cache key of the read, where that is known.
    """
    words = _describe(request.path, request.query, request.language, keys)
    who, etag, error = request.credential, reply.header("etag") or "", _error_in(reply)
    return AccessLogEntry(
        mode=reply.mode.value,
        status=outcome.status,
        method="GET",
        host=request.host,
        version=request.version,
        route=route,
        path=words.path,
        app=keys.fingerprint(who).hex()[:12],
        total_ms=_ms(outcome.seconds),
        node=words.node,
        fields=words.fields,
        key=(key or keys.entry(request)).hex()[:16],
        body=keys.mark(etag.encode("utf-8", "surrogateescape") or reply.body).hex(),
        rest=words.rest,
        ids=words.ids,
        proof=keys.proof(who).hex(),
        timed=who is not None and who.time != "",
        wishes=_as_cache_control(request.directives) if request.directives is not NO_DIRECTIVES else "",
        priority=named,
        etag=etag != "",
        detail=reply.detail,
        batch=reply.batch,
        lane=reply.lane,
        refused=is_refused_here(reply),
        behind=behind,
        calls=outcome.calls,
        avoided=outcome.avoided,
        sent=outcome.sent,
        uncertain=outcome.uncertain,
        code=error.code,
        subcode=error.error_subcode or 0,
        usage=_redacted_usage(usage_in(reply.headers)) if reply.mode in ANSWERED_NOW else (),
        size=outcome.size,
        age_s=None if reply.age is None else round(reply.age, 3),
        window_ms=None if reply.window_s is None else _ms(reply.window_s),
        upstream_ms=None if reply.upstream_s is None else _ms(reply.upstream_s),
        invalidated_s=None if reply.invalidated_s is None else round(reply.invalidated_s, 3),
    )


def of_passthrough(
    message: PassedMessage, outcome: Outcome, route: str, app: str, batch: str, *, is_refused: bool = False
) -> AccessLogEntry:
    """Returns the log entry of a message that passed through, or *is_refused*: got Graph's last refusal again."""
    return AccessLogEntry(
        mode=Mode.SKIPPED.value,
        status=outcome.status,
        method=message.method if message.method.isalpha() and len(message.method) < 10 else "?",
        host=message.host,
        version=message.version,
        route=route,
        path=route_template.redacted_path(message.path),
        app=app,
        total_ms=_ms(outcome.seconds),
        node=_node(message.path, message.query),
        detail=message.reason,
        batch=batch,
        refused=is_refused,
        calls=outcome.calls,
        avoided=outcome.avoided,
        sent=outcome.sent,
        uncertain=outcome.uncertain,
        writes=message.writes,
    )


def of_failure(word: str, outcome: Outcome, route: str) -> AccessLogEntry:
    """Returns the log entry of a message that could not be read and got an error of the sidecar's."""
    return AccessLogEntry(
        mode=Mode.FAILED.value,
        status=outcome.status,
        method="",
        host="",
        version="",
        route=route,
        path="",
        app="",
        total_ms=0,
        detail=word,
        calls=outcome.calls,
        sent=outcome.sent,
        uncertain=outcome.uncertain,
    )


class _Words(NamedTuple):
    """What the log says about a read, independent of its reply."""

    path: str
    node: str
    fields: str
    ids: str
    rest: str


def _describe(path: str, query: str, language: str, keys: Keys) -> _Words:
    """Returns what the log says about a read; what it says of the query is remembered for all objects."""
    if "ids" in query:
        return _describe_ids(path, query, language, keys)
    shown = route_template.redacted_path(path)
    fields, mark = _describe_query(selection.of_any_id(path), "" if path == shown else path, query, language, keys)
    return _Words(shown, _node(path, query), fields, "", mark)


def _describe_query_uncached(path: str, named: str, query: str, language: str, keys: Keys) -> tuple[str, str]:
    chosen = selection.selection(Request("", "", path, query))
    rest = "\0".join((language, named, chosen.rest if chosen else query))
    return shown_fields(query), keys.mark(rest.encode("utf-8", "surrogateescape")).hex()


_describe_query = Memo(_describe_query_uncached, MEMO_BYTES // 2)


def _describe_ids_uncached(path: str, query: str, language: str, keys: Keys) -> _Words:
    shown, ids, read = route_template.redacted_path(path), ids_split.ids_in(path, query), Request("", "", path, query)
    if not all(map(graph_ids.is_id, ids)):
        ids = ()
    if ids:
        read = next(iter((ids_split.reads_by_id(read) or {}).values()))
    chosen = selection.selection(read)
    rest = "\0".join((language, path if path != shown else "", chosen.rest if chosen else read.query))
    mark = keys.mark(rest.encode("utf-8", "surrogateescape")).hex()
    return _Words(shown, _node(path, query), shown_fields(query), ",".join(ids), mark)


_describe_ids = Memo(_describe_ids_uncached, MEMO_BYTES // 2)
"""Remembers recent reads: programs repeat themselves."""


def shown_fields(query: str) -> str:
    """Returns the top level of `fields` without secrets and user texts; "…" replaces arguments and nested fields."""
    return ",".join(filter(None, map(_redacted_field, field_names(fields_in(query))))) if "fields=" in query else ""


def _redacted_field(name: str) -> str:
    found = _FIELD.match(name)
    if found is None or sum(map(str.isdigit, found.group())) > _MOST_DIGITS:
        return "…"
    return found.group() if found.end() == len(name) else f"{found.group()}…"


def _as_cache_control(wishes: CacheDirectives) -> str:
    """Returns *wishes* as a Cache-Control that asks for the same."""
    words = {"no-cache": wishes.no_cache, "no-store": wishes.no_store, "only-if-cached": wishes.only_if_cached}
    ages = dict(zip(("max-age", "min-fresh", "max-stale", "stale-if-error"), wishes.ages, strict=True))
    shown = [name for name, is_wished in words.items() if is_wished]
    return ", ".join([*shown, *(f"{name}={age}" for name, age in ages.items() if age is not None)])


@memo()
def _redacted_usage(shown: Headers) -> tuple[UsageLevel, ...]:
    """Returns the levels in usage headers, without names that are no ids and types that are no use case."""
    return tuple(
        level._replace(
            id=level.id if graph_ids.is_id(level.id) else "", type=level.type if _USE_CASE.fullmatch(level.type) else ""
        )
        for level in usage_levels(shown)
        if not level.id or graph_ids.is_id(level.id)
    )


def _error_in(reply: Reply) -> GraphError:
    """Returns Graph's error in *reply*; code 0 if there is none, or it is an error of the sidecar's."""
    if reply.mode is Mode.FAILED or (reply.status < 400 and b'"error"' not in reply.body[:_ERROR_BEGINS_WITHIN]):
        return _NO_ERROR
    return read_error(reply.body) or _NO_ERROR


def _node(path: str, query: str) -> str:
    first = next(iter(nodes(path, query)), "")
    return first if first == "me" or graph_ids.is_id(first) else ""


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 2)
