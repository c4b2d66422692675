"""Invalidation: the time of the last change of each tag; an entry fetched before a change of its tags is not fresh.

Changes come from writes through the sidecar, from Meta's webhooks, and from refused tokens (which invalidate all that
the token has fetched). Which message is a write: `routing/classify` (`Bypass.writes`: any method but GET, HEAD and
OPTIONS, and all that might be one). Which objects it names: `routing/nodes` finds them in its path, `ids` or `id`, for
`shell/http/request_body.written_objects` and, in a client's batch, `client_batch/operation.written_nodes`. A write that
names none invalidates everything.

`tags` finds the tags of the reads that show the objects, lists included. `shell/pipeline/invalidator` tells the index
of each change, and keeps later reads from joining flights that began before it.

When a read comes, `cache/policy.is_usable_unasked` compares the times. The fast path checks its prepared hits anew
after each change (`generation`), by the same index (`shell/downstream/fast_path`); and it leaves a slot of a batch to
the policy if anything was changed since the entry was asked for (`shell/downstream/fast_flights`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import msgspec

from proxy.core.cache.clock_step import set_back
from proxy.core.cache.generation import Generation
from proxy.core.cache.tags import TagIndex, Tags
from proxy.core.graph.errors import UNREADABLE
from proxy.core.memory.memo import MEMO_BYTES, Recent
from proxy.core.model import Entry, Request

LEARNED_AT_ONCE = 65_536
"""The largest body that is searched for object ids when it is stored; larger ones are searched after a change only."""

SAVED_AT_MOST = 512 * 1024
"""The largest record of changes in bytes; beyond it everything counts as changed."""


UNSURE_S = 60
"""Seconds in which Graph may still perform a write that it did not answer."""


def changes_until(now: float, *, answered: bool) -> float:
    """Returns until when a write may still change objects: *now* if Graph *answered*, else UNSURE_S later.

    A reply that was asked for before then is not fresh.
    """
    return now if answered else now + UNSURE_S


class _SavedChanges(msgspec.Struct, frozen=True):
    """The changes as they are saved."""

    floor: float
    latest: float
    times: dict[str, float]


class InvalidationIndex:
    """The time of the last change by tag, for a bounded number of tags.

    A forgotten tag counts as changed when the newest of the forgotten ones was.
    """

    CAPACITY = 10_000

    def __init__(self, generation: Generation | None = None, bodies: int | None = None) -> None:
        """Start without changes; each change advances *generation*. What so many *bodies* list is known."""
        self._generation = generation or Generation()
        self._times = Recent[str, float](self.CAPACITY, 4 * MEMO_BYTES)
        self._floor = 0.0
        self.changed_at = 0.0
        """When anything was last changed, in epoch seconds; 0 for never."""
        self._ahead = 0.0  # the latest time of the clock before it was set back
        self._tags = TagIndex(bodies)

    def record_write(self, nodes: Iterable[str], fingerprint: bytes, now: float) -> Tags:
        """Record that a write to *nodes* was answered at *now*; returns the changed tags, () for all."""
        tags = self._tags.tags_written(nodes, fingerprint)
        self.invalidate(tags, now)
        return tags

    def record_refused_token(self, fingerprint: bytes, now: float) -> None:
        """Record that Graph refused the token with *fingerprint* at *now*: all that it fetched before is not fresh."""
        self.invalidate((tag_of_token(fingerprint),), now)

    def tags_showing(self, node: str) -> Tags:
        """Returns the tags of *node* and of the lists that are known to show it."""
        return self._tags.tags_written((node,), b"")

    def tags_of(self, request: Request, fingerprint: bytes) -> Tags:
        """Returns the tags of *request*: a change of one of them is a change of what it reads."""
        return self._tags.tags_read(request, fingerprint)

    def invalidated_at(self, request: Request, fingerprint: bytes) -> float:
        """Returns when the tags of *request* were last changed, in epoch seconds; 0 for never."""
        if not self.changed_at:
            return 0.0
        return self.latest((tag_of_token(fingerprint), *self._tags.tags_read(request, fingerprint)))

    def tags_of_write(self, nodes: Iterable[str], fingerprint: bytes) -> Tags:
        """Returns the tags that a write to *nodes* changes, () for all; records nothing."""
        return self._tags.tags_written(nodes, fingerprint)

    def all_tags(self, key: bytes, request: Request, fingerprint: bytes, body: bytes, asked: float) -> Tags:
        """Returns the tags whose change is a change of *body*: of the read, of its token, and of all that it lists."""
        listed = self.learn(key, request, fingerprint, body, asked)
        return (tag_of_token(fingerprint), *self._tags.tags_read(request, fingerprint), *listed)

    @property
    def version(self) -> int:
        """A number that changes whenever more is known of which lists show which objects."""
        return self._tags.searched

    def must_learn(self, key: bytes, asked: float) -> bool:
        """Returns whether the entry under *key* has to be searched by `learn` before it may count as fresh.

        That is so if anything was changed since *asked* and the entry was not searched yet: without changes no body is
        searched at all.
        """
        return self.changed_at >= asked and not self._tags.knows(key)

    def learn(self, key: bytes, request: Request, fingerprint: bytes, body: bytes, asked: float) -> Tags:
        """Learn which objects *body* lists, and return them; if one was changed since *asked*, invalidate the list."""
        listed, list_tag = self._tags.learn(key, request, fingerprint, body)
        if self.changed_at >= asked and (when := self.latest(listed)) >= asked:
            self._record((list_tag,), when)
        return listed

    def on_stored(self, key: bytes, request: Request, fingerprint: bytes, body: bytes, asked: float) -> Tags:
        """Record that a new *body* was stored under *key*; returns the tags of *request*."""
        if len(body) > LEARNED_AT_ONCE:
            self._tags.forget(key)
        elif not self._tags.learn_nothing(key, request, body):
            self.learn(key, request, fingerprint, body, asked)
        return self._tags.tags_read(request, fingerprint)

    def on_all_stored(
        self, keys: Sequence[bytes], requests: Sequence[Request], fingerprint: bytes, entries: Sequence[Entry]
    ) -> list[Tags]:
        """Record that new *entries* were stored under *keys*; returns the tags of each of *requests*, of one token."""
        return [
            self.on_stored(key, request, fingerprint, entry.body, entry.meta.asked_at)
            for key, request, entry in zip(keys, requests, entries, strict=True)
        ]

    def invalidate(self, tags: Iterable[str], now: float) -> None:
        """Record that *tags* changed at *now*; without a tag everything counts as changed.

        If the clock was set back, its latest earlier time is used, so that entries with later stamps count as older.
        """
        self._record(tags, max(now, self._ahead))

    def _record(self, tags: Iterable[str], now: float) -> None:
        changed = tuple(tags)
        self._generation.advance()
        self.changed_at = max(self.changed_at, now)
        for name in changed:
            for _, when in self._times.put(name, max(now, self._times.get(name) or 0.0)):
                self._floor = max(self._floor, when)
        if not changed:
            self._floor = max(self._floor, now)

    def save(self) -> bytes:
        """Returns the changes as bytes, for `load` in a later run; b"" where they are too many."""
        text = msgspec.json.encode(_SavedChanges(self._floor, self.changed_at, dict(self._times.items())))
        return text if len(text) <= SAVED_AT_MOST else b""

    def load(self, text: bytes, now: float) -> None:
        """Take over the changes that an earlier run saved; without them, whatever was asked before *now* is changed."""
        try:
            found = msgspec.json.decode(text, type=_SavedChanges)
        except UNREADABLE:
            before = math.nextafter(now, 0.0)  # what is asked now is of this run
            found = _SavedChanges(before, before, {})
        for name, when in found.times.items():
            self._record((name,), min(when, now))
        self._floor = max(self._floor, min(found.floor, now))
        self.changed_at = max(self.changed_at, min(found.latest, now))
        self._generation.advance()

    def set_back(self, now: float, by: float) -> None:
        """Correct all times after the clock was set back to *now* by *by* seconds."""
        self._generation.advance()
        self._ahead = max(self._ahead, now + by)
        self._times.change(lambda when: set_back(when, now, by))
        self._floor, self.changed_at = set_back(self._floor, now, by), set_back(self.changed_at, now, by)

    def latest(self, tags: Iterable[str]) -> float:
        """Returns the latest change of any of *tags*, in epoch seconds; 0 for never."""
        return max([self._floor, *(self._times.get(name) or 0.0 for name in tags)])


def tag_of_token(fingerprint: bytes) -> str:
    """Returns the tag of all that the token with *fingerprint* may read."""
    return f"token {fingerprint.hex()}"
