"""The sums in Meta's units, and that they hold together whatever happens in whatever order."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.model import Mode, Reply
from proxy.core.quota.ledger import (
    CAUSES,
    MOST_LINES,
    OTHER_CAUSE,
    Ledger,
    calls_avoided,
    was_counted,
    was_counted_unread,
)
from proxy.core.routing.nodes import calls_of


@pytest.mark.parametrize(
    "query, calls",
    [
        ("", 1), ("fields=id", 1), ("ids=1,2,3", 3), ("fields=id&ids=1", 1), ("ids=1%2C2", 2), ("ids=", 1),
        ("ids=1,,2,", 2), ("bids=1,2", 1), ("fields=ids=1,2", 1),
        ("ids=%5B%22http%3A//a.dk/%3Fx%3D1,2%22,%22http%3A//b.dk%22%5D", 2), ("ids%5B%5D=1&ids%5B%5D=2&ids%5B%5D=3", 3),
        ("ids=[%221%22,%222%22]", 2), ("ids[0]=http://a/,b&ids[1]=2", 2),
    ],
)  # fmt: skip
def test_each_id_is_a_call(query: str, calls: int) -> None:
    """`ids=` counts as its ids, anything else as one ("Rate Limits")."""
    assert calls_of(query) == calls


def said(mode: Mode, detail: str = "", **fields: object) -> Reply:
    """A reply that came about so."""
    return Reply(200, (), b"", mode, detail=detail, **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "mode, detail, cause",
    [
        (Mode.COALESCED, "", "collapsed"), (Mode.COALESCED, "merged", "merged"),
        (Mode.REUSED, "", "fresh"), (Mode.REUSED, "stretched", "fresh"),
        (Mode.REUSED, "superset", "superset"), (Mode.REUSED, "throttled", "refused"),
        (Mode.COALESCED, "throttled", "refused"),
        (Mode.STALE, "stale-while-revalidate", "stale"),
    ],
)  # fmt: skip
def test_a_call_avoided_has_a_cause(mode: Mode, detail: str, cause: str) -> None:
    """How a reply came about says what it saved."""
    assert calls_avoided(said(mode, detail), 3) == {cause: 3}
    assert cause in CAUSES


@pytest.mark.parametrize("mode, cause", [(Mode.REUSED, "throttle"), (Mode.STALE, "throttle")])
def test_an_entry_that_answers_for_a_stopped_limit_saves_a_call(mode: Mode, cause: str) -> None:
    """An entry has an age; a refusal that is given again has none, and saves nothing that its caller wanted."""
    assert calls_avoided(said(mode, "throttled", age=5.0), 3) == {cause: 3}


@pytest.mark.parametrize("mode", [Mode.MISS, Mode.REVALIDATED, Mode.CHANGED, Mode.SKIPPED, Mode.FAILED])
def test_what_asked_graph_avoided_nothing(mode: Mode) -> None:
    """A 304 is a call, and an error of ours saves nobody anything."""
    assert not calls_avoided(said(mode), 3)


def test_covering_for_graph_saves_no_call() -> None:
    """Where Graph was asked in vain, what was held stood in and nothing was saved."""
    assert not calls_avoided(said(Mode.STALE, "stale-if-error"), 1)


def test_a_reply_that_knows_better_is_believed() -> None:
    """One that was answered in part says itself what it saved."""
    assert calls_avoided(said(Mode.MISS, avoided=(("fresh", 2),)), 5) == {"fresh": 2}


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("open"), st.integers(1, 5)),
        st.tuples(st.just("send"), st.integers(1, 5)),
        st.tuples(st.just("send perhaps"), st.integers(1, 5)),
        st.tuples(st.just("spare"), st.integers(1, 5)),
        st.tuples(st.just("turn_out"), st.integers(1, 9)),
        st.tuples(st.just("behind"), st.integers(1, 5)),
    ),
    max_size=30,
)


@given(STEPS)
def test_the_sums_agree_at_every_moment(steps: list[tuple[str, int]]) -> None:
    """What was asked, less what was avoided and what was not sent, and what was sent beyond: what Graph may count."""
    ledger = Ledger()
    cost = ledger.open(1)
    for step, calls in steps:
        if step == "open":
            cost = ledger.open(calls, route="/{id}", app="a", account="act_1")
        elif step == "send":
            cost.send(calls)
        elif step == "send perhaps":
            cost.send(calls, is_counted=False)
        elif step == "spare":
            cost.avoid({"fresh": calls})
        elif step == "turn_out":
            cost.correct_asked(max(calls, cost.asked))
        else:
            cost.for_background().send(calls)
        spared = sum(ledger.avoided.values())
        assert ledger.asked - spared - ledger.unsent + ledger.own == ledger.counted + ledger.uncertain
        assert min(ledger.unsent, ledger.own, spared) >= 0


@pytest.mark.parametrize(
    "status, body, is_counted",
    [
        (200, b"{}", True), (304, b"", True), (302, b"", True), (400, b'{"error":{"code":100}}', True),
        (400, b'{"error":{"code":4}}', True), (403, b'{"error":{"code":190}}', True), (200, b"Unavailable", False),
        (200, b"", False), (500, b'{"error":{"code":100}}', False), (400, b'{"error":{"code":2}}', False),
        (200, b'{"error":{"code":1}}', False), (404, b"<html>", False), (503, b"", False),
    ],
)  # fmt: skip
def test_what_graph_answered_in_its_own_words_has_counted(status: int, body: bytes, is_counted: bool) -> None:  # noqa: FBT001
    """A page of somebody before it tells nothing, and neither does trouble."""
    assert was_counted(Reply(status, (), body)) == is_counted


@pytest.mark.parametrize(
    "status, calls, is_counted",
    [(200, 1, True), (302, 3, True), (400, 1, True), (400, 3, False), (500, 1, False), (0, 1, False)],
)
def test_of_an_answer_that_nobody_reads_the_status_tells(status: int, calls: int, is_counted: bool) -> None:  # noqa: FBT001
    """A batch may have been refused as a whole."""
    assert was_counted_unread(status, calls) == is_counted


def test_what_was_sent_is_not_avoided_as_well() -> None:
    """A reply from what is held saves nothing once the question had left."""
    ledger = Ledger()
    cost = ledger.open(1)
    cost.send(1)
    cost.avoid({"stale": 1})
    assert (ledger.counted, ledger.avoided["stale"], ledger.own, ledger.unsent) == (1, 0, 0, 0)


def test_a_question_that_was_refused_here_is_neither_sent_nor_avoided() -> None:
    """It stays unsent, so that it is not taken for a saving."""
    ledger = Ledger()
    ledger.open(2)
    assert (ledger.asked, ledger.unsent, ledger.counted) == (2, 2, 0)


def test_lines_say_who_asked_what_came_of_it() -> None:
    """The same sums by route, application and account, with what is asked again and behind on the same lines."""
    ledger = Ledger()
    cost = ledger.open(1, route="/act_{id}/ads", app="abc", account="act_1")
    cost.send(1)
    cost.for_background().send(1)
    cost.avoid_bytes(10)
    ledger.open(1, route="/act_{id}/ads", app="abd").avoid({"fresh": 1})
    line = ledger.routes["/act_{id}/ads"]
    assert (line.asked, line.counted, line.avoided, line.bytes_avoided) == (2, 2, 1, 10)
    assert (ledger.apps["abc"].counted, ledger.apps["abd"].avoided, ledger.accounts["act_1"].asked) == (2, 1, 1)


def test_lines_are_bounded() -> None:
    """Callers choose how many accounts there are; what is too many shares a line."""
    ledger = Ledger()
    for number in range(MOST_LINES + 50):
        ledger.open(1, account=f"act_{number}")
    assert len(ledger.accounts) == MOST_LINES + 1
    assert ledger.accounts[OTHER_CAUSE].asked == 50
