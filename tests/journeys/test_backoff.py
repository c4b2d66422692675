"""Clients with a backoff of their own meet throttles, directly and through the sidecar: minutes of a told clock.

The whole table is what `python -m bench backoff` shows.
"""

from __future__ import annotations

import pytest

from bench.backoff import CODES, JOBS, THROTTLES, Played, play

GRID = [(4, None), (613, None), (80004, 2446079)]
SEVERAL = ["three clients, one read", "three clients, three reads"]


def shown(played: list[Played]) -> list[str]:
    """What was played, as a failure tells it."""
    return [f"{each.job}, {each.schedule}, {each.throttle}, {each.code}: {each.direct.shown} became "
            f"{each.through.shown}" for each in played]  # fmt: skip


@pytest.mark.parametrize("code", GRID)
def test_a_throttle_that_a_backoff_survives_directly_it_survives_through(code: tuple[int, int | None]) -> None:
    """In as much time, with no more calls: every schedule against every throttle."""
    played = play(["one read"], [code])
    assert any(each.direct.seconds[0] is None for each in played)
    assert not shown([each for each in played if each.lost or each.late or each.harms])


def test_whatever_the_code() -> None:
    """Of each that says that a limit is reached, for two calls."""
    played = play(["one read"], [code for code in CODES if code not in GRID], throttles=["2 calls"])
    assert not shown([each for each in played if each.lost or each.late or each.harms])


@pytest.mark.parametrize("job", [name for name, jobs in JOBS.items() if len(jobs) == 1 and name != "one read"])
def test_whatever_the_job(job: str) -> None:
    """Reads in a row, batches of the application's own, and what passes through."""
    played = play([job], [(4, None)], throttles=["2 calls", "20 s"])
    assert not shown([each for each in played if each.lost or each.late or each.harms])


@pytest.mark.parametrize("gap_s", [0, 0.3])
def test_several_clients_at_once(gap_s: float) -> None:
    """Each gets what it gets directly, and Graph refuses no more calls; where time ends the throttle, as soon.

    A throttle that ends with its second call has ended later where fewer calls were made.
    """
    played = play(SEVERAL, [(4, None)], throttles=["2 calls", "20 s"], gap_s=gap_s)
    assert not shown([each for each in played if each.lost or each.harms])
    assert not shown([each for each in played if each.late and "seconds" in THROTTLES[each.throttle]])


def test_the_others_are_spared() -> None:
    """Reads that come after a refusal, and were not refused themselves, cost fewer calls than directly."""
    played = play(["three clients, three reads"], [(4, None)], throttles=["20 s"], gap_s=0.3)
    assert all(each.through.refused < each.direct.refused for each in played)
