"""A rule behind one that takes all of its reads is found, and no other is called hidden."""

from __future__ import annotations

import fnmatch
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.routing.rules import Rule, RuleMatch, plain_glob
from proxy.core.routing.shadowing import covers, shadowed


def match(path: str, *fields: str, version: str = "") -> RuleMatch:
    """A rule for these reads."""
    return RuleMatch(path, frozenset(fields), Rule(), version)


@pytest.mark.parametrize(
    "rules, found",
    [
        ([match("/act_*"), match("/act_*/insights")], [(1, 0)]),
        ([match("/act_*/insights"), match("/act_*")], []),
        ([match("/me"), match("me/")], [(1, 0)]),
        ([match("*"), match("/me"), match("/you")], [(1, 0), (2, 0)]),
        ([match("/me", "id", "name"), match("/me", "id")], [(1, 0)]),
        ([match("/me", "id"), match("/me", "id", "name")], []),
        ([match("/me", "id"), match("/me")], []),
        ([match("/me", version="v25.0"), match("/me")], []),
        ([match("/me", version="v25.0"), match("/me", version="v25.0")], [(1, 0)]),
        ([match("/me"), match("/me", version="v25.0")], [(1, 0)]),
        ([match("/m?"), match("/m[ae]")], [(1, 0)]),
        ([match("/m?"), match("/m*")], []),
        ([match("/a"), match("/b")], []),
    ],
)
def test_a_rule_that_an_earlier_rule_hides(rules: list[RuleMatch], found: list[tuple[int, int]]) -> None:
    """Path, fields and version all have to be taken before a rule is called hidden."""
    assert list(shadowed(rules)) == found


GLOBS = st.text("ab*?/", min_size=1, max_size=5)
PATHS = ["/" + "".join(letters) for size in range(5) for letters in product("ab/", repeat=size)]


@given(GLOBS, st.data())
def test_what_covers_matches_whatever_the_other_matches(other: str, data: st.DataObject) -> None:
    """No path that *other* matches is missed by a glob that covers it."""
    glob = "".join(data.draw(st.sampled_from((part, part, "?", "*", ""))) for part in other) or "*"
    if covers(glob, other):
        hidden = set(fnmatch.filter(PATHS, plain_glob(other)))
        assert hidden <= set(fnmatch.filter(PATHS, plain_glob(glob)))


@given(GLOBS)
def test_a_glob_covers_itself_and_a_star_covers_all(glob: str) -> None:
    """The same glob twice is the plainest slip."""
    assert covers(glob, glob)
    assert covers("*", glob)
