"""Reads Graph's errors out of reply bodies, and says what each error means for a batch and for a token."""

from __future__ import annotations

from enum import Enum

import msgspec

from proxy.core.graph import lax_json
from proxy.core.graph.throttles import THROTTLED
from proxy.core.model import Reply

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
        return isinstance(found := lax_json.decode(body), dict) and "error" not in found and read_error(body) is None
    except lax_json.UNREADABLE:
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
        found = lax_json.decode(body)
    except lax_json.UNREADABLE:
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
