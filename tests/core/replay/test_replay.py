"""What recorded reads would have cost under other rules."""

from __future__ import annotations

import msgspec

from proxy.core.batch.window import Limits
from proxy.core.observe.access_log import AccessLogEntry
from proxy.core.quota.bucket import Stages
from proxy.core.replay.replay import Recorded, Replay, Tally
from proxy.core.routing.rules import Rule, RuleBook, RuleMatch


def line(at: float, body: object = "one", **told: object) -> Recorded:
    """A read that came in *at* seconds after the beginning and took half a second."""
    words = {
        "mode": "MISS", "status": 200, "method": "GET", "host": "graph", "version": "v25.0", "route": "/{id}",
        "path": "/1", "node": "1", "app": "0123456789ab", "total_ms": 500.0, "key": "k", "rest": "r", "body": body,
        "size": 10, "sent": 1,
    }  # fmt: skip
    return Recorded(1000.5 + at, msgspec.convert({**words, **told}, AccessLogEntry))


def replay(*rules: RuleMatch, **default: float | bool) -> Replay:
    """A replay by these rules, the last of which holds for every other read."""
    return Replay(RuleBook(rules, Rule(**default)), Stages(), Limits(), shared=False)  # type: ignore[arg-type]


class Played:
    """Returns the replay of lines with one rule for every read."""

    def __init__(self, *lines: Recorded, **rule: float | bool) -> None:
        self.replay = replay(**rule)
        self.replay.play(sorted(lines, key=lambda each: each.answered_at))
        self.tally = Tally()
        for tally in self.replay.routes.values():
            self.tally.add(tally)

    @property
    def counted(self) -> int:
        """Calls."""
        return self.replay.now.counted

    @property
    def avoided(self) -> dict[str, int]:
        """Calls that were not made, by cause."""
        return dict(+self.replay.now.avoided)


def test_without_freshness_every_read_is_asked() -> None:
    """A 304 counts as a call, and its bytes are avoided."""
    told = Played(line(0), line(10), line(20))
    assert (told.counted, told.avoided, told.replay.now.bytes_avoided) == (3, {}, 20)
    assert told.replay.then.counted == told.replay.now.asked == 3


def test_what_is_fresh_is_not_asked() -> None:
    """A rule of 15 s asks again when that has passed."""
    told = Played(line(0), line(10), line(20), fresh_s=15)
    assert (told.counted, told.avoided, told.tally.outdated, told.tally.oldest_s) == (2, {"fresh": 1}, 0, 10)


def test_what_was_fresh_then_is_asked() -> None:
    """A stricter rule than the one under which it was recorded costs calls."""
    told = Played(line(0), line(10, mode="REUSED", sent=0, avoided=1, age_s=10))
    assert (told.replay.then.counted, told.counted) == (1, 2)


def test_what_was_held_before_the_log_began_is_held() -> None:
    """The age of the first reply says since when."""
    reused = [line(at, mode="REUSED", sent=0, avoided=1, age_s=at + 30) for at in (0, 10, 20)]
    assert Played(*reused, fresh_s=60).counted == 0
    assert Played(*reused, fresh_s=45).counted == 1


def test_twins_in_flight_are_collapsed() -> None:
    """A read that comes while an equal read is in flight costs nothing, unless its caller said no-cache."""
    told = Played(line(0), line(0.25))
    assert (told.counted, told.avoided) == (1, {"collapsed": 1})
    assert Played(line(0), line(0.25, wishes="no-cache")).counted == 2


def test_an_old_body_behind_which_graph_is_asked_is_a_call() -> None:
    """`stale_while_revalidate_s` saves the caller's wait, not the call, which is one of our own."""
    told = Played(line(0), line(10), stale_while_revalidate_s=60)
    assert (told.counted, told.avoided, told.replay.now.own) == (2, {"stale": 1}, 1)


def test_what_was_asked_behind_a_reply_is_nobodys() -> None:
    """A background call is the sidecar's own: no caller asked for it; its line shows Graph's body at that time."""
    then = [line(0), line(10, mode="STALE", sent=0, avoided=1, detail="stale-while-revalidate", age_s=10)]
    behind = line(10, "two", mode="CHANGED", behind=True, calls=0)
    told = Played(*then, behind, fresh_s=60)
    assert (told.replay.then.counted, told.replay.then.own, told.replay.then.asked) == (2, 1, 2)
    assert (told.counted, told.replay.coverage.reads) == (1, 2)


def test_replies_that_graph_had_changed_are_told() -> None:
    """The log shows a newer body at 10 s, which a rule of 60 s would not have shown; who tunes rules must know."""
    told = Played(line(0), line(10, "two", mode="CHANGED"), line(20, "two", mode="REVALIDATED"), fresh_s=60)
    assert (told.counted, told.tally.outdated) == (1, 2)


def test_polls_are_never_fresh() -> None:
    """A read that asks how far a job has come is asked each time, whatever the rule."""
    assert Played(*(line(at, fields="async_status") for at in (0, 10)), fresh_s=60).counted == 2


def test_a_write_ends_freshness() -> None:
    """As it does when it passes through."""
    wrote = line(5, mode="SKIPPED", method="POST", key="", rest="", writes=True)
    told = Played(line(0), wrote, line(10), line(11), fresh_s=60)
    assert (told.counted, told.avoided, told.replay.coverage.others) == (3, {"fresh": 1}, 1)


def test_a_proof_for_its_time_alone_is_asked() -> None:
    """A proof with a time is checked by Graph each time."""
    assert Played(*(line(at, proof="p", timed=True) for at in (0, 10)), fresh_s=60).counted == 2
    assert Played(*(line(at, proof="p") for at in (0, 10)), fresh_s=60).counted == 1


def test_the_first_rule_that_matches_holds() -> None:
    """Paths and fields of the log find their rules as they would have when served."""
    told = replay(RuleMatch("/act_*/ads", frozenset({"name"}), Rule(fresh_s=60)))
    fresh = [line(at, path="/act_1/ads", fields="name", route="a") for at in (0, 10)]
    asked = [line(at, path="/act_1/ads", fields="status", route="b") for at in (1, 11)]
    told.play(sorted([*fresh, *asked], key=lambda each: each.answered_at))
    assert {route: row.counted for route, row in told.now.routes.items()} == {"a": 1, "b": 2}


def test_what_came_in_earlier_is_played_earlier() -> None:
    """Lines are written with their replies: a read of ten seconds comes after shorter, later reads."""
    slow = line(9.5, total_ms=10_000.0, path="/2")
    told = Played(line(0, path="/2"), slow, line(8, path="/2"), fresh_s=5)
    assert told.counted == 2


def test_trouble_is_as_it_was() -> None:
    """Calls that were made again are made again; where nothing had left, nothing leaves; a rule may cover it."""
    failed = line(10, mode="FAILED", status=502, sent=0, detail="unreachable")
    told = Played(line(0, sent=3), failed)
    assert (told.counted, told.replay.then.counted, told.replay.now.unsent) == (3, 3, 1)
    covered = Played(line(0), line(10, mode="FAILED", status=502, sent=1, detail="cut"), stale_if_error_s=60)
    assert (covered.counted, covered.tally.oldest_s) == (2, 10.5)


# --- many fields, several objects


def fields(at: float, names: str, **told: object) -> Recorded:
    """A read of *names* of one object."""
    return line(at, fields=names, key=names, **told)


def test_reads_that_would_have_waited_together_are_one() -> None:
    """Reads that join one in flight and differ only in their fields."""
    reads = [fields(0, "a"), fields(0.1, "b"), fields(0.103, "c"), fields(0.104, "c,d"), fields(0.104, "e", rest="s")]
    assert Played(*reads).counted == 5
    told = Played(*reads, merge=True)
    assert (told.counted, told.avoided) == (3, {"merged": 2})


def test_what_is_held_for_more_fields_answers_fewer() -> None:
    """As long as it is fresh."""
    reads = [fields(0, "a,b"), fields(10, "a"), fields(20, "b"), fields(30, "c")]
    told = Played(*reads, merge=True, fresh_s=60)
    assert (told.counted, told.avoided) == (2, {"superset": 2})
    assert Played(*reads, fresh_s=60).counted == 4


def test_who_asks_for_a_part_is_told_if_that_had_changed() -> None:
    """Though another selection was held."""
    reads = [fields(0, "a,b"), fields(5, "a"), fields(10, "a", body="two", mode="CHANGED")]
    assert Played(*reads, merge=True, fresh_s=60).tally.outdated == 1


def test_a_field_that_errs_is_asked_alone() -> None:
    """The union fails, each is asked for itself, and the combination is remembered."""
    bad = {"mode": "MISS", "status": 400, "code": 100, "etag": False}
    reads = [fields(0, "z"), fields(0.1, "a"), fields(0.1, "bad", **bad), fields(5, "a"), fields(5.1, "bad", **bad)]
    told = Played(*reads, merge=True)
    assert (told.counted, told.avoided) == (1 + 3 + 2, {})


def test_ids_are_calls_and_answered_one_by_one() -> None:
    """Each id of `ids=` is a call; fresh ids are not asked for, and each answer serves reads of its id."""
    several = {"path": "/", "route": "/", "node": "1"}
    reads = [line(0), line(5, path="/2", node="2")]
    reads += [line(10, ids="1,2,3", calls=3, sent=3, **several), line(20, path="/3", node="3")]
    told = Played(*reads, merge=True, fresh_s=60)
    assert (told.replay.now.asked, told.counted, told.avoided) == (6, 3, {"fresh": 3})
    assert Played(*reads, fresh_s=60).counted == 6


def test_what_several_objects_taught_answers_for_fewer_fields() -> None:
    """As in the sidecar: each id's part of the answer is stored for that id."""
    several = fields(0, "a,b", path="/", ids="1,2", calls=2, sent=2)
    told = Played(several, fields(10, "a"), fields(11, "b", path="/2"), merge=True, fresh_s=60)
    assert (told.counted, told.avoided) == (2, {"superset": 2})


def test_of_older_lines_freshness_alone_is_played() -> None:
    """Such lines lack the fields and ids: merging and splitting cannot be replayed."""
    old = {"rest": "", "sent": None}
    reads = [fields(0, "a,b", **old), fields(10, "a", **old), line(20, path="/", calls=3, key="i", **old)]
    told = Played(*reads, fields(11, "a", **old), merge=True, fresh_s=60)
    assert (told.counted, told.replay.then.counted, told.replay.coverage.older) == (5, 6, 4)


# --- quota

USED = [["app", "", "", 90.0, 0.0]]
FULL = [["app", "", "", 100.0, 0.0]]
REFUSED = {"mode": "MISS", "status": 400, "code": 4, "etag": False, "usage": FULL}


def test_freshness_is_stretched_as_it_was_told() -> None:
    """With the same calls Graph tells the same percents."""
    reads = [line(0, usage=USED), line(20, usage=USED), line(30, path="/2", node="2", usage=USED)]
    assert Played(*reads, fresh_s=10, stretch_s=60).avoided == {"fresh": 1}
    assert Played(*reads, fresh_s=10).avoided == {}


def test_a_throttle_is_met_by_the_same_calls() -> None:
    """A stopped limit gets no reads: the error is repeated, or a stale entry answers."""
    reads = [line(at, path=f"/{at}", node=f"{at}") for at in range(1, 6)]
    other = {**REFUSED, "path": "/9", "node": "9"}
    told = Played(*reads, line(6, **REFUSED), line(7, **other))  # half a second after the refusal
    assert (told.tally.throttled_then, told.tally.throttled) == (2, 2)
    assert (told.counted, told.avoided) == (6, {"refused": 1})
    told = Played(*reads, line(6, **REFUSED), line(7, **other), line(7.2, **other), line(7.4, **REFUSED))
    assert (told.tally.throttled, told.counted, told.avoided) == (4, 8, {"refused": 1})


def test_fewer_calls_do_not_meet_it() -> None:
    """The limit was reached by calls that freshness would have saved."""
    reads = [line(at) for at in range(10)]
    reads += [line(at, **REFUSED) for at in (10, 11)]
    told = Played(*reads, fresh_s=5)
    assert (told.tally.throttled_then, told.tally.throttled, told.counted) == (2, 0, 3)


def test_more_calls_meet_one_that_nobody_met() -> None:
    """The percents were low because of what a rule had saved."""
    usage = [["app", "", "", float(at), 0.0] for at in range(5, 45, 5)]
    asked = [line(10 * at, usage=[told]) for at, told in enumerate(usage)]
    saved = [line(10 * at + s, mode="REUSED", sent=0, avoided=1, age_s=s) for at in range(8) for s in range(1, 9)]
    told = Played(*asked, *saved)
    assert told.tally.throttled_then == 0
    assert told.tally.throttled > 0


def test_another_tokens_limit_is_its_own() -> None:
    """As it is when serving."""
    reads = [line(1, **REFUSED), line(2, app="ffffffffffff"), line(3, app="ffffffffffff", path="/2", node="2")]
    assert Played(*reads).counted == 3


def test_what_has_time_waits_where_calls_are_scarce() -> None:
    """How often, and how long."""
    reads = [line(at / 10, path=f"/{at}", node=f"{at}", usage=USED, priority=6) for at in range(1, 60)]
    told = Played(*reads)
    assert told.replay.waited_s
    assert max(told.replay.waited_s) <= Stages().longest_wait_s + 0.001
    assert told.counted == 59
