import json
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.graph.throttles import THROTTLED
from proxy.core.model import Headers, Mode, Reply, Request
from proxy.core.quota.bucket import Stages
from proxy.core.quota.buckets import BucketName
from proxy.core.quota.descriptors import QuotaSubject, one_node
from proxy.core.quota.limiter import GO, Go, Halt, LastSeen, Limiter, Wait, throttle
from proxy.core.quota.refused_reads import RefusedReads
from tests.work import lines_run

ANN, BOB = b"a" * 16, b"b" * 16
TYPED = ("Content-Type", "application/json; charset=UTF-8")


def refusal(code: int, status: int = 400, *, subcode: int | None = None, fields: Headers = ()) -> Reply:
    """Returns a refusal of Graph's because a limit is reached."""
    error = {"message": f"(#{code}) too many", "type": "OAuthException", "code": code, "error_subcode": subcode}
    return Reply(status, (TYPED, *fields), json.dumps({"error": error}).encode())


def good(*fields: tuple[str, str], status: int = 200) -> Reply:
    """Returns a good answer of Graph's."""
    return Reply(status, (TYPED, *fields), b'{"id":"1"}')


def app_usage(percent: float) -> tuple[str, str]:
    """Returns usage headers of the app."""
    return "X-App-Usage", json.dumps({"call_count": percent})


def business(ident: str, use: str, percent: float, minutes: int = 0) -> tuple[str, str]:
    """Returns usage headers of one use case of an account or a business."""
    told = {"type": use, "call_count": percent, "estimated_time_to_regain_access": minutes}
    return "X-Business-Use-Case-Usage", json.dumps({ident: [told]})


def asks(path: str, query: str = "", who: bytes = ANN) -> QuotaSubject:
    """Returns the subject of a read with *who*'s token."""
    return QuotaSubject(who, path, query)


def request(path: str) -> Request:
    """Returns a read."""
    return Request("graph.facebook.com", "v25.0", path, "")


def is_halted(quota: Limiter, asker: QuotaSubject, now: float = 1000.9) -> bool:
    """Whether the read is not sent."""
    return isinstance(quota.admit(asker, 3, now), Halt)


@pytest.mark.parametrize(
    "code, subcode, asked, stopped, open_",
    [
        (4, None, "/act_1", ["/act_1", "/act_2", "/111", "/me/accounts", "/"], []),
        (341, None, "/111/feed", ["/act_1", "/111"], []),
        (4, 1504022, "/act_1/insights", ["/act_2/insights", "/111/insights"], ["/act_1", "/111"]),
        (17, None, "/act_1", ["/act_1", "/act_2", "/111"], []),
        (17, 2446079, "/act_1/ads", ["/act_1", "/act_1/ads"], ["/act_1/insights", "/act_2", "/111"]),
        (32, None, "/77/feed", ["/77", "/77/posts", "/77_5/comments"], ["/78", "/act_1"]),
        (613, 1487742, "/act_1/ads", ["/act_1", "/act_1/campaigns"], ["/act_1/insights", "/act_2", "/111"]),
        (80000, None, "/act_1/insights", ["/act_1/insights"], ["/act_1/ads", "/act_2/insights", "/111"]),
        (80003, None, "/act_1/customaudiences", ["/act_1/customaudiences"], ["/act_1/ads", "/act_2"]),
        (80004, None, "/act_1/ads", ["/act_1/adsets"], ["/act_1/insights", "/act_2/ads"]),
        (80001, None, "/77/feed", ["/77/feed", "/77"], ["/78/feed", "/act_1"]),
        (80004, None, "/?ids=act_1,act_2", ["/?ids=act_1,act_2"], ["/act_1", "/act_2"]),
        (32, None, "/?ids=77,78", ["/77", "/?ids=77,78"], []),
        (613, None, "/", ["/"], ["/77"]),
        (613, None, "/900/adnetworkanalytics", ["/900/adnetworkanalytics"], ["/900", "/900/roles", "/901/feed"]),
        (613, 1996, "/900/feed", ["/900/feed"], ["/900", "/900/roles"]),
        (613, 5044001, "/act_1/ads", ["/act_1/ads"], ["/act_1", "/act_1/campaigns"]),
        (613, None, "/?ids=1,2", ["/?ids=1,2"], ["/1", "/?ids=1,3"]),
        (368, None, "/900/feed", ["/900/feed"], ["/900", "/900/roles"]),
        (130429, None, "/900", ["/900", "/900/messages"], ["/901"]),
    ],
)
def test_each_code_stops_the_pool_that_it_speaks_of(
    code: int, subcode: int | None, asked: str, stopped: list[str], open_: list[str]
) -> None:
    """The narrowest limit that the read can be about is stopped; no other limit, and no limit of another token."""
    quota = Limiter(Stages())
    news = quota.on_reply(_split(asked), refusal(code, subcode=subcode), 1000)
    assert len(news.stopped) == 1
    assert {path: is_halted(quota, _split(path)) for path in [*stopped, *open_]} == {
        **dict.fromkeys(stopped, True),
        **dict.fromkeys(open_, False),
    }
    assert not any(is_halted(quota, _split(path, BOB)) for path in [asked, *stopped])


def _split(target: str, who: bytes = ANN) -> QuotaSubject:
    path, _, query = target.partition("?")
    return QuotaSubject(who, path, query)


@pytest.mark.parametrize("status", [200, 400, 403, 429])
@pytest.mark.parametrize("code", sorted(THROTTLED))
def test_the_code_decides_whatever_the_status(code: int, status: int) -> None:
    """The status of a refusal does not matter: Graph gives the same code with different ones."""
    error = throttle(refusal(code, status))
    assert error is not None
    assert error.code == code


@pytest.mark.parametrize(
    "told",
    [
        {"error_code": 4, "error_msg": "(#4) Application request limit reached"},
        {"code": 4, "error_type": "OAuthException", "error_message": "too many"},
    ],
)
def test_a_refusal_in_an_old_shape_is_one(told: dict[str, object]) -> None:
    """A throttle is recognised under each name of its members, with status 200 and above."""
    for status in (200, 400):
        quota = Limiter(Stages())
        quota.on_reply(asks("/1"), Reply(status, (TYPED,), json.dumps(told).encode()), 1000)
        assert is_halted(quota, asks("/2"))


@pytest.mark.parametrize("reply", [good(), refusal(1, 500), refusal(190), Reply(400, (), b"<html>")])
def test_nothing_else_is_a_refusal(reply: Reply) -> None:
    """Errors on Graph's side and bad tokens stop no limit."""
    quota = Limiter(Stages())
    assert quota.on_reply(asks("/1"), reply, 1000).stopped == ()
    assert quota.admit(asks("/1"), 3, 1001) is GO


def test_what_is_said_again() -> None:
    """Graph's own status, body and fields, without the fields of that one call, and with Retry-After."""
    quota = Limiter(Stages())
    trace, challenge = ("x-fb-trace-id", "A"), ("WWW-Authenticate", "OAuth")
    quota.on_reply(asks("/1"), refusal(4, 403, fields=(trace, challenge, app_usage(100))), 1000)
    verdict = quota.admit(asks("/2"), 3, 1000.5)
    assert isinstance(verdict, Halt)
    again = verdict.reply
    assert again.headers == (TYPED, challenge, ("Retry-After", "1"))
    assert (again.status, again.body, again.mode, again.detail) == (403, refusal(4).body, Mode.REUSED, "throttled")
    assert (again.upstream_s, again.ttl) == (None, None)


def test_who_wanted_no_code_gets_none() -> None:
    """`suppress_http_code` is about one caller: others get the status that belongs to the error."""
    quota = Limiter(Stages())
    quota.on_reply(asks("/1", "suppress_http_code=1"), refusal(4, 200), 1000)
    statuses = {}
    for query in ("", "suppress_http_code=1"):
        verdict = quota.admit(asks("/1", query), 3, 1000.5)
        assert isinstance(verdict, Halt)
        statuses[query] = verdict.reply.status
    assert statuses == {"": 400, "suppress_http_code=1": 200}


def test_graphs_own_time_to_regain_is_kept() -> None:
    """The minutes in the business usage beside the refusal count, if they are of that account."""
    quota = Limiter(Stages())
    asker = asks("/act_1/insights")
    quota.on_reply(asker, refusal(80000, fields=(business("1", "ads_insights", 100, 5), app_usage(100))), 1000)
    assert is_halted(quota, asker, 1299)
    assert isinstance(quota.admit(asker, 3, 1300), Go)


@pytest.mark.parametrize(
    "value, seconds",
    [("90", 90), (" 7 ", 7), ("0", 0), ("Thu, 01 Jan 1970 00:18:00 GMT", 80), ("soon", 0), ("-5", 0), ("", 0)],
)
def test_retry_after_of_graphs_is_kept(value: str, seconds: int) -> None:
    """In seconds or as a date (RFC 9110 section 10.2.3); an unreadable value names no time."""
    quota, asker = Limiter(Stages()), asks("/1")
    quota.on_reply(asker, refusal(4, 429, fields=(("retry-after", value),)), 1000)
    quota.on_delivered(asker, 1000, is_refused=True)
    verdicts = [
        quota.admit(asker, 3, now, after_refusal=quota.comes_after_refusal(asker))
        for now in (1000.5, 999.5 + max(seconds, 1))
    ]
    halted = [isinstance(verdict, Halt) for verdict in verdicts]
    assert halted == ([True, True] if seconds else [False, False])
    assert isinstance(quota.admit(asker, 3, 1000 + seconds, after_refusal=True), Go)


def test_a_reset_beside_another_limits_refusal_names_no_time() -> None:
    """Usage of an account says nothing about an edge; an account's reset time counts only at 100 %."""
    reset = ("X-Ad-Account-Usage", json.dumps({"acc_id_util_pct": 9.67, "reset_time_duration": 100}))
    for code, fields in ((613, (business("1", "ads_insights", 50, 5),)), (17, (reset,))):
        quota, asker = Limiter(Stages()), asks("/act_1/insights")
        quota.on_reply(asker, refusal(code, subcode=2446079 if code == 17 else None, fields=fields), 1000)
        assert is_halted(quota, asker, 1000.9)
        assert not is_halted(quota, asker, 1001)


def test_who_was_refused_is_known_until_it_is_answered() -> None:
    """A refused read is known by token and path; an answer ends that, whoever refused the read."""
    quota = Limiter(Stages())
    quota.on_reply(asks("/1"), refusal(4), 1000)
    for reply in (refusal(4), good(), refusal(613)):
        quota.on_delivered_reply(asks("/1"), reply, 1001)
        assert quota.comes_after_refusal(asks("/1")) is (throttle(reply) is not None)
    assert not quota.comes_after_refusal(asks("/2"))
    assert not quota.comes_after_refusal(asks("/1", who=BOB))


def test_who_was_refused_long_ago_is_forgotten() -> None:
    """The memory of refused reads is bounded in time and in number."""
    quota = Limiter(Stages())
    quota.on_reply(asks("/1"), refusal(4), 1000)
    for number in range(RefusedReads.CAPACITY + 1):
        quota.on_delivered_reply(asks(f"/{number}"), refusal(4), 1000)
    assert [quota.comes_after_refusal(asks(path)) for path in ("/0", "/1")] == [False, True]
    for _time in range(RefusedReads.CAPACITY):
        quota.on_delivered_reply(asks("/9"), good(), 1000 + RefusedReads.LASTS_S + 1)
    assert not quota.comes_after_refusal(asks(f"/{RefusedReads.CAPACITY}"))


def test_one_probe_at_a_time() -> None:
    """When the time is over, one read is sent as the probe; others get the last refusal until it is answered."""
    quota = Limiter(Stages())
    quota.on_reply(asks("/1"), refusal(4), 1000)
    probe = quota.admit(asks("/1"), 3, 1030)
    assert isinstance(probe, Go)
    assert len(probe.probes) == 1
    assert is_halted(quota, asks("/2"), 1030)
    assert quota.admit(asks("/2"), 3, 1030, after_refusal=True) == probe  # who was refused is one, too
    quota.on_reply(asks("/1"), good(), 1031, probe.probes)
    assert isinstance(quota.admit(asks("/2"), 3, 1031), Go)


@pytest.mark.parametrize(
    "answer, opens",
    [(good(), True), (good(status=304), True), (refusal(100), True), (refusal(1, 500), False), (refusal(4), False)],
)
def test_what_a_probe_tells(answer: Reply, opens: bool) -> None:  # noqa: FBT001
    """Any answer opens the limit, except a refusal or an error on Graph's side."""
    quota = Limiter(Stages())
    quota.on_reply(asks("/act_1"), refusal(80004), 1000)
    probe = quota.admit(asks("/act_1"), 3, 1030)
    assert isinstance(probe, Go)
    quota.on_reply(asks("/act_1"), answer, 1031, probe.probes)
    assert is_halted(quota, asks("/act_1"), 1031.9) is not opens


def test_a_probe_that_was_lost_is_sent_again() -> None:
    """A probe whose caller has left, or whose connection broke, leaves no limit stopped for ever."""
    quota = Limiter(Stages())
    quota.on_reply(asks("/1"), refusal(4), 1000)
    probe = quota.admit(asks("/1"), 3, 1030)
    assert isinstance(probe, Go)
    quota.on_no_reply(probe.probes, 1031, at_once=True)
    again = quota.admit(asks("/1"), 3, 1031)
    assert isinstance(again, Go)
    assert again.probes == probe.probes


def test_answers_to_reads_that_had_left_open_nothing() -> None:
    """Only the answer to a probe opens a stopped limit."""
    quota = Limiter(Stages())
    quota.on_reply(asks("/1"), refusal(4), 1000)
    quota.on_reply(asks("/1"), good(app_usage(3)), 1000.2)
    assert is_halted(quota, asks("/1"), 1000.5)


def test_objects_belong_to_what_graph_names_with_them() -> None:
    """A campaign's usage headers name its account: from then on a stop of the account stops the campaign."""
    quota = Limiter(Stages())
    for campaign in ("501", "502"):
        quota.on_reply(asks(f"/{campaign}"), good(business("1", "ads_management", 10)), 1000)
    quota.on_reply(asks("/501"), refusal(80004), 1000)
    assert is_halted(quota, asks("/502"))
    assert is_halted(quota, asks("/act_1"))
    assert not is_halted(quota, asks("/502/insights"))
    assert not is_halted(quota, asks("/503"))


def test_a_page_and_its_use() -> None:
    """Limits of a business are stopped by business and use case, for all objects that headers connect with it."""
    quota = Limiter(Stages())
    for node in ("77", "88"):
        quota.on_reply(asks(f"/{node}"), good(business("9", "pages", 10)), 1000)
    quota.on_reply(asks("/77"), refusal(80001), 1000)
    assert [is_halted(quota, asks(path)) for path in ("/88/feed", "/99")] == [True, False]


def test_what_names_several_teaches_nothing() -> None:
    """From a reply with usage of two accounts it is not known to which account the object belongs."""
    quota = Limiter(Stages())
    both = json.dumps({one: [{"type": "ads_management", "call_count": 5}] for one in ("1", "2")})
    quota.on_reply(asks("/501"), good(("X-Business-Use-Case-Usage", both)), 1000)
    quota.on_reply(asks("/501"), refusal(80004), 1000)
    assert is_halted(quota, asks("/501"))
    assert not is_halted(quota, asks("/act_1"))


def test_what_a_whole_batch_tells_of_a_business_holds_for_reads_of_it() -> None:
    """The use case of a code is found among the reported ones, and so is the time to regain access."""
    quota = Limiter(Stages())
    told = {"500": [{"type": "pages", "call_count": 100, "estimated_time_to_regain_access": 2}]}
    quota.on_usage(asks("/"), (("X-Business-Use-Case-Usage", json.dumps(told)),), 1000)
    (stopped,) = quota.on_reply(asks("/500/feed"), refusal(80001), 1001).stopped
    assert (stopped.kind, stopped.id, stopped.type) == ("business", "500", "pages")
    assert [is_halted(quota, asks("/500/feed"), now) for now in (1060, 1119)] == [True, True]


def test_what_a_whole_batch_tells_of_its_account_holds_for_it() -> None:
    """If all slots read one object, the headers of the batch's reply are about that object."""
    quota = Limiter(Stages())
    reads = [request(f"/act_7{edge}") for edge in ("", "/ads")]
    told = json.dumps({"acc_id_util_pct": 100, "reset_time_duration": 90})
    quota.on_usage(asks(one_node(reads)), (("X-Ad-Account-Usage", told),), 1000)
    assert quota.pressure(asks("/act_7/campaigns"), 1001) == 1
    assert one_node([*reads, request("/act_8")]) == "/"


def test_what_has_time_waits_where_it_must_and_only_there() -> None:
    """From the spare stage on low-priority reads wait, by urgency, and never twice."""
    quota = Limiter(Stages())
    quota.on_usage(asks("/1"), (app_usage(79),), 1000)
    assert [quota.admit(asks("/1"), 7, 1001) for _ in range(2)] == [GO, GO]
    quota.on_usage(asks("/1"), (app_usage(90),), 1002)
    assert quota.admit(asks("/1"), 5, 1003) is GO  # the first turn is free
    wait = quota.admit(asks("/1"), 5, 1003)
    assert isinstance(wait, Wait)
    assert (wait.bucket.label, 0 < wait.seconds <= 30) == ("app", True)
    assert quota.admit(asks("/1"), 5, 1003, has_waited=True) is GO
    assert quota.admit(asks("/1"), 4, 1003) is GO
    assert quota.admit(asks("/1", who=BOB), 7, 1003) is GO


def test_a_hundred_percent_holds_nothing_back_that_only_graph_can_answer() -> None:
    """At 100 % without a refusal no refusal is given; the pressure lets stale entries answer."""
    quota = Limiter(Stages())
    quota.on_usage(asks("/1"), (app_usage(100),), 1000)
    assert quota.pressure(asks("/1"), 1001) == 1
    assert isinstance(quota.admit(asks("/1"), 3, 1001), Go)


def test_one_app_for_all_tokens_if_so_set() -> None:
    """Then usage of app and accounts counts for all tokens, but not the usage of the user."""
    quota = Limiter(Stages(), shared=True)
    quota.on_reply(asks("/act_1"), refusal(80004), 1000)
    assert is_halted(quota, asks("/act_1", who=BOB))
    quota.on_reply(asks("/1"), refusal(17), 1000)
    assert (is_halted(quota, asks("/2")), is_halted(quota, asks("/2", who=BOB))) == (True, False)


def test_disabled_it_only_tells() -> None:
    """Usage is recorded, and no read is delayed or refused."""
    quota = Limiter(Stages(enabled=False))
    quota.on_reply(asks("/1"), refusal(4, fields=(app_usage(100),)), 1000)
    assert quota.admit(asks("/1"), 7, 1001) is GO
    assert quota.pressure(asks("/1"), 1001) == 0
    assert [row["percent"] for row in quota.buckets.stats_rows(1001)] == [100]
    assert quota.newest_usage(asks("/1"), 1001) == (app_usage(100),)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["/1", "/act_1", "/act_1/insights", "/me/feed", "/"]),
            st.sampled_from([good(), good(app_usage(85)), good(app_usage(100)), refusal(4), refusal(80004)]),
            st.floats(0, 200),
        ),
        max_size=20,
    )
)
def test_nobody_is_left_behind(story: list[tuple[str, Reply, float]]) -> None:
    """Whatever Graph answers in whatever order: after the longest time of every limit a read is sent again."""
    quota, now = Limiter(Stages()), 1000.0
    for path, reply, later in story:
        now += later
        verdict = quota.admit(asks(path), 3, now)
        if isinstance(verdict, Go):
            quota.on_reply(asks(path), reply, now, verdict.probes)
    for path in ("/1", "/act_1", "/act_1/insights"):
        verdict = quota.admit(asks(path), 3, now + 1000)
        assert isinstance(verdict, Go)
        quota.on_reply(asks(path), good(), now + 1000, verdict.probes)


def test_a_name_tells_no_token() -> None:
    """Metrics count limits by kind."""
    assert BucketName("app", ANN, "", "").label == "app"
    assert BucketName("account", ANN, "1", "ads_insights").label == "account/ads_insights"
    assert BucketName("business", ANN, "1", "never heard of").label == "business/other"


@pytest.mark.parametrize("is_shared", [False, True])
def test_a_patient_read_is_decided_in_few_steps_however_many_tokens_were_seen(*, is_shared: bool) -> None:
    """The number of tokens grows with time; a low-priority read does not look through all of them."""
    few, many = (Limiter(Stages(foresight_s=60.0), shared=is_shared) for _ in range(2))
    for quota, tokens in ((few, 10), (many, 20_000)):
        for at in range(tokens):
            quota.admit(QuotaSubject(at.to_bytes(16), "/me", ""), 3, 1000.0)
        quota.on_reply(asks("/me"), good(app_usage(50)), 1000.5)
    steps_few = lines_run(partial(few.admit, asks("/me"), 7, 1001.0))
    steps_many = lines_run(partial(many.admit, asks("/me"), 7, 1001.0))
    assert steps_many <= 2 * steps_few


def test_an_asker_whose_place_is_gone_counts_as_late_as_the_latest_of_those() -> None:
    """The memory of callers is bounded; a forgotten caller makes a low-priority read wait longer, never shorter."""
    lately = LastSeen(capacity=2)
    lately.record(ANN, 1.0)
    lately.record(BOB, 2.0)
    assert (lately.is_seen_since(ANN, 0.5), lately.is_seen_since(ANN, 1.0), lately.is_seen_since(b"c" * 16, 0.0)) == (
        True,
        False,
        False,
    )
    lately.record(b"c" * 16, 3.0)
    assert (lately.is_seen_since(ANN, 0.5), lately.is_seen_since(ANN, 1.5), lately.any_since(2.5)) == (
        True,
        False,
        True,
    )
