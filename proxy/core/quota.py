"""What Graph last said of its limits. Usage is news about an app or an account, never a part of what was read."""

from __future__ import annotations

from collections import OrderedDict

from proxy.core import headers
from proxy.core.messages import Headers

FORGOTTEN_S = 300
"""Usage decays within minutes; clients that sleep on a high value must not be made to sleep on an old one."""


class Usage:
    """The newest usage headers: an app's by credential, those of an account or a business by the object as well."""

    PLACES = 1024

    def __init__(self) -> None:
        """Know nothing yet."""
        self._newest: OrderedDict[tuple[bytes, str], tuple[float, Headers]] = OrderedDict()

    def note(self, fingerprint: bytes, node: str, fields: Headers, now: float) -> None:
        """Remember the usage headers among *fields*, of a reply about *node* to the credential with *fingerprint*."""
        self._put((fingerprint, ""), headers.pick(fields, headers.APP_USAGE), now)
        self._put((fingerprint, node), headers.pick(fields, headers.USAGE - headers.APP_USAGE), now)

    def newest(self, fingerprint: bytes, node: str, now: float) -> Headers:
        """The usage headers for a reply that Graph did not give now; none rather than old ones."""
        places = dict.fromkeys(((fingerprint, ""), (fingerprint, node)))
        told = (self._newest.get(place, (0.0, ())) for place in places)
        return tuple(field for then, fields in told if now - then < FORGOTTEN_S for field in fields)

    def _put(self, place: tuple[bytes, str], told: Headers, now: float) -> None:
        if told:
            self._newest[place] = (now, told)
            self._newest.move_to_end(place)
            if len(self._newest) > self.PLACES:
                self._newest.popitem(last=False)
