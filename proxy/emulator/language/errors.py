"""Graph's errors, in its own words (developers.facebook.com, "Handle Errors")."""

from __future__ import annotations

import re
from typing import Any

DOCS = "https://developers.facebook.com/docs/graph-api"

_OLD_SHAPES = {"old": ("error_code", "error_msg"), "instagram": ("code", "error_message")}
"""The names of code and message in errors that have no `error` around them."""

_UNPRINTABLE = re.compile(r"[^ -~]")


class GraphError(Exception):
    """An error envelope with the HTTP status and the challenge that go with it."""

    def __init__(
        self,
        message: str,
        *,
        code: int | None = 100,
        status: int = 400,
        kind: str = "OAuthException",
        challenge: str = "invalid_request",
        subcode: int | None = None,
        transient: bool | None = None,
        original: Any = None,
        shape: str = "",
        retry_after_s: int = 0,
    ) -> None:
        """Keep the members of the envelope; `code=None` leaves the code out."""
        super().__init__(message)
        self.message = message
        self.code = code
        self.status = status
        self.error_type = kind
        self._challenge = challenge
        self.subcode = subcode
        self.transient = transient
        self.retry_after_s = retry_after_s
        self._original = original
        self._shape = shape

    def envelope(self, trace: str) -> dict[str, Any]:
        """The JSON body."""
        if self._shape in _OLD_SHAPES:
            code, message = _OLD_SHAPES[self._shape]
            kind = {} if code == "error_code" else {"error_type": self.error_type}
            return {**kind, code: self.code, message: self.message}
        optional = {"code": self.code, "error_subcode": self.subcode, "is_transient": self.transient}
        said = {name: value for name, value in optional.items() if value is not None}
        after = {} if self._original is None else {"original_response": self._original}
        return {"error": {"message": self.message, "type": self.error_type, **said, "fbtrace_id": trace, **after}}

    def challenge(self) -> str:
        """The value of WWW-Authenticate, in which no character can end the header."""
        said = _UNPRINTABLE.sub("?", self.message)
        return f'OAuth "Facebook Platform" "{self._challenge}" "{said}"'


# --- objects, fields and edges


def missing_object(method: str, node_id: str) -> GraphError:
    """The object does not exist, or this caller may not see it."""
    return GraphError(
        f"Unsupported {method.lower()} request. Object with ID '{node_id}' does not exist, cannot be loaded due to "
        f"missing permissions, or does not support this operation. Please read the Graph API documentation at {DOCS}",
        kind="GraphMethodException",
        subcode=33,
    )


def unknown_alias(ids: list[str]) -> GraphError:
    """Some name among `ids` stands for nothing; the whole call fails."""
    return GraphError(
        f"(#803) Some of the aliases you requested do not exist: {','.join(ids)}",
        code=803,
        status=404,
        challenge="not_found",
    )


def nonexisting_field(name: str, kind: str) -> GraphError:
    """The node has neither such a field nor such an edge."""
    return GraphError(f"(#100) Tried accessing nonexisting field ({name}) on node type ({kind})")


def write_done_read_failed(original: Any, message: str, *, code: int, status: int) -> GraphError:
    """The write was done, and the read that goes with it failed ("Advanced Uses", read-after-write)."""
    said = message or "(#100) Tried accessing nonexisting field (permalink_urls) on node type (Post)"
    return GraphError(said, code=code, status=status, kind="FacebookApiException", original=original)


def unsupported(method: str) -> GraphError:
    """Nothing answers this verb here."""
    return GraphError(
        f"Unsupported {method.lower()} request. Please read the Graph API documentation at {DOCS}",
        kind="GraphMethodException",
        subcode=33,
    )


def unknown_path(part: str) -> GraphError:
    """The path holds something that is no version, object or edge."""
    return GraphError(f"Unknown path components: /{part}", code=2500)


def bad_parameter(message: str) -> GraphError:
    """A parameter's value cannot be used."""
    return GraphError(f"(#100) {message}")


def bad_syntax(expected: str, at: int, text: str) -> GraphError:
    """The text of `fields` cannot be read."""
    return GraphError(f'Syntax error "{expected}" at character {at}: {text}', code=2500)


def report_unfinished() -> GraphError:
    """The rows of an insights job were asked for too early."""
    return GraphError("(#2601) Error accessing adreport job.", code=2601, subcode=1815107, transient=True)


# --- credentials

_TOKEN_ERRORS = {
    458: "The user has not authorized application.",
    459: "The user is enrolled in a blocking, logged-in checkpoint",
    460: "The session has been invalidated because the user changed their password or Facebook has changed the "
    "session for security reasons.",
    463: "Session has expired on Tuesday, 02-Jan-24 03:00:00 PST. The current time is Tuesday, 02-Jan-24 03:04:05 PST.",
    464: "Sessions for the user are not allowed because the user is not a confirmed user.",
    467: "The session is invalid because the user logged out.",
}


def token_refused(subcode: int) -> GraphError:
    """The access token is no longer good."""
    trouble = _TOKEN_ERRORS.get(subcode, "The session is invalid.")
    return GraphError(f"Error validating access token: {trouble}", code=190, subcode=subcode, challenge="invalid_token")


def token_required() -> GraphError:
    """The resource is not public."""
    return GraphError("An access token is required to request this resource.", code=104, challenge="invalid_token")


def me_without_token() -> GraphError:
    """`/me` was asked for without a token."""
    return GraphError(
        "An active access token must be used to query information about the current user.",
        code=2500,
        challenge="invalid_token",
    )


def proof_wrong() -> GraphError:
    """The proof does not belong to this token and secret."""
    return GraphError("Invalid appsecret_proof provided in the API argument", kind="GraphMethodException")


def proof_required() -> GraphError:
    """The app demands a proof (developers.facebook.com, "Secure Graph API Calls")."""
    return GraphError("API calls from the server require an appsecret_proof argument", kind="GraphMethodException")


# --- limits (developers.facebook.com, "Rate Limits")

_AD_LIMIT = (
    "There have been too many calls {what}. Wait a bit and try again. For more info, please refer to "
    f"{DOCS}/overview/rate-limiting."
)

_DEFAULT_SUBCODE = 0
_LIMITS: dict[int, tuple[str, int | None]] = {
    4: ("Application request limit reached", None),
    17: ("User request limit reached", None),
    32: ("Page request limit reached", None),
    341: ("Feed action request limit reached", None),
    613: ("Calls to this api have exceeded the rate limit.", 1487742),
    80000: (_AD_LIMIT.format(what="from this ad-account"), 2446079),
    80001: (_AD_LIMIT.format(what="to this Page account"), None),
    80003: (_AD_LIMIT.format(what="to this ad-account"), 2446079),
    80004: (_AD_LIMIT.format(what="to this ad-account"), 2446079),
}


def throttled(code: int, status: int, subcode: int | None = _DEFAULT_SUBCODE, *, retry_after_s: int = 0) -> GraphError:
    """The caller has used up its calls; *subcode* 0 is the usual one of the code, None is none."""
    message, usual = _LIMITS.get(code, _LIMITS[4])
    return GraphError(
        f"(#{code}) {message}",
        code=code,
        status=status,
        subcode=usual if subcode == _DEFAULT_SUBCODE else subcode,
        transient=True,
        retry_after_s=retry_after_s,
    )


# --- failures of Graph itself


def unknown_error() -> GraphError:
    """Something broke behind the API."""
    return GraphError("An unknown error has occurred.", code=1, status=500, challenge="unknown_error", transient=True)


def unavailable() -> GraphError:
    """The service is away for the moment."""
    return GraphError("Service temporarily unavailable", code=2, status=503, challenge="unknown_error", transient=True)


def aborted(status: int = 500) -> GraphError:
    """A slot was given up with its batch."""
    return GraphError(
        "Request aborted. This could happen if a dependent request failed or the entire request timed out.",
        code=960,
        status=status,
        kind="FacebookApiException",
        challenge="unknown_error",
    )


# --- batches


def batch_error(message: str) -> GraphError:
    """The whole batch is refused; such an error has no code."""
    return GraphError(message, code=None, kind="GraphBatchException")


def batch_malformed() -> GraphError:
    """The `batch` parameter is not an array of objects."""
    return batch_error("batch parameter must be a JSON array")


def batch_too_long(limit: int) -> GraphError:
    """More operations than a batch may hold."""
    return batch_error(f"Too many requests in batch message. Maximum batch size is {limit}")


def unresolved(index: int, name: str) -> GraphError:
    """An operation refers to one that does not stand before it; the double spaces are Graph's."""
    return batch_error(
        f"Request {index} cannot depend on an  unresolved request with  name {name}. "
        "Requests can only depend on preceding requests"
    )
