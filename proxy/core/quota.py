"""What Graph last said of its limits. Usage is news about an app or an account, never a part of what was read."""

from __future__ import annotations

from collections import OrderedDict

from proxy.core import headers
from proxy.core.messages import Headers

FORGOTTEN_S = 300
"""Usage decays within minutes; clients that sleep on a high value must not be made to sleep on an old one."""

_PLACES = 4096


class Usage:
    """The newest usage headers by credential, and by object where they speak of an account or a business."""

    def __init__(self) -> None:
        """Know nothing yet."""
        self._newest: OrderedDict[tuple[bytes, str], tuple[float, Headers]] = OrderedDict()

    def note(self, fingerprint: bytes, node: str, fields: Headers, now: float) -> None:
        """Remember the usage headers among *fields*, of a reply about *node* to the credential with *fingerprint*."""
        told = headers.pick(fields, headers.USAGE)
        if told:
            self._newest[fingerprint, node] = (now, told)
            self._newest.move_to_end((fingerprint, node))
            if len(self._newest) > _PLACES:
                self._newest.popitem(last=False)

    def newest(self, fingerprint: bytes, node: str, now: float) -> Headers:
        """The usage headers for a reply that Graph did not give now; none rather than old ones."""
        then, told = self._newest.get((fingerprint, node), (0.0, ()))
        return told if now - then < FORGOTTEN_S else ()
