"""The one table of codes that say that a limit is reached."""

import json

import pytest

from proxy.core.batch.response import is_worth_a_retry
from proxy.core.graph.errors import Blame, GraphError, blame, is_trouble
from proxy.core.graph.throttles import THROTTLED, LimitScope, throttle_meaning, usual_code
from proxy.core.model import Reply
from proxy.core.quota.limiter import throttle


@pytest.mark.parametrize("code", sorted(THROTTLED))
def test_whatever_asks_knows_every_code(code: int) -> None:
    """It stops a pool, blames the quota, is covered by what is held, and is final in a batch."""
    body = json.dumps({"error": {"code": code, "message": "too many"}}).encode()
    reply = Reply(400, (), body)
    assert throttle(reply) is not None
    assert blame(400, body) is Blame.QUOTA
    assert is_trouble(reply)
    assert not is_worth_a_retry(500, GraphError(code))


@pytest.mark.parametrize("limit", [limit for limit in LimitScope if limit is not LimitScope.TOKEN])
@pytest.mark.parametrize("use", ["", "ads_insights", "ads_management", "custom_audience", "pages", "unheard_of"])
def test_a_limit_is_told_by_a_code_that_means_it(limit: LimitScope, use: str) -> None:
    """Where a simulation has to refuse; of a use that no row names, by a code of the same kind."""
    code, subcode = usual_code(limit, use)
    assert throttle_meaning(code, subcode).scope is limit
    known = {
        (LimitScope.APP, "ads_insights"),
        (LimitScope.ACCOUNT, "ads_insights"),
        (LimitScope.ACCOUNT, "custom_audience"),
    }
    if (limit, use) in known:
        assert throttle_meaning(code, subcode).use == use


def test_a_subcode_without_a_row_means_what_none_means() -> None:
    """Nobody is held back for what a number might mean."""
    assert throttle_meaning(613, 99) == throttle_meaning(613, None) == throttle_meaning(613, 0)
    assert throttle_meaning(613, 99).scope is LimitScope.EDGE
