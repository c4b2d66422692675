import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from proxy.core.cache import policy
from proxy.core.cache.policy import (
    PROOFS_KEPT,
    Ask,
    Plan,
    Refuse,
    Reuse,
    Settled,
    Terms,
    cover,
    may_cover,
    plan,
    reuse,
    settle,
    validator_for,
)
from proxy.core.http import headers
from proxy.core.model import NO_DIRECTIVES, CacheDirectives, Channel, Credential, Entry, Headers, Mode, Reply
from proxy.core.routing.rules import Rule
from tests.core.samples import BODY, ETAG, TYPED, entry, reply, request

FRESH = Rule(fresh_s=60)
LENIENT = Rule(fresh_s=60, stale_if_error_s=600, stale_while_revalidate_s=30)
OTHER = b"another proof"
BEHIND = Reuse(in_background=True, detail="stale-while-revalidate")
STALE = Reuse(detail="max-stale")


def terms(rule: Rule = FRESH, proof: bytes = b"", invalidated_at: float = 0.0) -> Terms:
    """Returns the terms of a read."""
    return Terms(rule, proof, invalidated_at)


def settled(answer: Reply, held: Entry | None = None, given: Terms | None = None) -> Settled:
    """Returns what `settle` makes of *answer*, which was asked for at 1030, and the *held* entry."""
    asked = request(validator=held.meta.etag if held else "")
    made = settle(asked, held, answer, given or terms(), 1030)
    assert made is not None
    return made


# --- before Graph is asked --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "now, rule, wishes, expected",
    [
        (1000, Rule(), CacheDirectives(), Ask(ETAG)),  # the default: nothing is served without asking
        (1000, FRESH, CacheDirectives(), Reuse()),
        (1059, FRESH, CacheDirectives(), Reuse()),
        (1060, FRESH, CacheDirectives(), Ask(ETAG)),
        (999, FRESH, CacheDirectives(), Ask(ETAG)),  # the clock was set back
        (1001, FRESH, CacheDirectives(no_cache=True), Ask(ETAG)),
        (1001, FRESH, CacheDirectives(no_store=True), Ask("")),
        (1001, FRESH, CacheDirectives(max_age=0), Ask(ETAG)),
        (1001, FRESH, CacheDirectives(max_age=2), Reuse()),
        (1002, FRESH, CacheDirectives(max_age=2), Ask(ETAG)),
        (
            1061,
            FRESH,
            CacheDirectives(max_age=3600),
            Ask(ETAG),
        ),  # a caller's wish makes nothing fresher than the rule does
        (1001, FRESH, CacheDirectives(only_if_cached=True), Reuse()),
        (1061, FRESH, CacheDirectives(only_if_cached=True), Refuse()),
        (1001, FRESH, CacheDirectives(only_if_cached=True, no_cache=True), Refuse()),
        (1060, LENIENT, CacheDirectives(), BEHIND),
        (1089, LENIENT, CacheDirectives(), BEHIND),
        (1090, LENIENT, CacheDirectives(), Ask(ETAG)),
        (1061, LENIENT, CacheDirectives(max_age=3600), Ask(ETAG)),
        (1061, LENIENT, CacheDirectives(no_cache=True), Ask(ETAG)),
        (1061, LENIENT, CacheDirectives(only_if_cached=True), BEHIND),
        (1029, FRESH, CacheDirectives(min_fresh=31), Reuse()),
        (1030, FRESH, CacheDirectives(min_fresh=31), Ask(ETAG)),
        (1061, LENIENT, CacheDirectives(min_fresh=0), Ask(ETAG)),  # who wants it fresh for a while takes nothing stale
        (1061, LENIENT, CacheDirectives(min_fresh=0, max_stale=100), Ask(ETAG)),
        (1000, Rule(), CacheDirectives(max_stale=10), STALE),  # a caller owns its token: what it takes as old, it gets
        (1010, Rule(), CacheDirectives(max_stale=10), STALE),
        (1011, Rule(), CacheDirectives(max_stale=10), Ask(ETAG)),
        (1070, FRESH, CacheDirectives(max_stale=10), STALE),
        (1071, FRESH, CacheDirectives(max_stale=10), Ask(ETAG)),
        (1061, FRESH, CacheDirectives(max_stale=10, only_if_cached=True), STALE),
        (1061, FRESH, CacheDirectives(max_stale=10, no_cache=True), Ask(ETAG)),
        (1061, FRESH, CacheDirectives(max_stale=2**31, max_age=3600), STALE),
        (1061, FRESH, CacheDirectives(max_stale=2**31, max_age=61), Ask(ETAG)),
        (1065, LENIENT, CacheDirectives(max_stale=10), BEHIND),
        (1065, LENIENT, CacheDirectives(max_stale=10, max_age=3600), BEHIND),
        (1075, LENIENT, CacheDirectives(max_stale=10), Ask(ETAG)),  # it also says what is too old
        (1001, Rule(fresh_s=60, cache=False), CacheDirectives(max_stale=10), Ask()),
        (1001, Rule(fresh_s=60, cache=False), CacheDirectives(), Ask()),
        (1001, Rule(fresh_s=60, cache=False), CacheDirectives(only_if_cached=True), Refuse()),
    ],
)
def test_plan(now: float, rule: Rule, wishes: CacheDirectives, expected: Plan) -> None:
    """An entry is served without asking only if the rule and the caller allow it; otherwise it is revalidated."""
    assert plan(request(directives=wishes), entry(asked=1000).meta, terms(rule), now) == expected


@pytest.mark.parametrize(
    "wishes, expected", [(CacheDirectives(), Ask()), (CacheDirectives(only_if_cached=True), Refuse())]
)
def test_plan_with_nothing_held(wishes: CacheDirectives, expected: Plan) -> None:
    """Without an entry Graph is asked, unless the caller said only-if-cached."""
    assert plan(request(directives=wishes), None, terms(), 1000) == expected


@pytest.mark.parametrize(
    "held, given",
    [
        (entry(may_be_fresh=False), terms(LENIENT)),
        (entry(proofs=(b"",)), terms(LENIENT, proof=OTHER)),
        (entry(proofs=(OTHER,)), terms(LENIENT)),
        (entry(proofs=()), terms(LENIENT)),
        (entry(asked=1000), terms(LENIENT, invalidated_at=1000)),
        (entry(asked=1000), terms(LENIENT, invalidated_at=1000.5)),
    ],
)
def test_never_without_asking(held: Entry, given: Terms) -> None:
    """An unfinished body, an unchecked proof or a later write: then not even a lenient rule serves the entry."""
    assert plan(request(), held.meta, given, 1001) == Ask(ETAG)
    assert plan(request(directives=CacheDirectives(only_if_cached=True)), held.meta, given, 1001) == Refuse()
    assert not may_cover(held.meta, CacheDirectives(), given, 1001)
    assert settled(reply(500), held, given).reply.status == 500


@pytest.mark.parametrize(
    "now, rule, wishes, expected",
    [
        (1019, FRESH, CacheDirectives(), Reuse()),
        (1020, FRESH, CacheDirectives(), Ask(ETAG)),
        (1060, Rule(fresh_s=30), CacheDirectives(), Ask(ETAG)),
        (1020, LENIENT, CacheDirectives(), Ask(ETAG)),
        (1020, FRESH, CacheDirectives(max_stale=100), Ask(ETAG)),
    ],
)
def test_a_signed_link_ends_freshness(now: float, rule: Rule, wishes: CacheDirectives, expected: Plan) -> None:
    """The earlier time counts, the rule's or the first link's expiry; a body with a dead link is not served stale."""
    assert plan(request(directives=wishes), entry(asked=1000, expires=1020).meta, terms(rule), now) == expected


def test_the_end_of_a_link_is_kept() -> None:
    """The expiry is found once, when the body is stored, and is kept when Graph confirms the body."""
    linked = b'{"picture":"https:\\/\\/scontent.xx.fbcdn.net\\/a.jpg?oh=1&oe=%08X"}' % 2000
    kept = settled(reply(body=linked.replace(b"000007D0", b"65A1B2C3"))).keep
    assert kept is not None
    assert kept.meta.expires == 0x65A1B2C3
    again = settled(Reply(304, (), b""), kept).keep
    assert again is not None
    assert (again.meta.expires, again.meta.asked_at) == (0x65A1B2C3, 1030)


def test_a_proof_with_a_time_is_always_asked() -> None:
    """A proof with `appsecret_time` is always checked by Graph, however fresh the entry is."""
    timed = request(credential=Credential("t", "p", "1700000000"))
    for answer, held in ((reply(), None), (Reply(304, (), b""), entry(proofs=(b"",)))):
        made = settle(replace(timed, validator=ETAG), held, answer, terms(proof=OTHER), 1030)
        assert made is not None
        assert made.keep is not None
        assert OTHER not in made.keep.meta.proofs
        assert plan(timed, made.keep.meta, terms(LENIENT, proof=OTHER), 1031) == Ask(ETAG)


def test_after_a_write_what_is_newer_is_fresh() -> None:
    """An entry that was fetched after the last write may be reused."""
    assert plan(request(), entry(asked=1000).meta, terms(invalidated_at=999), 1001) == Reuse()


def test_a_proof_that_graph_accepted() -> None:
    """An entry is reused under a proof that Graph has accepted for it."""
    assert plan(request(), entry(proofs=(b"", OTHER)).meta, terms(proof=OTHER), 1001) == Reuse()


@pytest.mark.parametrize(
    "channel, wishes, expected",
    [
        (Channel.BATCH, CacheDirectives(), ETAG),
        (Channel.DIRECT, CacheDirectives(), ""),
        (Channel.BATCH, CacheDirectives(no_cache=True), ETAG),
        (Channel.BATCH, CacheDirectives(no_store=True), ""),
    ],
)
def test_validators(channel: Channel, wishes: CacheDirectives, expected: str) -> None:
    """An ETag is sent only by the channel by which it came."""
    assert validator_for(entry().meta, request(channel=channel, directives=wishes)) == expected


# --- after it answered ------------------------------------------------------------------------------------------------


def test_a_miss_is_stored() -> None:
    """A good reply is stored as Graph gave it, with its channel, its proof, and the time of the request."""
    told = settled(reply(headers=(*TYPED, ("ETag", ETAG), ("x-app-usage", "{}"))), None, terms(proof=OTHER))
    assert (told.reply.mode, told.reply.stored, told.write) == (Mode.MISS, True, True)
    assert told.keep is not None
    assert told.keep.meta == entry(asked=1030, proofs=(OTHER,)).meta
    assert (headers.from_stored(told.keep.headers, ETAG), told.keep.body) == ((*TYPED, ("ETag", ETAG)), BODY)


def test_a_change_replaces() -> None:
    """A new body replaces the old one, and proofs that were accepted for the old body must be accepted again."""
    told = settled(reply(body=b'{"id":"2"}', etag='"e2"', channel=Channel.DIRECT), entry(proofs=(b"", OTHER)))
    assert (told.reply.mode, told.reply.stored, told.reply.body) == (Mode.CHANGED, True, b'{"id":"2"}')
    assert told.keep == Entry(
        entry(asked=1030, etag='"e2"', channel=Channel.DIRECT).meta,
        headers.stored((*TYPED, ("ETag", '"e2"')), '"e2"'),
        b'{"id":"2"}',
    )


@pytest.mark.parametrize("repeated", [(), (("ETag", ETAG),)])
def test_a_304_confirms_what_was_asked_about(repeated: Headers) -> None:
    """After a 304 the stored body is served, whether the 304 has an ETag or not; its fields update the stored ones."""
    news = (("Expires", "new"), ("x-app-usage", "{}"), ("Content-Type", "text/html"), *repeated)
    told = settled(Reply(304, news, b""), entry(asked=1000))
    assert (told.reply.status, told.reply.body, told.reply.mode, told.reply.stored) == (
        200,
        BODY,
        Mode.REVALIDATED,
        False,
    )
    assert (told.reply.header("content-type"), told.reply.header("etag")) == (TYPED[0][1], ETAG)
    assert (told.reply.header("expires"), told.reply.header("x-app-usage")) == ("new", "{}")
    assert told.keep is not None
    assert (told.keep.meta, told.keep.body, told.write) == (entry(asked=1030).meta, BODY, False)
    assert dict(headers.from_stored(told.keep.headers)).keys() == {
        "Content-Type",
        "ETag",
        "Facebook-API-Version",
        "Expires",
    }


def test_a_304_vouches_for_the_proof_that_asked() -> None:
    """Programs with different proofs for one token share an entry; only the newest few proofs are remembered."""
    kept = entry()
    for number in range(PROOFS_KEPT + 1):
        made = settled(Reply(304, (), b""), kept, terms(proof=b"%d" % number)).keep
        assert made is not None
        kept = made
    assert kept.meta.proofs == (b"4", b"3", b"2", b"1")
    again = settled(Reply(304, (), b""), kept, terms(proof=b"2")).keep
    assert again is not None
    assert again.meta.proofs == (b"2", b"4", b"3", b"1")


@pytest.mark.parametrize("held", [None, entry(etag='"newer"')])
def test_a_304_whose_body_is_gone(held: Entry | None) -> None:
    """A 304 about an entry that is gone is never answered with another body: the read is sent again."""
    assert settle(request(validator=ETAG), held, Reply(304, (), b""), terms(), 1030) is None


def test_a_304_about_something_else() -> None:
    """A 304 with another ETag than the one that was sent confirms nothing."""
    assert settle(request(validator=ETAG), entry(), Reply(304, (("ETag", '"e2"'),), b""), terms(), 1030) is None


@pytest.mark.parametrize(
    "answer",
    [
        reply(200, b'{"error":{"code":1}}'),
        reply(200, b'{"error":{}}'),
        reply(200, b"not json"),
        reply(200, b""),
        reply(200, b"[1]"),
        reply(200, b"true"),
        reply(200, etag=""),
        reply(200, etag="bare"),
        reply(200, etag='"a\udcff"'),
        reply(200, etag='"a" "b"'),
        reply(201),
        reply(206),
        reply(302),
        reply(400, b'{"error":{"code":190}}'),
        reply(404),
        reply(500),
        reply(429),
    ],
)
def test_what_is_not_stored(answer: Reply) -> None:
    """Errors (also with status 200), and replies that are no JSON object with an ETag, are passed on and not stored."""
    told = settled(answer)
    assert told == Settled(replace(answer, mode=Mode.MISS))
    assert not told.reply.stored
    behind = settled(answer, entry(asked=900))
    assert behind.reply == replace(answer, mode=Mode.CHANGED)
    assert behind.keep is None or behind.keep.body == BODY


@pytest.mark.parametrize("wishes, rule", [(CacheDirectives(no_store=True), FRESH), (NO_DIRECTIVES, Rule(cache=False))])
def test_what_shall_not_be_stored(wishes: CacheDirectives, rule: Rule) -> None:
    """`no-store` and a rule without cache are obeyed, and do not change the entry."""
    told = settle(request(directives=wishes), entry(), reply(etag='"e2"'), terms(rule), 1030)
    assert told == Settled(reply(etag='"e2"', mode=Mode.CHANGED))


@pytest.mark.parametrize(
    "answer",
    [reply(400, b'{"error":{"code":190}}'), reply(404, b'{"error":{"code":803}}'), reply(200, b'{"error":{}}')],
)
def test_what_graph_refuses_now_is_not_served_from_before(answer: Reply) -> None:
    """Once Graph refuses a token, or says that an object is gone, no rule serves the older body under that proof."""
    doubted = settled(answer, entry(proofs=(b"", OTHER)), terms(LENIENT)).keep
    assert doubted is not None
    assert doubted.meta.proofs == (OTHER,)
    assert plan(request(), doubted.meta, terms(LENIENT), 1031) == Ask(ETAG)
    assert plan(request(), doubted.meta, terms(LENIENT, proof=OTHER), 1031) == Reuse()
    confirmed = settled(Reply(304, (), b""), doubted, terms(LENIENT)).keep
    assert confirmed is not None
    assert plan(request(), confirmed.meta, terms(LENIENT), 1031) == Reuse()


@pytest.mark.parametrize("answer", [reply(500), reply(429), reply(400, b'{"error":{"code":17}}')])
def test_trouble_proves_nothing(answer: Reply) -> None:
    """An error on Graph's side, or a throttle, does not change the entry."""
    assert settled(answer, entry()).keep is None


def test_a_bad_proof_hurts_nobody_else() -> None:
    """A refused proof ends no freshness under the proofs that Graph has accepted."""
    assert settled(reply(400, b'{"error":{"code":100}}'), entry(), terms(proof=OTHER)).keep is None


# --- what stands in ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "answer, covered",
    [
        (reply(500), True),
        (reply(400, b'{"error":{"code":17}}'), True),
        (reply(200, b'{"error":{"code":1}}'), True),
        (reply(400, b'{"error":{"code":190}}'), False),
        (reply(200, b'{"error":{"code":190}}'), False),
        (reply(404), False),
    ],
)
def test_an_old_body_for_trouble(answer: Reply, covered: bool) -> None:  # noqa: FBT001
    """Where a rule allows it, an old body is served in place of an error of Graph's, never in place of an answer."""
    told = settled(answer, entry(asked=900), terms(LENIENT)).reply
    assert (told.mode is Mode.STALE, told.body == BODY and told.status == 200) == (covered, covered)
    if covered:
        assert (told.detail, told.age, told.ttl) == ("stale-if-error", 130, -70)


@pytest.mark.parametrize(
    "now, wishes, allowed",
    [
        (1001, CacheDirectives(), True),
        (1659, CacheDirectives(), True),
        (1660, CacheDirectives(), False),
        (1001, CacheDirectives(no_cache=True), False),
        (1001, CacheDirectives(no_store=True), False),
        (1700, CacheDirectives(max_age=10_000), False),
        (1010, CacheDirectives(max_age=10), True),
        (1011, CacheDirectives(max_age=10), False),  # nothing older than the caller takes, whatever befell Graph
        (1700, CacheDirectives(stale_if_error=1000), True),  # its own word counts, whether it widens or narrows
        (1069, CacheDirectives(stale_if_error=10), True),
        (1070, CacheDirectives(stale_if_error=10), False),
        (1001, CacheDirectives(stale_if_error=0), False),
        (1001, CacheDirectives(stale_if_error=10, no_cache=True), False),
    ],
)
def test_how_long_it_may_stand_in(now: float, wishes: CacheDirectives, allowed: bool) -> None:  # noqa: FBT001
    """Only for the seconds of the rule, and not to a caller that said no-cache."""
    assert may_cover(entry(asked=1000).meta, wishes, terms(LENIENT), now) is allowed


@pytest.mark.parametrize(
    "now, pressure, wishes, expected",
    [
        (1061, 0.0, CacheDirectives(), Ask(ETAG)),
        (1061, 0.1, CacheDirectives(), Reuse(detail="stretched")),  # fresh for 60 + 24 s
        (1084, 0.1, CacheDirectives(), Ask(ETAG)),
        (1299, 1.0, CacheDirectives(), Reuse(detail="stretched")),
        (1300, 0.9, CacheDirectives(), Ask(ETAG)),
        (1300, 1.0, CacheDirectives(), Reuse(detail="throttled")),
        (1659, 1.0, CacheDirectives(), Reuse(detail="throttled")),
        (1660, 1.0, CacheDirectives(), Ask(ETAG)),
        (1200, 1.0, CacheDirectives(max_age=100), Ask(ETAG)),  # nothing older than the caller takes
        (1200, 1.0, CacheDirectives(max_age=300), Reuse(detail="stretched")),
        (1061, 1.0, CacheDirectives(min_fresh=1), Ask(ETAG)),
        (1061, 1.0, CacheDirectives(no_cache=True), Ask(ETAG)),
    ],
)
def test_what_is_scarce_is_spared(now: float, pressure: float, wishes: CacheDirectives, expected: Plan) -> None:
    """The scarcer the calls, the longer an entry is fresh; when no call may be sent, a stale entry answers."""
    rule = Rule(fresh_s=60, stale_if_error_s=600, stretch_s=300)
    scarce = Terms(rule, pressure=pressure)
    assert plan(request(directives=wishes), entry(asked=1000).meta, scarce, now) == expected


def test_without_stretch_s_nothing_is_stretched() -> None:
    """Pressure never shortens the rule's freshness, not even with a `stretch_s` below `fresh_s`."""
    for stretch in (0, 30):
        scarce = Terms(Rule(fresh_s=60, stretch_s=stretch), pressure=1.0)
        assert plan(request(), entry(asked=1000).meta, scarce, 1059) == Reuse()
        assert plan(request(), entry(asked=1000).meta, scarce, 1061) == Ask(ETAG)


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 400))
def test_more_pressure_never_asks_more(one: float, other: float, age: float) -> None:
    """An entry that is served at some pressure is served at every higher pressure."""
    low, high = sorted((one, other))
    plans = [
        plan(request(), entry(asked=1000).meta, Terms(Rule(fresh_s=60, stretch_s=300), pressure=pressure), 1000 + age)
        for pressure in (low, high)
    ]
    assert isinstance(plans[1], Reuse) or not isinstance(plans[0], Reuse)


def test_what_a_stretched_body_says() -> None:
    """The reply's lifetime is the stretched one."""
    stretched = reuse(
        entry(asked=1000), Reuse(detail="stretched"), Terms(Rule(fresh_s=60, stretch_s=300), pressure=0.5), 1100
    )
    assert (stretched.mode, stretched.ttl, stretched.detail) == (Mode.REUSED, 80, "stretched")
    throttled = reuse(entry(asked=1000), Reuse(detail="throttled"), terms(), 1100)
    assert (throttled.mode, throttled.ttl) == (Mode.STALE, -40)


def test_what_a_reused_body_says() -> None:
    """A reply from the cache has its age and its remaining freshness, and no old usage headers."""
    fresh = reuse(entry(asked=1000, channel=Channel.DIRECT), Reuse(), terms(), 1010)
    assert (fresh.status, fresh.body, fresh.mode, fresh.channel) == (200, BODY, Mode.REUSED, Channel.DIRECT)
    assert (fresh.age, fresh.ttl, fresh.detail, fresh.upstream_s) == (10, 50, "", None)
    stale = reuse(entry(asked=1000), BEHIND, terms(), 1070)
    assert (stale.mode, stale.age, stale.ttl, stale.detail) == (Mode.STALE, 70, -10, "stale-while-revalidate")
    assert cover(entry(asked=1000), terms(), 999).age == 0
    linked = reuse(entry(asked=1000, expires=1020), Reuse(), terms(), 1010)
    assert (linked.age, linked.ttl) == (10, 10)


def test_what_is_not_final_is_never_fresh() -> None:
    """The body of an unfinished job is stored for its validator only; so is the answer to a poll."""
    for told, asked in ((b'{"is_completed":false}', request()), (BODY, request("fields=is_completed"))):
        made = settle(asked, None, reply(body=told), terms(), 1030)
        assert made is not None
        assert made.keep is not None
        assert plan(asked, made.keep.meta, terms(), 1031) != Reuse()


def test_a_304_makes_nothing_final() -> None:
    """An unfinished body stays unfinished when Graph confirms it."""
    kept = settled(Reply(304, (), b""), entry(may_be_fresh=False)).keep
    assert kept is not None
    assert not kept.meta.may_be_fresh


@given(
    st.builds(CacheDirectives, *[st.booleans()] * 3, *[st.none() | st.integers(0, 100)] * 4),
    st.builds(Rule, *[st.integers(0, 100)] * 3, cache=st.booleans()),
    st.builds(entry, proofs=st.sampled_from([(), (b"",), (OTHER,)]), expires=st.sampled_from([0, 1050, 1100])),
    st.integers(900, 1300),
    st.integers(900, 1300),
)
def test_no_plan_serves_what_may_not_be(
    wishes: CacheDirectives, rule: Rule, kept: Entry, touched: int, now: int
) -> None:
    """Under any settings and directives, no entry is served unasked that is invalidated, unproved or too old."""
    proofs, expires = kept.meta.proofs, kept.meta.expires
    made = plan(request(directives=wishes), kept.meta, terms(rule, invalidated_at=touched), now)
    if isinstance(made, Reuse):
        assert rule.cache
        assert b"" in proofs
        assert touched < 1000 <= now
        assert not wishes.no_cache
        assert not wishes.no_store
        age = now - 1000
        assert wishes.max_age is None or age < wishes.max_age
        assert wishes.max_stale is None or age <= rule.fresh_s + wishes.max_stale or age < rule.fresh_s
        assert wishes.min_fresh is None or age + wishes.min_fresh <= rule.fresh_s
        assert not expires or now < expires
        if wishes.max_stale is None:
            assert age < rule.fresh_s + rule.stale_while_revalidate_s
            assert wishes.max_age is None or age < rule.fresh_s
        assert (made.detail == "") == (age < rule.fresh_s)
    if wishes.only_if_cached:
        assert not isinstance(made, Ask)


def test_credentials_stay_out_of_terms() -> None:
    """The terms of reuse hold digests, never a proof."""
    assert "p" * 20 not in repr(terms()) + repr(request(credential=Credential("t", "p" * 20)))
    assert policy.Refuse() == Refuse()
