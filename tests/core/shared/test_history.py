"""What callers of one replica ask together is known to the others, by names that tell nothing."""

from __future__ import annotations

from proxy.core.model import Reply
from proxy.core.shared.history import SharedHistory
from proxy.core.shared.records import Wanted
from proxy.core.shared.wire import KeyNames

FAMILY = (b"entry", b"proof", "batch")
ALL, NAME, ID = frozenset({"id", "name"}), frozenset({"name"}), frozenset({"id"})
GOOD = Reply(200, (), b'{"id":"1","name":"x"}')


def replica(told: list[Wanted]) -> SharedHistory:
    """One of several."""
    return SharedHistory(KeyNames(b"m" * 32).family, told.append)


def test_what_one_has_merged_another_widens_its_reads_by() -> None:
    """And answers from what was asked for all."""
    told: list[Wanted] = []
    a, b = replica(told), replica([])
    a.on_reply(FAMILY, ALL, GOOD, [NAME, ID], 10.0, fresh_s=60)
    for each in told:
        b.apply(each, 10.0)
    assert b.wanted(FAMILY, 11.0, 60) == ALL
    assert b.supersets(FAMILY, NAME, 11.0) == [ALL]
    assert b.wanted(("another",), 11.0, 60) == frozenset()


def test_the_same_is_not_told_each_time() -> None:
    """Once in half a minute; and never what is in the family itself."""
    told: list[Wanted] = []
    a = replica(told)
    for now in (10.0, 11.0, 39.0, 41.0):
        a.on_reply(FAMILY, ALL, GOOD, [NAME], now, fresh_s=60)
    assert len(told) == 2
    assert b"entry" not in told[0].family


def test_a_refusal_is_each_replicas_own_affair() -> None:
    """What failed here may be good there."""
    told: list[Wanted] = []
    a = replica(told)
    a.on_reply(FAMILY, ALL, Reply(400, (), b'{"error":{"code":100,"message":"x"}}'), [NAME, ID], 10.0, fresh_s=60)
    assert told == []
    assert not a.may_merge(FAMILY, ALL, 11.0)
