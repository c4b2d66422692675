"""Recognises its own calls when they come back (RFC 8586): a hosts file or a chain of proxies may lead them here.

Each process has an id of its own and signs with it. A read that rides in a batch leaves its caller's field behind, so
the ids of other sidecars that were seen on the way in are told on the way out: a circle of several is seen, too.
"""

from __future__ import annotations

import re
from collections import OrderedDict

from proxy.core.http.cache_status import NAME

FIELD = "CDN-Loop"
"""Says who has passed this call on. It is not `Via`, at which some servers stop compressing."""

_OTHERS = 8
_ID = re.compile(rf"(?:^|,)\s*{NAME}\s*;\s*id=([0-9a-f]{{16}})(?=\s*(?:,|;|$))")


class LoopGuard:
    """Who has passed on what comes in, and what is said of it on the way out."""

    def __init__(self, own: str) -> None:
        """Sign as *own*, 16 hexadecimal digits that no other process has."""
        self._own = own
        self._others: OrderedDict[str, None] = OrderedDict()

    def is_back(self, told: str) -> bool:
        """Whether a message whose field says *told* was sent from here; the ids of others are remembered."""
        found = _ID.findall(told) if told else []
        for each in found:
            if each != self._own:
                self._others[each] = None
                self._others.move_to_end(each)
        while len(self._others) > _OTHERS:
            self._others.popitem(last=False)
        return self._own in found

    @property
    def field_value(self) -> str:
        """The field of a call to Graph."""
        return ", ".join(f"{NAME};id={each}" for each in (*self._others, self._own))
