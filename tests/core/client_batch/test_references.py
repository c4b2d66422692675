from functools import partial
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from proxy.core.client_batch.jsonpath import BadPath
from proxy.core.client_batch.references import can_be_followed, fill, has_too_many, names_in
from proxy.emulator.language import references
from tests.core.client_batch.test_jsonpath import DATA, DOCUMENTS, STEPS
from tests.work import lines_run, processor_time

RESULTS: dict[str, Any] = {
    "a": DATA,
    "create-ad": {"data": [{"id": "11"}, {"id": None}, {"id": "12"}]},
    "odd": {"n": 1, "f": 1.5, "yes": True, "no": False, "nil": None, "map": {"k": ["v", 2]}, "text": "Søn & co = 5%"},
    "page": {"paging": {"next": "https://graph.facebook.com/v25.0/1/feed?limit=2&after=x%3D"}},
}


@pytest.mark.parametrize(
    "text, names",
    [
        ("", ()),
        ("me?fields=name", ()),
        ("{result=a:$.id}", ("a",)),
        ("?ids={result=create-ad:$.data.*.id}", ("create-ad",)),
        ("?ids=%7Bresult%3Da%3A%24.id%7D", ("a",)),
        ("?ids=%7bRESULT%3da%3a$.id%7d", ("a",)),
        ("m={result=one:$.id}&r={result=two:$.id}&x={result=one:$.name}", ("one", "two")),
        ("{result=My%20S%C3%B8n:$.id}", ("My Søn",)),
        ("{result=My Søn & co:$.id}", ("My Søn & co",)),
        ('creative={"creative_id":"{result=c:$.id}"}', ("c",)),
        ("{result=a}", ()),
        ("{result:$.id}", ()),
        ("{results=a:$.id}", ()),
    ],
)
def test_whom_an_operation_refers_to(text: str, names: tuple[str, ...]) -> None:
    """References are seen raw or percent-encoded, in any case, several in one text, each operation once."""
    assert names_in(text) == names


@pytest.mark.parametrize(
    "text, filled",
    [
        ("me?fields=name", "me?fields=name"),
        ("{result=a:$.id}", "7"),
        ("{result=a:$.id}?fields=id", "7?fields=id"),
        ("?ids={result=create-ad:$.data.*.id}", "?ids=11,12"),
        ("?ids=%7Bresult%3Dcreate-ad%3A%24.data..id%7D&limit=2", "?ids=11,12&limit=2"),
        ("{result=a:$.id}/x?ids={result=a:$.data[0:2].id}", "7/x?ids=1,2"),
        ('image_hash="{result=a:$.images.*.hash}"&x', 'image_hash="h1,h2"&x'),
        ("x={result=a:$.nothing}", "x="),
        ("x={result=odd:$.n}{result=odd:$.f}", "x=11.5"),
        ("x={result=odd:$.yes},{result=odd:$.no},{result=odd:$.nil}", "x=true,false,"),
        ("x={result=odd:$.map}", "x=%7B%22k%22:%5B%22v%22,2%5D%7D"),
        ("{result=a:$.id}_{result=odd:$.text}", "7_S%C3%B8n%20%26%20co%20%3D%205%25"),
        ("x={result=odd:$.text}", "x=S%C3%B8n%20%26%20co%20%3D%205%25"),
        ("{result=page:$.paging.next}", "https://graph.facebook.com/v25.0/1/feed?limit=2&after=x%3D"),
        (" {result=page:$.paging.next} ", " https://graph.facebook.com/v25.0/1/feed?limit=2&after=x%3D "),
        ("x={result=later:$.id}&y={result=a:$.id}", "x={result=later:$.id}&y=7"),
        ("x=%7Bresult%3Dlater%3A%24.id%7D", "x=%7Bresult%3Dlater%3A%24.id%7D"),
    ],
)
def test_what_stands_in_the_place_of_a_reference(text: str, filled: str) -> None:
    """Matches are joined with bare commas and encoded in place; unknown references are left for Graph."""
    assert fill(text, RESULTS) == filled


def test_a_reference_that_nobody_can_follow() -> None:
    """An invalid path is an error; the text is never sent half filled in."""
    with pytest.raises(BadPath):
        fill("x={result=a:$.data[?(@.id)]}", RESULTS)


@pytest.mark.parametrize(
    "text, known",
    [
        ("me", True),
        ("{result=a:$.data.*.id}", True),
        ("{result=a:$.id}%7Bresult%3Da%3A%24.data[?(@.id)]%7D", False),
    ],
)
def test_whether_a_reference_can_be_followed_here(*, text: str, known: bool) -> None:
    """A path in another dialect is seen before anything is asked, so that it can be left to Graph."""
    assert can_be_followed(text) is known


TEXT = st.text(st.sampled_from("ab/?&=%,. ø\"'"), max_size=8)
PATHS = st.lists(STEPS, max_size=3).map(lambda steps: "$" + "".join(steps))
ENCODINGS = st.sampled_from([("{result=", ":", "}"), ("%7Bresult%3D", "%3A", "%7D"), ("%7bresult=", ":", "%7d")])
REFERENCES = st.tuples(ENCODINGS, st.sampled_from(["one", "two", "My Søn & co"]), PATHS).map(
    lambda parts: f"{parts[0][0]}{parts[1]}{parts[0][1]}{parts[2]}{parts[0][2]}"
)


@given(st.lists(TEXT | REFERENCES, max_size=5), st.dictionaries(st.sampled_from(["one", "two"]), DOCUMENTS, min_size=2))
@example(["{result=one:$.id}"], {"one": {"id": "a&b=1"}, "two": None})
def test_where_graph_fills_we_agree(pieces: list[str], results: dict[str, Any]) -> None:
    """An operation asks for the same, whether Graph fills it in or the sidecar."""
    text = "".join(pieces)
    answered = {**results, "My Søn & co": {"id": "9"}}
    assert names_in(text) == tuple(dict.fromkeys(references.referenced_names(text)))
    assert fill(text, answered) == references.fill_references(text, answered)


@pytest.mark.parametrize(
    "piece",
    [
        "{result=a:",
        "{result=",
        "{result=:",
        "{result=a:%3A",
        "%7Bresult%3Da%3A",
        "{result=a:$.id",
        ":}{result=",
        "{result=a:b}",
    ],
)
def test_text_of_openings_is_read_in_one_pass(piece: str) -> None:
    """A text twice as long takes twice the steps, whatever is left open in it."""
    texts = [piece * count for count in (4000, 8000)]
    once, twice = (lines_run(partial(names_in, text)) for text in texts)
    assert twice <= 2 * once + 10
    short, long = (processor_time(partial(names_in, text)) for text in texts)
    assert long <= 8 * short + 0.01  # the former pattern took ten seconds for the shorter text alone


def test_a_text_that_grows_beyond_a_url_is_refused() -> None:
    """The size of the filled-in text is checked before it is built."""
    whole = {"a": {"data": [{"id": str(at)} for at in range(20_000)]}}
    for text in ("?ids={result=a:$.data.*.id}", "?ids={result=a:$}" * 30, "?ids=" + "{result=a:$..*}" * 30):
        with pytest.raises(BadPath, match="more than"):
            fill(text, whole)


def test_a_text_with_more_references_than_are_followed_is_known() -> None:
    """Thirty-two are followed here, more are left to Graph."""
    assert not has_too_many("{result=a:$.id}" * 32)
    assert has_too_many("{result=a:$.id}" * 33)
