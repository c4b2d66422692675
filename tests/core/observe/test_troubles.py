"""What is called a trouble, and that a calm sidecar has none."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from proxy.core.http.errors import SidecarError, word
from proxy.core.observe.troubles import _OWN_ERRORS, COVERED, troubles
from tests.told import NOW, STATS

CALM: dict[str, Any] = {**STATS, "errors": [], "usage": [{**STATS["usage"][0], "percent": 79.0, "stage": "watch"}]}


def error(**told: Any) -> dict[str, Any]:
    """One of Graph's, a moment ago."""
    about = {"mode": "MISS", "status": 400, "route": "/{id}", "code": None, "what": "answered by Graph"}
    return {"at": NOW - 5, **about, **told}


def found(**told: Any) -> list[tuple[Any, ...]]:
    """The troubles of a calm sidecar but for what is *told*, without their words."""
    return [(each["level"], each["about"], each["ago_s"], each["for_s"]) for each in troubles({**CALM, **told})]


def test_a_calm_sidecar_has_none() -> None:
    """Nor one whose callers ask for what is not there."""
    quiet = [error(code=100), error(mode="FAILED", status=504, what="notheld"), error(code=4, what="throttled")]
    assert found(errors=quiet) == []
    assert found(store={**STATS["store"], "breaker": "none"}) == []  # memory alone is kept by choice


@pytest.mark.parametrize(
    "told, expected",
    [
        ({"state": "draining", "open": 1}, ("warn", "drain", None, None)),
        ({"errors": [error(mode="FAILED", status=502, what="unreachable")]}, ("bad", "graph", 5.0, None)),
        ({"errors": [error(mode="FAILED", status=503, what="overloaded")]}, ("bad", "process", 5.0, None)),
        ({"errors": [error(status=500)]}, ("bad", "graph", 5.0, None)),
        ({"errors": [error(code=2)]}, ("bad", "graph", 5.0, None)),
        ({"errors": [error(mode="STALE", status=200, what=COVERED)]}, ("warn", "graph", 5.0, None)),
        ({"errors": [error(code=190)]}, ("warn", "token", 5.0, None)),
        ({"usage": [STATS["usage"][1]]}, ("bad", "quota", None, 1260.0)),
        ({"usage": [{**STATS["usage"][0], "stage": "spare"}]}, ("warn", "quota", None, None)),
        ({"last_reload": {"successful": False, "at": NOW - 5}}, ("warn", "settings", None, None)),
        ({"store": {**STATS["store"], "breaker": "open"}}, ("warn", "store", None, None)),
        ({"store": {**STATS["store"], "other_key": True}}, ("warn", "store", None, None)),
        ({"loop_lag_ms": {"p50": 1.0, "p99": 400.0}}, ("warn", "process", None, None)),
    ],
)
def test_each_trouble_is_told(told: dict[str, Any], expected: tuple[Any, ...]) -> None:
    """With how bad it is, what it is about, when it happened last or how long it lasts."""
    assert found(**told) == [expected]


def test_an_error_is_news_for_a_minute() -> None:
    """And several of a kind are one trouble, of the time of the newest."""
    late = error(mode="FAILED", status=504, what="late")
    assert found(errors=[late, {**late, "at": NOW - 30}]) == [("bad", "graph", 5.0, None)]
    assert found(errors=[{**late, "at": NOW - 61}]) == []


def test_the_worst_come_first_and_not_too_many() -> None:
    """What hurts callers now stands above what may soon; many limits of a sort are told in one."""
    spare, stopped = {**STATS["usage"][0], "stage": "spare"}, STATS["usage"][1]
    longest = {**stopped, "regain_s": 3600.0}
    told = troubles({**copy.deepcopy(CALM), "usage": [spare] * 5 + [stopped] * 3 + [longest]})
    assert [each["level"] for each in told] == ["bad"] * 4 + ["warn"] * 4
    assert (told[3]["what"], told[3]["for_s"]) == ("1 more: the limit is reached", 3600.0)
    assert told[7]["what"].startswith("2 more: nearly used")


@pytest.mark.parametrize(
    "limit, words",
    [
        ({"percent": 82.0}, "82 % used, low-priority reads wait"),
        (
            {"percent": 55.0, "foreseen_percent": 80.0, "foreseen_in_s": 42.0},
            "55 % used, will be at 80 % in 42 s at this rate; low-priority reads wait",
        ),
        (
            {"percent": 55.0, "foreseen_percent": 80.0, "foreseen_in_s": 125.0},
            "55 % used, will be at 80 % in 2 min at this rate; low-priority reads wait",
        ),
    ],
)
def test_what_is_foreseen_is_told_as_that(limit: dict[str, Any], words: str) -> None:
    """A stage that begins ahead of use is not told as if the use were there."""
    [trouble] = troubles({**CALM, "usage": [{**STATS["usage"][0], "stage": "spare", **limit}]})
    assert trouble["what"] == f"App 9f3c21aa04be: {words}"


def test_our_errors_are_called_by_their_names() -> None:
    """A kind that was renamed would be no trouble any more."""
    kinds, words = [SidecarError], set()
    while kinds:
        kind = kinds.pop()
        words.add(word(kind))
        kinds += kind.__subclasses__()
    assert _OWN_ERRORS.keys() <= words


WELL = {"up": True, "believed": True, "full": False, "other_secret": False, "trouble": ""}
WELL |= {"log": {"lag_s": 0.03}, "sign_of_life_s": 0.4}


@pytest.mark.parametrize(
    "told, expected",
    [
        ({}, []),
        ({"up": False, "believed": False, "trouble": "it does not answer"}, [("warn", "shared", None, None)]),
        ({"up": False, "believed": False, "other_secret": True}, [("bad", "shared", None, None)]),
        ({"full": True, "believed": False}, [("warn", "shared", None, None)]),
        ({"believed": False, "trouble": "the log cannot be read"}, [("warn", "shared", None, None)]),
        ({"believed": False, "log": {"lag_s": -1}}, [("warn", "shared", None, None)]),
        ({"believed": False, "log": {"lag_s": 4.2}}, [("warn", "shared", None, None)]),
        ({"believed": False, "sign_of_life_s": 3.4}, [("warn", "shared", None, None)]),
        ({"believed": False, "sign_of_life_s": -1}, [("warn", "shared", None, None)]),
        ({"believed": False, "log": {"lag_s": 0.28}}, []),  # the process was busy for a moment
    ],
)
def test_of_a_shared_store_one_thing_is_told(told: dict[str, Any], expected: list[tuple[Any, ...]]) -> None:
    """That which is why of the others; and nothing of a store that nobody shares."""
    assert found(shared={**WELL, **told}) == expected
    told_of = [each["what"] for each in troubles({**CALM, "shared": {**WELL, **told}})]
    assert all(each[-1].isalnum() for each in told_of)  # none ends before it says why
