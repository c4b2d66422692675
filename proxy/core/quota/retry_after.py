"""`Retry-After` (RFC 9110 section 10.2.3) of throttles: read from Graph's refusals, set on refusals that are repeated.

While a limit is stopped, `limiter.admit` answers further reads with Graph's own last refusal (`stored_refusal`, kept in
the limit's `Stop`), together with the seconds that remain (`repeated_refusal`). The 503 of the sidecar's own overload
has its `Retry-After` from `core/http/errors`.
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
    """Returns a refusal to give to other callers: without usage and date, status 400 in place of a forced 200."""
    status = 400 if reply.status == 200 and _suppresses_status(subject) else reply.status
    fields = headers.without(reply.headers, headers.NOT_REPEATED)
    return Reply(status, fields, reply.body, Mode.REUSED, reply.channel, detail="throttled")


def repeated_refusal(refusal: Reply, subject: QuotaSubject, seconds: float) -> Reply:
    """Returns the stored *refusal* for one more caller, with the *seconds* that remain as `Retry-After`: at least 1."""
    status = 200 if _suppresses_status(subject) else refusal.status
    return replace(refusal, status=status, headers=(*refusal.headers, ("Retry-After", str(max(1, math.ceil(seconds))))))


def _suppresses_status(subject: QuotaSubject) -> bool:
    """Returns whether the caller asked Graph to answer errors with status 200."""
    return "suppress_http_code" in subject.query
