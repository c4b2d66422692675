"""Several objects in one read: taken apart into reads of each, and put together again."""

from __future__ import annotations

import json

import pytest

from proxy.core.cache.policy import Ask, Reuse, Terms, learn, plan, settle
from proxy.core.merge.ids_split import join_replies, reads_by_id, split_reply, with_ids
from proxy.core.model import Mode
from proxy.core.routing.rules import Rule
from tests.core.samples import ETAG, entry, reply, request


def test_each_is_a_read_of_its_own() -> None:
    """With the same other parameters, of the object or of its edge."""
    nodes = reads_by_id(request("fields=name&ids=1,act_2,3_4", path="/"))
    assert nodes is not None
    assert {each: (part.path, part.query) for each, part in nodes.items()} == {
        "1": ("/1", "fields=name"), "act_2": ("/act_2", "fields=name"), "3_4": ("/3_4", "fields=name"),
    }  # fmt: skip
    edges = reads_by_id(request("ids=1&limit=2", path="/feed"))
    assert edges is not None
    assert (edges["1"].path, edges["1"].query) == ("/1/feed", "limit=2")


@pytest.mark.parametrize(
    "path, query",
    [("/", ""), ("/", "ids="), ("/", "ids=1,,2"), ("/", "ids=1,1"), ("/", "ids=me"), ("/", "ids=a.b"),
     ("/", "ids=[%221%22]"), ("/", "ids[]=1"), ("/", "ids=1&ids=2"), ("/", "ids=1&id=2"), ("/", "ids=1&debug=all"),
     ("/1/feed", "ids=1"), ("/", "ids=https://example.com"), ("/", f"ids={','.join(map(str, range(501)))}")],
)  # fmt: skip
def test_what_is_not_understood_stays_whole(path: str, query: str) -> None:
    """Names that Graph looks up in its own way, lists in other forms, and what adds to the whole."""
    assert reads_by_id(request(query, path=path)) is None


def test_the_rest_is_asked_as_it_was() -> None:
    """Only the ids are fewer."""
    assert with_ids(request("fields=name&ids=1,2,3", path="/"), ["1", "3"]).query == "fields=name&ids=1,3"


def test_an_answer_is_taken_apart() -> None:
    """Byte for byte; the ETag was the whole's."""
    found = split_reply(reply(body=b'{"2": {"a" : 1} ,"1":{}}'), ["1", "2"])
    assert found is not None
    assert {each: part.body for each, part in found.items()} == {"1": b"{}", "2": b'{"a" : 1}'}
    assert {part.header("etag") for part in found.values()} == {None}


@pytest.mark.parametrize(
    "status, body",
    [(200, b""), (200, b"[]"), (200, b'{"1":{}}'), (200, b'{"1":{},"2":{},"3":{}}'), (400, b'{"1":{},"2":{}}')],
)  # fmt: skip
def test_an_answer_to_something_else_is_not(status: int, body: bytes) -> None:
    """Errors, and answers that leave an id out or add one."""
    assert split_reply(reply(status, body), ["1", "2"]) is None


def test_what_was_asked_tells_how_the_whole_came_about() -> None:
    """The avoided calls of the other ids are counted too, in the order of the request."""
    held = {"1": reply(body=b"{}", mode=Mode.REUSED, ttl=9.0), "2": reply(mode=Mode.REUSED, ttl=5.0, detail="superset")}
    whole = join_replies(["1", "3", "2"], held, {"3": reply(body=b'{"c":1}', mode=Mode.CHANGED)})
    assert whole.body == b'{"1":{},"3":{"c":1},"2":{"id":"1"}}'
    assert (whole.mode, whole.ttl, whole.header("etag")) == (Mode.CHANGED, None, None)
    assert dict(whole.avoided) == {"fresh": 1, "superset": 1}


def test_all_that_is_held_is_as_old_as_its_oldest() -> None:
    """The joined reply is as old as its oldest part."""
    held = {"1": reply(mode=Mode.REUSED, ttl=9.0, age=1.0), "2": reply(mode=Mode.REUSED, ttl=5.0, age=5.0)}
    whole = join_replies(held, held, {})
    assert (whole.mode, whole.ttl, whole.age, dict(whole.avoided)) == (Mode.REUSED, 5.0, 5.0, {"fresh": 2})
    stale = {**held, "3": reply(mode=Mode.STALE, ttl=-1.0, detail="stale-while-revalidate")}
    whole = join_replies(stale, stale, {})
    assert (whole.mode, whole.detail, json.loads(whole.body).keys()) == (
        Mode.STALE,
        "stale-while-revalidate",
        {"1", "2", "3"},
    )
    assert dict(whole.avoided) == {"fresh": 2, "stale": 1}


# --- what is held of each

TERMS = Terms(Rule(fresh_s=60))


def test_what_is_learnt_has_no_validator() -> None:
    """It is good while it is fresh; after that Graph is asked without one, and a stray 304 confirms nothing."""
    kept = learn(request(), None, reply(etag=""), TERMS, 1000).keep
    assert kept is not None
    assert plan(request(), kept.meta, TERMS, 1059) == Reuse()
    assert plan(request(), kept.meta, TERMS, 1061) == Ask("")
    assert settle(request(), kept, reply(304, b"", etag=""), TERMS, 1061) is None


def test_a_body_that_is_held_keeps_its_validator() -> None:
    """The same body is confirmed; another one takes its place, without the ETag that was not given for it."""
    held = entry(asked=900.0)
    same = learn(request(), held, reply(etag=""), TERMS, 1000)
    assert same.keep is not None
    assert (same.keep.meta.etag, same.keep.meta.asked_at, same.write) == (ETAG, 1000, False)
    other = learn(request(), held, reply(body=b'{"id":"2"}', etag=""), TERMS, 1000)
    assert other.keep is not None
    assert (other.keep.meta.etag, other.keep.body) == ("", b'{"id":"2"}')


def test_what_is_newer_or_no_object_is_not_replaced() -> None:
    """The newer answer counts; an error inside an answer is not stored."""
    assert learn(request(), entry(asked=1001.0), reply(etag=""), TERMS, 1000).keep is None
    for body in (b"null", b"[]", b'{"error":{}}'):
        assert learn(request(), None, reply(body=body, etag=""), TERMS, 1000).keep is None
