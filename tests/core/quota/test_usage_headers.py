import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.http import headers
from proxy.core.quota.usage_headers import FORGOTTEN_S, LatestUsage, UsageLevel, usage_headers_of, usage_levels

NAMES = (
    "call_count", "total_time", "acc_id_util_pct", "app_id_util_pct", "reset_time_duration", "type", "1",
    "estimated_time_to_regain_access",
)  # fmt: skip
ANN, BOB = b"a" * 16, b"b" * 16
HIGH = (("x-app-usage", '{"call_count":90}'),)
LOW = (("X-App-Usage", '{"call_count":9}'),)
ACCOUNT = (("X-Ad-Account-Usage", '{"acc_id_util_pct":9.67}'),)
NEWER = (("X-Ad-Account-Usage", '{"acc_id_util_pct":10}'),)


@pytest.mark.parametrize(
    "told",
    [
        UsageLevel("app", "", "", 28.5), UsageLevel("page", "", "", 7), UsageLevel("account", "", "", 9.67, 100),
        UsageLevel("app", "", "ads_insights", 100), UsageLevel("account", "", "ads_insights", 10),
        UsageLevel("account", "1", "ads_management", 50, 300), UsageLevel("business", "9", "pages", 3, 60),
    ],
)  # fmt: skip
def test_what_is_written_is_read_again(told: UsageLevel) -> None:
    """A replay says in Graph's own headers what Graph would have told."""
    assert usage_levels(usage_headers_of([told])) == (told,)


def test_the_newest_is_told() -> None:
    """A reply that Graph did not give now shows what Graph last said, not what it said when the body was fetched."""
    usage = LatestUsage()
    usage.note(ANN, "act_1", HIGH, 100)
    assert usage.newest(ANN, "act_1", 101) == HIGH
    usage.note(ANN, "act_1", LOW, 102)
    assert usage.newest(ANN, "act_1", 103) == LOW


def test_silence_is_no_news() -> None:
    """A reply without usage headers leaves the newest known as it is."""
    usage = LatestUsage()
    usage.note(ANN, "act_1", HIGH, 100)
    usage.note(ANN, "act_1", (), 101)
    assert usage.newest(ANN, "act_1", 102) == HIGH


def test_usage_is_ones_own() -> None:
    """Nobody sees the usage of another credential, nor one account's on another."""
    usage = LatestUsage()
    usage.note(ANN, "act_1", (*HIGH, *ACCOUNT), 100)
    assert usage.newest(ANN, "act_1", 100) == (*HIGH, *ACCOUNT)
    assert usage.newest(BOB, "act_1", 100) == ()
    assert usage.newest(ANN, "act_2", 100) == HIGH


def test_an_apps_usage_is_told_whatever_was_read() -> None:
    """What Graph said of the app with one object is the newest for every other, and for a call that names none."""
    usage = LatestUsage()
    usage.note(ANN, "111", HIGH, 100)
    usage.note(ANN, "222", LOW, 101)
    assert usage.newest(ANN, "111", 102) == usage.newest(ANN, "", 102) == LOW


def test_old_news_is_forgotten() -> None:
    """A client that sleeps on a high value is not made to sleep on one that has long decayed."""
    usage = LatestUsage()
    usage.note(ANN, "act_1", HIGH, 100)
    assert usage.newest(ANN, "act_1", 100 + FORGOTTEN_S - 1) == HIGH
    assert usage.newest(ANN, "act_1", 100 + FORGOTTEN_S) == ()


def test_memory_is_bounded() -> None:
    """However many accounts are read, only so many usages are remembered: those told longest ago go."""
    usage = LatestUsage()
    for number in range(LatestUsage.CAPACITY):
        usage.note(ANN, str(number), ACCOUNT, 100)
    usage.note(ANN, "0", NEWER, 101)
    usage.note(ANN, "one more", ACCOUNT, 102)
    assert usage.newest(ANN, "0", 102) == NEWER
    assert usage.newest(ANN, "1", 102) == ()
    assert usage.newest(ANN, "2", 102) == ACCOUNT


BUSINESS = (
    '{"1":[{"type":"ads_insights","call_count":95,"total_cputime":20,"total_time":20,'
    '"estimated_time_to_regain_access":3,"ads_api_access_tier":"development_access"},'
    '{"type":"ads_management","call_count":1,"total_cputime":1,"total_time":2}],'
    '"77":[{"type":"pages","call_count":4,"total_cputime":5,"total_time":6}]}'
)


@pytest.mark.parametrize(
    "name, text, expected",
    [
        ("X-App-Usage", '{"call_count":28,"total_time":25,"total_cputime":30}', [UsageLevel("app", "", "", 30)]),
        ("x-app-usage", '{"call_volume":12,"cpu_time":3,"unheard_of":99}', [UsageLevel("app", "", "", 12)]),
        ("X-App-Usage", '{"Call_Count":28,"TOTAL_TIME":3}', [UsageLevel("app", "", "", 28)]),
        ("X-Page-Usage", '{"call_count":7}', [UsageLevel("page", "", "", 7)]),
        (
            "X-Ad-Account-Usage",
            '{"acc_id_util_pct":9.67,"reset_time_duration":100,"ads_api_access_tier":"standard_access"}',
            [UsageLevel("account", "", "", 9.67, 100)],
        ),
        ("X-Ad-Account-Usage", '{"acc_id_util_pct":9.67}', [UsageLevel("account", "", "", 9.67)]),
        (
            "X-Business-Use-Case-Usage",
            BUSINESS,
            [
                UsageLevel("account", "1", "ads_insights", 95, 180),
                UsageLevel("account", "1", "ads_management", 2),
                UsageLevel("business", "77", "pages", 6),
            ],
        ),
        (
            "X-Business-Use-Case-Usage",
            '{"1":[{"type":"pages","call_count":1}],"1":[{"type":"instagram","call_count":2}]}',
            [UsageLevel("business", "1", "pages", 1), UsageLevel("business", "1", "instagram", 2)],
        ),
        (
            "X-FB-Ads-Insights-Throttle",
            '{"app_id_util_pct":100,"acc_id_util_pct":10,"ads_api_access_tier":"standard_access"}',
            [UsageLevel("app", "", "ads_insights", 100), UsageLevel("account", "", "ads_insights", 10)],
        ),
        ("X-App-Usage", '{"call_count":-5}', [UsageLevel("app", "", "", 0)]),
        ("X-App-Usage", '{"call_count":"many","total_time":true}', []),
        ("X-App-Usage", '{"call_count":1e400}', []),
        ("X-App-Usage", "{call_count:1}", []),
        (
            "X-Business-Use-Case-Usage",
            '{"1":5,"2":[7,null],"3":{"Type":"pages","Call_Count":3}}',
            [UsageLevel("business", "3", "pages", 3)],
        ),
        (
            "X-Business-Use-Case-Usage",
            '{"EAABtoken":[{"call_count":1}],"1 2":[{"call_count":2}],"":[{"call_count":3}],"%s":[{"call_count":4}],'
            '"5":[{"type":"no {word}","call_count":5}]}' % ("1" * 65),
            [UsageLevel("business", "5", "", 5)],
        ),
        ("X-FB-Ads-Insights-Reach-Throttle", '{"app_id_util_pct":100}', []),
        ("ETag", '{"call_count":1}', []),
    ],
)
def test_every_header_is_read_as_it_means(name: str, text: str, expected: list[UsageLevel]) -> None:
    """Percents as they are, minutes and seconds as seconds; what is unknown or garbled says nothing."""
    assert list(usage_levels(((name, text),))) == expected


@pytest.mark.parametrize("name", sorted(headers.USAGE))
def test_each_usage_header_is_read_or_named_as_one_that_is_not(name: str) -> None:
    """No usage header is passed on without a decision on whether it says when to stop."""
    of_any_shape = '{"call_count":7,"acc_id_util_pct":7,"1":[{"call_count":7}]}'
    assert bool(usage_levels(((name, of_any_shape),))) is (name not in headers.USAGE_NOT_READ)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(NAMES) | st.text(), inner, max_size=4),
    max_leaves=12,
)


def test_no_reply_tells_of_more_than_some() -> None:
    """Each id becomes a name in metrics and a place in memory: of thousands in one header most are left out."""
    told = json.dumps({str(number): [{"call_count": 1}] for number in range(1, 2000)})
    assert len(usage_levels((("X-Business-Use-Case-Usage", told),) * 3)) == 64


@given(st.sampled_from(sorted(headers.USAGE)), st.text() | JSON_VALUES.map(json.dumps))
def test_no_header_can_do_harm(name: str, text: str) -> None:
    """Whatever stands in a usage header, nothing is raised, and every number that comes of it can be reckoned with."""
    for gauge in usage_levels(((name, text),)):
        assert 0 <= gauge.percent <= 1000
        assert 0 <= gauge.regain_s <= 60 * 365 * 86_400
