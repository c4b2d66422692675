import json

import pytest
from msgspec.structs import replace

from proxy.core.cache.tags import TagIndex
from proxy.core.model import Request
from tests.core.samples import request
from tests.work import lines_run

ANN, BOB = b"a" * 16, b"b" * 16
KEY = b"k"
PAGE = b'{"data":[{"id":"11"},{"id":"12","name":"x"}],"paging":{}}'


class Few(TagIndex):
    CAPACITY = 4
    NAME_CAPACITY = 2


def at(path: str, query: str = "") -> Request:
    """A read of *path*."""
    return replace(request(query), path=path)


def meets(common: TagIndex, written: tuple[str, ...], read: Request, *, by: bytes = ANN, reader: bytes = BOB) -> bool:
    """Whether a write to *written* changes what *read* reads."""
    return not set(common.tags_written(written, by)).isdisjoint(common.tags_read(read, reader))


@pytest.mark.parametrize(
    "written, path, query, changed",
    [
        ("11", "/11", "fields=name", True),
        ("11", "/11/feed", "", True),
        ("11", "/", "ids=10,11", True),
        ("11", "/", "ids=%5B%2210%22,%2211%22%5D", True),
        ("11", "/", "id=11", True),
        ("11", "/campaigns", "ids=10,11", True),
        ("11", "/12", "", False),
        ("11", "/", "ids=12", False),
        ("11", "/12/feed", "fields=ids=11", False),
        ("act_1", "/act_1/campaigns", "", True),
        ("me", "/me/feed", "", True),
        ("cocacola", "/cocacola", "", True),
    ],
)
def test_what_a_path_names(written: str, path: str, query: str, *, changed: bool) -> None:
    """A write changes the reads of its object: the object, its edges, and `ids=` lists with it."""
    assert meets(TagIndex(), (written,), at(path, query)) is changed


@pytest.mark.parametrize(
    "body",
    [
        PAGE,
        b'{"id":"1","campaigns":{"data":[{"id":"12"}]}}',
        b'{"7":{"data":[{"adsets":{"data":[{"id":"12"}]}}]}}',
        b'{"data":[3,{"id":4},{"name":"x"},{"id":"12"}],"x":[[{"data":[{"id":"13"}]}]]}',
    ],
)
def test_what_lists_an_object_changes_with_it(body: bytes) -> None:
    """Once a body has listed an object, a write to that object changes the list, for every token."""
    common = TagIndex()
    assert not meets(common, ("12",), at("/act_1/campaigns"))
    common.learn(KEY, at("/act_1/campaigns", "limit=2"), ANN, body)
    assert meets(common, ("12",), at("/act_1/campaigns", "fields=id"))
    assert not meets(common, ("14",), at("/act_1/campaigns"))
    assert not meets(common, ("12",), at("/act_1/adsets"))
    assert not meets(common, ("12",), at("/act_1"))
    common.learn(KEY, at("/act_1", "fields=ads"), ANN, body)
    assert meets(common, ("12",), at("/act_1", "fields=ads"))
    assert not meets(common, ("12",), at("/act_1", "fields=name"))


@pytest.mark.parametrize("body", [b'{"data":[{"id":"12"}],"x":"%b"}', b'{"x":"%b","data":[{"id": "\\u0031\\u0032"}]}'])
def test_a_large_body_is_learned_from_without_being_taken_apart(body: bytes) -> None:
    """Listed objects are found by their ids; if too many are found, freshness ends early, never late."""
    common, large = TagIndex(), body % (b"x" * 2**18)
    assert common.learn(KEY, at("/act_1/campaigns"), ANN, large)[0] == ("12",)
    rows = b'{"data":[' + b'{"id":"12"},' * 50_000 + b'{"id":"13"}]}'
    assert lines_run(lambda: common.learn(KEY, at("/act_1/campaigns"), ANN, rows)) < 8 * 50_000
    assert meets(common, ("13",), at("/act_1/campaigns"))


@pytest.mark.parametrize("body", [b"", b'{"data"', b'{"data":1}', b'{"data":[]}', b'{"data":{"id":"12"}}', b"[" * 9999])
def test_what_lists_nothing(body: bytes) -> None:
    """A body without a list, or without JSON, teaches nothing and does no harm."""
    common = TagIndex()
    assert common.learn(KEY, at("/act_1/campaigns"), ANN, body) == ((), "/act_1/campaigns")
    assert common.knows(KEY)


@pytest.mark.parametrize("path", ["/1", "/act_1", "/me/accounts", "/me", "/ann"])
@pytest.mark.parametrize(
    "body", [b'{"id":"77"}', b'{"id":"7","x":{}}', b'{"data":[]}', b'{"data":[{"id":"12"}]}', b"[]"]
)
def test_only_a_body_that_teaches_nothing_is_not_searched(path: str, body: bytes) -> None:
    """A body of one object counts as searched at once, unless it tells which id a name has."""
    quick, whole = TagIndex(), TagIndex()
    if not quick.learn_nothing(KEY, at(path), body):
        assert not quick.knows(KEY)
        quick.learn(KEY, at(path), ANN, body)
    listed, _ = whole.learn(KEY, at(path), ANN, body)
    assert quick.knows(KEY)
    for node in ("7", "77", "12", "me"):
        assert quick.tags_written((node,), ANN) == whole.tags_written((node,), ANN)
        assert quick.tags_read(at(path), ANN) == whole.tags_read(at(path), ANN)
    assert not listed or not TagIndex().learn_nothing(KEY, at(path), body)


def test_me_is_whoever_asks() -> None:
    """A write to `me` changes the caller's own object, whose id is known once a body has shown it."""
    common = TagIndex()
    assert meets(common, ("me",), at("/me"), by=ANN, reader=ANN)
    assert meets(common, ("me",), at("/me"), by=ANN, reader=BOB)  # nobody knows whether Bob's token is of the same user
    common.learn(KEY, at("/me", "fields=name"), ANN, b'{"name":"Ann","id":"77"}')
    assert meets(common, ("me",), at("/me/feed"), by=ANN, reader=ANN)
    assert meets(common, ("me",), at("/77/feed"), by=ANN, reader=BOB)
    assert meets(common, ("77",), at("/me/feed"), by=BOB, reader=ANN)
    common.learn(KEY, at("/me"), BOB, b'{"id":"78"}')
    assert not meets(common, ("me",), at("/me/feed"), by=ANN, reader=BOB)
    assert not meets(common, ("78",), at("/me/feed"), by=BOB, reader=ANN)
    common.learn(KEY, at("/me"), BOB, b'{"id":"77"}')
    assert meets(common, ("me",), at("/me/feed"), by=ANN, reader=BOB)


def test_lists_of_me_are_the_callers_own() -> None:
    """The list of one caller's `/me/accounts` says nothing about another caller's."""
    common = TagIndex()
    common.learn(KEY, at("/me"), BOB, b'{"id":"77"}')
    common.learn(KEY, at("/me/accounts"), ANN, PAGE)
    assert meets(common, ("11",), at("/me/accounts"), reader=ANN)
    assert not meets(common, ("11",), at("/me/accounts"), reader=BOB)


@pytest.mark.parametrize("path", ["/me", "/me/feed", "/cocacola/feed"])
def test_whoever_is_not_known_by_number_may_be_any(path: str) -> None:
    """Until an answer has shown the id of a name, a write to any numeric id changes reads under that name."""
    common = TagIndex()
    assert meets(common, ("77",), at(path), reader=ANN)
    assert not meets(common, ("act_1",), at(path), reader=ANN)
    assert not meets(common, ("77",), at("/78"), reader=ANN)
    common.learn(KEY, at(f"/{path.split('/')[1]}"), ANN, b'{"id":"78"}')
    assert not meets(common, ("77",), at(path), reader=ANN)
    assert meets(common, ("78",), at(path), reader=ANN)


@pytest.mark.parametrize("body", [b"{}", b'{"id":7}', b'{"id":""}', b"[]", b"nonsense"])
def test_a_name_that_nobody_has_told_the_id_of(body: bytes) -> None:
    """A body without an id leaves a name on its own."""
    common = TagIndex()
    common.learn(KEY, at("/cocacola"), ANN, body)
    assert common.tags_written(("cocacola",), ANN) == ("cocacola",)


def test_a_page_by_its_name() -> None:
    """A write to a page's id changes reads under its name, and the other way round."""
    common = TagIndex()
    common.learn(KEY, at("/cocacola"), ANN, b'{"id":"40796308305","name":"Coca-Cola"}')
    assert meets(common, ("40796308305",), at("/cocacola/feed"))
    assert meets(common, ("cocacola",), at("/40796308305/feed"))


def test_a_write_to_who_knows_what() -> None:
    """A write that names nothing changes anything, and a read that names nothing is changed by any."""
    assert TagIndex().tags_written((), ANN) == ()
    assert TagIndex().tags_read(at("/", "fields=id"), ANN) == ()


def test_memory_is_bounded() -> None:
    """Of much that is learned the older part is forgotten, the bodies that it came from with it."""
    common = Few()
    for number in range(20):
        listed = json.dumps({"data": [{"id": f"{number}"}, {"id": "x"}]}).encode()
        common.learn(b"%d" % number, at(f"/act_{number}/ads"), ANN, listed)
        common.learn(b"%d" % number, at(f"/name{number}"), ANN, b'{"id":"1"}')
    assert common.knows(b"19")
    assert not common.knows(b"1")
    assert meets(common, ("19",), at("/act_19/ads"))
    assert not meets(common, ("1",), at("/act_1/ads"))
    assert len(common._ids) <= 2
    assert common._young.size + common._old.size <= 2 * (4 + 3)
    common.forget(b"19")
    assert not common.knows(b"19")


def test_of_no_more_bodies_than_asked_for_it_is_known_what_they_list() -> None:
    """Those that were searched last are known, in two generations."""
    common = TagIndex(2)
    for number in range(9):
        common.learn_nothing(b"%d" % number, at(f"/{number}"), b'{"id":"1"}')
    assert [number for number in range(9) if common.knows(b"%d" % number)] == [6, 7, 8]
