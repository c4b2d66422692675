"""Operations that are carried out later: how far they are, and what came of them.

A group is a request set or a session. It moves with each poll, with the clock, or when a control call pushes it;
nothing runs on its own, so the same questions always meet the same state.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from proxy.emulator.config import Settings
from proxy.emulator.language.calls import Call
from proxy.emulator.language.errors import GraphError, aborted, bad_parameter
from proxy.emulator.language.operations import Operation, call_of
from proxy.emulator.language.query import Params

_OPEN = ("initial", "in_progress")
STATUSES = (*_OPEN, "success", "error", "canceled")


@dataclass(slots=True)
class Errand:
    """One operation that waits for its turn."""

    id: str
    operation: Operation
    given: Any
    """What the caller gave: the ad's values, or the entry of the batch."""
    scope: str
    """The object under which this creates one: for an ad its ad set."""
    born: float
    updated: float
    status: str = "initial"
    by_parent: bool = False
    """It ended so because one that it needs did."""
    answer: Any = None
    error: GraphError | None = None

    @property
    def is_open(self) -> bool:
        """Tell whether it has yet to end."""
        return self.status in _OPEN


@dataclass(slots=True)
class Group:
    """Errands that were given together, by one call."""

    id: str
    kind: str
    """`ads`, `batch` or `session`."""
    owner: str
    name: str
    call: Call
    errands: list[Errand]
    born: float
    updated: float
    mode: str = "OFF"
    uri: str = ""
    notice: str = "not_sent"
    notice_result: str | None = None
    polls: int = 0
    pushed: float = 0.0
    share: float = 0.0
    """How much of it is done, from 0 to 1."""
    named: dict[str, Errand] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Make the errands known by their names."""
        for each in self.errands:
            if each.operation.name is not None:
                self.named.setdefault(each.operation.name, each)

    @property
    def is_completed(self) -> bool:
        """Tell whether nothing is left to do."""
        return not any(each.is_open for each in self.errands)

    def parents(self, errand: Errand) -> list[Errand]:
        """The errands that this one refers to."""
        return [self.named[name] for name in errand.operation.parents]

    def count(self, status: str) -> int:
        """How many errands stand so."""
        return sum(each.status == status for each in self.errands)


class Later:
    """Every group, by its id and by those of its errands."""

    def __init__(self, settings: Settings, clock: Callable[[], float], perform: Callable[[Call], Any]) -> None:
        """Start with nothing to do; *perform* carries an operation out or raises a GraphError."""
        self._settings = settings
        self._clock = clock
        self._perform = perform
        self.clear()

    def clear(self) -> None:
        """Forget all groups."""
        self.groups: dict[str, Group] = {}
        self._homes: dict[str, tuple[Group, Errand]] = {}
        self._due: list[Group] = []

    def start(self, group: Group) -> None:
        """Take a group on."""
        self.groups[group.id] = group
        if group.kind != "session":
            self._homes.update({each.id: (group, each) for each in group.errands})
        self.settle(group)

    def home(self, errand_id: str) -> tuple[Group, Errand] | None:
        """A request with its set, if the id is one."""
        return self._homes.get(errand_id)

    def knows(self, some_id: str) -> bool:
        """Tell whether the id is a group's or an errand's."""
        return some_id in self.groups or some_id in self._homes

    def newest(self, *kinds: str) -> Iterator[Group]:
        """The groups of these kinds, the last one first, or by id if that is how edges are ordered."""
        groups = list(reversed(self.groups.values()))
        if self._settings.config.edge_order == "id":
            groups.sort(key=lambda group: group.id)
        return (group for group in groups if group.kind in kinds)

    def poll(self, group: Group) -> Group:
        """Let somebody look at a group, which moves it."""
        group.polls += 1
        self.settle(group)
        return group

    def push(self, share: float, group_id: str | None = None) -> list[Group]:
        """Move one group, or all, so far at least."""
        if group_id is not None and group_id not in self.groups:
            raise ValueError(f"no such set or session: {group_id}")
        moved = [self.groups[group_id]] if group_id is not None else list(self.groups.values())
        for group in moved:
            group.pushed = max(group.pushed, share)
            self.settle(group)
        return moved

    def catch_up(self) -> None:
        """Move every group as far as the clock says."""
        for group in list(self.groups.values()):
            self.settle(group)

    def settle(self, group: Group) -> None:
        """Carry out what is due by now, in the order in which it was given."""
        if group.is_completed:
            return
        group.share = max(group.share, self._share(group))
        total = len(group.errands)
        done = int(total * group.share + 1e-9)
        for errand in group.errands[:done]:
            self._finish(group, errand)
        if group.share:
            for errand in group.errands[done : done + max(1, total // 4)]:
                self._begin(errand)
        self.announce(group)

    def cancel(self, group: Group, errands: list[Errand]) -> None:
        """Take back those that have not been looked at yet."""
        for errand in errands:
            if errand.status == "initial":
                errand.status, errand.updated = "canceled", self._clock()
        self.announce(group)

    def announce(self, group: Group) -> None:
        """Make the notification of a finished group due, once."""
        if not group.is_completed:
            return
        group.updated = max(each.updated for each in group.errands)
        if group.mode == "ON_COMPLETE" and group.uri and group.notice == "not_sent":
            group.notice = "sending"
            self._due.append(group)

    def due(self) -> list[Group]:
        """The groups whose notification is to be sent now."""
        due, self._due = self._due, []
        return due

    def described(self) -> dict[str, Any]:
        """What stands where, without times and in no order but that of the ids."""
        return {group_id: _described(group) for group_id, group in sorted(self.groups.items())}

    def _share(self, group: Group) -> float:
        """How much should be done by now: whatever went furthest of polls, clock and pushes."""
        config = self._settings.config
        shares = [group.pushed]
        if config.async_polls is not None:
            shares.append(max(0, group.polls - 1) / config.async_polls if config.async_polls else 1.0)
        if config.async_s:
            shares.append((self._clock() - group.born) / config.async_s)
        return min(1.0, max(shares))

    def _begin(self, errand: Errand) -> None:
        if errand.status == "initial":
            errand.status, errand.updated = "in_progress", self._clock()

    def _finish(self, group: Group, errand: Errand) -> None:
        if not errand.is_open:
            return
        errand.updated = self._clock()
        lost = [parent.status for parent in group.parents(errand) if parent.status != "success"]
        if lost:
            errand.by_parent = True
            errand.status, errand.error = ("canceled", None) if "canceled" in lost else ("error", aborted())
            return
        try:
            errand.answer = self._carry_out(group, errand)
            errand.status = "success"
        except GraphError as error:
            errand.status, errand.error = "error", error
        except ValueError as error:
            errand.status, errand.error = "error", bad_parameter(str(error))

    def _carry_out(self, group: Group, errand: Errand) -> Any:
        results = {str(parent.operation.name): parent.answer for parent in group.parents(errand)}
        call = call_of(errand.operation, group.call, results, self._settings.config)
        errand.scope = scope_of(call.params, call.path)
        return self._perform(call)


def scope_of(params: Params, path: Sequence[str]) -> str:
    """The object under which a write creates another: a named ad set or campaign, or the one in its path."""
    named = str(params.get("adset_id") or params.get("campaign_id") or "")
    return named if named.isdecimal() else "/".join(path[:1])


def _described(group: Group) -> dict[str, Any]:
    return {
        "kind": group.kind,
        "owner": group.owner,
        "name": group.name,
        "notification": {"mode": group.mode, "uri": group.uri, "status": group.notice, "result": group.notice_result},
        "requests": [
            {
                "id": errand.id,
                "status": errand.status,
                "input": errand.given,
                "result": errand.answer if errand.error is None else errand.error.message,
            }
            for errand in group.errands
        ],
    }
