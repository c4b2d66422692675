"""Paths become routes: few, the same for every object, and without anybody's name."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.graph.ids import account, is_id
from proxy.core.observe.route_template import DEEPEST, OTHER_ROUTE, Routes, redacted_path, template
from proxy.core.routing.normal_form import read_target


@pytest.mark.parametrize(
    "path, route",
    [
        ("/", "/"), ("/me", "/me"), ("/me/accounts", "/me/accounts"), ("/111", "/{id}"), ("/111_222", "/{id}"),
        ("/111/feed", "/{id}/feed"), ("/act_1", "/act_{id}"), ("/act_1/campaigns", "/act_{id}/campaigns"),
        ("/act_1/222", "/act_{id}/{id}"), ("/cocacola", "/{id}"), ("/cocacola/posts", "/{id}/posts"),
        ("/111/EAABtoken", "/{id}/{id}"), ("/EAABtoken", "/{id}"), ("/oauth/access_token", "/oauth/access_token"),
        ("/search", "/search"), ("/1/a/b/c", "/{id}/a/b/c"), ("/1/a/b/c/d/e", "/{id}/a/b/c/…"),
        ("/1/%F0%9F%A6%84", "/{id}/{id}"), ("/act_1x/ads", "/{id}/ads"),
    ],
)  # fmt: skip
def test_what_differs_from_object_to_object_is_folded(path: str, route: str) -> None:
    """Ids, accounts and aliases are folded; edges are told."""
    assert template(path) == route


@pytest.mark.parametrize(
    "path, told",
    [
        ("/111/feed", "/111/feed"), ("/act_1/campaigns", "/act_1/campaigns"), ("/me/accounts", "/me/accounts"),
        ("/cocacola/posts", "/{id}/posts"), ("/EAABtoken/feed", "/{id}/feed"), ("/1/2_3", "/1/2_3"), ("/", "/"),
    ],
)  # fmt: skip
def test_a_path_is_shown_without_names(path: str, told: str) -> None:
    """Ids are told where a line is about one object; what may be a name or a token is not."""
    assert redacted_path(path) == told


@given(st.text(max_size=40))
def test_no_capital_and_nothing_long_survives(text: str) -> None:
    """Tokens are long and have capitals: neither a route nor a shown path can hold one."""
    path = read_target(f"/{text}").path
    for told in (template(path), redacted_path(path)):
        assert told == told.lower()
        assert all(len(segment) <= 64 for segment in told.split("/"))
    assert template(path).count("/") <= DEEPEST + 1


def test_routes_are_bounded() -> None:
    """What comes after the last free place is `other`; what was known before keeps its name."""
    routes = Routes(limit=3)
    assert [routes.label(path) for path in ("/1/a", "/2/b", "/3/c", "/4/d", "/5/a")] == [
        "/{id}/a", "/{id}/b", "/{id}/c", OTHER_ROUTE, "/{id}/a"
    ]  # fmt: skip


def test_what_is_answered_well_takes_the_place_of_what_is_not() -> None:
    """Paths that nobody can read fill the places only until a route is used; `other` then takes what was counted."""
    renamed: list[tuple[str, str]] = []
    routes = Routes(limit=2, renamed=lambda route, other: renamed.append((route, other)))
    for path in ("/1/a", "/1/b"):
        routes.label(path)
    assert routes.label("/1/feed") == OTHER_ROUTE
    routes.record_answer("/1/feed")
    assert [routes.label(path) for path in ("/2/feed", "/1/a", "/1/b")] == ["/{id}/feed", OTHER_ROUTE, "/{id}/b"]
    routes.record_answer("/1/ads")
    assert renamed == [("/{id}/a", OTHER_ROUTE), ("/{id}/b", OTHER_ROUTE)]


def test_who_hears_of_a_lost_label_may_record_further_answers() -> None:
    """As the counters do, which then add up what they have not added up yet."""
    waiting = ["/1/ads", "/1/ads", "/1/a"]

    def renamed(route: str, other: str) -> None:
        assert (routes.label(f"/1/{route.rpartition('/')[2]}"), other) == (OTHER_ROUTE, OTHER_ROUTE)
        while waiting:
            routes.record_answer(waiting.pop())

    routes = Routes(limit=2, renamed=renamed)
    for path in ("/1/a", "/1/b"):
        routes.label(path)
    routes.record_answer("/1/feed")
    assert not waiting
    known = [routes.label(path) for path in ("/1/feed", "/1/ads", "/1/a", "/1/b")]
    assert sorted(known)[:1] != [OTHER_ROUTE]
    assert known.count(OTHER_ROUTE) == 2


def test_a_route_keeps_its_name_until_another_is_used_far_more() -> None:
    """Two routes that are used about as often do not take turns."""
    routes = Routes(limit=1)
    for path in ("/1/a", "/1/a", "/1/b", "/1/b", "/1/b"):
        routes.label(path)
        routes.record_answer(path)
    assert (routes.label("/1/a"), routes.label("/1/b")) == ("/{id}/a", OTHER_ROUTE)
    for _ in range(2):
        routes.record_answer("/1/b")
    assert (routes.label("/1/a"), routes.label("/1/b")) == (OTHER_ROUTE, "/{id}/b")


def test_ids_and_accounts() -> None:
    """What an id looks like, and which of them is an ad account."""
    assert [is_id(each) for each in ("1", "act_1", "1_2", "me", "1x", "", "9" * 65)] == [True] * 3 + [False] * 4
    assert [account(each) for each in ("act_1", "1", "act_x", "")] == ["act_1", "", "", ""]
