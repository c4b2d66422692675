"""Which objects a call names."""

import pytest

from proxy.core.routing.nodes import listed, nodes


@pytest.mark.parametrize(
    "path, query, found",
    [
        ("/111", "", ("111",)),
        ("/111/feed", "ids=4", ("111",)),
        ("/", "ids=1,2", ("1", "2")),
        ("/", "id=3", ("3",)),
        ("/", "ids=1&id=3", ("1", "3")),
        ("/", "ids=%5B%221%22,%20%222%22%5D", ("1", "2")),
        ("/", "ids=1,%202", ("1", "2")),
        ("/", "fields=name", ()),
        ("/", "ids=", ()),
    ],
)
def test_nodes(path: str, query: str, found: tuple[str, ...]) -> None:
    """The objects that a call is about are known, so a write to one of them is seen by every read of it."""
    assert nodes(path, query) == found


@pytest.mark.parametrize(
    "value, members",
    [
        ("1,2", ("1", "2")),
        (" 1 , ,2", ("1", "2")),
        ('["1","2"]', ("1", "2")),
        ('["http://a.dk/?x=1,2","http://b.dk"]', ("http://a.dk/?x=1,2", "http://b.dk")),
        ("['1','2']", ("1", "2")),
        ("[1,2]", ("1", "2")),
        (["1,2", "3"], ("1,2", "3")),
        ("", ()),
        ("[]", ()),
    ],
)
def test_lists(value: object, members: tuple[str, ...]) -> None:
    """What a list of ids names, in each of the shapes that Graph takes."""
    assert listed(value) == members
