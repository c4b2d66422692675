import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.client_batch.operation import depends_on, plain_read
from proxy.core.client_batch.parse import (
    Unresolved,
    is_true,
    may_hold_batch,
    read_envelope,
    read_operations,
)
from proxy.core.client_batch.split import MOST_OPERATIONS
from proxy.core.http.errors import BadRequest
from proxy.core.routing.classify import Bypass, Read
from proxy.emulator.language import loose_json
from proxy.emulator.language import operations as language_operations
from proxy.emulator.language.errors import GraphError
from tests.core.samples import GRAPH, HOSTS, INSTAGRAM, NO_RULES, ONE, envelope, head, normal_operation, only

# --- may it be a batch at all -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "method, target, may",
    [
        ("POST", "/", True),
        ("POST", "/v25.0", True),
        ("POST", "/v25.0/", True),
        ("POST", "/me", True),
        ("POST", "/upload:MTph==?sig=x", False),
        ("POST", "/v25.0/upload%3AMTph==", False),
        ("POST", "/v25.0/1234", True),
        ("POST", "/v25.0/1234/feed", False),
        ("POST", "/v25.0/1234/feed?batch=%5B%5D", True),
        ("POST", "https://graph.facebook.com/v24.0", True),
        ("GET", "/", False),
        ("PUT", "/", False),
    ],
)
def test_where_a_batch_may_be(*, method: str, target: str, may: bool) -> None:
    """A batch is looked for at roots and objects, and wherever the query speaks of one; other posts just stream."""
    assert may_hold_batch(head(target, method)) is may


@pytest.mark.parametrize(
    "given",
    [
        [ONE],
        '[{"relative_url":"1"}]',
        "[{'relative_url':'1',},]",
        "[{relative_url: '1'}] // of one",
        ' [ {"relative_url" : "1"} ] ',
    ],
)
def test_a_batch_in_many_spellings(given: object) -> None:
    """An array, JSON, and JSON as loose as Meta's own samples are one batch."""
    operations = read_operations(given)
    assert operations is not None
    assert [each.relative_url for each in operations] == ["1"]
    assert operations[0].method == "GET"


@pytest.mark.parametrize(
    "given",
    [
        None,
        1,
        {},
        [],
        "",
        "[]",
        "{}",
        "no JSON",
        "[1]",
        [1],
        '[{"relative_url":"1"},null]',
        '[{"relative_url":"\udcff"}]',
        "[" * 100_000,
        [{"relative_url": 1}],
        [{"relative_url": "1", "body": {"name": "x"}}],
        [{"relative_url": "1", "headers": "If-None-Match: x"}],
    ],
)
def test_what_only_graph_can_judge(given: object) -> None:
    """A batch that is malformed, or holds a shape that no known client writes, is left to Graph."""
    assert read_operations(given) is None


@given(st.text(st.sampled_from("[]{}'\",:\\ abc1\n"), max_size=30))
def test_no_text_breaks_the_reader(text: str) -> None:
    """A batch that is understood is read as Graph reads it."""
    found = read_operations(text)
    if found:
        assert [each.item for each in found] == loose_json.loads(text)


# --- the whole --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target, version", [("/", ""), ("/v25.0", "v25.0"), ("/v25.0/", "v25.0"), ("/me", "")])
def test_the_version_of_the_call(target: str, version: str) -> None:
    """Operations inherit the version that the batch is posted to."""
    assert envelope(ONE, target=target).version == version


@pytest.mark.parametrize(
    "target, fields",
    [
        ("/?access_token=TOP", {}),
        ("/?access_token=TOP&appsecret_proof=p&appsecret_time=1", {}),
        ("/", {"authorization": "Bearer TOP"}),
        ("/?access_token=TOP", {"authorization": "OAuth TOP"}),
    ],
)
def test_the_token_on_top(target: str, fields: dict[str, str]) -> None:
    """The token stands in the query or the header as well as in the form."""
    found = read_envelope(head(target, "POST", **fields), {"batch": [ONE]}, HOSTS)
    assert found is not None
    assert found.credential.token == "TOP"
    assert (found.credential.proof, found.credential.time) in {("", ""), ("p", "1")}


@pytest.mark.parametrize(
    "target, fields, form",
    [
        ("/", {}, {"batch": [ONE]}),  # no token
        ("/", {}, {"batch": [ONE], "access_token": ""}),
        ("/", {}, {"batch": [ONE], "access_token": None}),
        ("/", {}, {"batch": [ONE], "access_token": ["TOP"]}),
        ("/", {}, {"batch": [ONE], "access_token": "TOP", "appsecret_proof": 1}),
        ("/?access_token=other", {}, {"batch": [ONE], "access_token": "TOP"}),
        ("/?access_token=a&access_token=b", {}, {"batch": [ONE]}),
        ("/", {"authorization": "Basic eDp5"}, {"batch": [ONE], "access_token": "TOP"}),
        ("/", {}, {"access_token": "TOP"}),  # no batch
        ("/", {}, {"batch": "[", "access_token": "TOP"}),
        ("/", {}, {"batch": [ONE], "access_token": "TOP", "streamable_json_response": "1"}),
        ("/?sdk=ios", {}, {"batch": [ONE], "access_token": "TOP"}),
        ("/", {}, {"batch": [ONE], "access_token": "TOP", "format": "xml"}),
        ("/", {}, {"batch": [ONE], "access_token": "TOP", "locale": ["da"]}),
        ("/", {}, {"batch": [ONE], "access_token": "TOP", "callback": "?"}),
        ("/", {}, {"batch": [ONE], "batch_app_id": "999"}),
        ("/", {}, {"batch": [ONE], "access_token": "TOP", "method": "delete"}),
        ("/?method=GET", {}, {"batch": [ONE], "access_token": "TOP"}),
        ("/", {"host": INSTAGRAM}, {"batch": [ONE], "access_token": "TOP"}),
    ],
)
def test_a_whole_that_only_graph_can_judge(target: str, fields: dict[str, str], form: dict[str, Any]) -> None:
    """Without a single top-level token, with unknown parameters, or for another host, the batch passes through."""
    assert read_envelope(head(target, "POST", **fields), form, HOSTS) is None


def test_what_is_said_of_the_whole() -> None:
    """Headers, callback, language and host are those of the call."""
    where = head("/v25.0/?include_headers=0", "POST", accept_language=" da ", host=GRAPH)
    form = {"batch": [ONE], "access_token": "TOP", "callback": "app.got", "method": "POST"}
    found = read_envelope(where, form, HOSTS)
    assert found is not None
    assert (found.include_headers, found.callback, found.language, found.host) == (False, "app.got", "da", GRAPH)
    assert found.path == "/v25.0/"


def test_a_callback_is_a_name() -> None:
    """A callback that is no path of identifiers is refused: it would be run in somebody's page."""
    with pytest.raises(BadRequest):
        envelope(ONE, callback="alert(1)//")


@pytest.mark.parametrize(
    "value, yes",
    [(None, True), ("true", True), ("1", True), (True, True), (1, True), ("x", True)]
    + [(value, False) for value in ("false", "0", "no", "off", "", False, 0, "FALSE", "None", "null")],
)
def test_a_switch(*, value: object, yes: bool) -> None:
    """Yes and no are read from a form, from JSON, and as Meta's Python SDK writes them."""
    assert is_true(value, default=True) is yes


# --- one operation ----------------------------------------------------------------------------------------------------

TAG = '"e:1"'


@pytest.mark.parametrize(
    "given",
    [
        [f"If-None-Match: {TAG}"],
        [f"if-none-match:{TAG}", ""],
        [{"name": "If-None-Match", "value": TAG}],
        [{"name": " IF-NONE-MATCH ", "value": f" {TAG} "}, {}],
        {"If-None-Match": TAG},
    ],
)
def test_header_fields_in_three_shapes(given: object) -> None:
    """Strings, objects and a map say the same, as they do at Graph."""
    operation = only({**ONE, "headers": given})
    assert operation.headers == {"if-none-match": TAG}
    judged = {name: value for name, value in language_operations.item_headers(given).items() if name}
    assert operation.headers == judged
    read = normal_operation({**ONE, "headers": given})
    assert isinstance(read, Read)
    assert read.request.directives.if_none_match == TAG


@pytest.mark.parametrize("given", [None, [], {}, ""])
def test_no_header_fields(given: object) -> None:
    """Empty fields are none."""
    assert only({**ONE, "headers": given}).headers == {}


@pytest.mark.parametrize(
    "item, method, name, is_quiet, has_references",
    [
        ({}, "GET", "", True, False),
        ({"method": "post"}, "POST", "", True, False),
        ({"method": None, "name": None}, "GET", "", True, False),
        ({"name": 7, "omit_response_on_success": False}, "GET", "7", False, False),
        ({"name": "My Søn & co", "omit_response_on_success": "false"}, "GET", "My Søn & co", False, False),
    ],
)
def test_what_an_operation_says_of_itself(
    *, item: dict[str, Any], method: str, name: str, is_quiet: bool, has_references: bool
) -> None:
    """Methods in any case, names of any type; responses are omitted by default, unless the operation says otherwise."""
    found = only({**ONE, **item})
    assert (found.method, found.name, found.is_quiet, found.has_references) == (method, name, is_quiet, has_references)


@pytest.mark.parametrize(
    "given, names",
    [(None, ()), ("", ()), ("a", ("a",)), (["a", "b"], ("a", "b")), (7, ("7",))],
)
def test_what_an_operation_depends_on(given: object, names: tuple[str, ...]) -> None:
    """`depends_on` is a name or a list of them."""
    assert depends_on({"depends_on": given}) == names


def test_who_names_whom() -> None:
    """Parents are found by `depends_on` and by references in either text; the last bearer of a name is meant."""
    whole = envelope(
        {**ONE, "name": "a"},
        {**ONE, "name": "b"},
        {"relative_url": "{result=a:$.id}/{result=b:$.id}", "name": "b"},
        {"method": "POST", "relative_url": "1", "body": "m=%7Bresult%3Db%3A%24.id%7D", "depends_on": ["a", "b"]},
        ONE,
    )
    assert [each.parents for each in whole.operations] == [(), (), (0, 1), (0, 2), ()]
    assert [each.has_references for each in whole.operations] == [False, False, True, True, False]
    assert whole.referred == {0, 1, 2}


@pytest.mark.parametrize(
    "items, index, name",
    [
        ([{"relative_url": "{result=f:$.id}"}], 0, "f"),
        ([{**ONE, "name": "f", "depends_on": "f"}], 0, "f"),
        ([ONE, {**ONE, "depends_on": "f"}, {**ONE, "name": "f"}], 1, "f"),
    ],
)
def test_who_names_one_that_does_not_stand_before(items: list[dict[str, Any]], index: int, name: str) -> None:
    """An operation that refers forward, to itself or to no operation gets Graph's own message, word for word."""
    with pytest.raises(Unresolved) as refused:
        read_operations(items)
    with pytest.raises(GraphError) as judged:
        language_operations.parse_operations(items, 50)
    assert str(refused.value) == str(judged.value)
    assert f"Request {index} cannot depend on an  unresolved request with  name {name}." in str(refused.value)
    assert refused.value.of == len(items)


ITEMS = st.fixed_dictionaries(
    {
        "relative_url": st.sampled_from(
            ["1", "/v24.0/2?fields=id", "{result=a:$.id}", "?ids={result=b:$.data.*.id}", ""]
        )
    },
    optional={
        "method": st.sampled_from(["get", "POST", "Delete", None]),
        "name": st.sampled_from(["a", "b", None, 7]),
        "body": st.sampled_from(["", "x=1", "x={result=a:$.id}"]),
        "depends_on": st.sampled_from(["", "a", ["a", "b"], None]),
        "omit_response_on_success": st.sampled_from([True, False, "false", "true"]),
        "headers": st.sampled_from([None, [], ["A: b"], [{"name": "A", "value": "b"}], {"A": "b"}]),
    },
)


@given(st.lists(ITEMS, min_size=1, max_size=6))
def test_a_batch_is_read_as_graph_reads_it(items: list[dict[str, Any]]) -> None:
    """Methods, names, parents, quietness and header fields of any batch are what Graph takes them for."""
    text = json.dumps(items)
    try:
        judged = language_operations.parse_operations(text, 50)
    except GraphError as refusal:
        with pytest.raises(Unresolved, match=str(refusal).partition("(")[0]):
            read_operations(text)
        return
    found = read_operations(text) or ()
    assert [(each.method, each.name, each.is_quiet, each.headers) for each in found] == [
        (each.method, each.name or "", each.omits_response, each.headers) for each in judged
    ]
    assert [{found[at].name for at in each.parents} for each in found] == [set(each.parents) for each in judged]


@pytest.mark.parametrize(
    "top, query",
    [
        ({"format": "json"}, ""),
        ({"pretty": 0}, ""),
        ({"pretty": "false", "format": "json"}, ""),
        ({"pretty": True}, "pretty=true"),
        ({"locale": "da_DK", "debug": "all"}, "debug=all&locale=da_DK"),
        ({"date_format": "U", "_fb_x": "1"}, "date_format=U"),
        ({"return_ssl_resources": 1}, "return_ssl_resources=1"),
    ],
)
def test_what_is_said_on_top_of_all_operations(top: dict[str, Any], query: str) -> None:
    """Parameters that shape every answer become part of each read; neutral ones do not."""
    whole = read_envelope(head("/v25.0/", "POST"), {"batch": [ONE], "access_token": "TOP", **top}, HOSTS)
    assert whole is not None
    assert [name for name, _ in whole.extra] == [name for name in top if not name.startswith("_fb_")]
    read = plain_read(whole.operations[0], "1", whole, HOSTS, NO_RULES)
    assert isinstance(read, Read)
    assert read.request.query == query


def test_an_operation_says_it_better() -> None:
    """An operation's own parameters take the place of the top-level ones."""
    form = {"batch": [ONE], "access_token": "TOP", "locale": "da_DK", "suppress_http_code": "1"}
    whole = read_envelope(head("/v25.0/", "POST"), form, HOSTS)
    assert whole is not None
    read = plain_read(whole.operations[0], "1?locale=fr_FR&suppress_http_code=", whole, HOSTS, NO_RULES)
    assert isinstance(read, Read)
    assert read.request.query == "locale=fr_FR&suppress_http_code="
    assert isinstance(plain_read(whole.operations[0], "1", whole, HOSTS, NO_RULES), Bypass)


# --- how much of it is looked into ------------------------------------------------------------------------------------


def test_more_operations_than_are_taken() -> None:
    """A batch of a thousand operations is split; for more, the error names the limit."""
    assert len(read_operations([ONE] * MOST_OPERATIONS) or ()) == 1000
    with pytest.raises(BadRequest, match="batch holds 1001 operations; at most 1000 are taken"):
        read_operations([ONE] * (MOST_OPERATIONS + 1))


@pytest.mark.parametrize(
    "batch",
    [
        "[" + "{a:1}," * 60_000 + "]",
        "[" + "[]," * 100_000 + "]",
        "[{relative_url:'me',body:'" + "a" * 2**20 + "'}]",
        [{"relative_url": "a" * 65_537}],
        [{"relative_url": "me?" + "&a=b" * 10_001}],
        [{"relative_url": "me", "method": "POST", "body": "%41" * 50_001}],
        [{"name": "a", "relative_url": "me"}, {"relative_url": "{result=a:$.id}," * 33}],
        [{"relative_url": "a" * 65_000}] * 33,
    ],
)
def test_a_batch_that_would_keep_others_waiting(batch: object) -> None:
    """Shapes that no client writes are not parsed: Graph gets them unchanged, and answers."""
    assert read_operations(batch) is None
