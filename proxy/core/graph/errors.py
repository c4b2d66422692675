"""Reads Graph's errors out of reply bodies, and says what each error means for a batch and for a token."""

from __future__ import annotations

from enum import Enum

import msgspec

from proxy.core.graph import lax_json
from proxy.core.graph.throttles import THROTTLED
from proxy.core.model import Reply

TOKEN_REFUSED = frozenset({102, 104, 190, 450, 452, 2500})
"""The codes with which Graph refuses the token itself (…/docs/graph-api/guides/error-handling)."""

_TOKEN_IS_OVER = frozenset({102, 190, 450, 452})
"""Those of them that mean that the token has expired or was revoked."""

ABORTED = 960
"""The code of a slot whose batch ran out of time or whose parent failed; the slot was not answered."""

TRANSIENT = frozenset({1, 2})
"""The codes of temporary errors on Graph's side."""


UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""The exceptions that msgspec raises for bytes that are not the expected JSON."""


class GraphError(msgspec.Struct, frozen=True):
    """The members of Graph's error object that the sidecar uses."""

    code: int = 0
    message: str | None = ""
    is_transient: bool = False
    error_subcode: int | None = 0

    def __repr__(self) -> str:
        """Returns the code alone: Graph's message may quote a token."""
        return f"GraphError({self.code})"


class _Envelope(msgspec.Struct):
    """The members of a body that mark an error, in today's shape or in one of the older ones."""

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
        """Whether this is an error of an old shape: `error_code` or `error_type` beside a text, and no `id`.

        An object with an id may have such fields of its own; the failed request of an async set has them.
        """
        message = self.error_msg or self.error_message or self.error_description
        return bool((self.error_code or self.error_type) and message) and not self.id


_envelope = msgspec.json.Decoder(_Envelope)
_error_decoder = msgspec.json.Decoder(GraphError, strict=False)
_NO_ERROR = frozenset({b"", b"null"})


def is_clean(body: bytes) -> bool:
    """Returns whether *body* is a JSON object without an error; Graph gives errors with status 200 too."""
    try:
        found = _envelope.decode(body)
        if not found.id and bytes(found.data)[:1] == b"{" and bytes(_envelope.decode(found.data).error)[:1] == b"{":
            return False
    except UNREADABLE:
        return _is_clean_laxly(body)
    return bytes(found.error) in _NO_ERROR and not ((found.error_code or found.error_type) and found.is_old)


def _may_hold_error(body: bytes) -> bool:
    """Returns whether *body* may hold a member of an error: its name stands there, or an escape does."""
    return b"error" in body or b"\\u00" in body


def _is_clean_laxly(body: bytes) -> bool:
    """Returns the same for JSON that only lenient readers accept, so that a feed with a cut emoji can be stored."""
    try:
        return isinstance(found := lax_json.decode(body), dict) and "error" not in found and read_error(body) is None
    except lax_json.UNREADABLE:
        return False


def read_error(body: bytes) -> GraphError | None:
    """Returns the error at the top level of *body*, or None; an error of unknown shape has code 0."""
    if not _may_hold_error(body):
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
        return _error_decoder.decode(found.error)
    except UNREADABLE:
        return _read_error_laxly(body) or GraphError()


def _old_error(code: bytes, subcode: bytes) -> GraphError:
    try:
        return _error_decoder.decode(b'{"code":%b,"error_subcode":%b}' % (code, subcode))
    except UNREADABLE:
        return GraphError()


def _read_error_laxly(body: bytes) -> GraphError | None:
    """Returns the same for JSON that only lenient readers accept; without the message."""
    try:
        found = lax_json.decode(body)
    except lax_json.UNREADABLE:
        return None
    error = found.get("error", found) if isinstance(found, dict) else None
    if not isinstance(error, dict) or not (error is not found or "error_code" in found or "error_type" in found):
        return None
    members = {"code": error.get("code", error.get("error_code", 0)), "is_transient": error.get("is_transient", False)}
    try:
        members["error_subcode"] = error.get("error_subcode", 0)
        return msgspec.convert(members, GraphError, strict=False)
    except (msgspec.ValidationError, UnicodeEncodeError):
        return GraphError()


def ends_token(body: bytes) -> bool:
    """Returns whether *body* says that its caller's token has expired or was withdrawn."""
    error = read_error(body)
    return error is not None and error.code in _TOKEN_IS_OVER


class Blame(Enum):
    """The cause of the refusal of a whole batch: the top-level token, its quota, or something else."""

    TOKEN = "token"  # noqa: S105 - a word, not a secret
    QUOTA = "quota"
    OTHER = "other"


def blame(status: int, body: bytes) -> Blame:
    """Returns what a batch refused with *status* and *body* failed for."""
    error = read_error(body)
    if error is not None and error.code in THROTTLED:  # whatever the status: it differs from call to call
        return Blame.QUOTA
    if error is None or status >= 500:
        return Blame.OTHER
    message = error.message or ""
    if error.code == 100:
        return Blame.TOKEN if "appsecret_proof" in message else Blame.OTHER
    if error.code == 2500:  # Graph also uses this code for an unknown path
        return Blame.TOKEN if "access token" in message else Blame.OTHER
    return Blame.TOKEN if error.code in TOKEN_REFUSED else Blame.OTHER


def is_trouble(reply: Reply) -> bool:
    """Returns whether *reply* is a throttle or an error on Graph's side, in place of which a stale entry may be served.

    The status alone does not tell: Graph gives errors with 200 too.
    """
    if reply.status >= 500 or reply.status == 429:
        return True
    error = read_error(reply.body)
    return error is not None and (error.is_transient or error.code in THROTTLED | TRANSIENT)
