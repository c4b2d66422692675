"""Our errors, each with the status of its kind and a body in Graph's shape; and how to read Graph's own.

SidecarError             answers a caller; its text starts with "graph-sidecar:"
├── Unreachable    502   no connection to Graph
│   └── Looping    508   the way to Graph leads back here
├── Cut            502   the connection ended before the reply did
├── Nonsense       502   Graph's reply makes no sense
├── Large          502   Graph's reply is larger than is held here
├── Uncertified    502   TLS cannot be ended here in Graph's name
├── Overloaded     503   too many requests wait here
├── Draining       503   the sidecar is stopping
├── Late           504   Graph did not answer in time
├── NotHeld        504   only-if-cached, and nothing fresh is held (RFC 9111 section 5.2.1.7)
├── BadRequest     400   the request cannot be read
├── Unspoken       505   the version of HTTP is not spoken here (RFC 9110 section 15.6.6)
├── Slow           408   the request took too long to come (RFC 9110 section 15.5.9)
├── Unwelcome      403   the way to this host is closed
├── Misdirected    421   the request is for another host than its connection (RFC 9110 section 15.5.20)
└── Fault          500   a fault of the sidecar's own
"""

from __future__ import annotations

from enum import Enum

import msgspec

from proxy.core import lax
from proxy.core.headers import JSON_TYPE
from proxy.core.limits import THROTTLED
from proxy.core.messages import Headers, Mode, Reply


class SidecarError(Exception):
    """An answer that the sidecar gives in its own name; *detail* is text for the caller and holds no secret."""

    status: int
    code: int
    transient = True
    has_left = False  # whether the request had left for Graph, so that nobody knows what became of it
    retry_after_s: int | None = None

    def __init__(self, detail: str) -> None:
        """Say what happened and, where there is one, the way out."""
        super().__init__(detail)
        self.detail = detail


class Unreachable(SidecarError):
    """No connection to Graph."""

    status, code = 502, 2


class Looping(Unreachable):
    """The way to Graph leads back here."""

    status, transient = 508, False


class Cut(SidecarError):
    """The connection ended before the reply did."""

    status, code, has_left = 502, 2, True


class Nonsense(SidecarError):
    """Graph's reply makes no sense."""

    status, code, has_left = 502, 1, True


class Large(SidecarError):
    """Graph's reply is larger than is held here; a caller who is alone with it gets it as it comes."""

    status, code, transient, has_left = 502, 1, False, True


class Uncertified(SidecarError):
    """TLS cannot be ended here in Graph's name."""

    status, code, transient = 502, 2, False


class Overloaded(SidecarError):
    """Too many requests wait here."""

    status, code, retry_after_s = 503, 2, 1


class Draining(SidecarError):
    """The sidecar is stopping."""

    status, code, retry_after_s = 503, 2, 1


class Late(SidecarError):
    """Graph did not answer in time."""

    status, code, has_left = 504, 2, True


class NotHeld(SidecarError):
    """The caller takes only what is held, and nothing fresh is."""

    status, code, transient = 504, 2, False


class BadRequest(SidecarError):
    """The request cannot be read."""

    status, code, transient = 400, 100, False


class Unspoken(SidecarError):
    """The version of HTTP is not spoken here."""

    status, code, transient = 505, 100, False


class Slow(SidecarError):
    """The request took too long to come."""

    status, code = 408, 2


class Unwelcome(SidecarError):
    """The way to this host is closed."""

    status, code, transient = 403, 10, False


class Misdirected(SidecarError):
    """The request is for another host than its connection."""

    status, code, transient = 421, 100, False


class Fault(SidecarError):
    """A fault of the sidecar's own."""

    status, code = 500, 1


class Throttled(Exception):
    """No error of ours: Graph is not asked, for it has said that a limit is reached, and *reply* is what it said."""

    def __init__(self, reply: Reply) -> None:
        """Hold Graph's own words."""
        super().__init__("a limit of Graph's is reached")
        self.reply = reply


def unsure(error: SidecarError) -> SidecarError:
    """*error* where it befell a write that had left, and may have happened: clients repeat what is called transient."""
    error.transient, error.retry_after_s = False, None
    error.detail += "; what was to be written may have been written"
    return error


def word(kind: type[SidecarError]) -> str:
    """The word for *kind* in Cache-Status."""
    return kind.__name__.lower()


def reply_of(error: SidecarError) -> Reply:
    """The reply that carries *error*, in the shape that Graph's clients read (always JSON, always typed)."""
    told = {
        "message": f"graph-sidecar: {error.detail}",
        "type": "GraphSidecarException",
        "code": error.code,
        "is_transient": error.transient,
        "fbtrace_id": "",
    }
    patience: Headers = () if error.retry_after_s is None else (("Retry-After", str(error.retry_after_s)),)
    body = msgspec.json.encode({"error": told})
    return Reply(error.status, (*_UNCACHED_JSON, *patience), body, Mode.FAILED, detail=word(type(error)))


def batch_refused(message: str) -> Reply:
    """Graph's own refusal of a whole batch, for one that is larger than Graph would look at."""
    error = {"message": message, "type": "GraphBatchException"}
    return Reply(400, _UNCACHED_JSON, msgspec.json.encode({"error": error}))


_UNCACHED_JSON = (("Content-Type", JSON_TYPE), ("Cache-Control", "no-store"), ("Access-Control-Allow-Origin", "*"))
"""Pages in browsers may read every answer of Graph's, and so these."""


TOKEN_REFUSED = frozenset({102, 104, 190, 450, 452, 2500})
"""Codes that refuse the token itself (…/docs/graph-api/guides/error-handling)."""

_TOKEN_IS_OVER = frozenset({102, 190, 450, 452})
"""Those of them that say so of a token that was given, and for whatever it is used."""

ABORTED = 960
"""The code of a slot whose batch ran out of time or whose parent failed; the slot was not answered."""

TRANSIENT = frozenset({1, 2})
"""Codes of trouble on Graph's side."""


UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What msgspec raises for bytes that are not the JSON which was looked for."""


class GraphError(msgspec.Struct, frozen=True):
    """The members of Graph's error envelope that decide something here."""

    code: int = 0
    message: str | None = ""
    is_transient: bool = False
    error_subcode: int | None = 0

    def __repr__(self) -> str:
        """Without the message: Graph's may quote a token."""
        return f"GraphError({self.code})"


class _Envelope(msgspec.Struct):
    """The members of a body that tell of an error, in Graph's shape or in one of the older ones."""

    error: msgspec.Raw = msgspec.Raw()  # `Raw | None` would be read as None alone
    error_code: msgspec.Raw = msgspec.Raw()
    error_type: msgspec.Raw = msgspec.Raw()
    error_msg: msgspec.Raw = msgspec.Raw()
    error_message: msgspec.Raw = msgspec.Raw()
    error_description: msgspec.Raw = msgspec.Raw()
    code: msgspec.Raw = msgspec.Raw()
    error_subcode: msgspec.Raw = msgspec.Raw()
    id: msgspec.Raw = msgspec.Raw()
    data: msgspec.Raw = msgspec.Raw()

    @property
    def is_old(self) -> bool:
        """Whether this is an error of an old shape: `error_code` or `error_type` beside a text, and no object.

        An object with an id may have such fields of its own, as the failed request of an async set does.
        """
        says_what = self.error_msg or self.error_message or self.error_description
        return bool((self.error_code or self.error_type) and says_what) and not self.id


class _Object(msgspec.Struct):
    """Any JSON object."""


_object = msgspec.json.Decoder(_Object)
_envelope = msgspec.json.Decoder(_Envelope)
_error = msgspec.json.Decoder(GraphError, strict=False)
_NO_ERROR = frozenset({b"", b"null"})


def is_clean(body: bytes) -> bool:
    """Whether *body* is a JSON object without an error; errors come with status 200 and in several shapes, too."""
    try:
        if not _may_tell(body):
            return _object.decode(body) is not None
        found = _envelope.decode(body)
        if not found.id and bytes(found.data)[:1] == b"{" and bytes(_envelope.decode(found.data).error)[:1] == b"{":
            return False
    except UNREADABLE:
        return _is_clean_laxly(body)
    return bytes(found.error) in _NO_ERROR and not found.is_old


def _may_tell(body: bytes) -> bool:
    """Whether a member of *body* may tell of an error: its name is written out, or escaped."""
    return b"error" in body or b"\\u00" in body


def _is_clean_laxly(body: bytes) -> bool:
    """The same of a body with text in it that only lax readers take: a cut emoji is no reason to forget a feed."""
    try:
        return isinstance(found := lax.decode(body), dict) and "error" not in found and read_error(body) is None
    except lax.UNREADABLE:
        return False


def read_error(body: bytes) -> GraphError | None:
    """The error that *body* holds at its top level, or None; an error of unknown shape is one without a code."""
    if not _may_tell(body):
        return None
    try:
        found = _envelope.decode(body)
    except UNREADABLE:
        return _read_error_laxly(body) if b'"error' in body else None
    if found.is_old:
        return _old_error(bytes(found.error_code or found.code or b"0"), bytes(found.error_subcode or b"0"))
    if bytes(found.error) in _NO_ERROR:
        return None
    try:
        return _error.decode(found.error)
    except UNREADABLE:
        return _read_error_laxly(body) or GraphError()


def _old_error(code: bytes, subcode: bytes) -> GraphError:
    try:
        return _error.decode(b'{"code":%b,"error_subcode":%b}' % (code, subcode))
    except UNREADABLE:
        return GraphError()


def _read_error_laxly(body: bytes) -> GraphError | None:
    """The same of a body with text in it that only lax readers take; without its message."""
    try:
        found = lax.decode(body)
    except lax.UNREADABLE:
        return None
    error = found.get("error", found) if isinstance(found, dict) else None
    if not isinstance(error, dict) or not (error is not found or "error_code" in found or "error_type" in found):
        return None
    deciding = {"code": error.get("code", error.get("error_code", 0)), "is_transient": error.get("is_transient", False)}
    try:
        told = {**deciding, "error_subcode": error.get("error_subcode", 0)}
        return msgspec.convert(told, GraphError, strict=False)
    except (msgspec.ValidationError, UnicodeEncodeError):
        return GraphError()


def ends_token(body: bytes) -> bool:
    """Whether *body* says that the token of its caller is good for nothing any more."""
    error = read_error(body)
    return error is not None and error.code in _TOKEN_IS_OVER


class Blame(Enum):
    """What a refused call means for the one who asked next."""

    TOKEN = "token"  # noqa: S105 - a word, not a secret
    QUOTA = "quota"
    OTHER = "other"


def blame(status: int, body: bytes) -> Blame:
    """Whose trouble the refusal *body* tells of: the top token's, its quota's, or something else's."""
    error = read_error(body)
    if error is not None and error.code in THROTTLED:  # whatever the status: it differs from call to call
        return Blame.QUOTA
    if error is None or status >= 500:
        return Blame.OTHER
    told = error.message or ""
    if error.code == 100:
        return Blame.TOKEN if "appsecret_proof" in told else Blame.OTHER
    if error.code == 2500:  # also of a path that nobody knows
        return Blame.TOKEN if "access token" in told else Blame.OTHER
    return Blame.TOKEN if error.code in TOKEN_REFUSED else Blame.OTHER


def is_trouble(reply: Reply) -> bool:
    """Whether Graph answered with trouble of its own or a throttle, where an old body may serve better.

    Whatever the status: errors come with 200, too.
    """
    if reply.status >= 500 or reply.status == 429:
        return True
    error = read_error(reply.body)
    return error is not None and (error.is_transient or error.code in THROTTLED | TRANSIENT)
