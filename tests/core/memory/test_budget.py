"""A budget of bytes: small shares always find room, large ones stop each other."""

from __future__ import annotations

from contextlib import ExitStack

from proxy.core.memory.budget import SMALL, Budget, Share


def filled(share: Share, step: int) -> int:
    """The size that *share* comes to, taking *step* bytes at a time as long as there is room."""
    while share.grow(step):
        pass
    return share.size


def test_one_share_takes_half() -> None:
    """As much as a share holds stays free."""
    budget = Budget(100 * SMALL)
    with budget.share() as share:
        assert filled(share, 1000) // 1000 == budget.largest // 1000
    assert budget.used == 0


def test_a_small_one_finds_room_beside_many() -> None:
    """Where a hundred have taken what they could get, a small share is served all the same."""
    budget = Budget(100 * SMALL)
    with ExitStack() as stack:
        sizes = [filled(stack.enter_context(budget.share()), 1000) for _each in range(100)]
        assert sum(sizes) < budget.limit + 100 * SMALL
        with budget.share() as small:
            assert filled(small, 1000) == SMALL // 1000 * 1000


def test_a_share_that_ends_gives_all_back() -> None:
    """What others held is free for the next."""
    budget = Budget(400 * SMALL)
    with budget.share() as first:
        filled(first, SMALL)
        with budget.share() as second:
            assert filled(second, SMALL) == 100 * SMALL
    with budget.share() as third:
        assert filled(third, SMALL) == 200 * SMALL
