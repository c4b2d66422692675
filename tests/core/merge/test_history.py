"""The history of merged reads."""

from __future__ import annotations

from proxy.core.merge.history import MOST_FIELDS, MergeHistory
from tests.core.samples import reply


def names(text: str) -> frozenset[str]:
    """The names in *text*."""
    return frozenset(text.split())


GOOD, BAD, TROUBLE = reply(), reply(400, b'{"error":{"code":100}}'), reply(500, b"")
AB, A, B = names("a b"), names("a"), names("b")


def test_what_was_shared_is_asked_again_for_a_while() -> None:
    """Where answers are stored they also serve later callers; elsewhere only waiting reads are a reason to merge."""
    lore = MergeHistory()
    lore.on_reply("f", A, GOOD, {A}, 0, fresh_s=0)
    assert lore.wanted("f", 0, fresh_s=0) == frozenset()
    lore.on_reply("f", AB, GOOD, {A, B}, 0, fresh_s=0)
    assert lore.wanted("f", MergeHistory.REST_S - 1, fresh_s=0) == AB
    assert lore.wanted("f", MergeHistory.REST_S, fresh_s=0) == frozenset()
    assert lore.wanted("f", MergeHistory.REST_S, fresh_s=3600) == AB
    assert lore.wanted("g", 0, fresh_s=0) == frozenset()


def test_what_nobody_wants_any_more_is_not_asked_for() -> None:
    """A selection counts as wanted since its last read, also if a larger entry answered that read."""
    lore = MergeHistory()
    lore.on_reply("f", AB, GOOD, {A, B}, 0, fresh_s=60)
    assert lore.supersets("f", A, 200) == [AB]
    assert lore.wanted("f", 400, fresh_s=60) == A


def test_the_newest_answer_comes_first() -> None:
    """Of the known supersets the newest come first; the oldest are forgotten."""
    lore = MergeHistory()
    for text in ("a b", "a c", "b c", "a"):
        lore.on_reply("f", names(text), GOOD, {A}, 0, fresh_s=60)
    assert lore.supersets("f", A, 0) == [names("a c"), names("a b")]
    for text in ("x y", "y z", "z x"):
        lore.on_reply("f", names(text), GOOD, {A}, 0, fresh_s=60)
    assert lore.supersets("f", A, 0) == []
    assert lore.supersets("g", A, 0) == []


def test_the_bad_one_is_to_blame() -> None:
    """A selection that fails alone is to blame; if all succeed alone, the combination is; Graph's errors blame none."""
    for alone, refused in (
        ({A: BAD, B: GOOD}, [A, AB]),
        ({A: GOOD, B: GOOD}, [AB]),
        ({A: TROUBLE, B: GOOD}, []),
        ({A: None, B: GOOD}, []),
    ):
        lore = MergeHistory()
        lore.on_failure("f", AB, alone, 0)
        assert [names for names in (A, B, AB) if not lore.may_merge("f", names, MergeHistory.REST_S - 1)] == refused
        assert lore.may_merge("f", AB, MergeHistory.REST_S)


def test_one_that_is_refused_alone_is_remembered_too() -> None:
    """A selection that is refused alone is not merged; an error on Graph's side blames no selection."""
    lore = MergeHistory()
    lore.on_reply("f", A, BAD, {A}, 0, fresh_s=60)
    lore.on_reply("f", B, TROUBLE, {B}, 0, fresh_s=60)
    assert (lore.may_merge("f", A, 0), lore.may_merge("f", B, 0)) == (False, True)


def test_a_union_has_bounds() -> None:
    """More than so many fields are not asked together."""
    many = frozenset(f"f{number}" for number in range(MOST_FIELDS))
    assert (MergeHistory().may_merge("f", many, 0), MergeHistory().may_merge("f", many | A, 0)) == (True, False)


def test_what_is_refused_is_no_longer_wanted() -> None:
    """A field may disappear: no read is widened by a refused field."""
    lore = MergeHistory()
    lore.on_reply("f", AB, GOOD, {A, B}, 0, fresh_s=60)
    lore.on_failure("f", AB, {A: GOOD}, 1)
    assert lore.wanted("f", 1, fresh_s=60) == frozenset()


def test_memory_is_bounded() -> None:
    """The family that was used longest ago is forgotten first."""
    lore = MergeHistory()
    for number in range(MergeHistory.CAPACITY + 1):
        lore.on_reply(number, A, GOOD, {A}, 0, fresh_s=60)
    assert (lore.wanted(0, 0, 60), lore.wanted(1, 0, 60)) == (frozenset(), A)
    for number in range(MergeHistory.REFUSED + 1):
        lore.on_reply("f", names(f"a{number}"), BAD, set(), 0, fresh_s=60)
    assert [lore.may_merge("f", names(f"a{number}"), 0) for number in (0, 1)] == [True, False]
