"""Which codes of Graph's say that a limit is reached, and whose limit each of them means: the one table of that.

Sources: developers.facebook.com/docs/graph-api/overview/rate-limiting, …/guides/error-handling and
…/docs/marketing-api/insights/best-practices. Where they leave open whose limit it is, the row names the narrowest:
a limit that is taken for a wider one would refuse reads that Graph answers.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

_QPS_S = 1.0


class Limit(StrEnum):
    """Whose a limit is."""

    APP = "app"
    TOKEN = "token"  # noqa: S105 - a word, not a secret: the user's or the system user's
    PAGE = "page"
    ACCOUNT = "account"
    BUSINESS = "business"
    EDGE = "edge"  # one edge of one node, or a feature that is read there


class Meaning(NamedTuple):
    """What a code means: whose limit, for which business use case, and how long such a refusal lasts if that is known.

    The status says nothing: it differs from call to call.
    """

    limit: Limit
    use: str = ""
    lasts_s: float = 0.0


_ANY = 0
"""Stands for every subcode that has no row of its own, and for none."""

_MEANINGS: dict[tuple[int, int], Meaning] = {
    (4, _ANY): Meaning(Limit.APP),
    (4, 1504022): Meaning(Limit.APP, "ads_insights"),
    (4, 1504039): Meaning(Limit.APP, "ads_insights"),
    (341, _ANY): Meaning(Limit.APP),
    (17, _ANY): Meaning(Limit.TOKEN),
    (17, 2446079): Meaning(Limit.ACCOUNT),
    (32, _ANY): Meaning(Limit.PAGE),
    (80004, _ANY): Meaning(Limit.ACCOUNT, "ads_management"),
    (80000, _ANY): Meaning(Limit.ACCOUNT, "ads_insights"),
    (80003, _ANY): Meaning(Limit.ACCOUNT, "custom_audience"),
    (613, 1487742): Meaning(Limit.ACCOUNT),
    (80001, _ANY): Meaning(Limit.BUSINESS, "pages"),
    (80002, _ANY): Meaning(Limit.BUSINESS, "instagram"),
    (80005, _ANY): Meaning(Limit.BUSINESS, "leadgen"),
    (80006, _ANY): Meaning(Limit.BUSINESS, "messenger"),
    **{(code, _ANY): Meaning(Limit.BUSINESS) for code in range(80007, 80015)},
    (130429, _ANY): Meaning(Limit.BUSINESS),
    (613, _ANY): Meaning(Limit.EDGE),
    (613, 5044001): Meaning(Limit.EDGE, lasts_s=_QPS_S),  # queries per second
    (368, _ANY): Meaning(Limit.EDGE),  # what was tried is blocked for a while
    (131048, _ANY): Meaning(Limit.EDGE),
    (131056, _ANY): Meaning(Limit.EDGE),
}

THROTTLED = frozenset(code for code, _ in _MEANINGS)
"""Codes that say "too much": asking again prolongs the block."""


def meaning(code: int, subcode: int | None) -> Meaning:
    """What *code*, which is one of THROTTLED, means with *subcode*."""
    return _MEANINGS.get((code, subcode or _ANY)) or _MEANINGS.get((code, _ANY)) or Meaning(Limit.EDGE)


def usual_code(kind: str, use: str) -> tuple[int, int]:
    """The code and subcode by which Graph refuses for a limit of this *kind* and *use*; subcode 0 for none."""
    of_kind = [(code, told) for code, told in _MEANINGS.items() if told.limit == kind]
    return next((code for code, told in of_kind if told.use == use), of_kind[0][0])
