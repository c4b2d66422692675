"""Which reads are merged, what the merged read asks for, and which part of its answer each read gets."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from proxy.core.merge.projection import project, project_reply
from proxy.core.merge.selection import may_share, merge_selections, selection, with_fields
from proxy.core.model import CacheDirectives
from proxy.core.routing.normal_form import read_target
from tests.core.samples import reply, request


def names(text: str) -> frozenset[str]:
    """The names in *text*."""
    return frozenset(text.split())


# --- which reads


@pytest.mark.parametrize("path", ["/1", "/me", "/act_1/campaigns", "/search"])
def test_plain_fields_of_a_node_or_an_edge(path: str) -> None:
    """Names at the top level can be asked together with others'."""
    chosen = selection(request("fields=id,name&limit=2", path=path))
    assert chosen is not None
    assert (chosen.names, chosen.rest) == (names("id name"), "limit=2")


@pytest.mark.parametrize(
    "query",
    ["", "limit=2", "fields=", "fields=id,", "fields=a.limit(2)", "fields=a{id}", "fields=a.as(b)", "fields=a,a",
     "fields=[%22a%22]", "fields=a:b", "fields=a%20b", "fields=a&fields=b", "fields[]=a", "fields[0]=a&fields=b",
     "%20fields=a&fields=b", "fields=a&metadata=1", "fields=a&debug=all", "fields=a&ids=1,2", "fields=a&id=1",
     "fields=a&ids[]=1", "fields=is_completed", "fields=n%C3%A6vn"],
)  # fmt: skip
def test_other_fields_stay_by_themselves(query: str) -> None:
    """Arguments, sub-selections, aliases, JSON lists, polled fields, and parameters that add members to the body."""
    assert selection(request(query)) is None


@pytest.mark.parametrize("path", ["/", "/1/insights", "/1/asyncadrequestsets", "/1/a/b"])
def test_other_paths_stay_by_themselves(path: str) -> None:
    """Rows of a report depend on the fields; polled reads are never stored; deeper paths are not understood."""
    assert selection(request("fields=name", path=path)) is None


def test_what_is_asked_is_in_normal_form() -> None:
    """A union is spelled as the same read of one caller would be."""
    asked = with_fields(request("after=x&fields=name&limit=2"), names("name id"))
    assert asked.query == "after=x&fields=id,name&limit=2" == read_target(f"/1?{asked.query}").query


def test_who_may_share() -> None:
    """Reads with cache directives are sent alone; a caller's own validator does not matter."""
    special = [
        CacheDirectives(no_cache=True),
        CacheDirectives(max_age=0),
        CacheDirectives(no_store=True),
        CacheDirectives(only_if_cached=True),
    ]
    assert not any(may_share(request(directives=wishes)) for wishes in special)
    assert may_share(request(directives=CacheDirectives(if_none_match='"e"')))


SOME = st.frozensets(st.sampled_from("abcdef"), min_size=1, max_size=4)


# --- together


@given(st.lists(SOME, max_size=8), st.frozensets(st.sampled_from("abcdefgh")), st.lists(SOME, max_size=3))
def test_everybody_is_asked_for_once(
    selections: list[frozenset[str]], known: frozenset[str], refused: list[frozenset[str]]
) -> None:
    """Each read is in one group that asks for all its fields; no refused combination is asked for."""
    groups = merge_selections(selections, known, lambda names: not any(bad <= names for bad in refused))
    assert sorted(index for group in groups for index in group.indices) == list(range(len(selections)))
    for group in groups:
        assert all(selections[index] <= group.names for index in group.indices)
        if len(group.indices) > 1:
            assert not any(bad <= group.names for bad in refused)


def test_as_few_as_may_be() -> None:
    """Without refusals there is one group, widened by the fields that are wanted."""
    (group,) = merge_selections([names("a b"), names("b c")], names("z"), lambda _names: True)
    assert (group.names, group.indices) == (names("a b c z"), (0, 1))


def test_a_selection_that_was_refused_is_asked_for_alone() -> None:
    """A selection that fails alone affects no other read, and is still sent."""
    groups = merge_selections([names("bad a"), names("b"), names("c")], names("z"), lambda names: "bad" not in names)
    assert [(group.names, group.indices) for group in groups] == [(names("bad a"), (0,)), (names("b c z"), (1, 2))]


# --- apart


def test_a_node_is_cut_to_its_fields() -> None:
    """Values stay byte for byte; what Graph left out stays out; `id` is last for who did not ask for it."""
    body = rb'{"id":"1","link":"https:\/\/a\u0040b","name":"\u00e6", "x" : { "a" : [ 1 , 2 ] }}'
    asked = names("id link name spend x")
    assert project(body, asked, names("link name")) == rb'{"link":"https:\/\/a\u0040b","name":"\u00e6","id":"1"}'
    assert project(body, asked, names("id spend")) == b'{"id":"1"}'
    assert project(body, asked, names("x")) == b'{"x":{ "a" : [ 1 , 2 ] },"id":"1"}'


def test_an_id_that_nobody_asked_for_keeps_its_place() -> None:
    """It is where Graph puts it."""
    assert project(b'{"b":1,"a":2,"id":"1"}', names("a b"), names("a")) == b'{"a":2,"id":"1"}'


@pytest.mark.parametrize("comma", [",", "%2C", r"\u00252C", r"\u002c"])
def test_an_edge_is_cut_row_by_row(comma: str) -> None:
    """Paging and summary stay; links ask for the caller's own fields, spelled as Graph spelled them."""

    def page(rows: str, *asked: str) -> bytes:
        link = r"https:\/\/g\/v25.0\/1\/feed?access_token=x&fields=" + comma.join(asked) + "&limit=1&after=Q"
        paging = '{"cursors":{"after":"Q"},"next":"' + link + '"}'
        return ('{"data":[' + rows + '],"paging":' + paging + ',"summary":{}}').encode()

    whole = page('{"a":1,"b":2,"id":"5"},{"id":"6"}', "a", "b", "c")
    assert project(whole, names("a b c"), names("a c")) == page('{"a":1,"id":"5"},{"id":"6"}', "a", "c")


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"1", b'{"a":1,"z":2}', b'{"error":{}}', b'{"data":{"a":1}}', b'{"data":["a"]}', b'{"data":[{"z":1}]}',
     b'{"data":[],"z":1}', b'{"data":[],"paging":[]}', b'{"data":[],"paging":{"next":"?fields=a"}}', b'{"a":1',
     b'{"data":[],"paging":{"next":"?fields="}}'],
)  # fmt: skip
def test_what_is_not_understood_is_nobodys(body: bytes) -> None:
    """A body with a member that no caller asked for belongs to no caller."""
    assert project(body, names("a b"), names("a")) is None


def test_a_field_may_be_called_data() -> None:
    """Then it is a field like any other."""
    assert project(b'{"data":[1],"a":2}', names("a data"), names("data")) == b'{"data":[1]}'


def test_a_part_has_no_etag() -> None:
    """Graph has given none for it; the whole keeps its own, whatever it is."""
    whole = reply(body=b'{"a":1,"b":2}')
    part = project_reply(whole, names("a b"), names("a"))
    assert part is not None
    assert (part.header("etag"), part.body) == (None, b'{"a":1}')
    assert project_reply(whole, names("a b"), names("a b")) is whole
    error = reply(400, b'{"error":{"code":100}}')
    assert (project_reply(error, names("a"), names("a")), project_reply(error, names("a b"), names("a"))) == (
        error,
        None,
    )


@given(
    st.dictionaries(
        st.sampled_from("abcdef"), st.text() | st.floats(allow_nan=False, allow_infinity=False) | st.lists(st.text())
    ),
    SOME,
)
def test_a_part_is_the_whole_with_less(values: dict[str, object], own: frozenset[str]) -> None:
    """As any reader of JSON sees it, order included."""
    body = json.dumps({**values, "id": "1"}).encode()
    part = project(body, frozenset("abcdef"), own)
    assert part is not None
    assert list(json.loads(part).items()) == [item for item in values.items() if item[0] in own] + [("id", "1")]


def test_reads_that_differ_otherwise_are_not_confused() -> None:
    """A selection is cached by its text alone; the path decides beside it."""
    plain = request("fields=name")
    assert selection(plain) is not None
    assert selection(replace(plain, path="/1/insights")) is None
