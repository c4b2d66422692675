import json
from urllib.parse import parse_qsl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.batch import response as batch_response
from proxy.core.batch.request import MOST_LEAD_TOKENS, LeadTokens, encode_batch, relative_url
from proxy.core.batch.response import BatchFailure, Outcomes, resolve
from proxy.core.batch.window import Limits, due, group_of
from proxy.core.client_batch import slots as client_batch_slots
from proxy.core.graph.errors import Blame
from proxy.core.model import Channel, Credential, Reply, Request
from proxy.core.routing.normal_form import read_target
from proxy.core.routing.query import join_pairs
from tests.core import php
from tests.core.samples import INSTAGRAM, credential, plain, request

ANN, BOB = credential("ann"), credential("bob", "proof", "1")
TYPE = {"name": "Content-Type", "value": "text/javascript; charset=UTF-8"}


def reads(count: int, *, validator: str = "", who: Credential = ANN) -> list[Request]:
    """So many reads of different objects."""
    return [request(path=f"/{number}", validator=validator, credential=who) for number in range(count)]


def slot(number: int = 0, code: int = 200, **others: object) -> dict[str, object]:
    """A good slot, whose body says which it is."""
    return {"code": code, "headers": [TYPE], "body": json.dumps({"id": str(number)}), **others}


def outer(slots: object, status: int = 200) -> Reply:
    """Graph's reply to a batch."""
    return Reply(status, (("X-FB-Debug", "trace"), ("x-app-usage", "{}")), json.dumps(slots).encode(), upstream_s=0.5)


def failed(code: int) -> dict[str, object]:
    """An error envelope."""
    return {"error": {"code": code, "message": "no", "type": "OAuthException"}}


# --- who rides with whom, and when ------------------------------------------------------------------------------------


def test_groups() -> None:
    """Reads share a batch if they agree on all that its outer call says once; tokens may differ unless told not to."""
    shared, apart = Limits(), Limits(by_token=True)
    ann, timed, bob = (request(credential=Credential(*who)) for who in (("a",), ("a", "p", "2"), ("b",)))
    assert group_of(ann, shared) == group_of(bob, shared)
    assert group_of(ann, apart) == group_of(timed, apart) != group_of(bob, apart)
    assert len({group_of(request(**other), shared) for other in ({}, {"host": INSTAGRAM}, {"language": "da"})}) == 3
    assert group_of(request(version="", path="/x"), shared) == group_of(ann, shared)
    assert group_of(request(token=None), apart) == group_of(request(token=None), apart)


@pytest.mark.parametrize(
    "queued, in_flight, expected",
    [
        (0, 0, None),
        (0, 3, None),
        (1, 0, 10.0),  # a lone read waits for nobody
        (49, 0, 10.0),
        (1, 1, 9.5),  # behind a flight there is time to gather company
        (49, 7, 9.5),
        (50, 7, 10.0),
        (1, 8, 9.5),
        (1, 16, 10.0),  # behind twice as many flights as are set the window is twice as long
        (1, 40, 11.5),
        (50, 40, 10.0),  # yet no flight ever holds a batch back that is full
        (9000, 1, 10.0),
    ],
)
def test_due(queued: int, in_flight: int, expected: float | None) -> None:
    """A batch leaves at once, full, or when its window closes, however many are in flight."""
    assert due(queued, 9.0, in_flight, Limits(window_s=0.5), 10.0) == expected


# --- what Graph is asked ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "target, expected",
    [
        ("/v25.0/111/?fields=b,a&access_token=t", "v25.0/111?fields=a,b&access_token=t"),
        ("/me?access_token=t", "me?access_token=t"),
        ("/?ids=1,2&access_token=t", "?ids=1,2&access_token=t"),
        ("/v25.0?ids=1&access_token=t", "v25.0/?ids=1&access_token=t"),
        ("/v25.0/cola", "v25.0/cola"),
        ("/", ""),
        ("/me?access_token=a%7Cb%26c%3Dd+e&appsecret_proof=p&appsecret_time=1",
         "me?access_token=a%7Cb%26c%3Dd%20e&appsecret_proof=p&appsecret_time=1"),
        ("/me?q=a%26access_token%3Dx&access_token=t", "me?q=a%26access_token%3Dx&access_token=t"),
    ],
)  # fmt: skip
def test_relative_urls(target: str, expected: str) -> None:
    """What Graph is asked is the normal form, with the caller's own token and proof and nobody else's."""
    assert relative_url(plain(target).request) == expected


odd_text = st.text(st.sampled_from("ab&=+% #?/{}\\\"'\0\r\næ\udcff"), min_size=1, max_size=10)


@given(odd_text, odd_text, odd_text)
def test_a_token_never_becomes_another_parameter(token: str, proof: str, value: str) -> None:
    """However a token or a value is written, PHP reads the same token, the same proof and the same value of it."""
    asked = request(f"q={join_pairs((('q', value),))[2:]}", credential=Credential(token, proof))
    query = relative_url(asked).partition("?")[2]
    assert php.parsed(query) == {
        name: text.encode("utf-8", "surrogateescape")
        for name, text in ((b"q", value), (b"access_token", token), (b"appsecret_proof", proof))
    }
    target = read_target(f"/{relative_url(asked)}")
    assert (target.last("access_token"), target.last("appsecret_proof")) == (token, proof)


def test_encode() -> None:
    """One form asks everything: each slot with its own token, version, condition and language."""
    asked = [
        request("fields=name", path="/1", validator='W/"e,1"', credential=ANN),
        request("", path="/me", version="", language="da, en", credential=BOB),
    ]
    form = dict(parse_qsl(encode_batch(asked, BOB).decode(), strict_parsing=True))
    operations = json.loads(form.pop("batch"))
    assert form == {
        "access_token": "bob", "appsecret_proof": "proof", "appsecret_time": "1", "include_headers": "true",
    }  # fmt: skip
    assert operations == [
        {
            "method": "GET",
            "relative_url": "v25.0/1?fields=name&access_token=ann",
            "headers": ['If-None-Match: W/"e,1"'],
        },
        {
            "method": "GET",
            "relative_url": "me?access_token=bob&appsecret_proof=proof&appsecret_time=1",
            "headers": ["Accept-Language: da, en"],
        },
    ]


def test_a_plain_operation_has_no_headers() -> None:
    """A slot says no more than it must."""
    form = dict(parse_qsl(encode_batch(reads(1), ANN).decode()))
    assert json.loads(form["batch"]) == [{"method": "GET", "relative_url": "v25.0/0?fields=name&access_token=ann"}]


def test_nobody_borrows_a_token() -> None:
    """A read without a token of its own never enters a batch, whose top one would speak for it."""
    with pytest.raises(ValueError, match="token of its own"):
        encode_batch([request(), request(token=None)], ANN)


# --- who stands on top ------------------------------------------------------------------------------------------------


def test_tops() -> None:
    """A credential that Graph refused on top is not used there for a while; the others are."""
    tops, both = LeadTokens(), [request(credential=ANN), request(credential=BOB), request(token=None)]
    assert tops.choose(both, 0) == ANN
    tops.refuse(ANN, Blame.TOKEN, 0)
    assert tops.choose(both, 1) == BOB
    tops.refuse(BOB, Blame.TOKEN, 1)
    assert tops.choose(both, 2) is None
    assert tops.choose(both, LeadTokens.REST_S) == ANN
    assert tops.choose([request(token=None)], 0) is None


def test_a_credential_out_of_quota_stands_on_top_if_nobody_else_can() -> None:
    """A throttle does not change how its owner's reads are asked: their ETags hold for a slot."""
    tops, both = LeadTokens(), [request(credential=ANN), request(credential=BOB)]
    tops.refuse(ANN, Blame.QUOTA, 0)
    assert tops.choose(both, 1) == BOB
    assert tops.choose(both[:1], 1) == ANN
    tops.refuse(BOB, Blame.TOKEN, 1)
    assert tops.choose(both, 2) == ANN


def test_refusals_are_remembered_in_bounded_memory() -> None:
    """However many tokens are refused, only the newest are remembered."""
    tops = LeadTokens()
    for number in range(LeadTokens.PLACES + 1):
        tops.refuse(Credential(str(number)), Blame.TOKEN, 0)
    assert tops.choose([request(token="0")], 1) == Credential("0")
    assert tops.choose([request(token="1")], 1) is None


# --- what becomes of the answer ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "told, is_counted",
    [
        (slot(0), True), (slot(0, 304), True), (slot(0, 302), True), (None, False), ({}, False), ("text", False),
        ({"code": 400, "body": '{"error":{"code":100}}'}, True), ({"code": 400, "body": '{"error":{"code":17}}'}, True),
        ({"code": 400, "body": '{"error":{"code":190}}'}, True), ({"code": 500, "body": '{"error":{"code":1}}'}, False),
        ({"code": 400, "body": '{"error":{"code":960}}'}, False), ({"code": 400, "body": '{"error":{}}'}, False),
    ],
)  # fmt: skip
def test_a_slot_that_graph_answered_has_counted(told: object, is_counted: bool) -> None:  # noqa: FBT001
    """Of one that it left out, or was in trouble with, nobody knows."""
    assert resolve(reads(1), ANN, outer([told]), 0).counted == (is_counted,)


@pytest.mark.parametrize(
    "odd", [rb"\ud83d", b"\x01", b"\xff", rb"\\ud83d"], ids=["half", "control", "no UTF-8", "escaped"]
)
def test_odd_text_costs_no_call(odd: bytes) -> None:
    """Text that strict readers refuse stands in one slot: all are answered, none is asked again."""
    slots = [slot(0), slot(1, body='{"name":"@"}'), slot(2)]
    answer = Reply(200, (), json.dumps(slots).encode().replace(b"@", odd))
    told = resolve(reads(3), ANN, answer, 0)
    assert sorted(told.replies) == [0, 1, 2]
    assert (told.batches, told.singles, told.cause) == ((), (), "")
    assert told.replies[0].body == b'{"id": "0"}'
    assert json.loads(told.replies[1].body.decode(), strict=False)["name"] in {chr(0xD83D), "\x01", chr(0xFFFD)}


def test_usage_that_stands_on_the_outer_reply_alone() -> None:
    """It is told of the token on top, and so of its reads; what a slot tells itself stays."""
    others = [request(token="bob"), request(token=None)]
    own = [TYPE, {"name": "X-App-Usage", "value": '{"call_count":9}'}]
    told = resolve([*reads(2), *others], ANN, outer([slot(0), slot(1, headers=own), slot(2), slot(3)]), 0)
    assert [told.replies[at].header("x-app-usage") for at in range(4)] == ["{}", '{"call_count":9}', None, None]
    assert all(told.replies[at].usage_of_top == (("x-app-usage", "{}"),) for at in range(4))


def test_fields_that_every_direct_reply_has() -> None:
    """A slot that lacks what stands on any direct reply of Graph's has it from the reply around it."""
    fields = (("Access-Control-Allow-Origin", "*"), ("Vary", "Origin"), ("Facebook-API-Version", "v25.0"))
    answer = Reply(200, fields, json.dumps([slot(0), slot(1, headers=[{"name": "Vary", "value": "x"}])]).encode())
    first, second = (resolve(reads(2), ANN, answer, 0).replies[at] for at in range(2))
    assert (first.header("access-control-allow-origin"), first.header("vary")) == ("*", "Origin")
    assert (second.header("vary"), second.header("facebook-api-version")) == ("x", None)


def test_links_as_if_they_were_asked_alone() -> None:
    """What Graph adds to links in a batch is not told."""
    link = "https://graph.facebook.com/v25.0/1/feed?limit=2&_fb_batch_sig=x&after=y"
    told = resolve(reads(1), ANN, outer([slot(0, body=json.dumps({"paging": {"next": link}}))]), 0)
    assert json.loads(told.replies[0].body)["paging"]["next"].endswith("?limit=2&after=y")


def test_a_good_answer() -> None:
    """Each read gets its own slot as a direct reply: status, JSON type, header fields, body, and the outer trace."""
    told = resolve(reads(2), ANN, outer([slot(0), slot(1, 404)]), 0)
    assert told.replies == {
        number: Reply(
            status,
            (("Content-Type", "application/json; charset=UTF-8"), ("X-FB-Debug", "trace"), ("x-app-usage", "{}")),
            b'{"id": "%d"}' % number,
            channel=Channel.BATCH,
            upstream_s=0.5,
            usage_of_top=(("x-app-usage", "{}"),),
        )
        for number, status in enumerate((200, 404))
    }
    assert told == Outcomes(told.replies, counted=(True, True))


def test_a_redirect_has_no_body_and_no_type() -> None:
    """A slot that leads elsewhere is the direct reply that does: its Location, and nothing that calls nothing JSON."""
    away = {"code": 302, "headers": [{"name": "Location", "value": "https://cdn.test/1"}]}
    reply = resolve(reads(1), ANN, outer([away]), 0).replies[0]
    assert (reply.status, reply.body) == (302, b"")
    assert (reply.header("location"), reply.header("content-type")) == ("https://cdn.test/1", None)
    assert client_batch_slots.slot(reply, include_headers=False) == {"code": 302}


def test_a_large_answer_is_read_as_leniently_as_a_small_one() -> None:
    """Half a surrogate pair in one slot; and an array of another length, whose slots answer nothing."""
    large, odd = slot(0, body=json.dumps({"text": "x" * 2**20})), slot(1, body='{"text": "\\ud83d", "half": "\ud83d"}')
    told = resolve(reads(2), ANN, outer([large, odd]), 0)
    assert len(told.replies[0].body) > 2**20
    assert told.replies[1].body == rb'{"text": "\ud83d", "half": "\ud83d"}'
    assert (told.counted, told.singles, told.cause) == ((True, True), (), "")
    assert resolve(reads(3), ANN, outer([large, odd]), 0).replies == {}


@pytest.mark.parametrize("bad", [{"code": 304, "body": None}, {"code": 304}, {"code": 304, "headers": [], "body": ""}])
def test_304s(bad: dict[str, object]) -> None:
    """A 304 answers a read that asked with a validator, and no other."""
    assert resolve(reads(2, validator='"e"'), ANN, outer([bad, slot(1)]), 0).replies[0].status == 304
    told = resolve(reads(2), ANN, outer([bad, slot(1)]), 0)
    assert (set(told.replies), told.singles) == ({1}, (0,))


@pytest.mark.parametrize(
    "bad",
    [
        None, [], 1, "x", {}, {"code": None, "body": "{}"}, {"code": "200", "body": "{}"}, {"code": True, "body": "{}"},
        {"code": 200.0, "body": "{}"}, {"code": 0, "body": "{}"}, {"code": 199, "body": "{}"},
        {"code": 200}, {"code": 200, "body": None}, {"code": 200, "body": {"id": "1"}}, {"code": 204, "body": None},
        {"code": 400, "body": json.dumps(failed(960))}, {"code": 500, "body": json.dumps(failed(960))},
    ],
)  # fmt: skip
@pytest.mark.parametrize("size", [1, 2**20])
def test_slots_that_answer_nothing(bad: object, size: int) -> None:
    """A null, malformed or aborted slot is asked again, with its like, then alone; its mates are answered."""
    slots = [bad, slot(1, body=json.dumps({"id": "1", "text": "x" * size})), bad, slot(3)]
    first = resolve(reads(4), ANN, outer(slots), 0)
    assert (set(first.replies), first.batches, first.singles, first.cause) == ({1, 3}, ((0, 2),), (), "slot")
    second = resolve(reads(4), ANN, outer(slots), 1)
    assert (set(second.replies), second.batches, second.singles) == ({1, 3}, (), (0, 2))
    single = resolve(reads(2), ANN, outer([bad, slot(1)]), 0)
    assert (single.batches, single.singles) == ((), (0,))
    everyone = resolve(reads(3), ANN, outer([bad] * 3), 0)
    assert (everyone.replies, everyone.batches, everyone.singles) == ({}, ((0, 1), (2,)), ())


@pytest.mark.parametrize("code", [500, 503, 600, 10**30])
@pytest.mark.parametrize("body", [json.dumps(failed(1)), json.dumps(failed(2)), "<html>", None, "", "{}"])
def test_slots_in_trouble_are_asked_alone(code: int, body: str | None) -> None:
    """A read that fails with Graph's own trouble in a batch may work alone; the others keep their answers."""
    told = resolve(reads(3), ANN, outer([slot(0), {"code": code, "body": body}, None]), 0)
    assert (set(told.replies), told.batches, told.singles, told.cause) == ({0}, (), (2, 1), "slot")


@pytest.mark.parametrize("code", [400, 403, 429, 500, 503])
def test_a_throttled_slot_is_answered(code: int) -> None:
    """A throttle is an answer: to ask again would prolong the block."""
    told = resolve(reads(2), ANN, outer([{"code": code, "body": json.dumps(failed(17))}, slot(1)]), 0)
    assert (told.replies[0].status, told.batches, told.singles) == (code, (), ())


@pytest.mark.parametrize("code", [190, 100, 803, 10])
def test_a_slots_own_error_is_its_answer(code: int) -> None:
    """A refused token or a missing object is that read's own answer, and nobody else's."""
    told = resolve(reads(2), ANN, outer([{"code": 400, "body": json.dumps(failed(code))}, slot(1)]), 0)
    assert [reply.status for reply in told.replies.values()] == [400, 200]
    assert not told.refused_lead


def test_header_fields_of_a_slot() -> None:
    """Cookies, framing and whatever is no header field stay behind; the rest arrives under its own name."""
    fields: list[object] = [
        TYPE, {"name": "ETag", "value": '"e"'}, {"name": "Set-Cookie", "value": "a"},
        {"name": "X", "value": "a\r\nB: c"},
        {"name": "X Y", "value": "a"}, {"name": "Z"}, {"value": "z"}, {"name": 1, "value": "a"}, None, "ETag: x", [],
        {"name": "Connection", "value": "X-Hop"}, {"name": "X-Hop", "value": "1"},
        {"name": "X-App-Usage", "value": "{}"},
    ]  # fmt: skip
    told = resolve(reads(2), ANN, outer([slot(0, headers=fields), slot(1, headers={"ETag": "x"})]), 0)
    assert [name for name, _ in told.replies[0].headers] == ["Content-Type", "ETag", "X-App-Usage", "X-FB-Debug"]
    assert [name for name, _ in told.replies[1].headers] == ["Content-Type", "X-FB-Debug", "x-app-usage"]


@pytest.mark.parametrize(
    "answer, cause",
    [
        (outer([slot()] * 3), "refused"),
        (outer([slot()] * 5), "refused"),
        (outer([]), "refused"),
        (outer({"error": {"type": "GraphBatchException"}}, 400), "refused"),
        (outer(failed(1), 500), "refused"),
        (outer(failed(190), 500), "refused"),
        (outer([slot()] * 4, 500), "refused"),
        (Reply(200, (), b""), "refused"),
        (Reply(502, (), b"<html>Bad Gateway</html>"), "refused"),
        (Reply(200, (), b"[" * 100_000), "refused"),
        (Reply(200, (), b'["\xff",1,2,3]x'), "refused"),
        (BatchFailure.CUT, "cut"),
    ],
)
def test_a_refused_batch_is_taken_apart(answer: Reply | BatchFailure, cause: str) -> None:
    """A batch that Graph refuses, cuts, or answers with another number of slots is halved, then taken apart."""
    assert resolve(reads(4), ANN, answer, 0) == Outcomes({}, batches=((0, 1), (2, 3)), cause=cause)
    assert resolve(reads(4), ANN, answer, 1) == Outcomes({}, singles=(0, 1, 2, 3), cause=cause)
    only = answer if isinstance(answer, BatchFailure) else Reply(answer.status, (), b"")
    assert resolve(reads(1), ANN, only, 0).singles == (0,)


def test_a_late_batch_is_not_tried_twice() -> None:
    """What took too long together is asked alone at once."""


def test_a_refused_token_on_top() -> None:
    """The others ride again under another credential, and so does the refused one, to get its own 190 in its slot."""
    mixed = [*reads(2), *reads(1, who=BOB)]
    refused = outer(failed(190), 400)
    for attempt in range(MOST_LEAD_TOKENS):
        told = resolve(mixed, ANN, refused, attempt)
        assert told == Outcomes({}, batches=((0, 1, 2),), refused_lead=Blame.TOKEN, cause="token")
    assert resolve(mixed, ANN, refused, MOST_LEAD_TOKENS) == Outcomes(
        {}, singles=(0, 1, 2), refused_lead=Blame.TOKEN, cause="token"
    )
    assert resolve(reads(2), ANN, refused, 0) == Outcomes({}, singles=(0, 1), refused_lead=Blame.TOKEN, cause="token")


def test_a_throttled_token_on_top() -> None:
    """The throttle answers the reads of the credential that it is for; the others ride again under another."""
    mixed = [*reads(2), *reads(1, who=BOB)]
    throttled = Reply(400, (("Content-Type", "application/json"), ("Set-Cookie", "a")), json.dumps(failed(4)).encode())
    told = resolve(mixed, ANN, throttled, 0)
    assert told.replies == {at: Reply(400, throttled.headers[:1], throttled.body) for at in (0, 1)}
    assert (told.batches, told.singles, told.refused_lead, told.cause) == (((2,),), (), Blame.QUOTA, "quota")
    alone = resolve(reads(2), ANN, throttled, 0)
    assert (set(alone.replies), alone.batches, alone.singles) == ({0, 1}, (), ())


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
codes = st.sampled_from([0, 200, 204, 302, 304, 400, 404, 429, 500, 503, 700]) | json_values
slot_bodies = st.sampled_from([None, "", "{}", "<html>", *(json.dumps(failed(code)) for code in (1, 4, 100, 190, 960))])
slots_of_any_kind = st.one_of(
    st.fixed_dictionaries({}, optional={"code": codes, "headers": json_values, "body": slot_bodies | json_values}),
    json_values,
)
answers = st.one_of(
    st.sampled_from(BatchFailure),
    st.builds(Reply, st.sampled_from([200, 400, 403, 500]), st.just(()), st.binary(max_size=20)),
    st.builds(outer, st.lists(slots_of_any_kind, max_size=8), st.sampled_from([200, 200, 200, 400, 500])),
    st.builds(outer, st.sampled_from([1, 4, 17, 100, 190, 960]).map(failed), st.sampled_from([200, 400, 403, 500])),
    st.builds(outer, json_values, st.sampled_from([200, 400])),
)
batches = st.lists(
    st.builds(request, credential=st.sampled_from([ANN, BOB]), validator=st.sampled_from(["", '"e"'])),
    min_size=1,
    max_size=8,
)


@given(batches, answers, st.integers(0, MOST_LEAD_TOKENS + 1))
def test_everyone_has_one_fate(asked: list[Request], answer: Reply | BatchFailure, attempt: int) -> None:
    """Whatever Graph answers, each read gets one reply, or is asked once more, and nobody is asked for ever."""
    told = resolve(asked, ANN, answer, attempt)
    outcomes = [*told.replies, *told.singles, *(at for part in told.batches for at in part)]
    assert sorted(outcomes) == list(range(len(asked)))
    assert all(told.batches)
    assert not told.batches or attempt < MOST_LEAD_TOKENS
    assert bool(told.cause) or len(told.replies) == len(asked)


@given(batches, answers, st.data())
def test_nobody_gets_anothers_slot(asked: list[Request], answer: Reply | BatchFailure, data: st.DataObject) -> None:
    """A reply holds the body of its own slot; one of the whole batch only goes to those whom it is about."""
    marked = answer
    if isinstance(answer, Reply) and data.draw(st.booleans()):
        known = data.draw(st.lists(st.sampled_from([200, 302, 404, 500]), min_size=len(asked), max_size=len(asked)))
        marked = outer([data.draw(st.sampled_from([slot(at, code), None])) for at, code in enumerate(known)])
    told = resolve(asked, ANN, marked, 0)
    for at, reply in told.replies.items():
        assert isinstance(marked, Reply)
        slots = json.loads(marked.body)
        if isinstance(slots, list):
            assert reply.body == (slots[at].get("body") or "").encode()
            assert reply.status == slots[at]["code"]
            assert reply.status != 304 or asked[at].validator
        else:
            assert (reply.body, asked[at].credential) == (marked.body, ANN)


@pytest.mark.parametrize(
    "answer, expected",
    [
        (outer([]), True),
        (Reply(200, (), b" \n["), True),
        (outer([], 400), False),
        (outer({}), False),
        (Reply(200, (), b""), False),
    ],
)
def test_arrays(answer: Reply, expected: bool) -> None:  # noqa: FBT001
    """Whether Graph answered a batch with slots at all can be told from an answer that is cut short, too."""
    assert batch_response.is_array(answer) is expected
