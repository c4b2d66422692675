"""Bodies that do not last: of a job, an async set or a media container that Graph still works on, and signed links.

The first say so themselves, or what was asked for does; none of them is ever fresh, so that nobody polls an old answer
(developers.facebook.com/docs/marketing-api/asyncrequests). The links of Meta's CDN tell when they end.
"""

from __future__ import annotations

import re

from proxy.core.messages import Request
from proxy.core.normal import field_names, fields_in

_POLLED_EDGES = frozenset({"requests", "asyncadrequests", "asyncadrequestsets", "async_requests"})
_POLLED_FIELDS = frozenset(
    {
        "async_status",
        "async_percent_completion",
        "is_completed",
        "initial_count",
        "in_progress_count",
        "success_count",
        "error_count",
        "canceled_count",
        "notification_status",
        "notification_result",
        "status_code",
    },
)
_PROGRESS = re.compile(
    rb'"(async_status|async_percent_completion|is_completed|status_code|status)"\s*:\s*("(?:[^"\\]|\\.)*+"|[^\s,{}\[\]"]+)',
)
_FINAL = {
    b"async_status": frozenset({b'"job completed"', b'"job failed"', b'"job skipped"'}),
    b"async_percent_completion": frozenset({b"100"}),
    b"is_completed": frozenset({b"true"}),
    b"status_code": frozenset({b'"published"', b'"expired"', b'"error"'}),
}
_UNFINISHED = frozenset(
    {
        b'"initial"',
        b'"in_progress"',
        b'"not_started"',
        b'"pending"',
        b'"pending_dependency"',
        b'"process_by_ad_async_engine"',
        b'"process_by_event_processor"',
        b'"processing"',
        b'"running"',
        b'"unknown"',
    }
)


def _stamp(name: str, digits: str) -> re.Pattern[bytes]:
    """The parameter *name* of a link inside JSON, which may be escaped there, or be a link within a link."""
    before = "|".join(f"(?<={mark}{name})" for mark in ("[?&;]", r"\\u0026", r"\\u003[fF]", "%26", "%3[fF]"))
    return re.compile(rf"{name}(?:{before})(?:=|%3[dD]|\\u003[dD])({digits})(?![0-9A-Za-z])".encode())


_ENDS = ((_stamp("oe", "[0-9A-Fa-f]{8}"), 16), (_stamp("ext", "[0-9]{10}"), 10))
"""When a signed link ends: `oe=` holds epoch seconds as hexadecimal digits, `ext=` as decimal ones."""


def is_final(request: Request, body: bytes) -> bool:
    """Whether *body*, the answer to *request*, may ever be fresh.

    A list of sets or requests never: it grows, and a filter hides those that still run.
    """
    if _edge(request) in _POLLED_EDGES:
        return False
    return is_lasting(body) and (_PROGRESS.search(body) is not None or not is_poll(request))


def is_poll(request: Request) -> bool:
    """Whether *request* asks how far an async set or a job has come, so that an answer that does not say may change."""
    if _edge(request) in _POLLED_EDGES:
        return True
    return not _POLLED_FIELDS.isdisjoint(field_names(fields_in(request.query)))


def is_lasting(body: bytes) -> bool:
    """Whether *body* tells of no job, async set or media container that is unfinished."""
    for name, value in _PROGRESS.findall(body):
        word = value.lower()
        if word in _UNFINISHED if name == b"status" else word not in _FINAL[name]:
            return False
    return True


def expiry(body: bytes) -> float:
    """Epoch seconds at which the first of the signed links in *body* ends; 0 if it has none."""
    return float(min((int(digits, base) for stamp, base in _ENDS for digits in stamp.findall(body)), default=0))


def _edge(request: Request) -> str:
    return request.path.rpartition("/")[2]
