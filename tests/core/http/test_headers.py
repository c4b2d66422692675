import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.http import headers, request_head
from proxy.core.http.headers import JSON_TYPE
from proxy.core.model import Headers

names = st.from_regex(r"[A-Za-z][A-Za-z0-9-]{0,12}", fullmatch=True)
values = st.text(st.characters(exclude_characters="\r\n\0", exclude_categories=["Cs", "Cc"]), max_size=20)
odd_values = st.binary(max_size=10).map(
    lambda raw: raw.replace(b"\r", b"").replace(b"\n", b"").decode("utf-8", "surrogateescape"),
)
fields = st.lists(st.tuples(names, st.one_of(values, odd_values)), max_size=8).map(tuple)

FROM_GRAPH = (
    ("Content-Type", "application/json"),
    ("ETag", '"e"'),
    ("Set-Cookie", "a=b"),
    ("Alt-Svc", 'h3=":443"; ma=86400'),
    ("Connection", "close, X-Hop"),
    ("X-Hop", "1"),
    ("X-Cnection", "close"),
    ("Transfer-Encoding", "chunked"),
    ("Content-Length", "5"),
    ("Content-Encoding", "gzip"),
    ("x-app-usage", "{}"),
    ("X-FB-Debug", "d"),
    ("Age", "3"),
    ("Cache-Control", "private, no-store"),
)


def lower(found: Headers) -> set[str]:
    """The names among *found*."""
    return {name.lower() for name, _ in found}


def test_what_a_caller_gets() -> None:
    """Connection fields, framing, cookies and other ways to Graph stay behind; ETag, usage, Cache-Control arrive.

    A coding that is still named was not undone, and the caller has to know.
    """
    assert lower(headers.for_caller(FROM_GRAPH)) == {
        "content-type", "content-encoding", "etag", "x-app-usage", "x-fb-debug", "age", "cache-control",
    }  # fmt: skip


def test_what_a_stream_keeps() -> None:
    """A passed-through reply loses what is about one connection or another way to Graph."""
    assert lower(headers.for_stream(FROM_GRAPH)) == lower(FROM_GRAPH) - {
        "alt-svc", "connection", "x-hop", "x-cnection", "transfer-encoding",
    }  # fmt: skip


def test_what_graph_gets_of_a_stream() -> None:
    """A passed-through request loses the same, and the fields that the sidecar writes itself."""
    told = (("Host", "here"), ("User-Agent", "x"), ("Expect", "100-continue"), ("CDN-Loop", "y"), ("Cookie", "c"))
    kept = headers.for_graph((*told, ("Content-Length", "3"), ("Connection", "x-hop"), ("X-Hop", "1"), ("TE", "gzip")))
    assert kept == (("Cookie", "c"),)


def test_what_is_held() -> None:
    """Usage, traces and cookies are never held, and so never replayed."""
    held = headers.from_stored(headers.stored(FROM_GRAPH))
    assert lower(held) == {"content-type", "etag", "cache-control", "x-hop"}


@given(fields)
def test_held_fields_come_back(given: Headers) -> None:
    """A stored reply's fields come back byte for byte, in their order, with odd bytes in them too."""
    kept = tuple(field for field in given if field[0].lower() not in headers.NOT_STORED)
    assert headers.from_stored(headers.stored(given)) == kept


def test_refreshed() -> None:
    """A 304 renews the fields that it repeats; type, ETag and framing of the held body stay."""
    kept = (("Content-Type", "application/json"), ("ETag", '"e"'), ("Expires", "old"), ("Expires", "older"), ("A", "1"))
    news = (("content-type", "text/html"), ("ETag", '"x"'), ("expires", "new"), ("Content-Length", "0"), ("B", "2"))
    assert headers.updated_by_304(kept, news) == (*kept[:2], ("expires", "new"), ("A", "1"), ("B", "2"))
    assert headers.updated_by_304(kept, (("A", "1"), ("Expires", "old"), ("Expires", "older"))) == kept


@given(fields, st.sampled_from(['"e"', 'W/"e"', '"\xe9"', '"\udce9"']), st.sampled_from(["etag", "ETag"]))
def test_the_etag_of_held_fields_comes_back(given: Headers, etag: str, name: str) -> None:
    """An entry's block leaves its ETag out, and says all else; on disk the ETag is there."""
    full = tuple(
        field
        for field in (*given[:1], (name, etag), *given[1:], ("ETag", '"other"'))
        if field[1] or field[0].lower() != "etag"
    )
    kept = tuple(field for field in full if field[0].lower() not in headers.NOT_STORED)
    block = headers.stored(full, etag)
    assert headers.from_stored(block, etag) == kept
    assert headers.with_etag(block, etag) == headers.stored(full)
    assert headers.without_etag(headers.stored(full), etag) == block
    others = tuple(field for field in full if field != (name, etag))
    renamed = tuple((name, '"f"') if field == (name, etag) else field for field in full)
    assert headers.stored(renamed, '"f"') == block or etag in dict(others).values()


@pytest.mark.parametrize(
    "given, expected",
    [
        ((("content-type", "text/javascript; charset=UTF-8"),), (("content-type", JSON_TYPE),)),
        ((("Content-Type", "Text/JavaScript"),), (("Content-Type", JSON_TYPE),)),
        ((("Content-Type", "image/png"), ("A", "1")), (("Content-Type", "image/png"), ("A", "1"))),
        ((("A", "1"),), (("A", "1"), ("Content-Type", JSON_TYPE))),
    ],
)
def test_typed(given: Headers, expected: Headers) -> None:
    """JSON out of a batch is called JSON, as in a direct reply, and a type is never missing."""
    assert headers.with_json_type(given) == expected


@pytest.mark.parametrize(
    "pair, is_one",
    [
        (("ETag", '"e"'), True), (("X", ""), True), (("X", "a\tb"), True), (("X", "é"), True),
        (("X", "a\r\nSet-Cookie: b"), False), (("X", "a\0"), False), (("X y", "a"), False), (("", "a"), False),
        (("X:", "a"), False), ((None, "a"), False), (("X", 1), False),
    ],
)  # fmt: skip
def test_fields_that_can_stand_in_a_head(pair: tuple[object, object], is_one: bool) -> None:  # noqa: FBT001
    """Text out of a batch's JSON cannot smuggle another header field into a reply or an entry."""
    assert headers.is_field(pair) is is_one


def test_pick_and_without() -> None:
    """Every field is on one side or the other."""
    chosen = frozenset({"etag", "age"})
    assert lower(headers.pick(FROM_GRAPH, chosen)) == chosen
    assert lower(headers.without(FROM_GRAPH, chosen)) == lower(FROM_GRAPH) - chosen


@pytest.mark.parametrize(
    "version, codings, is_fine",
    [
        ((1, 1), (), True),
        ((1, 0), (), True),
        ((1, 1), ("chunked",), True),
        ((1, 1), (" Chunked ",), True),
        ((0, 9), (), False),
        ((1, 0), ("chunked",), False),
        ((1, 1), ("gzip, chunked",), False),
        ((1, 1), ("gzip", "chunked"), False),
        ((1, 1), ("identity",), False),
        ((1, 1), ("",), False),
    ],
)
def test_framing(version: tuple[int, int], codings: tuple[str, ...], is_fine: bool) -> None:  # noqa: FBT001
    """A message ends where everybody would see its end, or it is not taken."""
    assert (request_head.framing_fault(version, codings) == "") is is_fine


@given(fields)
def test_a_head_over_the_wire_is_read_as_it_was_meant(fields: Headers) -> None:
    """Start line, then a line for each field, then an empty one; bytes that are no text come out as they came in."""
    start, *lines, end, rest = headers.head_bytes("GET / HTTP/1.1", fields).split(b"\r\n")
    assert (start, end, rest) == (b"GET / HTTP/1.1", b"", b"")
    assert lines == [f"{name}: {value}".encode("utf-8", "surrogateescape") for name, value in fields]


@pytest.mark.parametrize("value", ["a\r\nX: 1", "a\nX: 1", "a\rX: 1", "\r\n\r\nGET / HTTP/1.1"])
def test_no_value_becomes_a_line_of_its_own(value: str) -> None:
    """What would smuggle a field or a message is not written."""
    for start, fields in ((f"GET /{value} HTTP/1.1", ()), ("GET / HTTP/1.1", (("Accept-Language", value),))):
        with pytest.raises(ValueError, match="end of a line"):
            headers.head_bytes(start, fields)


NAMES = ["Content-Type", "content-type", "Connection", "X-App-Usage", "ETag", "Transfer-Encoding", "Content-Encoding",
         "X-" + "a" * 80, "Content-Length"]  # fmt: skip
VALUES = ["text/javascript; charset=UTF-8", "application/json", "close, X-App-Usage", "x"]


@given(st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(VALUES)), max_size=8).map(tuple))
def test_the_fields_of_a_slot_are_those_that_pass_out_with_the_type_of_a_direct_reply(fields: Headers) -> None:
    """In one pass as in two."""
    assert headers.for_slot(fields) == headers.with_json_type(headers.for_caller(fields))
