import json
from typing import Any

import pytest

from proxy.core.client_batch import slots as client_batch_slots
from proxy.core.client_batch.operation import plain_read
from proxy.core.model import Reply
from proxy.core.routing.classify import Read
from tests.core import samples
from tests.core.samples import ONE, envelope, only

NOBODY: frozenset[str] = frozenset()


def kept(body: bytes) -> bytes:
    """Links that stay."""
    return body


# --- on the way to Graph ----------------------------------------------------------------------------------------------


def test_the_call_as_a_whole() -> None:
    """A batch's own call carries its token and proof, and asks for header fields whatever the caller wants of them."""
    whole = envelope(ONE, include_headers=False, callback="cb", appsecret_proof="p", appsecret_time="7")
    assert client_batch_slots.top_level(whole, [ONE]) == {
        "access_token": "TOP",
        "appsecret_proof": "p",
        "appsecret_time": "7",
        "include_headers": "true",
        "batch": '[{"relative_url":"1"}]',
    }
    assert set(client_batch_slots.top_level(envelope(ONE), [ONE])) == {"access_token", "include_headers", "batch"}


def test_what_is_unknown_goes_on() -> None:
    """Members of an operation that nobody here knows reach Graph as they came, and so does its body, byte for byte."""
    body = "m=a+b%26 c&&x"
    item = {"method": "post", "relative_url": "1/feed", "body": body, "attached_files": "f", "new": [1, None]}
    assert client_batch_slots.filled_operation(only(item), "1/feed", body, names=NOBODY, named=False) == item


@pytest.mark.parametrize(
    "given, names, found",
    [
        ("a", {"a"}, "a"),
        ("a", set(), None),
        (["a", "b"], {"a", "b"}, ["a", "b"]),
        (["a", "b"], {"b"}, "b"),
        (["a", "b"], set(), None),
    ],
)
def test_an_operation_depends_on_those_that_go_with_it(given: object, names: set[str], found: object) -> None:
    """A part of a split batch names nobody who is in another part."""
    whole = envelope({**ONE, "name": "a"}, {**ONE, "name": "b"}, {**ONE, "depends_on": given})
    item = client_batch_slots.filled_operation(whole.operations[2], "1", "", names=frozenset(names), named=False)
    assert item.get("depends_on") == found


def test_filled_texts_and_a_voice() -> None:
    """An operation goes on filled in; one that others name is asked to answer, for the sidecar wants to know."""
    whole = envelope({**ONE, "name": "a"}, {"relative_url": "{result=a:$.id}", "body": "x={result=a:$.id}"})
    item = client_batch_slots.filled_operation(whole.operations[1], "7", "x=7", names=NOBODY, named=True)
    assert item == {"relative_url": "7", "body": "x=7", "omit_response_on_success": False}


@pytest.mark.parametrize("name, named", [("", False), ("n", True)])
def test_a_read_goes_in_normal_form(*, name: str, named: bool) -> None:
    """A plain read inside a batch asks just as it would in a batch of strangers, in its place among its own."""
    given = {"relative_url": "1?fields=b,a", "name": name, "depends_on": ["a", "b"]}
    whole = envelope({**ONE, "name": "a"}, {**ONE, "name": "b"}, given)
    read = plain_read(whole.operations[2], "1?fields=b,a", whole, samples.HOSTS, samples.NO_RULES)
    assert isinstance(read, Read)
    asked = read.request.with_validator('"e"')
    item = client_batch_slots.normal_operation(whole.operations[2], asked, names=frozenset({"b"}), named=named)
    assert item["relative_url"] == "v25.0/1?fields=a,b&access_token=TOP"
    assert item["headers"] == ['If-None-Match: "e"']
    assert item["depends_on"] == "b"
    assert item.get("name", "") == name
    assert item.get("omit_response_on_success", True) is not named


@pytest.mark.parametrize(
    "item, files",
    [
        ({}, ()),
        ({"attached_files": ""}, ()),
        ({"attached_files": "a"}, ("a",)),
        ({"attached_files": "a, b,"}, ("a", "b")),
        ({"attached_files": {"File0": "a", "File1": "b"}}, ("a", "b")),
        ({"attachedFiles": "a"}, ("a",)),
    ],
)
def test_the_files_of_an_operation(item: dict[str, Any], files: tuple[str, ...]) -> None:
    """Parts are named in a list with commas, in an object as by Meta's Java SDK, or misspelled as by its Node SDK."""
    assert client_batch_slots.files_of(item) == files


# --- on the way back --------------------------------------------------------------------------------------------------


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
    """What Graph said of an operation is passed on as it is, links led back; fields only to who wants them."""
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
    """Who refers by a path that is none hears so in that slot alone, in Graph's shape."""
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
    """A slot that others name is left out unless it tells of a failure."""
    assert client_batch_slots.is_quiet(told) is quiet


def test_the_reply_around_the_slots() -> None:
    """The array is JSON that nobody else keeps, or a call of the caller's function."""
    slots: list[client_batch_slots.Slot] = [None, {"code": 200, "body": "{}"}]
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
    """Who asked for JSONP gets Graph's refusal by way of the function too; what is no JSON stays as it is."""
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


@pytest.mark.parametrize("count, sizes", [(0, []), (1, [1]), (50, [50]), (51, [50, 1]), (120, [50, 50, 20])], ids=str)
def test_a_larger_batch_is_split_into_calls_that_graph_takes(count: int, sizes: list[int]) -> None:
    """No call has more than 50 operations, and none is lost or moved."""
    calls = client_batch_slots.split_into_calls(range(count))
    assert [len(call) for call in calls] == sizes
    assert [at for call in calls for at in call] == list(range(count))
