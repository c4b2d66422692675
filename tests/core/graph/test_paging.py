import json
import re
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.graph.paging import as_asked_alone, rewrite
from tests.work import lines_run

HOSTS = frozenset({"graph.facebook.com", "graph.beta.facebook.com", "emulator:9000"})
OURS = "http://127.0.0.1:8080"
LINK = "https://graph.facebook.com/v25.0/1/feed?access_token=t&after=x"

texts = st.one_of(
    st.text('ab{}[]":\\/,é\u2028 \x01', max_size=12),
    st.sampled_from(['"paging":{"next":"' + LINK + '"}', '\\"paging\\":{', "paging", "next", LINK, "}", "{", '\\\\"']),
)
links = st.one_of(
    st.sampled_from(
        [
            LINK,
            "http://emulator:9000/me?a={b}",
            "https://GRAPH.facebook.com?x",
            "https://graph.beta.facebook.com",
            "https://evil.example/https://graph.facebook.com/",
            "https://graph.facebook.com.evil.example/1",
            "https://graph.facebook.com:8443/1",
            "https://graph.facebook.com@evil.example/1",
            "ftp://graph.facebook.com/1",
            "/1/feed",
            "",
            'https://graph.facebook.com/"\\',
        ],
    ),
    texts,
)


def pagings(inner: st.SearchStrategy[object]) -> st.SearchStrategy[dict[str, object]]:
    """What may stand under `paging`."""
    return st.dictionaries(
        st.sampled_from(["next", "previous", "cursors", "first", "paging"]), links | inner, max_size=4
    )


documents: st.SearchStrategy[object] = st.recursive(
    texts | st.integers() | st.none() | st.booleans(),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(texts, inner, max_size=3),
        st.builds(lambda page, more: {"data": more, "paging": page}, pagings(inner), inner),
    ),
    max_leaves=12,
)

pages = st.builds(lambda page, more: {"data": more, "paging": page}, pagings(documents), documents)


def expected(value: object, *, in_paging: bool = False) -> object:
    """The model: the same document, with the links of its paging objects pointed here."""
    if isinstance(value, list):
        return [expected(inner) for inner in value]
    if not isinstance(value, dict):
        return value
    return {
        key: turned(inner) if in_paging and key in {"next", "previous"} and isinstance(inner, str)
        else expected(inner, in_paging=key == "paging")
        for key, inner in value.items()
    }  # fmt: skip


def turned(link: str) -> str:
    """*link* pointed here, if it leads to Graph."""
    found = re.match(r"(https?)://([^/?\\\"]+)", link)
    return OURS + link[found.end() :] if found and found[2].lower() in HOSTS else link


@given(documents | pages, st.booleans(), st.booleans(), st.booleans())
def test_links_and_nothing_else(document: object, escape: bool, ascii_only: bool, pretty: bool) -> None:  # noqa: FBT001
    """Every paging link leads back here, however deep it stands, and no other byte of the body changes."""

    def written(value: object) -> bytes:
        text = json.dumps(value, ensure_ascii=ascii_only, indent=2 if pretty else None)
        return (text.replace("/", "\\/") if escape else text).encode()

    body = written(document)
    assert rewrite(body, HOSTS, OURS) == written(expected(document))


@pytest.mark.parametrize(
    "body",
    [
        '{"next":"%s"}',
        '{"cursors":{"next":"%s"}}',
        '{"paging":["next","%s"]}',
        '{"paging":{"cursors":{"next":"%s"}}}',
        '{"paging":{"order":"next","self":"%s"}}',
        '{"paging":{"list":[{"next":"%s"}]}}',
        '{"paging":"next","previous":"%s"}',
        '{"paging":null,"next":"%s"}',
        '{"paging":{},"next":"%s"}',
        '{"paging":{"next":{"next":"%s"}}}',
        '{"paging":{"next":"https://evil.example/?%s"}}',
        '{"paging":{"next":"/%s"}}',
        '{"paging":{"paging":"next","x":"%s"}}',
        '{"text":"\\"paging\\":{\\"next\\":\\"%s\\"}"}',
        "<html>%s</html>",
    ],
)
def test_what_is_no_paging_link(body: str) -> None:
    """Links elsewhere, in text, and under other names are Graph's data and stay as they are."""
    told = (body % LINK).encode()
    assert rewrite(told, HOSTS, OURS) is told


def test_slashes_as_graph_writes_them() -> None:
    r"""Where Graph escapes slashes ours are escaped, too, and the token stays in the link."""
    told = rb'{"paging":{"next":"https:\/\/graph.facebook.com\/v25.0\/1?access_token=t\u0025"}}'
    assert rewrite(told, HOSTS, OURS) == told.replace(rb"https:\/\/graph.facebook.com", rb"http:\/\/127.0.0.1:8080")


@given(st.text('"{}:\\np pagingextvious', max_size=60))
def test_any_bytes_pass(text: str) -> None:
    """A body that is no JSON comes through, whatever is in it."""
    body = b'"paging":{' + text.encode()
    assert rewrite(body, HOSTS, OURS) == body


@pytest.mark.parametrize(
    "body",
    [
        b'{"paging":' * 40_000,
        b'{"paging":{' + b'"\\' * 40_000,
        b'{"paging":{' + b'\\"' * 40_000,
        b'{"paging":{"next":' + b'"https:' * 40_000,
        b'"paging"' + b" " * 200_000,
        b'{"paging":{"next"' + b" " * 200_000,
    ],
)
def test_hostile_bodies_cost_no_more_than_their_length(body: bytes) -> None:
    """Neither deep nesting nor quotes without an end hold everybody up."""
    assert rewrite(body, HOSTS, OURS) == body


@pytest.mark.parametrize("mark", [b"&", rb"\u0026"], ids=["plain", "escaped"])
def test_what_graph_adds_to_links_in_a_batch(mark: bytes) -> None:
    """`_fb_` parameters leave links wherever they stand, and nothing else of the body changes."""
    start = rb'{"a":{"paging":{"cursors":{},"previous":"https:\/\/graph.facebook.com\/v25.0\/1?'
    end = rb'"}},"message":"x?_fb_url=y&_fb_a"}'
    for before, after in (
        ([b"_fb_batch_sig=x%2F", b"limit=2", b"_fb_url=b", b"after=c"], [b"limit=2", b"after=c"]),
        ([b"limit=2", b"_fb_batch_child_request=1", b"_fb_batch_expires=9"], [b"limit=2"]),
        ([b"limit=2", b"x_fb_y=1"], [b"limit=2", b"x_fb_y=1"]),
    ):
        told = start + mark.join(before) + end
        assert as_asked_alone(told) == start + mark.join(after) + end
    assert as_asked_alone(start + b"_fb_url=1" + end) == start[:-1] + end


def test_what_is_between_links_is_not_read_mark_by_mark() -> None:
    """A large page costs no more steps than a small one with as many links."""
    row = b'{"id":"1","name":"{\\"x\\":1}","ads":{"data":[{"id":"2"}],"paging":{"cursors":{"before":"b","after":"a"}}}}'
    end = b'],"paging":{"cursors":{"after":"a"},"next":"' + LINK.encode() + b'"}}'
    small, large = (b'{"data":[' + b",".join([row] * count) + end for count in (100, 1000))
    for body in (small, large):
        assert rewrite(body, HOSTS, OURS) == body.replace(b"https://graph.facebook.com", OURS.encode())
    steps = [lines_run(partial(rewrite, body, HOSTS, OURS)) for body in (small, large)]
    assert steps[1] - steps[0] < 5 * 900
