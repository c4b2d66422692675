"""Starts, changes and cancels deferred operations.

developers.facebook.com, "Asynchronous and Batch Requests" (sets) and "Asynchronous Batch Requests" (sessions).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import unquote

from proxy.emulator.config import LiveConfig
from proxy.emulator.language import loose_json
from proxy.emulator.language.calls import Call, split_version
from proxy.emulator.language.errors import bad_parameter, nonexisting_field, unsupported
from proxy.emulator.language.operations import Operation, parse_operations
from proxy.emulator.language.query import parse_query
from proxy.emulator.objects.async_jobs import AsyncJobs, AsyncRequest, RequestGroup, scope_of
from proxy.emulator.objects.world import Node, World

_SET, _REQUEST, _SESSION = "1214", "1215", "1216"
_MODES = ("OFF", "ON_COMPLETE")


class AsyncWrites:
    """The writes that start, change and cancel groups of deferred operations."""

    def __init__(self, async_jobs: AsyncJobs, world: World, settings: LiveConfig, clock: Callable[[], float]) -> None:
        """Write into *async_jobs*, with ids from *world*."""
        self._async_jobs = async_jobs
        self._world = world
        self._settings = settings
        self._clock = clock

    def ads(self, node: Node, call: Call) -> dict[str, Any]:
        """Take a set of ads to be created, one request for each."""
        _only_in_accounts(node, "asyncadrequestsets")
        specs = _objects_in(call.params.get("ad_specs"), "ad_specs")
        asked = [_of_ad(index, node.id, spec) for index, spec in enumerate(specs)]
        return self._start_set("ads", node, call, asked, specs)

    def batch(self, node: Node, call: Call) -> dict[str, Any]:
        """Take a batch of up to a thousand writes, which may refer to each other."""
        _only_in_accounts(node, "async_batch_requests")
        items = _objects_in(call.params.get("adbatch"), "adbatch")
        asked = parse_operations(items, self._settings.config.adbatch_limit, usual="POST")
        for operation in asked:
            if operation.method != "POST":
                raise bad_parameter(f"Only POST requests may be batched here, request {operation.index} is not")
            operation.body = _unwrapped(operation.body)
        return self._start_set("batch", node, call, asked, items)

    def sessions(self, call: Call) -> dict[str, Any]:
        """Take operations that are independent of each other, and answer with a session for each."""
        asked = parse_operations(call.params["asyncbatch"], self._settings.config.batch_limit, usual="POST")
        for operation in asked:
            if not operation.name:
                raise bad_parameter(f"Request {operation.index} of an asynchronous batch has no name")
            if operation.parents:
                raise bad_parameter("Requests of an asynchronous batch cannot depend on each other")
        return {"async_sessions": [self._session(call, operation) for operation in asked]}

    def change(self, some_id: str, call: Call) -> bool | dict[str, Any]:
        """Change or cancel a set, or cancel a request, as the verb says."""
        group = self._async_jobs.groups.get(some_id)
        if group and group.kind == "session":
            raise unsupported(call.method)
        if call.method == "DELETE":
            self._cancel(some_id)
        elif group is None:
            raise unsupported(call.method)
        else:
            self._update(group, call)
        return True if self._settings.config.async_plain_true else {"success": True}

    def _start_set(
        self, kind: str, node: Node, call: Call, parsed: list[Operation], given: list[dict[str, Any]]
    ) -> dict[str, Any]:
        now, name = self._clock(), str(call.params.get("name") or "")
        set_id = self._world.new_id(_SET, node.id, kind, name, given)
        requests = [
            AsyncRequest(
                self._world.new_id(_REQUEST, set_id, operation.index), operation, each, _scope(operation), now, now
            )
            for operation, each in zip(parsed, given, strict=True)
        ]
        group = RequestGroup(set_id, kind, node.id, name, call, requests, now, now)
        _set_notification(group, call)
        self._async_jobs.start(group)
        return {"id": set_id}

    def _session(self, call: Call, operation: Operation) -> dict[str, Any]:
        now, name = self._clock(), str(operation.name)
        given = {"method": operation.method, "relative_url": operation.relative_url, "body": operation.body}
        session = self._world.new_id(_SESSION, name, given)
        request = AsyncRequest(session, operation, given, _scope(operation), now, now)
        self._async_jobs.start(RequestGroup(session, "session", "", name, call, [request], now, now))
        return {"id": session, "name": name}

    def _cancel(self, some_id: str) -> None:
        home = self._async_jobs.find_request(some_id)
        group = home[0] if home else self._async_jobs.groups[some_id]
        self._async_jobs.run_due(group)
        if home and home[1].status != "initial":
            raise bad_parameter("Only a request that is not processed yet can be canceled")
        self._async_jobs.cancel(group, [home[1]] if home else group.requests)

    def _update(self, group: RequestGroup, call: Call) -> None:
        self._async_jobs.run_due(group)
        if group.notification_status != "not_sent" and {"notification_mode", "notification_uri"} & set(call.params):
            raise bad_parameter("The notification of this request set has been sent already")
        _set_notification(group, call)
        group.name = str(call.params.get("name") or group.name)
        group.updated = self._clock()
        self._async_jobs.queue_notification(group)


def _only_in_accounts(node: Node, edge: str) -> None:
    if node.object_type.name not in ("AdAccount", "Page"):
        raise nonexisting_field(edge, node.object_type.name)


def _set_notification(group: RequestGroup, call: Call) -> None:
    """Set the notification mode and address that *call* gives."""
    mode = str(call.params.get("notification_mode") or group.notification_mode).upper()
    if mode not in _MODES:
        raise bad_parameter(f"Param notification_mode must be one of {{{', '.join(_MODES)}}} - got {mode!r}")
    group.notification_mode = mode
    group.notification_uri = str(call.params.get("notification_uri") or group.notification_uri)


def _objects_in(value: Any, name: str) -> list[dict[str, Any]]:
    """The objects in a parameter: JSON, loose JSON, an array, or an array of JSON texts."""
    try:
        found = loose_json.loads(value) if isinstance(value, str) else value
        found = list(found.values()) if isinstance(found, dict) else found
        items = [loose_json.loads(each) if isinstance(each, str) else each for each in found or ()]
    except (ValueError, TypeError):
        items = []
    if not items or not all(isinstance(each, dict) for each in items):
        raise bad_parameter(f"Param {name} must be a non-empty array of objects")
    return items


def _of_ad(index: int, account: str, spec: dict[str, Any]) -> Operation:
    """The write that creates one ad of a set."""
    return Operation(index, "POST", f"/{account}/ads", dict(spec), {}, None, [], omits_response=True)


def _unwrapped(body: Any) -> Any:
    """*body* decoded if even its `=` and `&` are percent-encoded, as in Meta's own sample."""
    wrapped = isinstance(body, str) and "=" not in body and "%3d" in body.lower()
    return unquote(body) if wrapped else body


def _scope(operation: Operation) -> str:
    """The operation's scope, as far as it is known before references are filled in."""
    params = parse_query(operation.body) if isinstance(operation.body, str) else operation.body
    _, segments = split_version(operation.relative_url.partition("?")[0])
    return scope_of(params, segments)
