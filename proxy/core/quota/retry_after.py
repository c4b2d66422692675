"""`Retry-After` (RFC 9110 section 10.2.3) of throttles: read from Graph's refusals, set on refusals that are repeated.

`limiter.on_reply` reads it with `retry_after_s`, and takes the longest of it and of the times that usage headers name;
where a refusal names no time, `buckets` takes the reset time that Graph reported before. The limit's `Stop` keeps that
time (a day at most: `stop.LONGEST_NAMED_S`), and Graph's refusal as `stored_refusal` makes it.

While a limit is stopped, `limiter.admit` answers further reads with that refusal by `repeated_refusal`. Its
`Retry-After` is the rest of the time that Graph named, rounded up; 1 where Graph named none, because then the caller's
retry is sent as a probe (`stop`). The fast path takes only reads that come while every limit is calm.
The 503 of the sidecar's own overload has its `Retry-After` from `core/http/errors`.
"""

from __future__ import annotations

import math
from email.utils import parsedate_to_datetime

from msgspec.structs import replace

from proxy.core.http import headers
from proxy.core.model import Headers, Mode, Reply
from proxy.core.quota.descriptors import QuotaSubject

LONGEST_REFUSAL = 8192
"""The most bytes of a refusal that is given to other callers; Graph's have a few hundred."""

_YEAR_S = 365 * 86400.0
_MOST_DIGITS = 12


def retry_after_s(fields: Headers, now: float) -> float:
    """Returns the seconds that `Retry-After` names (RFC 9110 section 10.2.3); 0 where it is missing or unreadable."""
    text = next((value.strip() for name, value in fields if name.lower() == "retry-after"), "")
    if text.isascii() and text.isdigit():
        return min(float(text[:_MOST_DIGITS]), _YEAR_S)
    try:
        return min(max(0.0, parsedate_to_datetime(text).timestamp() - now), _YEAR_S)
    except (ValueError, OverflowError):
        return 0.0


def stored_refusal(reply: Reply, subject: QuotaSubject) -> Reply:
    """Returns a refusal to give to other callers: without usage and date, and with status 400.

    The status matters where the refused caller had asked for errors with status 200 (`suppress_http_code`).
    """
    status = 400 if reply.status == 200 and _suppresses_status(subject) else reply.status
    fields = headers.without(reply.headers, headers.NOT_REPEATED)
    return Reply(status, fields, reply.body, Mode.REUSED, reply.channel, detail="throttled")


def repeated_refusal(refusal: Reply, subject: QuotaSubject, seconds: float) -> Reply:
    """Returns the stored *refusal* for one more caller, with *seconds* as its `Retry-After`, at least 1.

    *seconds* is `Stop.seconds_left`: the rest of the time that Graph named, 0 where Graph named none.
    """
    status = 200 if _suppresses_status(subject) else refusal.status
    return replace(refusal, status=status, headers=(*refusal.headers, ("Retry-After", str(max(1, math.ceil(seconds))))))


def _suppresses_status(subject: QuotaSubject) -> bool:
    """Returns whether the caller asked Graph to answer errors with status 200."""
    return "suppress_http_code" in subject.query
