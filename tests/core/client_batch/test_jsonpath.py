import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from proxy.core.client_batch.jsonpath import MOST_VISITS, BadPath, find
from proxy.emulator.language import jsonpath
from tests.work import lines_run

DATA = {
    "id": "7",
    "data": [{"id": "1", "name": "a"}, {"id": "2", "name": "b"}, {"id": "3", "from": {"id": "4"}}],
    "images": {"x.jpg": {"hash": "h1"}, "y.png": {"hash": "h2"}},
    "act_1": {"user-name": 5, "0": "zero"},
}


@pytest.mark.parametrize(
    "path, found",
    [
        ("$", [DATA]),
        ("$.id", ["7"]),
        ("id", ["7"]),
        ("$['id']", ["7"]),
        ('$["id"]', ["7"]),
        ("$.data.*.id", ["1", "2", "3"]),
        ("$.data[*].id", ["1", "2", "3"]),
        ("$.data..id", ["1", "2", "3", "4"]),
        ("$..id", ["7", "1", "2", "3", "4"]),
        ("$.data.0.name", ["a"]),
        ("$.data[0].name", ["a"]),
        ("$.data[0:2].id", ["1", "2"]),
        ("$.data[0:199:1].id", ["1", "2", "3"]),
        ("$.data[::2].id", ["1", "3"]),
        ("$.data[-1:].id", ["3"]),
        ("$.data[0,2].id", ["1", "3"]),
        ("$.data.0['id','name']", ["1", "a"]),
        ("$['data'][1]['name']", ["b"]),
        ("$.images.*.hash", ["h1", "h2"]),
        ("$.images['x.jpg'].hash", ["h1"]),
        ("$.act_1.user-name", [5]),
        ("$.act_1.0", ["zero"]),
        ("$.act_1['0']", ["zero"]),
        ("$.act_1[0:1]", []),
        ("$.nothing.here", []),
        ("$.data.9.id", []),
        ("$.data[9].id", []),
        ("$.data[-1].id", []),
        ("$.id.0", []),
        ("$.id[0]", []),
        ("$.id[0:1]", []),
        ("$.id.*", []),
    ],
)
def test_a_path_means_what_goessner_says(path: str, found: list[Any]) -> None:
    """Every form that Meta's samples use finds the same here as at Graph, the star and bare numbers in arrays too."""
    assert find(path, DATA) == found


OLD = pytest.mark.filterwarnings("ignore:The `.` .* operator is deprecated")
"""jsonpath-ng knows more than Goessner, and warns of some of it."""


@OLD
@pytest.mark.parametrize(
    "path",
    [
        "",
        "$.",
        "$..",
        "$[",
        "$.a b",
        "$.data[?(@.id=='1')]",
        "$.data[(@.length-1)]",
        "$.a|b",
        "$.`parent`",
        "$.id where name",
        "$.data[::0]",
        "$" + ".data" * 5000,
    ],
)
def test_a_path_that_nobody_can_follow_is_called_so(path: str) -> None:
    """A path outside this dialect is refused with one kind of error, and has no other effect."""
    with pytest.raises(BadPath):
        find(path, DATA)


def test_a_document_may_be_deep() -> None:
    """A document that is nested deeper than anybody can walk is refused in the same way."""
    deep: Any = "end"
    for _level in range(100_000):
        deep = [deep]
    with pytest.raises(BadPath):
        find("$..id", deep)


@pytest.mark.parametrize("path", ["$..*..*..*..*", "$" + "..*" * 15, "$.data[" + "0," * 100 + "0]..*..*", "$..id..id"])
def test_a_path_may_not_look_at_a_document_again_and_again(path: str) -> None:
    """Steps that multiply their matches end after a bounded number of values."""
    wide = {"data": [{"id": str(at), "data": [{"id": str(at)}] * 20} for at in range(500)]}
    assert lines_run(lambda: _outcome(path, wide)) < 10 * MOST_VISITS


def _outcome(path: str, document: Any) -> str:
    try:
        return f"{len(find(path, document))} values"
    except BadPath:
        return "bad"


def test_a_path_of_too_many_steps_is_refused_unread() -> None:
    """A path is counted before it is parsed, for parsing is slow."""
    assert lines_run(lambda: _outcome("$" + ".a" * 3000, {})) < 50
    assert _outcome("$" + ".a" * 32, {}) == "0 values"
    assert _outcome("$" + ".a" * 33, {}) == _outcome("$." + "a" * 300, {}) == "bad"


@OLD
@given(st.text(max_size=30), st.recursive(st.none() | st.text(), st.lists))
def test_nonsense_is_refused_in_one_way(path: str, document: Any) -> None:
    """Whatever a caller writes for a path, it is followed or called bad."""
    try:
        assert isinstance(find(path, document), list)
    except BadPath:
        pass


# --- Graph's own word ------------------------------------------------------------------------------------------------

NAMES = ("id", "data", "name", "from", "images", "hash", "a_b", "user-name", "parent", "x1")
KEYS = st.sampled_from((*NAMES, "0", "1", "x.jpg", "Søn", "a b"))
DOCUMENTS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=25,
)
SHORT = st.integers(0, 4)
BOUND = st.integers(-4, 5).map(str) | st.just("")
STRIDE = st.sampled_from(["", ":", ":1", ":2", ":-1"])
STEPS = st.one_of(
    st.sampled_from(NAMES).map(lambda name: f".{name}"),
    st.sampled_from(NAMES).map(lambda name: f"..{name}"),
    SHORT.map(lambda place: f".{place}"),
    st.sampled_from([".*", "[*]", "..*"]),
    KEYS.map(lambda name: f"['{name}']"),
    KEYS.map(lambda name: f'["{name}"]'),
    st.lists(KEYS, min_size=2, max_size=3).map(lambda names: "[" + ",".join(f"'{name}'" for name in names) + "]"),
    st.lists(SHORT.map(str), min_size=1, max_size=3).map(lambda places: f"[{','.join(places)}]"),
    st.tuples(BOUND, BOUND, STRIDE).map(lambda parts: f"[{parts[0]}:{parts[1]}{parts[2]}]"),
)


@given(st.lists(STEPS, max_size=4), DOCUMENTS)
@example([".data", "[-1]", ".id"], DATA)
@example([".data", "..id"], DATA)
@example(["..*"], DATA)
def test_where_graph_resolves_we_agree(steps: Sequence[str], document: Any) -> None:
    """A reference finds the same, in the same order, whether Graph follows it or the sidecar."""
    path = "$" + "".join(steps)
    found, judged = find(path, document), jsonpath.find(path, document)
    assert [json.dumps(each) for each in found] == [json.dumps(each) for each in judged]
