"""The readers of small languages: fields, JSONPath, loose JSON, queries, references."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from proxy.emulator.language import jsonpath, loose_json
from proxy.emulator.language.errors import GraphError
from proxy.emulator.language.fields import parse_fields, parse_selection
from proxy.emulator.language.json_style import to_json
from proxy.emulator.language.query import encode_query, parse_query
from proxy.emulator.language.references import fill_references, referenced_names

DATA = {
    "id": "7",
    "data": [{"id": "1", "name": "a"}, {"id": "2", "name": "b"}, {"id": "3", "from": {"id": "4"}}],
    "images": {"x.jpg": {"hash": "h1"}, "y.png": {"hash": "h2"}},
}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@pytest.mark.parametrize(
    "path,found",
    [
        ("$.id", ["7"]),
        ("$.data.*.id", ["1", "2", "3"]),
        ("$.data[*].id", ["1", "2", "3"]),
        ("$.data..id", ["1", "2", "3", "4"]),
        ("$.data.0.name", ["a"]),
        ("$.data[0:2].id", ["1", "2"]),
        ("$.data[0:199:1].id", ["1", "2", "3"]),
        ("$.data[0,2].id", ["1", "3"]),
        ("$['data'][1]['name']", ["b"]),
        ("$.images.*.hash", ["h1", "h2"]),
        ("$.images['x.jpg'].hash", ["h1"]),
        ("$.nothing.here", []),
        ("$.data.9.id", []),
    ],
)
def test_jsonpath_finds_what_goessner_finds(path: str, found: list[str]) -> None:
    """Every form that Meta's samples use is understood."""
    assert jsonpath.find(path, DATA) == found


@given(st.text(max_size=30), JSON)
def test_jsonpath_refuses_only_with_valueerror(path: str, value: Any) -> None:
    """Nonsense is refused in one way and never breaks the evaluator."""
    try:
        assert isinstance(jsonpath.find(path, value), list)
    except ValueError:
        pass


@pytest.mark.parametrize(
    "text,value",
    [
        ("[{'method':'GET','relative_url':'me'},]", [{"method": "GET", "relative_url": "me"}]),
        ("{field:'ad.id', value:[1, 2,],}", {"field": "ad.id", "value": [1, 2]}),
        ('["a\nb"]', ["a\nb"]),
        (r"['it\'s \u00e6']", ["it's æ"]),
        ("[true,false,null,-1.5e3]", [True, False, None, -1500.0]),
    ],
)
def test_loose_json_reads_metas_samples(text: str, value: Any) -> None:
    """Single quotes, bare keys, trailing commas and raw line breaks are understood."""
    assert loose_json.loads(text) == value


@given(JSON)
def test_loose_json_reads_all_json(value: Any) -> None:
    """What is JSON already means the same."""
    assert loose_json.loads(json.dumps(value)) == value


@example("{")
@given(st.text())
def test_loose_json_refuses_only_with_valueerror(text: str) -> None:
    """Nonsense is refused in one way."""
    try:
        loose_json.loads(text)
    except ValueError:
        pass


def test_fields_keep_order_nesting_and_modifiers() -> None:
    """A selection is read as deep as it goes."""
    name, edge, other = parse_selection("name,ads.limit(2){id,creative{name}},photos.fields(id).as(pics)")
    assert name.name == "name"
    assert (edge.name, edge.modifiers, edge.inner) == ("ads", {"limit": "2"}, "id,creative{name}")
    assert edge.fields is not None
    assert [field.name for field in edge.fields] == ["id", "creative"]
    assert (other.alias, other.inner) == ("pics", "id")


@pytest.mark.parametrize("value", ["id,name", '["id","name"]', ["id", "name"], {"0": "id", "1": "name"}, " id , name,"])
def test_fields_come_in_several_shapes(value: Any) -> None:
    """Text, a JSON list and an array mean the same."""
    assert [field.name for field in parse_fields(value) or ()] == ["id", "name"]


@pytest.mark.parametrize("text", ["a{b", "a}", "a.limit(2", "!", "a b"])
def test_broken_fields_are_a_syntax_error(text: str) -> None:
    """What cannot be read is refused with code 2500."""
    with pytest.raises(GraphError) as refused:
        parse_selection(text)
    assert refused.value.code == 2500


def test_query_follows_php() -> None:
    """The last of two names wins, a plus is a space, and brackets make arrays."""
    assert parse_query("a=1&a=2&b=x+y%2Bz&c[]=1&c[]=2&d[k]=v&e") == {
        "a": "2",
        "b": "x y+z",
        "c": {"0": "1", "1": "2"},
        "d": {"k": "v"},
        "e": "",
    }


@given(st.dictionaries(st.text("abc_", min_size=1), st.text()))
def test_query_survives_writing_and_reading(params: dict[str, str]) -> None:
    """What is written as a query reads back the same."""
    assert parse_query(encode_query(params)) == params


def test_json_is_written_as_graph_writes_it() -> None:
    """Slashes, at signs and percent signs are escaped, and all else outside ASCII."""
    assert to_json({"a": "x/y@z%æ"}) == r'{"a":"x\/y\u0040z\u0025\u00e6"}'
    assert json.loads(to_json({"a": "x/y@z%æ"}, pretty=True)) == {"a": "x/y@z%æ"}


def test_references_are_found_and_filled() -> None:
    """Raw and percent-encoded references mean the same; several matches are joined with commas."""
    raw, coded = "?ids={result=one:$.data.*.id}&f=1", "?ids=%7Bresult%3Done%3A%24.data.%2A.id%7D&f=1"
    assert referenced_names(raw) == referenced_names(coded) == ["one"]
    assert fill_references(raw, {"one": DATA}) == fill_references(coded, {"one": DATA}) == "?ids=1,2,3&f=1"
    assert fill_references("name={result=one:$.n}", {"one": {"n": "a&b"}}) == "name=a%26b"
