"""When something was last changed, through the sidecar or as Meta's webhooks tell: what was read before is not fresh.

A token that Graph refuses is such a change, too: of all that it may read.

The one index of changes. Writes and events name objects; `kin` knows which reads show them.
"""

from __future__ import annotations

from collections.abc import Iterable

from proxy.core.cache.clock_step import set_back
from proxy.core.cache.tags import TagIndex, Tags
from proxy.core.memory.memo import MEMO_BYTES, Recent
from proxy.core.model import Request

EAGERLY = 65_536
"""Bytes of the largest body that is learned from as it is kept; larger ones only when something was changed since."""


class InvalidationIndex:
    """The times of changes by name, for a bounded number of names; of what was forgotten the safe thing is said."""

    PLACES = 10_000

    def __init__(self) -> None:
        """Know of no change."""
        self._times = Recent[str, float](self.PLACES, 4 * MEMO_BYTES)
        self._floor = 0.0
        self._latest = 0.0
        self._kin = TagIndex()

    def record_write(self, nodes: Iterable[str], fingerprint: bytes, now: float) -> Tags:
        """A write to *nodes* was answered at *now*; the names that it changed, () for any."""
        names = self._kin.tags_written(nodes, fingerprint)
        self.invalidate(names, now)
        return names

    def record_refused_token(self, fingerprint: bytes, now: float) -> None:
        """Graph refused the token with *fingerprint* at *now*: whatever it fetched before is not fresh."""
        self.invalidate((name_of_token(fingerprint),), now)

    def tags_showing(self, node: str) -> Tags:
        """The names of *node* and of the lists that were seen to show it."""
        return self._kin.tags_written((node,), b"")

    def tags_of(self, request: Request, fingerprint: bytes) -> Tags:
        """The names whose change is a change of what *request* reads."""
        return self._kin.tags_read(request, fingerprint)

    def invalidated_at(self, request: Request, fingerprint: bytes) -> float:
        """The latest change that may have been one of what *request* reads, epoch seconds; 0 for never."""
        if not self._latest:
            return 0.0
        return self.latest((name_of_token(fingerprint), *self._kin.tags_read(request, fingerprint)))

    def tags_of_write(self, nodes: Iterable[str], fingerprint: bytes) -> Tags:
        """The names that a write to *nodes* changes, () for any; nothing is recorded."""
        return self._kin.tags_written(nodes, fingerprint)

    def all_tags(self, key: bytes, request: Request, fingerprint: bytes, body: bytes, asked: float) -> Tags:
        """The names whose change is a change of *body*: those of the read and its token, and all that it lists."""
        listed = self.learn(key, request, fingerprint, body, asked)
        return (name_of_token(fingerprint), *self._kin.tags_read(request, fingerprint), *listed)

    @property
    def version(self) -> int:
        """A number that is another one when more is known of which lists show which objects."""
        return self._kin.learned

    def may_concern(self, key: bytes, asked: float) -> bool:
        """Whether the body held under *key*, asked for at *asked*, may list what was changed since: then learn from it.

        Without a change there is nothing to look for: an idle sidecar pays nothing.
        """
        return self._latest >= asked and not self._kin.knows(key)

    def learn(self, key: bytes, request: Request, fingerprint: bytes, body: bytes, asked: float) -> Tags:
        """Learn which objects *body* lists, and name them; one changed since it was *asked* for touches the list."""
        listed, place = self._kin.learn(key, request, fingerprint, body)
        if self._latest >= asked and (when := self.latest(listed)) >= asked:
            self.invalidate((place,), when)
        return listed

    def on_stored(self, key: bytes, request: Request, fingerprint: bytes, body: bytes, asked: float) -> None:
        """A new *body* is held under *key*."""
        if len(body) <= EAGERLY:
            self.learn(key, request, fingerprint, body, asked)
        else:
            self._kin.forget(key)

    def invalidate(self, names: Iterable[str], now: float) -> None:
        """What goes by *names* changed at *now*; without a name it may have been anything."""
        named = tuple(names)
        self._latest = max(self._latest, now)
        for name in named:
            for _, when in self._times.put(name, max(now, self._times.get(name) or 0.0)):
                self._floor = max(self._floor, when)
        if not named:
            self._floor = max(self._floor, now)

    def set_back(self, now: float, by: float) -> None:
        """The clock was set back to *now*, *by* seconds: no change is later than it was meant to be."""
        self._times.change(lambda when: set_back(when, now, by))
        self._floor, self._latest = set_back(self._floor, now, by), set_back(self._latest, now, by)

    def latest(self, names: Iterable[str]) -> float:
        """The latest change of any of *names*, epoch seconds; 0 for never."""
        return max([self._floor, *(self._times.get(name) or 0.0 for name in names)])


def name_of_token(fingerprint: bytes) -> str:
    """The name of all that the token with *fingerprint* may read."""
    return f"token {fingerprint.hex()}"
