"""Bodies that do not last: of what Graph still works on (jobs, sets, media, audiences, reviews), and signed links.

The first say so themselves, or what was asked for does; none of them is ever fresh, so that nobody polls an old answer
(developers.facebook.com/docs/marketing-api/asyncrequests, …/docs/video-api/guides/publishing,
…/docs/instagram-platform/content-publishing, …/docs/marketing-api/reference/custom-audience). The links of Meta's CDN
tell when they end.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from proxy.core.model import Request
from proxy.core.routing.fields_param import field_names, fields_in

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
    rb'"([a-z_]*status(?:_code)?|async_percent_completion|is_completed)"\s*:\s*'
    rb'("(?:[^"\\]|\\.)*+"|[^\s,{}\[\]"]+)',
    re.DOTALL,
)
"""Each field that tells how far something has come, and its value."""

_FINAL = {
    b"async_status": frozenset({b"job completed", b"job failed", b"job skipped"}),
    b"async_percent_completion": frozenset({b"100"}),
    b"is_completed": frozenset({b"true"}),
    b"status_code": frozenset({b"published", b"expired", b"error"}),
    b"video_status": frozenset({b"ready", b"error", b"expired"}),
}
"""Fields of which only these values are final."""

_UNFINISHED = frozenset(
    {
        b"finished",  # a media container that is not published yet
        b"in_process",
        b"initial",
        b"live_stopped",
        b"not_started",
        b"preapproved",
        b"queued",
        b"running",
        b"started",
        b"unknown",
        b"upload_complete",
        b"uploaded",
        b"uploading",
    }
)
"""Values of any other status that are not final, besides those that begin as these do:"""

_BEGINNINGS = (b"in_progress", b"pending", b"process", b"scheduled")

_STAGE = re.compile(rb'"(operation_status|phases|[a-z_]+_phases?)"\s*:\s*(?=[\[{])')
"""Objects that tell how far something has come by more than a word."""

_DONE = frozenset({"complete", "completed", "error", "failed", "skipped"})
_USABLE = 200
"""The one `operation_status.code` of an audience that nothing is done to."""

_READ_AGAIN = 4
"""How often stages within stages are read again; deeper ones count as not over."""

_BASE_NAME = re.compile(r"\w*")
_object = json.JSONDecoder(strict=False)


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
    return is_settled(body) and (_PROGRESS.search(body) is not None or not is_poll(request))


def is_poll(request: Request) -> bool:
    """Whether *request* asks how far something has come, so that an answer that does not say may change."""
    if _edge(request) in _POLLED_EDGES:
        return True
    names = field_names(fields_in(request.query))
    return not _POLLED_FIELDS.isdisjoint(names) or any(".as(" in name and _is_progress(name) for name in names)


def _is_progress(name: str) -> bool:
    """Whether the field *name* tells how far something has come; under an alias its value does not say so itself."""
    base = _BASE_NAME.match(name)
    return base is not None and (base[0] in _POLLED_FIELDS or base[0].endswith("status"))


def is_settled(body: bytes) -> bool:
    """Whether *body* tells of nothing that Graph still works on."""
    return all(_is_over(name, value.lower()) for name, value in _PROGRESS.findall(body)) and _are_stages_over(body)


def _is_over(name: bytes, value: bytes) -> bool:
    """Whether a field *name* with this *value*, in lower case, is final; some say it in a sentence: `Finished: …`."""
    word = value.strip(b'"').partition(b":")[0].strip().replace(b" ", b"_")
    if name in _FINAL:
        return value.strip(b'"') in _FINAL[name]
    return word not in _UNFINISHED and not word.startswith(_BEGINNINGS)


def _are_stages_over(body: bytes) -> bool:
    if b"operation_status" not in body and b"phase" not in body:
        return True
    text = body.decode("latin-1")  # places stay what they are
    left = _READ_AGAIN * len(text)
    for one in _STAGE.finditer(body):
        end = _end_of_stage_that_is_over(one[1], text, one.end())
        left -= end - one.end()
        if not end or left < 0:
            return False
    return True


def _end_of_stage_that_is_over(name: bytes, text: str, at: int) -> int:
    """Where the stage that begins *at* ends; 0 if it is not over."""
    try:
        told, end = _object.raw_decode(text, at)
    except (ValueError, RecursionError):
        return 0
    is_done = _is_usable if name == b"operation_status" else _is_phase_done
    return end if _all_of(told, is_done) else 0


def _all_of(told: Any, is_done: Callable[[dict[str, Any]], bool]) -> bool:
    """Whether each object that was told of *is_done*: one, a list of them, or one for each name."""
    if isinstance(told, list):
        return all(_all_of(each, is_done) for each in told)
    if not isinstance(told, dict):
        return True
    inner = list(told.values())
    if inner and all(isinstance(each, dict) for each in inner):
        return all(is_done(each) for each in inner)
    return is_done(told)


def _is_usable(told: dict[str, Any]) -> bool:
    return str(told.get("code", _USABLE)) == str(_USABLE)


def _is_phase_done(told: dict[str, Any]) -> bool:
    """Whether a phase says that it is over; one that says nothing of it may go on."""
    return str(told.get("status", told.get("phase_status", ""))).lower() in _DONE


def expiry(body: bytes) -> float:
    """Epoch seconds at which the first of the signed links in *body* ends; 0 if it has none."""
    return float(min((int(digits, base) for stamp, base in _ENDS for digits in stamp.findall(body)), default=0))


def _edge(request: Request) -> str:
    return request.path.rpartition("/")[2]
