"""Detects loops with CDN-Loop (RFC 8586): a hosts file or a chain of proxies may lead the sidecar's calls back to it.

Each process adds an id of its own. A read in a batch loses its caller's CDN-Loop field, so calls to Graph also carry
the ids of other sidecars that were seen in requests: then a loop through several sidecars is detected too.
"""

from __future__ import annotations

import re
from collections import OrderedDict

from proxy.core.http.cache_status import CACHE_NAME

LOOP_FIELD = "CDN-Loop"
"""The field that lists the proxies that forwarded a call. `Via` is not used: some servers do not compress with it."""

_MOST_OTHERS = 8
_OUR_MEMBER = re.compile(rf"(?:^|,)\s*{CACHE_NAME}\s*;\s*id=([0-9a-f]{{16}})(?=\s*(?:,|;|$))")


class LoopGuard:
    """Detects requests that this process has sent itself, and makes the CDN-Loop field of calls to Graph."""

    def __init__(self, own: str) -> None:
        """Use the id *own*, 16 hexadecimal digits that no other process has."""
        self._own = own
        self._others: OrderedDict[str, None] = OrderedDict()
        self.field_value = self._field_value()
        """The value of CDN-Loop in a call to Graph."""

    def is_back(self, field: str) -> bool:
        """Returns whether a request with this CDN-Loop *field* came from this process; remembers the ids of others."""
        found = _OUR_MEMBER.findall(field) if field else []
        for each in found:
            if each != self._own:
                self._others[each] = None
                self._others.move_to_end(each)
        while len(self._others) > _MOST_OTHERS:
            self._others.popitem(last=False)
        if found:
            self.field_value = self._field_value()
        return self._own in found

    def _field_value(self) -> str:
        return ", ".join(f"{CACHE_NAME};id={each}" for each in (*self._others, self._own))
