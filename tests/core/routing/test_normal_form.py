import re
from collections.abc import Callable
from urllib.parse import parse_qsl, quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.http import request_head
from proxy.core.routing import fields_param, normal_form
from proxy.core.routing import query as routing_query
from proxy.core.routing.fields_param import field_names, normal_fields
from proxy.core.routing.normal_form import Target, is_authority, origin_form, read_target
from proxy.core.routing.query import LIFTED
from tests.core import php

NAMES = [
    "a", "b", "a_b", "a.b", "a b", " a", "a[]", "a[x]", "a[y]", "a[x][]", "a[0]", "a[1]", "a[b", "a[b.c", "a[b]c", "a]",
    "a[ ]", "a_b[]", "a[[x]", "[", "[x]", "", "A", "æ", "fields", "limit", "a\0b", *LIFTED,
]  # fmt: skip
VALUES = ["", "1", "2", "x y", "x+y", "a&b", "a=b", "æ", "%", "%zz", "%2", '{"a":[1]}', "\0", "b,a", "a/b", "#", "it's"]

SPELLERS: list[Callable[[str], str]] = [
    quote,
    quote_plus,
    lambda text: quote(text, safe=",:()"),
    lambda text: re.sub(r"%[0-9A-F]{2}", lambda found: found[0].lower(), quote(text, safe="")),
    lambda text: "".join(f"%{byte:02X}" for byte in text.encode()),
]
spellers = st.sampled_from(SPELLERS)
pairs = st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(VALUES)), max_size=6)
raw_targets = st.binary(max_size=60).map(lambda raw: "/" + raw.decode("utf-8", "surrogateescape"))


@st.composite
def queries(draw: st.DrawFn) -> str:
    """A query as some client might spell it."""
    pieces = []
    for name, value in draw(pairs):
        spelled = draw(spellers)
        pieces.append(f"{spelled(name)}={spelled(value)}" if value or draw(st.booleans()) else spelled(name))
    return draw(st.sampled_from(["&", "&&"])).join(pieces)


def meaning(query: str, *, modern: bool) -> dict[object, object]:
    """What PHP makes of *query*, less what says who asks and how; the order of plain fields says nothing."""
    table = {key: php.ordered(value) for key, value in php.parsed(query, modern=modern).items()}
    for name in LIFTED:
        table.pop(name.encode(), None)
    fields = table.get(b"fields")
    if isinstance(fields, bytes) and re.fullmatch(rb"\w+(,\w+)*", fields):
        table[b"fields"] = sorted(fields.split(b","))
    return table


# --- two spellings, one read ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "spelling",
    [
        "/v25.0/111?fields=id%2Cname&limit=2",
        "/v25.0/111/?limit=2&fields=id,name",
        "/v25.0/111?limit=2&fields=name,id",
        "/v25.0/111?fields=id,name&limit=2&fields=id,name&limit=2",
        "/v25.0/111?&&fields=name%2cid&limit=%32",
        "/%76%32%35.0/%3111?limit=2&fields=name,id&access_token=t&appsecret_proof=p&appsecret_time=1&method=get&callback=f",
        "https://graph.facebook.com/v25.0/111?fields=id,name&limit=2",
    ],
)
def test_spellings_of_one_read(spelling: str) -> None:
    """However a client spells a read, it is one entry here and one ETag at Graph."""
    target = read_target(spelling)
    assert (target.version, target.path, target.query, target.odd) == ("v25.0", "/111", "fields=id,name&limit=2", "")


@pytest.mark.parametrize(
    "one, other",
    [
        ("/111?sort=a&sort=b", "/111?sort=b&sort=a"),
        ("/111?a=1&b=2", "/111?a=2&b=1"),
        ("/111?a[]=1&a[]=2", "/111?a[]=2&a[]=1"),
        ("/111?a[]=1&a[]=1", "/111?a[]=1"),
        ("/111?a.b=1&a_b=2", "/111?a_b=2&a.b=1"),
        ("/111?a+b=1&a_b=2", "/111?a_b=2&a+b=1"),
        ("/111?a[b=1&a_b=2", "/111?a_b=2&a[b=1"),
        ("/111?a=1&a[x]=2", "/111?a[x]=2&a=1"),
        ("/111?q=a+b", "/111?q=a%2Bb"),
        ("/111?q=a%26b=c", "/111?q=a&b=c"),
        ("/111?fields=a{b,c}", "/111?fields=a{c,b}"),
        ("/111", "/v25.0/111"),
        ("/v25.0/111", "/v24.0/111"),
        ("/a%2Fb", "/a/b"),
        ("/ME", "/me"),
    ],
)
def test_reads_that_differ_stay_apart(one: str, other: str) -> None:
    """Two reads that Graph might answer differently never share an entry."""
    keys = [(target.version, target.path, target.query) for target in map(read_target, (one, other))]
    assert keys[0] != keys[1]


@given(queries(), st.booleans())
def test_means_to_php_what_the_caller_wrote(query: str, modern: bool) -> None:  # noqa: FBT001
    """What goes to Graph is read there as the caller's own spelling would have been."""
    target = read_target(f"/111?{query}")
    if not target.odd:
        assert meaning(target.query, modern=modern) == meaning(query, modern=modern)


@given(queries(), queries())
def test_never_merges_what_php_tells_apart(one: str, other: str) -> None:
    """Two targets with one normal form are one read to PHP, too."""
    first, second = read_target(f"/1?{one}"), read_target(f"/1?{other}")
    if first.query == second.query and not first.odd and not second.odd:
        assert meaning(one, modern=True) == meaning(other, modern=True)


@given(st.permutations(["a=1", "b=2", "c[]=3", "fields=x,y", "limit=4"]), st.data())
def test_order_and_copies_say_nothing(pieces: list[str], data: st.DataObject) -> None:
    """Parameters of different names may come in any order, and identical copies may come twice."""
    copies = [*pieces, *data.draw(st.lists(st.sampled_from([piece for piece in pieces if "[" not in piece])))]
    assert read_target(f"/1?{'&'.join(copies)}").query == "a=1&b=2&c%5B%5D=3&fields=x,y&limit=4"


@given(queries())
def test_normal_form_is_its_own(query: str) -> None:
    """The normal form of a normal form is itself, so a link that we wrote is the read that we hold."""
    target = read_target(f"/v25.0/1/x?{query}")
    again = read_target(f"/{target.version}{target.path}?{target.query}")
    assert (again.version, again.path, again.query) == (target.version, target.path, target.query)


@given(raw_targets)
def test_any_bytes_are_read(target: str) -> None:
    """No request line upsets the sidecar, and what it sends on is plain ASCII without white space."""
    found = read_target(target)
    sent = f"{found.version}{found.path}?{found.query}"
    assert re.fullmatch(r"[!-~]*", sent)
    assert not {"#", '"', "<", "\\"} & set(sent)
    again = read_target(f"/{found.version}{found.path}?{found.query}".replace("//", "/"))
    assert again.query == found.query


def test_half_a_character_is_not_understood() -> None:
    """Text out of JSON that is no text at all is left to Graph."""
    assert read_target("/1?a=\ud800").odd == "text"


def test_a_long_target_is_remembered_until_the_next() -> None:
    """A very long request is as good as a short one, and read once for all that its message asks of it."""
    target = f"/1?q={'x' * 60_000}"
    found = read_target(target)
    assert found.get("q") == "x" * 60_000
    assert read_target(target) is found
    read_target("/1?q=other")
    assert read_target(target) is not found
    assert read_target("/1?q=short") is read_target("/1?q=short")


def test_a_target_shows_no_token() -> None:
    """A token in a request line appears in no repr."""
    assert "sesame" not in repr(read_target("/me?access_token=sesame"))


# --- the parts of a target --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "target, authority, version, path, odd",
    [
        ("/", "", "", "/", ""),
        ("/v25.0", "", "v25.0", "/", ""),
        ("/v25.0/", "", "v25.0", "/", ""),
        ("/v25.0/me/", "", "v25.0", "/me", ""),
        ("/me/v25.0", "", "", "/me/v25.0", ""),
        ("/v\u0662\u0665.\u0660/me", "", "", "/v%D9%A2%D9%A5.%D9%A0/me", ""),
        ("/v25/me", "", "", "/v25/me", ""),
        ("/a//b", "", "", "/a//b", "path"),
        ("/a/../b", "", "", "/a/../b", "path"),
        ("/a/%2e%2E/b", "", "", "/a/../b", "path"),
        ("/./a", "", "", "/./a", "path"),
        ("//evil.example/a", "", "", "//evil.example/a", "path"),
        ("/a%0D%0Ab%00", "", "", "/a%0D%0Ab%00", ""),
        ("/søk", "", "", "/s%C3%B8k", ""),
        ("http://Graph.Facebook.com/v25.0/me?a=1", "graph.facebook.com", "v25.0", "/me", ""),
        ("http://graph.facebook.com", "graph.facebook.com", "", "/", ""),
        ("http://graph.facebook.com?ids=1", "graph.facebook.com", "", "/", ""),
        ("*", "", "", "/", ""),
    ],
)
def test_parts(target: str, authority: str, version: str, path: str, odd: str) -> None:
    """The version as asked and the path are found in any form of target; paths that climb are left to Graph."""
    found = read_target(target)
    assert (found.authority, found.version, found.path, found.odd) == (authority, version, path, odd)


@pytest.mark.parametrize(
    "name",
    [
        "access.token", "access token", " access_token", "access_token[]", "access_token[x]", "access[token",
        "method\0x", "method[]", " method", "callback[]", "appsecret.proof", "appsecret[time", "batch[]",
        "batch[0][method]", " batch", "asyncbatch\0",
    ],
)  # fmt: skip
def test_disguised_names_are_left_to_graph(name: str) -> None:
    """A name that PHP might take for the token, the method or a batch is not read as something harmless."""
    assert read_target(f"/me?{quote(name)}=1").odd == "parameter-name"


def test_lifted_values() -> None:
    """The last of several tokens is the one that PHP sees, and none of them stays in the query."""
    target = read_target("/me?access_token=a&access_token=b&fields=x&fields=y")
    assert target.lifted == {"access_token": ("a", "b")}
    assert [target.last("access_token"), target.last("method")] == ["b", ""]
    assert [target.get("fields"), target.get("limit")] == ["y", ""]
    assert "token" not in target.query


@pytest.mark.parametrize(
    "target, sent",
    [
        ("/v25.0/me/?a=%2C&b#c", "/v25.0/me/?a=%2C&b#c"),
        ("https://graph.facebook.com/me?a", "/me?a"),
        ("https://graph.facebook.com?a", "/?a"),
        ("https://graph.facebook.com", "/"),
    ],
)
def test_what_passes_through_keeps_its_spelling(target: str, sent: str) -> None:
    """A message that is passed through has the target that its caller wrote, less the host."""
    assert origin_form(target) == sent


@pytest.mark.parametrize(
    "path, version",
    [("v25.0/me", "v25.0"), ("/v25.0", "v25.0"), ("me/v25.0", ""), ("", ""), ("v25/me", ""), ("v25.0x/me", "")],
)
def test_versions(path: str, version: str) -> None:
    """A path has the version that it begins with, and no other."""
    assert normal_form.version_of(path) == version


@pytest.mark.parametrize(
    "text, is_one",
    [
        ("127.0.0.1:8080", True), ("sidecar", True), ("my_sidecar.local", True), ("[::1]:80", True),
        ("", False), ("a b", False), ('a"b', False), ("a/b", False), ("a@b", False), ("a:b", False),
        ("a\n", False), ("å", False),
    ],
)  # fmt: skip
def test_authorities(text: str, is_one: bool) -> None:  # noqa: FBT001
    """Only a host and a port get into links, whatever the caller wrote in Host."""
    assert is_authority(text) is is_one


def test_pairs_there_and_back() -> None:
    """Decoding and encoding lose no byte, UTF-8 or not."""
    given = (("a b", "c&d"), ("e", "\udcff"), ("f", "é"))
    assert routing_query.split_pairs(routing_query.join_pairs(given)) == given
    assert routing_query.split_pairs("&&a") == (("a", ""),)


@pytest.mark.parametrize(
    "query", ["", "a=1", "fields=", "a=1&fields=b,c%7Bd%7D&z=1", "fields=a&fields=b", "xfields=a", "a=fields%3Db"]
)
def test_fields_in_a_query(query: str) -> None:
    """The fields that a query asks for are those that Graph would read in it."""
    assert fields_param.fields_in(query) == dict(routing_query.split_pairs(query)).get("fields", "")


# --- fields -----------------------------------------------------------------------------------------------------------

words = st.text("abc_0", min_size=1, max_size=3)
strings = st.tuples(
    st.sampled_from("'\""), st.text("a,{}()[]:x ", max_size=6), st.sampled_from(["", "\\\\", "\\'", '\\"'])
)
arguments = strings.map(lambda parts: f"{parts[0]}{parts[1]}{parts[2]}{parts[0]}")
field = st.recursive(
    words,
    lambda inner: st.one_of(
        st.tuples(words, st.lists(inner, min_size=1, max_size=3)).map(lambda it: f"{it[0]}{{{','.join(it[1])}}}"),
        st.tuples(words, arguments, inner).map(lambda it: f"{it[0]}.filter([{{{it[1]}:1}}],2).{it[2]}"),
    ),
    max_leaves=6,
)


def base(piece: str) -> str:
    """The name of the field that a piece of a list asks for."""
    return re.split(r"[.{(]", piece, maxsplit=1)[0]


@given(st.lists(field, min_size=1, max_size=5, unique_by=base), st.randoms())
def test_fields_in_any_order(pieces: list[str], dice: object) -> None:
    """The order inside a top-level `fields` list says nothing; nested lists, arguments and strings stay whole."""
    mixed = list(pieces)
    dice.shuffle(mixed)  # type: ignore[attr-defined] # hypothesis types it as Random
    assert normal_fields(",".join(mixed)) == ",".join(sorted(pieces))
    assert sorted(field_names(",".join(mixed))) == sorted(pieces)


@pytest.mark.parametrize(
    "text",
    [
        "", "b,a{", "b,a}", "b,a(]", "b,'a", 'b,"a', "b,", ",b", "b,,a", "b, a", "b ,a", "[1]", '["b",1]', "[", "[]",
        '["\\ud800"]', "b,a(')", '["b"],["a"]', "[\udcff]", "b)(,a",
    ],
)  # fmt: skip
def test_fields_that_cannot_be_read_safely(text: str) -> None:
    """A list that might mean something else in another order goes to Graph as it was written."""
    assert normal_fields(text) == text


@pytest.mark.parametrize(
    "text",
    ["name,id,name", "name,id,name{id}", "picture.width(9),id,picture.width(8)", '["name","id","name"]', '["b","a,b"]',
     "name.as(b),id,name.as(a)", "b,a,b,a"],
)  # fmt: skip
def test_a_field_that_is_named_twice(text: str) -> None:
    """Graph refuses such a list and says at which place: it goes out as it came."""
    assert normal_fields(text) == text


@pytest.mark.parametrize(
    "target, query",
    [
        ("/1/feed?_fb_batch_sig=a&limit=2&_fb_url=x", "limit=2"),
        ("/1/feed?_fb_batch_child_request=1", ""),
        ("/1/feed?%5Ffb_batch_sig=a&a_fb_=1", "a_fb_=1"),
    ],
)
def test_what_graph_adds_to_links_is_no_part_of_a_read(target: str, query: str) -> None:
    """Parameters that begin with `_fb_` are the transport's: no read holds them, and none that passes through does."""
    assert read_target(target).query == query
    assert "fb_batch" not in origin_form(target)
    assert "_fb_url" not in origin_form(target)


def test_fields_as_a_json_list() -> None:
    """A JSON list of fields is put in order, too."""
    assert normal_fields('["b", "a,c", "\\u00e9"]') == '["a,c","b","é"]'


def test_fields_without_an_end() -> None:
    """A list full of quotes that never close is given up at once, not after the square of its length."""
    assert normal_fields("a," + '"\\"' * 30_000) == "a," + '"\\"' * 30_000
    assert field_names("{" * 60_000) == []


def test_many_lifted_values() -> None:
    """A request line full of methods costs no more than its length."""
    assert len(read_target("/?" + "method=&" * 8000).lifted["method"]) == 8000


def test_target_is_a_value() -> None:
    """What was read once may be shared, for nobody can change it."""
    with pytest.raises(AttributeError):
        Target("", "", "/", "", (), {}, "").path = "/other"  # type: ignore[misc]


@pytest.mark.parametrize(
    "head, escaped",
    [
        (b"GET /\xc3\xb8?q=\xe9&z=%C3 HTTP/1.1\r\nX: \xc3\r\n", b"GET /%C3%B8?q=%E9&z=%C3 HTTP/1.1\r\nX: \xc3\r\n"),
        (b"GET /a HTTP/1.1\r\nX: \xc3\xb8\r\n", None),
        (b"GET /s\xc3\xb8g", None),
        (b"GET /s\xc3\xb8 g HTTP/1.1\r\n", None),
        (b"\x16\x03\x01\xfa", None),
    ],
)
def test_a_target_as_it_was_typed_is_escaped(head: bytes, escaped: bytes | None) -> None:
    """What is no ASCII in a target is escaped where it stands; what is no whole request line is left alone."""
    assert request_head.escaped(head) == (head if escaped is None else escaped)


@pytest.mark.parametrize("value", [*VALUES, '[{"method":"GET","relative_url":"v25.0/1?a=b%20c"}]', "caf\udce9"])
def test_a_value_in_a_form(value: str) -> None:
    """Whatever a value holds, it arrives as one value, in nothing but ASCII."""
    body = routing_query.form({"batch": value, "a": "b"}).decode("ascii")
    assert parse_qsl(body, keep_blank_values=True, errors="surrogateescape") == [("batch", value), ("a", "b")]


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_any_text_in_a_form(value: str) -> None:
    """So does what nobody thought of."""
    assert parse_qsl(routing_query.form({"a": value}).decode("ascii"), keep_blank_values=True) == [("a", value)]
