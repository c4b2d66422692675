import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.model import Reply
from proxy.core.quota.bucket import Bucket, Stage, Stages
from proxy.core.quota.buckets import BucketName, Buckets
from proxy.core.quota.stop import LimitRefusal
from proxy.core.quota.usage_headers import FORGOTTEN_S, UsageLevel

STAGES = Stages(foresight_s=300)
APP = BucketName("app", b"a" * 16, "", "")
ACCOUNT = BucketName("account", b"a" * 16, "1", "ads_insights")
ERROR = LimitRefusal(Reply(400, (), b"{}"))
PERCENTS = st.floats(0, 1000)


def told(percent: float, *, lasts_s: float = 0.0, at: float = 1000.0, name: BucketName = APP) -> Buckets:
    """Returns buckets of which one was reported."""
    pools = Buckets(STAGES)
    pools.record(name, UsageLevel("app", "", "", percent, lasts_s), 1, at)
    return pools


@pytest.mark.parametrize(
    "percent, stage",
    [(0, Stage.CALM), (59.9, Stage.CALM), (60, Stage.WATCH), (80, Stage.SPARE), (99, Stage.SPARE), (100, Stage.STOP)],
)
def test_the_stages(percent: float, stage: Stage) -> None:
    """Each stage begins at its own percentage."""
    assert STAGES.at(percent) is stage


@given(PERCENTS, PERCENTS)
def test_stages_and_pressure_only_rise_with_use(one: float, other: float) -> None:
    """Higher use never gives a calmer stage or less pressure, and pressure is always between 0 and 1."""
    low, high = sorted((one, other))
    assert STAGES.at(low) <= STAGES.at(high)
    pressures = [told(percent).pressure([APP], 1001) for percent in (low, high)]
    assert 0 <= pressures[0] <= pressures[1] <= 1


def test_pressure_rises_from_watch_to_stop() -> None:
    """There is no pressure below the watch stage; at the stop stage nothing is sent."""
    assert [told(percent).pressure([APP], 1001) for percent in (59, 60, 80, 100)] == [0, 0, 0.5, 1]
    assert told(100).pressure([ACCOUNT], 1001) == 0


@pytest.mark.parametrize("lasts_s, until", [(0, FORGOTTEN_S), (60, 60), (1200, 1200)])
def test_usage_is_forgotten(lasts_s: float, until: float) -> None:
    """A level is outdated after five minutes, or when the time that Graph named has come."""
    pool = Bucket()
    pool.record(90, lasts_s, 1, 1000)
    assert pool.used(1000 + until - 0.1) == 90
    assert pool.used(1000 + until) == 0


@given(st.lists(st.tuples(PERCENTS, st.floats(0, 600)), min_size=1, max_size=12))
def test_percent_and_waits_stay_within_their_bounds(news: list[tuple[float, float]]) -> None:
    """Levels that Graph reports, at any intervals."""
    pool, now = Bucket(), 1000.0
    for percent, later in news:
        now += later
        pool.record(percent, 0, 3, now)
        pool.last_admitted_at = now
        assert 0 <= pool.used(now) <= pool.used_in(300, now)
        assert 0 <= pool.wait_s(STAGES, now) <= STAGES.longest_wait_s


def test_the_trend_is_measured_over_some_time() -> None:
    """Percent per minute, between levels far enough apart that rounding does not matter."""
    pool = Bucket()
    for second in range(0, 61, 5):
        pool.record(10 + second / 6, 0, 10, 1000 + second)
    assert pool.trend_per_min(1060) == pytest.approx(10, abs=0.5)
    assert pool.trend_per_min(1060 + FORGOTTEN_S) == 0


def next_wait(pool: Bucket, now: float) -> float:
    """Returns the wait of a read that comes just after another was sent."""
    pool.last_admitted_at = now
    return pool.wait_s(STAGES, now)


def test_waits_are_spread_over_the_time_that_what_is_left_must_last() -> None:
    """The first read is sent at once; the next waits longer, the less is left and the longer it must last."""
    gaps = []
    for percent, lasts_s in ((80, 0.0), (90, 0.0), (90, 300.0), (90, 600.0)):
        pool = Bucket()
        pool.record(percent, lasts_s, 1, 1000)
        assert pool.wait_s(STAGES, 1000) == 0
        gaps.append(next_wait(pool, 1000))
    assert gaps == pytest.approx([18, 30, 3, 6])  # 36 s would be longer than anyone waits


def test_waits_follow_the_trend() -> None:
    """While use rises faster than the rest allows, waits are longer; while use falls, they are shorter."""
    waits = []
    for step in (-2, 0, 2):
        pool = Bucket()
        for number in range(4):
            pool.record(88 + step * number, 600, 100, 1000 + 10 * number)
        waits.append(next_wait(pool, 1030))
    assert waits[0] < waits[1] < waits[2]


def test_a_used_up_pool_has_no_room() -> None:
    """With nothing left, every read waits the longest time."""
    pool = Bucket()
    pool.record(100, 0, 1, 1000)
    assert pool.wait_s(STAGES, 1000) == STAGES.longest_wait_s


def rising(
    start: float, step: float, *, every_s: float, times: int = 6, stages: Stages = STAGES
) -> tuple[Buckets, float]:
    """Returns buckets of which one was reported so often, after ten calls each, and the time of the last report."""
    pools = Buckets(stages)
    for number in range(times):
        pools.record(APP, UsageLevel("app", "", "", start + step * number), 10, 1000 + number * every_s)
        pools.note_low_priority([APP], 1000 + number * every_s)
    return pools, 1000 + (times - 1) * every_s


@pytest.mark.parametrize(
    "start, step, every_s, foresight_s, stage",
    [
        (1, 1, 1.0, 300, "spare"),  # a sprint: seen within seconds
        (1, 5, 0.2, 300, "calm"),  # a leap, soon over
        (1, 0, 10, 300, "calm"),
        (40, 1, 36, 300, "calm"),  # an hour's allowance spent in an hour
        (40, 4, 20, 300, "spare"),  # gone before five more minutes are over
        (40, 4, 20, 60, "watch"),
        (40, 4, 20, 0, "watch"),  # what is used, which is 60 percent
        (30, 4, 20, 0, "calm"),
    ],
)
def test_a_pool_is_judged_by_what_it_soon_will_be(
    start: float, step: float, every_s: float, foresight_s: float, stage: str
) -> None:
    """A proven rise is extrapolated as far ahead as the setting says."""
    pools, now = rising(start, step, every_s=every_s, stages=Stages(foresight_s=foresight_s))
    (shown,) = pools.stats_rows(now)
    assert shown["stage"] == stage
    assert pools.are_calm == (stage == "calm")


def test_a_leap_is_no_trend() -> None:
    """A single jump, however high, predicts nothing."""
    pools = Buckets(STAGES)
    for second, percent in ((0, 5), (20, 5), (40, 55), (60, 55)):
        pools.record(APP, UsageLevel("app", "", "", percent), 10, 1000 + second)
    assert pools.are_calm


def test_what_is_foreseen_alone_stops_nothing() -> None:
    """However fast use rises, only actual use stops a limit."""
    pools, now = rising(1, 15, every_s=2)
    assert [pool.stop for pool in pools.tight([APP])] == [None]
    assert 0 < pools.pressure([APP], now) < 1


def test_a_sprint_that_is_over_is_forgotten() -> None:
    """Soon after its last low-priority read, a limit is judged by actual use."""
    pools, now = rising(1, 5, every_s=2)
    assert pools.pressure([APP], now) > 0
    for second in range(30, 271, 60):
        pools.record(APP, UsageLevel("app", "", "", 26), 1, now + second)
    assert pools.are_calm


def test_on_the_way_to_spare_time_makes_way_for_haste_only() -> None:
    """Where no urgent reads come, a low-priority read is not delayed until the spare stage."""
    pools, now = rising(1, 5, every_s=2)
    assert pools.contended([APP], now, is_contested=False) == []
    assert [name for name, _ in pools.contended([APP], now, is_contested=True)] == [APP]
    pools.record(APP, UsageLevel("app", "", "", 80), 1, now)
    assert [name for name, _ in pools.contended([APP], now, is_contested=False)] == [APP]


def test_nothing_is_foreseen_where_nobody_could_make_way() -> None:
    """Without low-priority reads the stages begin at the percentages of the settings."""
    pools = Buckets(STAGES)
    for number in range(10):
        pools.record(APP, UsageLevel("app", "", "", 5 * number), 10, 1000 + number)
    assert pools.are_calm


def test_on_the_way_to_spare_there_is_room_for_what_does_not_lead_there() -> None:
    """The faster use rises, the fewer low-priority reads are sent beside it."""
    waits = []
    for step in (2, 4, 20):
        pools, now = rising(1, step, every_s=30, times=5)
        pools.record(APP, UsageLevel("app", "", "", 60), 10, now)
        (pool,) = pools.tight([APP])
        waits.append(next_wait(pool, now))
    assert waits == sorted(waits)


def test_a_refusal_stops_until_its_time_is_up() -> None:
    """Graph's own time to regain access counts, else the first pause; then exactly one read is due."""
    pools = told(50)
    assert pools.stop(APP, ERROR, 1000) is True
    (pool,) = pools.tight([APP])
    assert pool.stop is not None
    assert not pool.stop.is_due(1000.9)
    assert pool.stop.is_due(1001)
    pools.stop(APP, ERROR._replace(regain_s=120), 1001)  # the answer to a read that had left before
    assert not pool.stop.is_due(1120)
    assert pool.stop.is_due(1121)
    pool.stop.is_probed = True
    assert not pool.stop.is_due(5000)


def pauses(stages: Stages, refusal: LimitRefusal) -> list[float]:
    """Returns the pauses before eight probes that are refused, each sent as soon as it is due."""
    pools, now, found = Buckets(stages), 1000.0, []
    pools.stop(APP, refusal, now)
    for _probe in range(8):
        (pool,) = pools.tight([APP])
        assert pool.stop is not None
        found.append(pool.stop.until - now)
        now = pool.stop.until
        pools.on_probe(APP, refusal, now)
    return found


def test_refused_probes_come_ever_rarer() -> None:
    """Each refusal doubles the pause, from 1 s up to the setting; under a limit per second it stays 1 s."""
    assert pauses(STAGES, ERROR) == [1, 2, 4, 8, 16, 30, 30, 30]
    assert pauses(Stages(probe_s=90), ERROR) == [1, 2, 4, 8, 16, 32, 64, 90]
    assert pauses(Stages(probe_s=0.5), ERROR) == [0.5] * 8
    assert pauses(STAGES, ERROR._replace(block_s=1.0)) == [1] * 8


def test_an_answer_opens_whatever_was_before() -> None:
    """After an answered probe everything is as before; the next refusal begins with the first pause."""
    pools = told(50)
    pools.stop(APP, ERROR, 1000)
    pools.on_probe(APP, ERROR, 1001)
    pools.on_probe(APP, None, 1003)
    assert [pool.stop for pool in pools.tight([APP])] == [None]
    pools.stop(APP, ERROR, 1010)
    assert [pool.stop and pool.stop.until for pool in pools.tight([APP])] == [1011]


def test_who_comes_back_early_makes_the_pause_no_longer() -> None:
    """The early retry of a refused caller does not make the pause longer for others."""
    pools = told(50)
    pools.stop(APP, ERROR, 1000)
    pools.on_probe(APP, ERROR, 1001)
    pools.on_probe(APP, ERROR, 1002)
    (pool,) = pools.tight([APP])
    assert pool.stop is not None
    assert (pool.stop.until, pool.stop.failures) == (1003, 1)


@pytest.mark.parametrize(
    "regain_s, now, returns, goes",
    [
        (0, 1000.5, True, True),  # Graph named no time: who was refused is a probe whenever it comes
        (0, 1000.5, False, False),
        (0, 1001, False, True),
        (60, 1059, True, False),  # what Graph named holds for all
        (60, 1060, True, True),
        (60, 1060, False, True),
    ],
)
def test_who_is_asked_of_a_stopped_pool(regain_s: float, now: float, returns: bool, goes: bool) -> None:  # noqa: FBT001
    """Any read may be the probe when it is due; a refused caller's retry at any time, unless Graph named a time."""
    pools = told(50)
    pools.stop(APP, ERROR._replace(regain_s=regain_s), 1000)
    (pool,) = pools.tight([APP])
    assert pool.stop is not None
    assert pool.stop.allows(now, after_refusal=returns) is goes


def test_a_probe_that_told_nothing_leaves_it_stopped() -> None:
    """An error on the way is neither a refusal nor an answer: the next probe comes after the same pause, or at once."""
    pools = told(50)
    pools.stop(APP, ERROR, 1000)
    pools.on_probe(APP, ERROR, 1001)
    (pool,) = pools.tight([APP])
    assert pool.stop is not None
    pool.stop.is_probed = True
    pools.on_probe_lost(APP, 1010, at_once=False)
    assert (pool.stop.is_due(1011.9), pool.stop.is_due(1012)) == (False, True)
    pool.stop.is_probed = True
    pools.on_probe_lost(APP, 1013, at_once=True)
    assert pool.stop.is_due(1013)


def test_a_pool_that_is_used_up_is_asked_for_news_ever_more_rarely() -> None:
    """Meanwhile no caller is refused, so the pause begins with the longest, and grows up to a bound."""
    pools, now, found = told(100), 1000.0, []
    for _probe in range(7):
        (pool,) = pools.tight([APP])
        assert pool.stop is not None
        found.append(pool.stop.until - now)
        now = pool.stop.until
        pools.record(APP, UsageLevel("app", "", "", 100), 1, now)
        pools.on_probe(APP, None, now)
    assert found == [30, 60, 120, 240, 480, 900, 900]


def test_a_hundred_percent_stops_without_a_refusal_until_there_is_better_news() -> None:
    """Such a stop has no refusal to repeat, and ends with the first lower level."""
    pools = told(100)
    assert [pool.stop.error for pool in pools.tight([APP]) if pool.stop] == [None]
    pools.record(APP, UsageLevel("app", "", "", 99), 1, 1001)
    assert [pool.stop for pool in pools.tight([APP])] == [None]


def test_better_news_does_not_undo_a_refusal() -> None:
    """Users report refusals with usage headers near 0 %: the code decides."""
    pools = told(0)
    pools.stop(APP, ERROR, 1000)
    pools.record(APP, UsageLevel("app", "", "", 0), 1, 1000.2)
    assert pools.pressure([APP], 1000.5) == 1


def test_calm_costs_nothing() -> None:
    """While no limit is past watch, no read looks any limit up."""
    pools, seen = told(59), []
    for percent in (59, 61, 59):
        pools.record(APP, UsageLevel("app", "", "", percent), 1, 1001)
        seen.append(pools.are_calm)
    assert seen == [True, False, True]


def test_memory_is_bounded() -> None:
    """The limits reported longest ago are forgotten, stopped ones too."""
    pools = told(100)
    for number in range(Buckets.CAPACITY):
        pools.record(BucketName("account", b"", str(number), ""), UsageLevel("account", "", "", 1), 1, 1001)
    assert pools.are_calm
    assert len(pools.stats_rows(1002)) == Buckets.CAPACITY


def test_a_stage_that_is_ahead_of_use_says_what_is_foreseen() -> None:
    """The predicted stage has its percentage and time; a stage that is already reached has none."""
    pools, now = rising(40, 4, every_s=20)
    (row,) = pools.stats_rows(now)
    assert (row["percent"], row["stage"], row["foreseen_percent"]) == (60, "spare", 80)
    assert row["foreseen_in_s"] == pytest.approx(20 / 0.2, rel=0.15)
    pools, now = rising(60, 4, every_s=20)
    (row,) = pools.stats_rows(now)
    assert (row["percent"], row["stage"], row["foreseen_percent"]) == (80, "spare", None)


def test_what_is_shown() -> None:
    """All current limits: of one account under several tokens the tightest; an app by its fingerprint."""
    pools = told(70, lasts_s=600)
    for owner, percent in ((b"a" * 16, 20), (b"b" * 16, 90), (b"c" * 16, 30)):
        pools.record(
            BucketName("account", owner, "1", "ads_insights"),
            UsageLevel("account", "1", "ads_insights", percent),
            1,
            1000,
        )
    assert pools.stats_rows(1010) == [
        {
            "kind": "app", "id": "616161616161", "type": "", "percent": 70, "trend_per_min": 0, "regain_s": 590,
            "regain_named": True, "age_s": 10, "stage": "watch", "foreseen_percent": None, "foreseen_in_s": None,
        },
        {
            "kind": "account", "id": "1", "type": "ads_insights", "percent": 90, "trend_per_min": 0, "regain_s": None,
            "regain_named": False, "age_s": 10, "stage": "spare", "foreseen_percent": None, "foreseen_in_s": None,
        },
    ]  # fmt: skip
    assert pools.stats_rows(5000) == []
