import json

import pytest

from proxy.core.client_batch import slots as client_batch_slots
from proxy.core.model import Reply
from tests.core import samples
from tests.core.samples import ONE, envelope


def kept(body: bytes) -> bytes:
    """Links that stay."""
    return body


def test_a_reply_as_a_slot() -> None:
    """A reply becomes what Graph's item would be: its code, its fields as items spell them, the body a string."""
    fields = (
        *samples.TYPED,
        ("etag", '"e"'),
        ("x-app-usage", "{}"),
        ("x-new", "1"),
        ("x-fb-trace-id", "t"),
        ("Date", "now"),
        ("Content-Length", "3"),
    )
    assert client_batch_slots.slot(Reply(200, fields, b'{"a":"\xc3\xb8"}'), include_headers=True) == {
        "code": 200,
        "headers": [
            {"name": "Content-Type", "value": "text/javascript; charset=UTF-8"},
            {"name": "ETag", "value": '"e"'},
            {"name": "X-App-Usage", "value": "{}"},
            {"name": "x-new", "value": "1"},
        ],
        "body": '{"a":"ø"}',
    }


def test_a_reply_without_body_or_fields() -> None:
    """304 has no body at all, and header fields go where the caller wants none; other types keep their names."""
    assert client_batch_slots.slot(Reply(304, samples.TYPED, b""), include_headers=False) == {"code": 304, "body": None}
    told = client_batch_slots.slot(Reply(200, (("Content-Type", "image/png"),), b"\xff"), include_headers=True)
    assert told == {"code": 200, "headers": [{"name": "Content-Type", "value": "image/png"}], "body": "\ufffd"}


def test_a_slot_of_graphs_own() -> None:
    """Graph's slot is passed on with its links rewritten, and with header fields only if they are wanted."""
    told = {"code": 200, "headers": [{"name": "a", "value": "b"}], "body": "x", "new": 1}
    seen = client_batch_slots.slot_as_received(told, lambda body: body + b"!", include_headers=True)
    assert seen == {**told, "body": "x!"}
    assert client_batch_slots.slot_as_received(told, kept, include_headers=False) == {
        "code": 200,
        "body": "x",
        "new": 1,
    }
    assert client_batch_slots.slot_as_received({"code": 302}, kept, include_headers=True) == {"code": 302}
    assert client_batch_slots.slot_as_received({"body": '"\ud800"'}, kept, include_headers=True) == {
        "body": '"\\ud800"'
    }


def test_the_slot_of_a_path_that_nobody_can_follow() -> None:
    """An invalid reference path is an error in that slot only, in Graph's shape."""
    told = client_batch_slots.bad_path("$.[")
    assert told["code"] == 400
    assert "$.[ is no JSONPath" in json.loads(told["body"])["error"]["message"]


@pytest.mark.parametrize(
    "told, unanswered",
    [
        (None, True),
        ("x", True),
        ({"code": 200, "body": "{}"}, False),
        ({"code": 302}, False),
        ({"code": 500, "body": '{"error":{"code":960}}'}, True),
        ({"code": 400, "body": '{"error":{"code":960}}'}, True),
        ({"code": 400, "body": '{"error":{"code":100}}'}, False),
    ],
)
def test_what_counts_as_no_answer(*, told: object, unanswered: bool) -> None:
    """Null and code 960, under any status, are no answers; an error is one."""
    assert client_batch_slots.is_unanswered(told) is unanswered


@pytest.mark.parametrize("told, success", [(None, False), ({"code": 200}, True), ({"code": 302}, False), ({}, False)])
def test_what_others_may_build_on(*, told: object, success: bool) -> None:
    """Only an operation that succeeded is built on."""
    assert client_batch_slots.is_success(told) is success


@pytest.mark.parametrize(
    "told, quiet", [(None, False), ({}, False), ({"code": 200}, True), ({"code": 302}, True), ({"code": 400}, False)]
)
def test_what_may_be_left_out(*, told: object, quiet: bool) -> None:
    """The slot of a referenced operation is null unless it failed."""
    assert client_batch_slots.is_quiet(told) is quiet


def test_the_reply_around_the_slots() -> None:
    """The array is JSON that is not stored, or a call of the caller's function."""
    slots: list[client_batch_slots.ClientSlot] = [None, {"code": 200, "body": "{}"}]
    told = (("ETag", '"of the array"'), ("Vary", "Origin"), ("x-fb-trace-id", "T"), ("X-App-Usage", "{}"))
    plain, script = client_batch_slots.outer(slots, "", told), client_batch_slots.outer(slots, "app.got", told)
    for around in (plain, script):
        assert around.header("access-control-allow-origin") == "*"
        assert [around.header(name) for name, _ in told] == [None, "Origin", "T", "{}"]
    assert json.loads(plain.body) == slots
    assert plain.header("content-type") == "application/json; charset=UTF-8"
    assert plain.header("cache-control") == script.header("cache-control")
    assert "no-store" in (plain.header("cache-control") or "")
    assert script.body == b"/**/ app.got(" + plain.body + b");"
    assert script.header("content-type") == "text/javascript; charset=UTF-8"


REFUSED = json.dumps({"error": {"code": 190, "message": "no"}}).encode()


@pytest.mark.parametrize(
    "status, body, refused",
    [(400, REFUSED, True), (403, REFUSED, True), (500, REFUSED, False), (200, REFUSED, False), (400, b"<html>", False)],
)
def test_what_refuses_the_whole(*, status: int, body: bytes, refused: bool) -> None:
    """Graph's own error under a 4xx is its answer to the batch; trouble is not."""
    assert client_batch_slots.is_refusal(Reply(status, (), body), envelope(ONE)) is refused


def test_a_refusal_that_hides_its_status() -> None:
    """A call that wants no status but 200 is refused under one."""
    whole = envelope(ONE, suppress_http_code="1")
    assert client_batch_slots.is_refusal(Reply(200, (), REFUSED), whole)
    assert not client_batch_slots.is_refusal(Reply(200, (), b"[]"), whole)


def test_a_refusal_as_its_caller_reads_it() -> None:
    """With JSONP Graph's refusal is a call of the function too; a body that is no JSON is not changed."""
    told = Reply(400, samples.TYPED, REFUSED)
    plain, script = client_batch_slots.refused_batch(told, ""), client_batch_slots.refused_batch(told, "cb")
    assert (plain.status, json.loads(plain.body)) == (400, json.loads(REFUSED))
    assert plain.headers == samples.TYPED
    assert (script.status, script.body) == (400, b"/**/ cb(" + plain.body + b");")
    assert script.headers == (("Content-Type", "text/javascript; charset=UTF-8"),)
    more = json.dumps({**json.loads(REFUSED), "__debug__": {}}).encode()
    assert client_batch_slots.refused_batch(Reply(400, samples.TYPED, more), "") == plain
    page = Reply(502, (("Content-Type", "text/html"),), b"<html>")
    assert client_batch_slots.refused_batch(page, "cb") == page
