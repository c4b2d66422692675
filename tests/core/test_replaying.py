"""What recorded reads would have come to by other rules."""

from __future__ import annotations

import msgspec

from proxy.core.replaying import Recorded, Replay, Tally, total
from proxy.core.rules import Rule, RuleBook, RuleMatch
from proxy.core.telling import Told


def line(at: float, body: str = "one", **told: object) -> Recorded:
    """A read that came in *at* seconds after the beginning and took half a second."""
    words = {
        "mode": "MISS", "status": 200, "method": "GET", "host": "graph", "version": "v25.0", "route": "/{id}",
        "path": "/1", "app": "fp", "total_ms": 500.0, "key": "k", "body": body, "size": 10,
    }  # fmt: skip
    return Recorded(1000.5 + at, msgspec.convert({**words, **told}, Told))


def played(*lines: Recorded, fresh_s: float = 0, stale_s: float = 0) -> Tally:
    """All that *lines* come to when one rule holds for every read."""
    replay = Replay(RuleBook([], Rule(fresh_s, stale_while_revalidate_s=stale_s)))
    replay.play(lines)
    return total(replay.routes.values())


def test_without_freshness_every_read_is_asked() -> None:
    """A 304 counts as a call, and its bytes are avoided."""
    told = played(line(0), line(10), line(20))
    assert (told.asked, told.counted, told.bytes_avoided, dict(told.avoided)) == (3, 3, 20, {})


def test_what_is_fresh_is_not_asked() -> None:
    """A rule of 15 s asks again when that has passed."""
    told = played(line(0), line(10), line(20), fresh_s=15)
    assert (told.counted, told.avoided["fresh"], told.outdated) == (2, 1, 0)
    assert told.oldest_s == 10


def test_twins_in_flight_are_collapsed() -> None:
    """A read that comes in while another is being answered costs nothing."""
    told = played(line(0), line(0.25))
    assert (told.counted, told.avoided["collapsed"]) == (1, 1)


def test_an_old_body_behind_which_graph_is_asked_is_a_call() -> None:
    """`stale_while_revalidate_s` saves the caller's wait, not the call."""
    told = played(line(0), line(10), stale_s=60)
    assert (told.counted, told.avoided["stale"]) == (2, 1)


def test_replies_that_graph_had_changed_are_told() -> None:
    """The log shows a newer body at 10 s, which a rule of 60 s would not have shown; who tunes rules must know."""
    told = played(line(0), line(10, "two", mode="CHANGED"), line(20, "two", mode="REVALIDATED"), fresh_s=60)
    assert (told.counted, told.outdated) == (1, 2)


def test_ids_are_calls() -> None:
    """Of `ids=` each is a call, avoided or not."""
    told = played(line(0, calls=3), line(1, calls=3), fresh_s=60)
    assert (told.asked, told.counted, told.avoided["fresh"]) == (6, 3, 3)


def test_polls_are_never_fresh() -> None:
    """A read that asks how far a job has come is asked each time, whatever the rule."""
    polls = [line(at, fields="async_status") for at in (0, 10)]
    assert played(*polls, fresh_s=60).counted == 2


def test_the_first_rule_that_matches_holds() -> None:
    """Paths and fields of the log find their rules as they would have when served."""
    rules = RuleBook([RuleMatch("/act_*/ads", frozenset({"name"}), Rule(fresh_s=60))], Rule())
    replay = Replay(rules)
    fresh = [line(at, path="/act_1/ads", fields="name", route="a", key="a") for at in (0, 10)]
    asked = [line(at, path="/act_1/ads", fields="status", route="b", key="b") for at in (0, 10)]
    replay.play([*fresh, *asked])
    assert (replay.routes["a"].counted, replay.routes["b"].counted) == (1, 2)


def test_what_is_no_read_is_passed_over() -> None:
    """Writes and streams have no entry, and no rule is for them."""
    assert played(line(0, key="", mode="SKIPPED"), fresh_s=60) == Tally()
