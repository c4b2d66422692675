"""A form with a batch is taken apart only where decoding the whole gives the same."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote, quote_plus, urlencode

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.client_batch.batch_form import decoded, split_form
from proxy.core.fast_path.head import read_post
from proxy.core.routing.query import split_pairs

HEAD = "POST /v25.0/ HTTP/1.1\r\nHost: graph.facebook.com\r\nContent-Length: {}\r\nAccept: */*\r\n\r\n"
ITEMS: list[dict[str, Any]] = [
    {"method": "GET", "relative_url": f"v25.0/{number}?fields=id,name&limit=2"} for number in range(3)
]


def message(body: bytes) -> bytes:
    """A POST of *body*."""
    return HEAD.format(len(body)).encode() + body


def parameters(data: bytes) -> dict[str, str]:
    """What the form in *data* says when all of it is decoded."""
    found = read_post(data)
    assert found is not None
    return dict(split_pairs(found[2].decode("utf-8", "surrogateescape").strip()))


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize(
    "write",
    [
        quote_plus,
        lambda text: quote(text, safe=""),
        lambda text: quote(text.replace(": ", ":").replace(", ", ","), safe="!'()*"),
        lambda text: quote_plus(text, safe="/?="),
    ],
    ids=["python", "spaces", "javascript", "loosely"],
)
@pytest.mark.parametrize("around", [("", ""), ("access_token=t&", ""), ("", "&include_headers=false")])
def test_the_operations_are_those_that_the_program_wrote(write: Any, count: int, around: tuple[str, str]) -> None:
    """As Python, browsers and PHP escape them, wherever the batch stands among the parameters."""
    body = f"{around[0]}batch={write(json.dumps(ITEMS[:count]))}{around[1]}"
    form = split_form(message(body.encode()))
    assert form is not None
    assert [json.loads(decoded(each) or b"") for each in form.operations] == ITEMS[:count]
    assert parameters(form.empty) == {**parameters(message(body.encode())), "batch": "[]"}


def test_messages_that_differ_in_their_operations_have_one_frame() -> None:
    """Also where these are of other lengths, which the head tells."""
    forms = [
        split_form(message(urlencode({"access_token": "t", "batch": json.dumps(items)}).encode()))
        for items in (ITEMS, ITEMS[:1], [{"method": "GET", "relative_url": "me"}])
    ]
    assert len({form.frame for form in forms if form is not None}) == 1
    assert None not in forms


@pytest.mark.parametrize(
    "body",
    [
        "batch=%5B%5D",
        "batch=[{}]",
        "xbatch=%5B%7B%7D%5D",
        '{"batch":"[]","x":"&batch=%5B%7B%7D%5D"}',
        ' {"batch":"[]","x":"&batch=%5B%7B%7D%5D"}',
        "batch=%5B%7B%7D%5D%20",
        "batch=%5B%7B%5D",
        "batch=%5b%7b%7d%5d",
        "batch=%5B%7B%7D%5D&batch=%5B%5D",
        "batch=%5B%7B%7D%5D&b%61tch=[]",
        f"batch=%5B%7B{'%7D%2C%7B' * 1000}%7D%5D",
    ],
)
def test_what_is_not_plainly_such_a_form_is_read_whole(body: str) -> None:
    """An empty batch, another name, JSON, what is escaped in an unusual way, and a batch behind another."""
    assert split_form(message(body.encode())) is None


def test_a_message_of_which_a_part_is_missing_or_another_follows_is_read_whole() -> None:
    """Its length has to be that of its body."""
    whole = message(urlencode({"batch": json.dumps(ITEMS)}).encode())
    assert split_form(whole) is not None
    assert [split_form(each) for each in (whole[:-1], whole + b"G", whole.replace(b"Content-Length", b"X"))] == [
        None
    ] * 3


def test_an_operation_with_objects_inside_is_no_piece_of_a_form() -> None:
    """Where they stand in an array, the form was split between them."""
    items = [{"relative_url": "me", "headers": [{"name": "a", "value": "b"}, {"name": "c", "value": "d"}]}]
    form = split_form(message(urlencode({"batch": json.dumps(items)}).encode()))
    assert form is not None
    assert None in [decoded(each) for each in form.operations]


PIECES = st.sampled_from(
    [
        *(
            "batch=",
            "&batch=",
            "&",
            "=",
            "%",
            "%7",
            "+",
            "%20",
            "%7D%2C%7B",
            "%7D%2C+%7B",
            "%2C",
            "%7D",
            "%7B",
            "}",
            "{",
            ",",
        ),
        *("%22a%22%3A1", '"a":1', "%22a%22:%22%257D%252C%257B%22", "%5B%7B", "%7D%5D", "%5B", "%5D", "access_token=t"),
        *("%22a%22%3A%22%26batch%22", "%ff", "\\", "%5C%22", "%22"),
    ]
)
BODIES = st.one_of(
    st.lists(PIECES, max_size=8).map("".join),
    st.tuples(st.lists(PIECES, max_size=4), st.lists(PIECES, max_size=8), st.lists(PIECES, max_size=4)).map(
        lambda drawn: f"{''.join(drawn[0])}&batch=%5B%7B{''.join(drawn[1])}%7D%5D{''.join(drawn[2])}"
    ),
)


@given(BODIES)
def test_a_form_that_is_taken_apart_says_the_same_as_the_whole(body: str) -> None:
    """Whatever stands in the operations and around them."""
    data = message(body.encode())
    form = split_form(data)
    if form is None or parameters(form.empty).get("batch") != "[]":
        return
    found = [decoded(each) for each in form.operations]
    if None in found:
        return
    whole = parameters(data)
    items = msgspec.json.decode(whole["batch"].encode("utf-8", "surrogateescape"), type=list[msgspec.Raw])
    assert [bytes(each) for each in items] == found
    assert {**whole, "batch": "[]"} == parameters(form.empty)
