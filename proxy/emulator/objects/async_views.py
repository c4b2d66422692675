"""Request sets, their requests and sessions as JSON, and the lists of them.

developers.facebook.com, "Asynchronous and Batch Requests" (sets) and "Asynchronous Batch Requests" (sessions).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from hashlib import blake2b
from typing import Any

from proxy.emulator.language import loose_json
from proxy.emulator.language.calls import to_list
from proxy.emulator.language.errors import GraphError, bad_parameter, nonexisting_field
from proxy.emulator.language.fields import Field
from proxy.emulator.language.json_style import to_json
from proxy.emulator.language.query import Params, falsy, truthy
from proxy.emulator.objects.async_jobs import STATUSES, AsyncJobs, AsyncRequest, RequestGroup
from proxy.emulator.objects.values import View, format_time
from proxy.emulator.objects.world import Node

Fields = tuple[Field, ...] | None

_SET, _REQUEST, _SESSION = "AdAsyncRequestSet", "AdAsyncRequest", "AsyncSession"
_DEFAULTS = {
    _SET: ("id", "owner_id", "name", "is_completed"),
    _REQUEST: ("id", "scope_object_id", "status"),
    _SESSION: ("id", "name", "status"),
}
_HOLDERS = {
    "asyncadrequestsets": ("AdAccount", "Page"),
    "async_requests": ("AdAccount", "Page"),
    "asyncadrequests": ("AdSet", "Campaign", "Page"),
}
_TYPES = {"ads": "ASYNC_ADGROUP_CREATION", "batch": "BATCH_API"}
# Meta's SDKs have words for the filters of `async_requests`, and read numbers back; the numbers are not documented.
_NUMBERS = ("INITIALIZED", "EXECUTING", "FINISHED", "ERROR")
_SESSION_STATUSES = {
    "initial": "NOT_STARTED",
    "in_progress": "IN_PROGRESS",
    "success": "COMPLETED",
    "error": "FAILED",
    "canceled": "FAILED",
}


class AsyncViews:
    """Shows groups and their requests as JSON; each look is a poll, which advances a group."""

    def __init__(self, async_jobs: AsyncJobs) -> None:
        """Show the groups of *async_jobs*."""
        self._async_jobs = async_jobs

    def object(self, some_id: str, fields: Fields, view: View) -> dict[str, Any] | None:
        """A set, a request or a session; None for an id that is neither."""
        group = self._async_jobs.groups.get(some_id)
        if group:
            return group_view(self._async_jobs.poll(group), fields, view)
        home = self._async_jobs.find_request(some_id)
        if home:
            self._async_jobs.poll(home[0])
            return _request_view(home, fields, view)
        return None

    def rows(self, node: Node, edge: str, params: Params, fields: Fields, view: View) -> list[dict[str, Any]] | None:
        """Everything on an edge that holds sets or requests; None for any other edge."""
        if edge == "requests" and node.id in self._async_jobs.groups:
            group = self._async_jobs.poll(self._async_jobs.groups[node.id])
            return [_request_view((group, each), fields, view) for each in _wanted(group.requests, params, view)]
        if edge not in _HOLDERS or node.object_type.name not in _HOLDERS[edge]:
            return None
        if edge == "asyncadrequests":
            return self._of_ad_set(node.id, params, fields, view)
        kinds = ("ads",) if edge == "asyncadrequestsets" else ("ads", "batch")
        groups = [self._async_jobs.poll(group) for group in self._async_jobs.newest(*kinds) if group.owner == node.id]
        return [group_view(group, fields, view) for group in groups if _matches(group, params)]

    def _of_ad_set(self, node_id: str, params: Params, fields: Fields, view: View) -> list[dict[str, Any]]:
        """The requests, of whatever set, that create something under this object."""
        found = []
        for group in self._async_jobs.newest("ads", "batch"):
            mine = [each for each in group.requests if each.scope == node_id]
            if mine:
                self._async_jobs.poll(group)
                found += [_request_view((group, each), fields, view) for each in _wanted(mine, params, view)]
        return found


def group_view(group: RequestGroup, fields: Fields, view: View) -> dict[str, Any]:
    """A set or a session with the asked fields."""
    return _selected_fields(_SESSION if group.kind == "session" else _SET, group, fields, view)


def _request_view(home: tuple[RequestGroup, AsyncRequest], fields: Fields, view: View) -> dict[str, Any]:
    return _selected_fields(_REQUEST, home, fields, view)


def _selected_fields(kind: str, subject: Any, fields: Fields, view: View) -> dict[str, Any]:
    """Returns the requested fields without empty ones; the id comes last if it was not requested."""
    makers = _FIELD_MAKERS[kind]
    values: dict[str, Any] = {}
    for field in fields or tuple(Field(name) for name in _DEFAULTS[kind]):
        if field.name not in makers:
            raise nonexisting_field(field.name, kind)
        value = makers[field.name](subject, field, view)
        if value is not None:
            values[field.alias] = value
    values.setdefault("id", makers["id"](subject, Field("id"), view))
    return values


def _wanted(requests: list[AsyncRequest], params: Params, view: View) -> list[AsyncRequest]:
    """The requests that match the filter `status`, or the SDKs' `statuses`."""
    given = params.get("status") or params.get("statuses")
    if not given:
        return requests
    words = {word.lower() for word in _words(given)}
    known = {*STATUSES, *map(str.lower, _ALL_STATUSES)}
    if not words <= known:
        raise bad_parameter(f"Param status must be one of {{{', '.join(STATUSES)}}} - got {min(words - known)}")
    return [each for each in requests if each.status in words or _status(each, view).lower() in words]


def _words(given: Any) -> list[str]:
    """The words of a list, of JSON, or of text with commas."""
    if isinstance(given, str) and given.lstrip().startswith("["):
        try:
            given = loose_json.loads(given)
        except ValueError:
            raise bad_parameter("Param status must be an array") from None
    return to_list(given)


def _matches(group: RequestGroup, params: Params) -> bool:
    """Returns whether a list with these filters shows the set."""
    asked = params.get("is_completed")
    if truthy(asked) and not group.is_completed:
        return False
    if falsy(asked) and group.is_completed:
        return False
    kind, status = params.get("type"), params.get("status")
    return kind in (None, "", _TYPES[group.kind]) and (not status or _progress(group) in map(str.upper, _words(status)))


# --- statuses, spelled as Meta's prose, its samples or its SDKs do

_ALL_STATUSES = (
    "CANCELED", "CANCELED_DEPENDENCY", "ERROR", "ERROR_CONFLICTS", "ERROR_DEPENDENCY", "INITIAL", "IN_PROGRESS",
    "PENDING_DEPENDENCY", "PROCESS_BY_AD_ASYNC_ENGINE", "PROCESS_BY_EVENT_PROCESSOR", "SUCCESS", "USER_CANCELED",
    "USER_CANCELED_DEPENDENCY",
)  # fmt: skip


def _status(request: AsyncRequest, view: View) -> str:
    style = view.config.async_statuses
    if style == "lower":
        return request.status
    if style == "upper":
        return request.status.upper()
    if request.status == "canceled":
        return "USER_CANCELED_DEPENDENCY" if request.failed_by_parent else "USER_CANCELED"
    if request.status == "in_progress":
        return "PROCESS_BY_AD_ASYNC_ENGINE"
    if request.status == "initial" and request.operation.parents:
        return "PENDING_DEPENDENCY"
    return "ERROR_DEPENDENCY" if request.failed_by_parent else request.status.upper()


def _progress(group: RequestGroup) -> str:
    """Returns the status of an `async_request` in the words of the SDKs."""
    if not group.is_completed:
        return "EXECUTING" if group.progress else "INITIALIZED"
    return "ERROR" if group.count("error") else "FINISHED"


# --- fields

Maker = Callable[[Any, Field, View], Any]


def _number(some_id: str) -> int | str:
    """An id as the number that Meta's samples show where they can."""
    digits = some_id.removeprefix("act_")
    return int(digits) if digits.isdecimal() and len(digits) <= 18 else digits


def _count(status: str) -> Maker:
    return lambda group, _field, _view: group.count(status)


def _result(request: AsyncRequest) -> Any:
    if request.error is not None:
        return {"error_code": request.error.code, "error_message": request.error.message}
    return request.answer


def _session_result(group: RequestGroup) -> str | None:
    """The reply of a session's operation, as the text that it would have been."""
    (request,) = group.requests
    if request.error is not None:
        return to_json(request.error.envelope(_trace(group.id)))
    return to_json(request.answer) if request.status == "success" else None


def _trace(group_id: str) -> str:
    return "A" + blake2b(group_id.encode(), digest_size=11).hexdigest()


def _of_error(make: Callable[[GraphError], Any]) -> Maker:
    return lambda group, _field, _view: make(group.requests[0].error) if group.requests[0].error else None


_SETS: Mapping[str, Maker] = {
    "id": lambda group, _field, _view: group.id,
    "owner_id": lambda group, _field, _view: _number(group.owner),
    "name": lambda group, _field, _view: group.name,
    "is_completed": lambda group, _field, _view: group.is_completed,
    "total_count": lambda group, _field, _view: len(group.requests),
    **{f"{status}_count": _count(status) for status in STATUSES},
    "notification_uri": lambda group, _field, _view: group.notification_uri or None,
    "notification_mode": lambda group, _field, _view: group.notification_mode,
    "notification_result": lambda group, _field, _view: group.notification_result,
    "notification_status": lambda group, _field, _view: group.notification_status,
    "created_time": lambda group, _field, view: format_time(group.created, view),
    "updated_time": lambda group, _field, view: format_time(group.updated, view),
    "ad_specs": lambda group, _field, _view: [each.input for each in group.requests] if group.kind == "ads" else None,
    "creative_spec": lambda _group, _field, _view: None,
    "type": lambda group, _field, _view: list(_TYPES).index(group.kind),
    "status": lambda group, _field, _view: _NUMBERS.index(_progress(group)),
    "result": lambda group, _field, _view: (
        json.dumps([_result(each) for each in group.requests]) if group.is_completed else None
    ),
}
_REQUESTS: Mapping[str, Maker] = {
    "id": lambda home, _field, _view: home[1].id,
    "scope_object_id": lambda home, _field, _view: _number(home[1].scope),
    "status": lambda home, _field, view: _status(home[1], view),
    "result": lambda home, _field, _view: _result(home[1]),
    "input": lambda home, _field, _view: home[1].input,
    "async_request_set": lambda home, field, view: _selected_fields(_SET, home[0], field.fields, view),
    "type": lambda home, _field, _view: _TYPES[home[0].kind],
    "created_time": lambda home, _field, view: format_time(home[1].created, view),
    "updated_time": lambda home, _field, view: format_time(home[1].updated, view),
}
_SESSIONS: Mapping[str, Maker] = {
    "id": lambda group, _field, _view: group.id,
    "name": lambda group, _field, _view: group.name,
    "status": lambda group, _field, _view: _SESSION_STATUSES[group.requests[0].status],
    "result": lambda group, _field, _view: _session_result(group),
    "error_code": _of_error(lambda error: error.code),
    "exception": _of_error(lambda error: error.message),
    "method": lambda group, _field, _view: group.requests[0].operation.method,
    "uri": lambda group, _field, _view: group.requests[0].operation.relative_url,
    "start_time": lambda group, _field, view: format_time(group.created, view),
    "complete_time": lambda group, _field, view: format_time(group.updated, view) if group.is_completed else None,
}
_FIELD_MAKERS = {_SET: _SETS, _REQUEST: _REQUESTS, _SESSION: _SESSIONS}
