"""The one table of Graph's throttle codes: which error codes say that a limit is reached, and whose limit that is.

Sources: developers.facebook.com/docs/graph-api/overview/rate-limiting, …/guides/error-handling and
…/docs/marketing-api/insights/best-practices. Where they leave open whose limit it is, the row names the narrowest one:
a limit taken too wide would refuse reads that Graph answers.

`core/quota/descriptors.stopped_by` finds the limit of a row's scope for the read that was refused, and
`core/quota/limiter.on_reply` stops that limit. `core/batch/response` and `core/graph/errors` ask THROTTLED, so that a
refused read is not asked again. The fast path leaves every slot with an error to these.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

_QPS_S = 1.0


class LimitScope(StrEnum):
    """Whose limit is reached.

    The comment says which limit `descriptors.stopped_by` takes for it where the read alone does not tell.
    """

    APP = "app"  # with `quota.group = "token"` that of this token: which other tokens belong to its app is not known
    TOKEN = "token"  # of the user or system user whose token it is  # noqa: S105 - the word, not a secret
    PAGE = "page"  # of the one object that was read; of several objects: TOKEN
    ACCOUNT = "account"  # the one ad account that the one object belongs to; unknown: BUSINESS
    BUSINESS = "business"  # what usage headers named with the one object; unknown: a limit of just the objects of this
    # read; of a read that names no object: TOKEN
    EDGE = "edge"  # one edge of one node, or a feature that is read there


class ThrottleMeaning(NamedTuple):
    """Whose limit a code is about, for which business use case, and how long the refusal lasts if that is known.

    *use* chooses among the limits of an app or a business. Among those of an ad account the edge that was read chooses,
    because one account has the same use cases under several codes.
    The HTTP status does not matter: Graph gives the same code with different ones.
    """

    scope: LimitScope
    use: str = ""
    block_s: float = 0.0


_ANY = 0
"""In place of a subcode: any that has no row of its own, and none."""

_MEANINGS: dict[tuple[int, int], ThrottleMeaning] = {
    (4, _ANY): ThrottleMeaning(LimitScope.APP),
    (4, 1504022): ThrottleMeaning(LimitScope.APP, "ads_insights"),
    (4, 1504039): ThrottleMeaning(LimitScope.APP, "ads_insights"),
    (341, _ANY): ThrottleMeaning(LimitScope.APP),
    (17, _ANY): ThrottleMeaning(LimitScope.TOKEN),
    (17, 2446079): ThrottleMeaning(LimitScope.ACCOUNT),
    (32, _ANY): ThrottleMeaning(LimitScope.PAGE),
    (80004, _ANY): ThrottleMeaning(LimitScope.ACCOUNT, "ads_management"),
    (80000, _ANY): ThrottleMeaning(LimitScope.ACCOUNT, "ads_insights"),
    (80003, _ANY): ThrottleMeaning(LimitScope.ACCOUNT, "custom_audience"),
    (613, 1487742): ThrottleMeaning(LimitScope.ACCOUNT),
    (80001, _ANY): ThrottleMeaning(LimitScope.BUSINESS, "pages"),
    (80002, _ANY): ThrottleMeaning(LimitScope.BUSINESS, "instagram"),
    (80005, _ANY): ThrottleMeaning(LimitScope.BUSINESS, "leadgen"),
    (80006, _ANY): ThrottleMeaning(LimitScope.BUSINESS, "messenger"),
    **{(code, _ANY): ThrottleMeaning(LimitScope.BUSINESS) for code in range(80007, 80015)},
    (130429, _ANY): ThrottleMeaning(LimitScope.BUSINESS),
    (613, _ANY): ThrottleMeaning(LimitScope.EDGE),
    (613, 5044001): ThrottleMeaning(LimitScope.EDGE, block_s=_QPS_S),  # queries per second
    (368, _ANY): ThrottleMeaning(LimitScope.EDGE),  # a policy block of one action: it stops no other limit
    (131048, _ANY): ThrottleMeaning(LimitScope.EDGE),
    (131056, _ANY): ThrottleMeaning(LimitScope.EDGE),
}

THROTTLED = frozenset(code for code, _ in _MEANINGS)
"""The codes that say that a limit is reached: to ask again prolongs the block."""


def throttle_meaning(code: int, subcode: int | None) -> ThrottleMeaning:
    """Returns what *code*, one of THROTTLED, means together with *subcode*."""
    return _MEANINGS.get((code, subcode or _ANY)) or _MEANINGS.get((code, _ANY)) or ThrottleMeaning(LimitScope.EDGE)


def usual_code(kind: str, use: str) -> tuple[int, int]:
    """Returns the code and subcode with which Graph refuses under a limit of this *kind* and *use*; 0: no subcode."""
    of_kind = [(code, meaning) for code, meaning in _MEANINGS.items() if meaning.scope == kind]
    return next((code for code, meaning in of_kind if meaning.use == use), of_kind[0][0])
