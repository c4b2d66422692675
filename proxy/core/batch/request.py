"""Encodes reads as one root batch call, and chooses the token that stands on top of the call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from proxy.core.graph.errors import Blame
from proxy.core.memory.memo import Recent, memo
from proxy.core.model import Credential, Request
from proxy.core.routing.query import form, join_pairs

LEADS_TRIED = 3
"""Credentials that one batch is tried under."""


def encode(requests: Sequence[Request], top: Credential) -> bytes:
    """The urlencoded form that asks *requests* in one call, *top* vouching for the call as a whole.

    Every slot carries its own token and proof: the top-level ones are a fallback, and would lend a stranger's rights to
    a slot that had none. Raises ValueError for such a request.
    """
    if any(request.credential is None for request in requests):
        raise ValueError("an operation without a token of its own never enters a batch")
    operations = msgspec.json.encode([operation(request) for request in requests]).decode()
    return form({**top.parameters, "include_headers": "true", "batch": operations})


def relative_url(request: Request) -> str:
    """What stands behind the host: version as asked, path, query in normal form, the caller's own token and proof."""
    own = "" if request.credential is None else vouching(request.credential)
    both = "&" if own and request.query else ""
    return f"{request.version}{request.path}?{request.query}{both}{own}".removeprefix("/").removesuffix("?")


@memo()
def vouching(credential: Credential) -> str:
    """The parameters that carry *credential*, as they stand in a query."""
    return join_pairs(tuple(credential.parameters.items()))


def operation(request: Request) -> dict[str, Any]:
    """*request* as an operation of a batch, with what it is conditional on."""
    # The language stands on the outer call too; nothing says that its slots inherit it.
    named = {"If-None-Match": request.validator, "Accept-Language": request.language}
    told: dict[str, Any] = {"method": "GET", "relative_url": relative_url(request)}
    if fields := [f"{name}: {value}" for name, value in named.items() if value]:
        told["headers"] = fields
    return told


class LeadTokens:
    """Which credentials were refused on top of a batch lately, and so do not go there."""

    REST_S = 60
    PLACES = 1024

    def __init__(self) -> None:
        """Trust every credential."""
        self._rested = Recent[Credential, tuple[float, Blame]](self.PLACES)

    def choose(self, requests: Sequence[Request], now: float) -> Credential | None:
        """A credential of *requests* that may stand on top; None if Graph refused them all as tokens.

        One that is only out of quota is better than none: its reads keep the form of asking that their ETags hold for.
        """
        own = [request.credential for request in requests if request.credential]
        free = (known for known in own if self._rest(known)[0] <= now)
        spent = (known for known in own if self._rest(known)[1] is Blame.QUOTA)
        return next(free, None) or next(spent, None)

    def refuse(self, credential: Credential, blame: Blame, now: float) -> None:
        """Keep *credential* off the top for a while, for what Graph blamed."""
        self._rested.put(credential, (now + self.REST_S, blame))

    def _rest(self, credential: Credential) -> tuple[float, Blame]:
        return self._rested.get(credential) or (0.0, Blame.OTHER)
