"""Decides whether a body may ever be fresh: bodies that show an unfinished job never may.

Graph works for a while on jobs, sets of requests, media, audiences and reviews. Their bodies, or the fields asked for,
show it; such a body is never fresh, so that a client that polls does not get an old answer
(developers.facebook.com/docs/marketing-api/asyncrequests, …/docs/video-api/guides/publishing,
…/docs/instagram-platform/content-publishing, …/docs/marketing-api/reference/custom-audience). `signed_links` limits the
freshness of the others.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from proxy.core.memory import json_text
from proxy.core.memory.memo import memo
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
"""Matches each field that shows the progress of a job, and its value."""

_FINAL = {
    b"async_status": frozenset({b"job completed", b"job failed", b"job skipped"}),
    b"async_percent_completion": frozenset({b"100"}),
    b"is_completed": frozenset({b"true"}),
    b"status_code": frozenset({b"published", b"expired", b"error"}),
    b"video_status": frozenset({b"ready", b"error", b"expired"}),
}
"""The final values of these fields; any other value means that the job goes on."""

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
"""Values of any other status field that are not final, besides those that begin with one of `_BEGINNINGS`."""

_BEGINNINGS = (b"in_progress", b"pending", b"process", b"scheduled")

_STAGE = re.compile(rb'"(operation_status|phases|[a-z_]+_phases?)"\s*:\s*(?=[\[{])')
"""Matches members whose value is an object (or a list of objects) that shows the progress of a job."""

_DONE = frozenset({"complete", "completed", "error", "failed", "skipped"})
_USABLE = 200
"""The one `operation_status.code` of an audience that Graph does not work on."""

_READ_AGAIN = 4
"""How many times the body's length nested stages may be parsed; deeper ones count as unfinished."""

_BASE_NAME = re.compile(r"\w*")
_decoder = json.JSONDecoder(strict=False)


def is_final(request: Request, body: bytes) -> bool:
    """Returns whether *body*, the answer to *request*, may ever be fresh.

    A list of asynchronous sets or requests never is: it grows, and a filter may hide those that still run.
    """
    if _edge(request) in _POLLED_EDGES:
        return False
    return is_settled(body) and (not is_poll(request) or _PROGRESS.search(body) is not None)


def is_poll(request: Request) -> bool:
    """Returns whether *request* asks for the progress of a job; then an answer without progress may still change."""
    return _edge(request) in _POLLED_EDGES or _asks_for_progress(request.query)


@memo()
def _asks_for_progress(query: str) -> bool:
    names = field_names(fields_in(query))
    return not _POLLED_FIELDS.isdisjoint(names) or any(".as(" in name and _is_progress(name) for name in names)


def _is_progress(name: str) -> bool:
    """Returns whether the aliased field *name* shows progress; under an alias the body does not show that."""
    base = _BASE_NAME.match(name)
    return base is not None and (base[0] in _POLLED_FIELDS or base[0].endswith("status"))


def is_settled(body: bytes) -> bool:
    """Returns whether *body* shows no job that Graph still works on."""
    may_show_stages = b"status" in body or (json_text.may_be_nested(body) and b"phase" in body)
    if not may_show_stages and not (b"_" in body and b"complet" in body):
        return True  # parts of the names that `_PROGRESS` and `_STAGE` match stand in a body that they match
    return all(_is_over(name, value.lower()) for name, value in _PROGRESS.findall(body)) and _are_stages_over(body)


def _is_over(name: bytes, value: bytes) -> bool:
    """Returns whether *value* (in lower case) of the field *name* is final; Graph also writes `Finished: …`."""
    word = value.strip(b'"').partition(b":")[0].strip().replace(b" ", b"_")
    if name in _FINAL:
        return value.strip(b'"') in _FINAL[name]
    return word not in _UNFINISHED and not word.startswith(_BEGINNINGS)


def _are_stages_over(body: bytes) -> bool:
    if b"operation_status" not in body and b"phase" not in body:
        return True
    text = body.decode("latin-1")  # one character for each byte, so that positions stay the same
    left = _READ_AGAIN * len(text)
    for one in _STAGE.finditer(body):
        end = _end_of_stage_that_is_over(one[1], text, one.end())
        left -= end - one.end()
        if not end or left < 0:
            return False
    return True


def _end_of_stage_that_is_over(name: bytes, text: str, at: int) -> int:
    """Returns where the stage that begins *at* ends in *text*; 0 if the stage is not over."""
    try:
        stage, end = _decoder.raw_decode(text, at)
    except (ValueError, RecursionError):
        return 0
    is_done = _is_usable if name == b"operation_status" else _is_phase_done
    return end if _all_of(stage, is_done) else 0


def _all_of(stage: Any, is_done: Callable[[dict[str, Any]], bool]) -> bool:
    """Returns whether *is_done* holds for every object in *stage*: one, a list of them, or one for each name."""
    if isinstance(stage, list):
        return all(_all_of(each, is_done) for each in stage)
    if not isinstance(stage, dict):
        return True
    inner = list(stage.values())
    if inner and all(isinstance(each, dict) for each in inner):
        return all(is_done(each) for each in inner)
    return is_done(stage)


def _is_usable(stage: dict[str, Any]) -> bool:
    return str(stage.get("code", _USABLE)) == str(_USABLE)


def _is_phase_done(stage: dict[str, Any]) -> bool:
    """Returns whether a phase is over; one without a status may go on."""
    return str(stage.get("status", stage.get("phase_status", ""))).lower() in _DONE


def _edge(request: Request) -> str:
    return request.path.rpartition("/")[2]
