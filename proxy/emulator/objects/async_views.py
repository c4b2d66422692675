"""Request sets, their requests and sessions as JSON, and the lists of them.

developers.facebook.com, "Asynchronous and Batch Requests" (sets) and "Asynchronous Batch Requests" (sessions).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from hashlib import blake2b
from typing import Any

from proxy.emulator.language import loose_json
from proxy.emulator.language.calls import listed
from proxy.emulator.language.errors import GraphError, bad_parameter, nonexisting_field
from proxy.emulator.language.fields import Field
from proxy.emulator.language.json_style import written
from proxy.emulator.language.query import Params, falsy, truthy
from proxy.emulator.objects.async_jobs import STATUSES, Errand, Group, Later
from proxy.emulator.objects.values import View, moment
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
# Meta's SDKs have words for what `async_requests` is filtered by, and read numbers back; which ones, nobody says.
_NUMBERS = ("INITIALIZED", "EXECUTING", "FINISHED", "ERROR")
_SESSION_STATUSES = {
    "initial": "NOT_STARTED",
    "in_progress": "IN_PROGRESS",
    "success": "COMPLETED",
    "error": "FAILED",
    "canceled": "FAILED",
}


class LaterViews:
    """Shows what is carried out later; whoever looks at a set moves it."""

    def __init__(self, later: Later) -> None:
        """Show the groups of *later*."""
        self._later = later

    def object(self, some_id: str, fields: Fields, view: View) -> dict[str, Any] | None:
        """A set, a request or a session; None for an id that is neither."""
        group = self._later.groups.get(some_id)
        if group:
            return shown(self._later.poll(group), fields, view)
        home = self._later.home(some_id)
        if home:
            self._later.poll(home[0])
            return _request(home, fields, view)
        return None

    def rows(self, node: Node, edge: str, params: Params, fields: Fields, view: View) -> list[dict[str, Any]] | None:
        """Everything on an edge that holds sets or requests; None for any other edge."""
        if edge == "requests" and node.id in self._later.groups:
            group = self._later.poll(self._later.groups[node.id])
            return [_request((group, each), fields, view) for each in _wanted(group.errands, params, view)]
        if edge not in _HOLDERS or node.kind.name not in _HOLDERS[edge]:
            return None
        if edge == "asyncadrequests":
            return self._of_ad_set(node.id, params, fields, view)
        kinds = ("ads",) if edge == "asyncadrequestsets" else ("ads", "batch")
        groups = [self._later.poll(group) for group in self._later.newest(*kinds) if group.owner == node.id]
        return [shown(group, fields, view) for group in groups if _fits(group, params)]

    def _of_ad_set(self, node_id: str, params: Params, fields: Fields, view: View) -> list[dict[str, Any]]:
        """The requests, of whatever set, that create something under this object."""
        found = []
        for group in self._later.newest("ads", "batch"):
            mine = [each for each in group.errands if each.scope == node_id]
            if mine:
                self._later.poll(group)
                found += [_request((group, each), fields, view) for each in _wanted(mine, params, view)]
        return found


def shown(group: Group, fields: Fields, view: View) -> dict[str, Any]:
    """A set or a session with the asked fields."""
    return _chosen(_SESSION if group.kind == "session" else _SET, group, fields, view)


def _request(home: tuple[Group, Errand], fields: Fields, view: View) -> dict[str, Any]:
    return _chosen(_REQUEST, home, fields, view)


def _chosen(kind: str, subject: Any, fields: Fields, view: View) -> dict[str, Any]:
    """The asked fields; the id comes last when nobody asked for it, and what is empty is left out."""
    makers = _MAKERS[kind]
    values: dict[str, Any] = {}
    for field in fields or tuple(Field(name) for name in _DEFAULTS[kind]):
        if field.name not in makers:
            raise nonexisting_field(field.name, kind)
        value = makers[field.name](subject, field, view)
        if value is not None:
            values[field.alias] = value
    values.setdefault("id", makers["id"](subject, Field("id"), view))
    return values


def _wanted(errands: list[Errand], params: Params, view: View) -> list[Errand]:
    """The errands that `status`, or the SDKs' `statuses`, lets through."""
    given = params.get("status") or params.get("statuses")
    if not given:
        return errands
    words = {word.lower() for word in _words(given)}
    known = {*STATUSES, *map(str.lower, _ALL_STATUSES)}
    if not words <= known:
        raise bad_parameter(f"Param status must be one of {{{', '.join(STATUSES)}}} - got {min(words - known)}")
    return [each for each in errands if each.status in words or _status(each, view).lower() in words]


def _words(given: Any) -> list[str]:
    """The words of a list, of JSON, or of text with commas."""
    if isinstance(given, str) and given.lstrip().startswith("["):
        try:
            given = loose_json.loads(given)
        except ValueError:
            raise bad_parameter("Param status must be an array") from None
    return listed(given)


def _fits(group: Group, params: Params) -> bool:
    """Tell whether a list with these filters shows the set."""
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


def _status(errand: Errand, view: View) -> str:
    style = view.config.async_statuses
    if style == "lower":
        return errand.status
    if style == "upper":
        return errand.status.upper()
    if errand.status == "canceled":
        return "USER_CANCELED_DEPENDENCY" if errand.by_parent else "USER_CANCELED"
    if errand.status == "in_progress":
        return "PROCESS_BY_AD_ASYNC_ENGINE"
    if errand.status == "initial" and errand.operation.parents:
        return "PENDING_DEPENDENCY"
    return "ERROR_DEPENDENCY" if errand.by_parent else errand.status.upper()


def _progress(group: Group) -> str:
    """What the SDKs call the status of an `async_request`."""
    if not group.is_completed:
        return "EXECUTING" if group.share else "INITIALIZED"
    return "ERROR" if group.count("error") else "FINISHED"


# --- fields

Maker = Callable[[Any, Field, View], Any]


def _number(some_id: str) -> int | str:
    """An id as the number that Meta's samples show where they can."""
    digits = some_id.removeprefix("act_")
    return int(digits) if digits.isdecimal() and len(digits) <= 18 else digits


def _count(status: str) -> Maker:
    return lambda group, _field, _view: group.count(status)


def _result(errand: Errand) -> Any:
    if errand.error is not None:
        return {"error_code": errand.error.code, "error_message": errand.error.message}
    return errand.answer


def _session_result(group: Group) -> str | None:
    """The reply of a session's operation, as the text that it would have been."""
    (errand,) = group.errands
    if errand.error is not None:
        return written(errand.error.envelope(_trace(group.id)))
    return written(errand.answer) if errand.status == "success" else None


def _trace(group_id: str) -> str:
    return "A" + blake2b(group_id.encode(), digest_size=11).hexdigest()


def _of_error(make: Callable[[GraphError], Any]) -> Maker:
    return lambda group, _field, _view: make(group.errands[0].error) if group.errands[0].error else None


_SETS: Mapping[str, Maker] = {
    "id": lambda group, _field, _view: group.id,
    "owner_id": lambda group, _field, _view: _number(group.owner),
    "name": lambda group, _field, _view: group.name,
    "is_completed": lambda group, _field, _view: group.is_completed,
    "total_count": lambda group, _field, _view: len(group.errands),
    **{f"{status}_count": _count(status) for status in STATUSES},
    "notification_uri": lambda group, _field, _view: group.uri or None,
    "notification_mode": lambda group, _field, _view: group.mode,
    "notification_result": lambda group, _field, _view: group.notice_result,
    "notification_status": lambda group, _field, _view: group.notice,
    "created_time": lambda group, _field, view: moment(group.born, view),
    "updated_time": lambda group, _field, view: moment(group.updated, view),
    "ad_specs": lambda group, _field, _view: [each.given for each in group.errands] if group.kind == "ads" else None,
    "creative_spec": lambda _group, _field, _view: None,
    "type": lambda group, _field, _view: list(_TYPES).index(group.kind),
    "status": lambda group, _field, _view: _NUMBERS.index(_progress(group)),
    "result": lambda group, _field, _view: (
        json.dumps([_result(each) for each in group.errands]) if group.is_completed else None
    ),
}
_REQUESTS: Mapping[str, Maker] = {
    "id": lambda home, _field, _view: home[1].id,
    "scope_object_id": lambda home, _field, _view: _number(home[1].scope),
    "status": lambda home, _field, view: _status(home[1], view),
    "result": lambda home, _field, _view: _result(home[1]),
    "input": lambda home, _field, _view: home[1].given,
    "async_request_set": lambda home, field, view: _chosen(_SET, home[0], field.fields, view),
    "type": lambda home, _field, _view: _TYPES[home[0].kind],
    "created_time": lambda home, _field, view: moment(home[1].born, view),
    "updated_time": lambda home, _field, view: moment(home[1].updated, view),
}
_SESSIONS: Mapping[str, Maker] = {
    "id": lambda group, _field, _view: group.id,
    "name": lambda group, _field, _view: group.name,
    "status": lambda group, _field, _view: _SESSION_STATUSES[group.errands[0].status],
    "result": lambda group, _field, _view: _session_result(group),
    "error_code": _of_error(lambda error: error.code),
    "exception": _of_error(lambda error: error.message),
    "method": lambda group, _field, _view: group.errands[0].operation.method,
    "uri": lambda group, _field, _view: group.errands[0].operation.relative_url,
    "start_time": lambda group, _field, view: moment(group.born, view),
    "complete_time": lambda group, _field, view: moment(group.updated, view) if group.is_completed else None,
}
_MAKERS = {_SET: _SETS, _REQUEST: _REQUESTS, _SESSION: _SESSIONS}
