"""Deferred operations: request sets and sessions, their progress and their results.

A group is a request set or a session. Each poll, the clock, or a control call advances it; nothing runs in the
background, so the same calls always see the same state.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from proxy.emulator.config import LiveConfig
from proxy.emulator.language.calls import Call
from proxy.emulator.language.errors import GraphError, aborted, bad_parameter
from proxy.emulator.language.operations import Operation, operation_call
from proxy.emulator.language.query import Params

_OPEN = ("initial", "in_progress")
STATUSES = (*_OPEN, "success", "error", "canceled")


@dataclass(slots=True)
class AsyncRequest:
    """One deferred operation."""

    id: str
    operation: Operation
    input: Any
    """The caller's input: the ad's values, or the entry of the batch."""
    scope: str
    """The object under which the operation creates another: for an ad its ad set."""
    created: float
    updated: float
    status: str = "initial"
    failed_by_parent: bool = False
    """True if it failed because a request that it depends on failed."""
    answer: Any = None
    error: GraphError | None = None

    @property
    def is_open(self) -> bool:
        """Returns whether it has yet to end."""
        return self.status in _OPEN


@dataclass(slots=True)
class RequestGroup:
    """The requests of one call: a request set or a session."""

    id: str
    kind: str
    """`ads`, `batch` or `session`."""
    owner: str
    name: str
    call: Call
    requests: list[AsyncRequest]
    created: float
    updated: float
    notification_mode: str = "OFF"
    notification_uri: str = ""
    notification_status: str = "not_sent"
    notification_result: str | None = None
    polls: int = 0
    advanced_to: float = 0.0
    progress: float = 0.0
    """How much of it is done, from 0 to 1."""
    by_name: dict[str, AsyncRequest] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Index the requests by name."""
        for each in self.requests:
            if each.operation.name is not None:
                self.by_name.setdefault(each.operation.name, each)

    @property
    def is_completed(self) -> bool:
        """Returns whether nothing is left to do."""
        return not any(each.is_open for each in self.requests)

    def parents(self, request: AsyncRequest) -> list[AsyncRequest]:
        """The requests that *request* depends on."""
        return [self.by_name[name] for name in request.operation.parents]

    def count(self, status: str) -> int:
        """How many requests have this *status*."""
        return sum(each.status == status for each in self.requests)


class AsyncJobs:
    """All groups, by their own ids and by the ids of their requests."""

    def __init__(self, settings: LiveConfig, clock: Callable[[], float], perform: Callable[[Call], Any]) -> None:
        """Start without groups; *perform* performs an operation or raises a GraphError."""
        self._settings = settings
        self._clock = clock
        self._perform = perform
        self.clear()

    def clear(self) -> None:
        """Forget all groups."""
        self.groups: dict[str, RequestGroup] = {}
        self._requests: dict[str, tuple[RequestGroup, AsyncRequest]] = {}
        self._notifications: list[RequestGroup] = []

    def start(self, group: RequestGroup) -> None:
        """Add a group."""
        self.groups[group.id] = group
        if group.kind != "session":
            self._requests.update({each.id: (group, each) for each in group.requests})
        self.run_due(group)

    def find_request(self, request_id: str) -> tuple[RequestGroup, AsyncRequest] | None:
        """The request with this id and its group, or None."""
        return self._requests.get(request_id)

    def knows(self, some_id: str) -> bool:
        """True if the id is a group's or a request's."""
        return some_id in self.groups or some_id in self._requests

    def newest(self, *kinds: str) -> Iterator[RequestGroup]:
        """The groups of these kinds, the last one first, or by id if that is how edges are ordered."""
        groups = list(reversed(self.groups.values()))
        if self._settings.config.edge_order == "id":
            groups.sort(key=lambda group: group.id)
        return (group for group in groups if group.kind in kinds)

    def poll(self, group: RequestGroup) -> RequestGroup:
        """Count a poll of *group*, which advances it."""
        group.polls += 1
        self.run_due(group)
        return group

    def advance(self, progress: float, group_id: str | None = None) -> list[RequestGroup]:
        """Advance one group, or all, to at least *progress*; the groups that were meant."""
        if group_id is not None and group_id not in self.groups:
            raise ValueError(f"no such set or session: {group_id}")
        moved = [self.groups[group_id]] if group_id is not None else list(self.groups.values())
        for group in moved:
            group.advanced_to = max(group.advanced_to, progress)
            self.run_due(group)
        return moved

    def catch_up(self) -> None:
        """Advance every group as far as the clock says."""
        for group in list(self.groups.values()):
            self.run_due(group)

    def run_due(self, group: RequestGroup) -> None:
        """Perform the requests that are due by now, in their order."""
        if group.is_completed:
            return
        group.progress = max(group.progress, self._target_progress(group))
        total = len(group.requests)
        done = int(total * group.progress + 1e-9)
        for request in group.requests[:done]:
            self._finish(group, request)
        if group.progress:
            for request in group.requests[done : done + max(1, total // 4)]:
                self._begin(request)
        self.queue_notification(group)

    def cancel(self, group: RequestGroup, requests: list[AsyncRequest]) -> None:
        """Cancel the *requests* that have not been started."""
        for request in requests:
            if request.status == "initial":
                request.status, request.updated = "canceled", self._clock()
        self.queue_notification(group)

    def queue_notification(self, group: RequestGroup) -> None:
        """Queue the notification of a completed group, once."""
        if not group.is_completed:
            return
        group.updated = max(each.updated for each in group.requests)
        if (
            group.notification_mode == "ON_COMPLETE"
            and group.notification_uri
            and group.notification_status == "not_sent"
        ):
            group.notification_status = "sending"
            self._notifications.append(group)

    def take_notifications(self) -> list[RequestGroup]:
        """Remove and return the groups whose notification must be sent now."""
        due, self._notifications = self._notifications, []
        return due

    def as_json(self) -> dict[str, Any]:
        """All groups as JSON, without times, ordered by id."""
        return {group_id: _group_json(group) for group_id, group in sorted(self.groups.items())}

    def _target_progress(self, group: RequestGroup) -> float:
        """The share of the requests that should be done by now: the furthest of polls, clock and control calls."""
        config = self._settings.config
        shares = [group.advanced_to]
        if config.async_polls is not None:
            shares.append(max(0, group.polls - 1) / config.async_polls if config.async_polls else 1.0)
        if config.async_s:
            shares.append((self._clock() - group.created) / config.async_s)
        return min(1.0, max(shares))

    def _begin(self, request: AsyncRequest) -> None:
        if request.status == "initial":
            request.status, request.updated = "in_progress", self._clock()

    def _finish(self, group: RequestGroup, request: AsyncRequest) -> None:
        if not request.is_open:
            return
        request.updated = self._clock()
        lost = [parent.status for parent in group.parents(request) if parent.status != "success"]
        if lost:
            request.failed_by_parent = True
            request.status, request.error = ("canceled", None) if "canceled" in lost else ("error", aborted())
            return
        try:
            request.answer = self._carry_out(group, request)
            request.status = "success"
        except GraphError as error:
            request.status, request.error = "error", error
        except ValueError as error:
            request.status, request.error = "error", bad_parameter(str(error))

    def _carry_out(self, group: RequestGroup, request: AsyncRequest) -> Any:
        results = {str(parent.operation.name): parent.answer for parent in group.parents(request)}
        call = operation_call(request.operation, group.call, results, self._settings.config)
        request.scope = scope_of(call.params, call.path)
        return self._perform(call)


def scope_of(params: Params, path: Sequence[str]) -> str:
    """The object under which a write creates another: a named ad set or campaign, or the one in its path."""
    named = str(params.get("adset_id") or params.get("campaign_id") or "")
    return named if named.isdecimal() else "/".join(path[:1])


def _group_json(group: RequestGroup) -> dict[str, Any]:
    return {
        "kind": group.kind,
        "owner": group.owner,
        "name": group.name,
        "notification": {
            "mode": group.notification_mode,
            "uri": group.notification_uri,
            "status": group.notification_status,
            "result": group.notification_result,
        },
        "requests": [
            {
                "id": request.id,
                "status": request.status,
                "input": request.input,
                "result": request.answer if request.error is None else request.error.message,
            }
            for request in group.requests
        ],
    }
