"""The sidecar's own errors, each with its status and a body in Graph's shape.

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

import msgspec

from proxy.core.http.headers import JSON_TYPE
from proxy.core.model import Headers, Mode, Reply


class SidecarError(Exception):
    """An error that the sidecar answers itself; *detail* is text for the caller and holds no secret."""

    status: int
    code: int
    transient = True
    has_left = False  # whether the request was sent to Graph, so that its outcome is not known
    retry_after_s: int | None = None

    def __init__(self, detail: str) -> None:
        """Take *detail*, which states what happened and, where possible, what to do."""
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
    """Graph's reply is too large to buffer; if only one caller waits for it, the reply is streamed."""

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
    """The caller said only-if-cached, and no fresh entry is stored."""

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
    """Not an error of the sidecar: a limit is reached, so Graph is not asked; *reply* is Graph's earlier refusal."""

    def __init__(self, reply: Reply) -> None:
        """Take Graph's *reply*."""
        super().__init__("a limit of Graph's is reached")
        self.reply = reply


def unsure(error: SidecarError) -> SidecarError:
    """Returns *error* for a write that may have happened: not transient, so that clients do not repeat the write."""
    error.transient, error.retry_after_s = False, None
    error.detail += "; what was to be written may have been written"
    return error


def word(kind: type[SidecarError]) -> str:
    """Returns the `detail` of Cache-Status for errors of this *kind*."""
    return kind.__name__.lower()


def reply_of(error: SidecarError) -> Reply:
    """Returns the reply for *error*, in the shape that Graph's clients parse (always JSON, always with a type)."""
    error_object = {
        "message": f"graph-sidecar: {error.detail}",
        "type": "GraphSidecarException",
        "code": error.code,
        "is_transient": error.transient,
        "fbtrace_id": "",
    }
    retry_after: Headers = () if error.retry_after_s is None else (("Retry-After", str(error.retry_after_s)),)
    body = msgspec.json.encode({"error": error_object})
    return Reply(error.status, (*_UNCACHED_JSON, *retry_after), body, Mode.FAILED, detail=word(type(error)))


def batch_refused(message: str) -> Reply:
    """Returns the refusal of a whole batch in Graph's shape, for a batch larger than Graph itself would parse."""
    error = {"message": message, "type": "GraphBatchException"}
    return Reply(400, _UNCACHED_JSON, msgspec.json.encode({"error": error}))


_UNCACHED_JSON = (("Content-Type", JSON_TYPE), ("Cache-Control", "no-store"), ("Access-Control-Allow-Origin", "*"))
"""The fields of error replies; pages in browsers may read every answer of Graph's, so these too."""
