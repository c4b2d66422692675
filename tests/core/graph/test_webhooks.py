import hmac
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.cache.subscriptions import Subscriptions
from proxy.core.graph.webhooks import Event, challenge, is_authentic, is_signature, read_events
from proxy.core.routing.rules import Rule
from tests.core.samples import request

TOKEN = "the-token-that-meta-was-told"
SECRET = "0123456789abcdef0123456789abcdef"
SHAKE = {"hub.mode": "subscribe", "hub.challenge": "1158201444", "hub.verify_token": TOKEN}


def told(entry: Any, kind: Any = "page") -> tuple[Event, ...] | None:
    """What a notification with one *entry* is read as."""
    return read_events(json.dumps({"object": kind, "entry": [entry]}).encode())


@pytest.mark.parametrize(
    "changed, echo",
    [
        ({}, "1158201444"),
        ({"hub.verify_token": "another"}, None),
        ({"hub.verify_token": ""}, None),
        ({"hub.verify_token": "\udcff"}, None),
        ({"hub.mode": "unsubscribe"}, None),
        ({"hub.challenge": "<script>"}, None),
        ({"hub.challenge": ""}, None),
        ({"hub.challenge": "1" * 65}, None),
        ({"hub.challenge": "٣"}, None),
        ({"hub.challenge": "12\n"}, None),
    ],
)
def test_the_handshake(changed: dict[str, str], echo: str | None) -> None:
    """Only who knows the token gets an echo, and only of digits: nobody has us say what they please."""
    assert challenge(SHAKE | changed, TOKEN) == echo
    assert challenge({}, TOKEN) is None


@given(st.binary(), st.binary(min_size=1))
def test_signatures(body: bytes, other: bytes) -> None:
    """The signature is that of the raw bytes: a changed byte, or another secret, is a forgery."""
    signed = f"sha256={hmac.new(SECRET.encode(), body, 'sha256').hexdigest()}"
    assert is_signature(signed)
    assert is_authentic(signed, body, SECRET)
    assert not is_authentic(signed, body + other, SECRET)
    assert not is_authentic(signed, body, SECRET + "x")


@pytest.mark.parametrize(
    "text",
    ["", "sha256=", "sha1=" + "a" * 40, "sha256=" + "A" * 64, "sha256=" + "a" * 65, "a" * 64, "sha256=" + "٣" * 64],
)
def test_what_can_be_no_signature(text: str) -> None:
    """What has not its shape is not compared at all."""
    assert not is_signature(text)


@pytest.mark.parametrize(
    "entry, event",
    [
        ({"id": "1", "time": 1, "changes": [{"field": "name", "value": "x"}]}, Event("page", "1", ("name",))),
        ({"id": "1", "changed_fields": ["photos", "feed"]}, Event("page", "1", ("photos", "feed"))),
        ({"id": 0, "uid": 44, "changed_fields": ["photos"]}, Event("page", "0", ("photos",), ("44",))),
        (
            {
                "id": "1",
                "changes": [
                    {
                        "field": "feed",
                        "value": {
                            "item": "comment",
                            "verb": "add",
                            "from": {"id": "99", "name": "x"},
                            "post_id": "1_2",
                            "comment_id": "2_3",
                            "parent_id": "1_2",
                            "message": "post_id",
                        },
                    },
                ],
            },
            Event("page", "1", ("feed",), ("1_2", "2_3")),
        ),
        (
            {"id": "17", "changes": [{"field": "comments", "value": {"id": "5", "media": {"id": "6"}}}]},
            Event("page", "17", ("comments",), ("5", "6")),
        ),
        ({"id": "1", "messaging": [{"sender": {"id": "9"}}]}, Event("page", "1")),
        ({"id": "1", "changes": [{"field": "a"}, {"field": "a"}, {"field": 3}, "x"]}, Event("page", "1", ("a",))),
        ({"id": "1", "changes": {"field": "a"}, "changed_fields": "x"}, Event("page", "1")),
    ],
)
def test_events(entry: Any, event: Event) -> None:
    """Both forms that Meta writes: which object, in which fields, and which other objects the values name."""
    assert told(entry) == (event,)
    assert event.nodes[0] == event.node


def test_an_ad_account_has_two_names() -> None:
    """Events name an account by its number, reads by `act_` and the number."""
    assert told({"id": "7", "changed_fields": ["x"]}, "ad_account") == (Event("ad_account", "7", ("x",), ("act_7",)),)


@pytest.mark.parametrize(
    "entry", [None, "1", [], {}, {"id": ""}, {"id": None}, {"id": True}, {"id": "a b"}, {"id": 1.5}]
)
def test_an_odd_entry_hides_no_other(entry: Any) -> None:
    """An entry without an object tells nothing, and those beside it still do."""
    assert told(entry) == ()
    both = json.dumps({"object": "page", "entry": [entry, {"id": "1"}]}).encode()
    assert read_events(both) == (Event("page", "1"),)


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"{}", b'{"object":"page"}', b'{"object":1,"entry":[]}', b'{"object":"page","entry":{}}', b"[" * 9999],
)
def test_what_is_no_notification(body: bytes) -> None:
    """An authentic message of another shape is refused, so that Meta's own log shows it."""
    assert read_events(body) is None


def test_deep_values_end() -> None:
    """However deep a value goes, it is read to a small depth."""
    value: Any = {"post_id": "9"}
    for _level in range(50):
        value = {"x": [value]}
    assert told({"id": "1", "changes": [{"field": "a", "value": value}]}) == (Event("page", "1", ("a",)),)


# --- who may be fresh for longer --------------------------------------------------------------------------------------

FRESH, LONG = Rule(fresh_s=30, stale_if_error_s=5), Rule(fresh_s=600, stale_if_error_s=5)
FEED = Event("page", "1", ("feed", "name"))


@pytest.mark.parametrize(
    "path, query, rule, expected",
    [
        ("/1/feed", "limit=1", FRESH, LONG),
        ("/1", "fields=id,name", FRESH, LONG),
        ("/1", "fields=name,fan_count", FRESH, FRESH),
        ("/1", "", FRESH, FRESH),
        ("/1", "fields=id", FRESH, FRESH),
        ("/1", "fields=feed{message}", FRESH, FRESH),
        ("/1/insights", "", FRESH, FRESH),
        ("/2/feed", "", FRESH, FRESH),
        ("/", "ids=1", FRESH, FRESH),
        ("/me/feed", "", FRESH, FRESH),
        ("/1/feed", "", Rule(), Rule()),
        ("/1/feed", "", Rule(fresh_s=9000), Rule(fresh_s=9000)),
    ],
)
def test_what_may_be_fresh_for_longer(path: str, query: str, rule: Rule, expected: Rule) -> None:
    """Only objects and fields that Meta was heard to tell of, and only what a rule calls fresh at all."""
    known = Subscriptions(600)
    assert known.extend(rule, request(query, path=path)) == rule
    known.on_event(FEED)
    assert known.extend(rule, request(query, path=path)) == expected


def test_nothing_is_extended_unless_the_operator_says_so() -> None:
    """As delivered, events only end freshness."""
    known = Subscriptions(0)
    known.on_event(FEED)
    assert known.extend(FRESH, request(path="/1/feed")) is FRESH


def test_fields_are_of_a_kind() -> None:
    """A field that was told of one page is told of every page that was ever told of, and of no user."""
    known = Subscriptions(600)
    for event in (FEED, Event("page", "2"), Event("user", "3"), Event("ad_account", "7", ("x",), ("act_7",))):
        known.on_event(event)
    reads = {path: known.extend(FRESH, request(path=path)).fresh_s for path in ("/2/feed", "/3/feed", "/act_7/x")}
    assert reads == {"/2/feed": 600, "/3/feed": 30, "/act_7/x": 600}


def test_what_is_known_of_subscriptions_is_bounded() -> None:
    """However much is told, no more than so much is remembered."""

    class Few(Subscriptions):
        OBJECTS = 2
        FIELDS = 2

    known = Few(600)
    for number in range(9):
        known.on_event(Event(f"kind{number}", f"{number}", tuple(f"f{each}" for each in range(9))))
    assert (len(known._kinds), len(known._fields)) == (2, 2)
    assert {len(fields) for fields in known._fields.values()} == {2}
