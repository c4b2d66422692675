"""What counts as a difference between the sidecar's reply and Graph's direct one."""

from __future__ import annotations

import json
from typing import Any

import pytest

from proxy.core.model import Headers, Mode, Reply
from proxy.core.reply.comparison import Comparison, compare, compare_in_steps

FIELDS: Headers = (
    ("Content-Type", "application/json; charset=UTF-8"), ("Facebook-API-Version", "v25.0"), ("ETag", '"a"'),
    ("X-App-Usage", '{"call_count":1}'),
)  # fmt: skip
SAME = Comparison((), ())


def reply(body: Any, *fields: tuple[str, str], status: int = 200, **told: Any) -> Reply:
    """A reply with this body, and with these *fields* in the place of those of the same names."""
    named = {name for name, _ in fields}
    kept = tuple(field for field in FIELDS if field[0] not in named)
    said = tuple(field for field in fields if field[1])
    return Reply(status, (*kept, *said), json.dumps(body).encode(), **told)


ALIKE: list[tuple[Any, Any]] = [
    ({"a": 1, "b": [1, 2.0]}, {"b": [1, 2], "a": 1.0}),
    ({"error": {"code": 1, "fbtrace_id": "x"}}, {"error": {"code": 1, "fbtrace_id": "y"}}),
    ({"paging": {"next": "http://127.0.0.1:8080/v25.0/1/feed?after=x&fields=id%2Cname&access_token=t"}},
     {"paging": {"next": "https://graph.facebook.com/v25.0/1/feed?access_token=t&fields=name%2Cid&after=x&_fb_url=z"}}),
    ({"picture": "https://scontent-a.fbcdn.net/v/1.jpg?oh=1&oe=2"},
     {"picture": "https://scontent-b.fbcdn.net/v/1.jpg?oh=3&oe=4"}),
]  # fmt: skip


@pytest.mark.parametrize("ours, direct", ALIKE)
def test_what_says_the_same_is_the_same(ours: Any, direct: Any) -> None:
    """JSON by value, links by what they ask for, signed URLs by path, trace ids not at all."""
    assert compare(reply(ours), reply(direct)) == SAME


DIFFERENT: list[tuple[Any, Any, str]] = [
    ({"a": 1}, {"a": 2}, "a"),
    ({"a": 1}, {"a": True}, "a"),
    ({"a": 1}, {"a": "1"}, "a"),
    ({"a": None}, {}, "a"),
    ({"data": [{"id": "1"}, {"id": "2"}]}, {"data": [{"id": "2"}, {"id": "1"}]}, "data[].id"),
    ({"data": [1]}, {"data": [1, 2]}, "data"),
    ({"120": {"name": "x"}}, {"120": {"name": "y"}}, "*.name"),
    ({"paging": {"next": "http://x/v25.0/1/feed?after=x"}}, {"paging": {"next": "https://y/v25.0/1/feed?after=z"}},
     "paging.next"),
    ({"paging": {"next": "http://x/v25.0/1?access_token=mine"}},
     {"paging": {"next": "http://x/v25.0/1?access_token=yours"}}, "paging.next"),
    ({"picture": "https://a.net/1.jpg?oe=1"}, {"picture": "https://a.net/2.jpg?oe=1"}, "picture"),
    ([], {}, "body"),
]  # fmt: skip


@pytest.mark.parametrize("ours, direct, place", DIFFERENT)
def test_what_says_something_else_is_a_difference(ours: Any, direct: Any, place: str) -> None:
    """Told by the path, in which no key is an id or a name, and without values."""
    assert compare(reply(ours), reply(direct)) == Comparison(("json",), (place,))


def test_an_old_body_is_told_apart() -> None:
    """What a rule calls fresh may be older than Graph's by design."""
    ours = reply({"a": 1}, mode=Mode.REUSED, age=5.0)
    assert compare(ours, reply({"a": 2})) == Comparison(("aged",), ("a",))


def test_of_different_statuses_nothing_else_is_compared() -> None:
    """The body follows from the status."""
    found = compare(reply({"a": 1}, status=503), reply({"a": 2}))
    assert found == Comparison(("status",), ("503, directly 200",))


@pytest.mark.parametrize(
    "field, place",
    [
        (("Content-Type", "text/html"), "content-type"),
        (("Facebook-API-Version", "v24.0"), "facebook-api-version"),
        (("ETag", ""), "etag"),
        (("X-App-Usage", ""), "x-app-usage"),
        (("WWW-Authenticate", "OAuth"), "www-authenticate"),
    ],
)
def test_fields_that_a_client_reads(field: tuple[str, str], place: str) -> None:
    """A field with another value, and one that is missing or added."""
    assert compare(reply({}, field), reply({})) == Comparison(("headers",), (place,))


@pytest.mark.parametrize(
    "field",
    [
        ("Content-Type", "application/json;charset=utf-8"),
        ("ETag", '"b"'),
        ("X-App-Usage", '{"call_count":2}'),
        ("x-fb-trace-id", "x"),
        ("Cache-Status", "graph-sidecar; hit"),
    ],
)
def test_fields_that_differ_by_nature(field: tuple[str, str]) -> None:
    """The values of ETags and usage, trace ids, and what the sidecar adds."""
    assert compare(reply({}, field), reply({})) == SAME


def test_usage_is_not_asked_of_what_graph_did_not_say_now() -> None:
    """A reply from the cache tells the newest that is known, or none; one cut out of another has no ETag."""
    ours = reply({}, ("X-App-Usage", ""), ("ETag", ""), mode=Mode.REUSED, age=1.0, detail="superset")
    assert compare(ours, reply({})) == SAME


def test_bodies_that_are_no_json() -> None:
    """They are compared as bytes."""
    assert compare(Reply(200, (), b"<a>"), Reply(200, (), b"<a>")) == SAME
    assert compare(Reply(200, (), b"<a>"), Reply(200, (), b"<b>")) == Comparison(("json",), ("body",))


def test_a_large_body_is_compared_in_many_steps() -> None:
    """Other callers are served between them."""
    ours, direct = (Reply(200, FIELDS, json.dumps({"data": [1] * 100_000, "end": end}).encode()) for end in (1, 2))
    assert sum(1 for _ in compare_in_steps(ours, direct)) >= 100
    assert compare(ours, direct) == Comparison(("json",), ("end",))
