"""Bodies in the order in which their callers asked."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.reply.field_order import in_order
from proxy.core.routing.fields_param import asked_order

NAMES = ("a", "b", "c", "id", "name")
VALUES = st.one_of(
    st.none(), st.integers(), st.text(), st.lists(st.integers()), st.dictionaries(st.text(), st.integers())
)
OBJECTS = st.dictionaries(st.sampled_from(NAMES), VALUES)


@pytest.mark.parametrize(
    "fields, order",
    [
        ("name,id", ("name", "id")),
        ("id,name", ()),  # as Graph is asked
        ("name", ()),
        ("", ()),
        ("name,ads{id}", ()),
        ("name,id,name", ()),
        ("name, id", ()),
        ('["name","id"]', ()),
    ],
)
def test_an_order_is_told_by_plain_names(fields: str, order: tuple[str, ...]) -> None:
    """And only where it is another than that of the normal form."""
    assert asked_order(fields) == order


def answer(found: dict[str, object], order: tuple[str, ...]) -> list[tuple[str, object]]:
    """What Graph says of an object asked in *order*: nothing of what is missing, an `id` unasked at the end."""
    names = [name for name in order if name in found]
    return [(name, found[name]) for name in (*names, *(["id"] if "id" in found and "id" not in order else []))]


@given(
    st.permutations(NAMES).flatmap(lambda names: st.integers(2, 5).map(lambda n: tuple(names[:n]))), st.lists(OBJECTS)
)
def test_a_body_is_what_graph_would_have_said(order: tuple[str, ...], found: list[dict[str, object]]) -> None:
    """Of an object, of a list and of several by their ids: as if Graph had been asked in the caller's order."""

    def asked(names: tuple[str, ...], path: str) -> bytes:
        told = [dict(answer(each, names)) for each in found]
        if path == "/":
            return json.dumps({str(at): each for at, each in enumerate(told)}).encode()
        if path == "/1/ads":
            return json.dumps({"data": told, "paging": {"next": "x"}}).encode()
        return json.dumps(told[0] if told else {}).encode()

    for path in ("/", "/1/ads", "/1"):
        normal, own = asked(tuple(sorted(order)), path), asked(order, path)
        assert json.dumps(json.loads(in_order(normal, path, order))) == json.dumps(json.loads(own))


@pytest.mark.parametrize(
    "body",
    [
        b'{"name":"x","a":1}',  # an order of Graph's own
        b'{"a":1,"name":"x","spend":2}',  # something that nobody asked for
        b'{"error":{"code":1}}',
        b'{"data":[{"a":1,"name":2}, 7]}',
        b"[1]",
        b"true",
        b"",
    ],
)
def test_what_is_not_understood_stays(body: bytes) -> None:
    """Byte for byte."""
    assert in_order(body, "/1", ("name", "a")) == body


def test_values_stay_as_they_are() -> None:
    """However Graph has written them."""
    body = rb'{"a":1.50e1,"name":"\u00e6\/ \ud83d\ude00"}'
    assert in_order(body, "/1", ("name", "a")) == rb'{"name":"\u00e6\/ \ud83d\ude00","a":1.50e1}'
