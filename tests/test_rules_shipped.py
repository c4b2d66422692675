"""The sets of rules in config/rules: each loads, and gives the reads that it is for what it promises."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxy.app.from_settings import rules_of
from proxy.settings.load import load, oddities

RULES = Path(__file__).parent.parent / "config" / "rules"

FRESH = {
    "ads-dashboard": {
        ("/act_1/insights", "spend,impressions"): 300,
        ("/777/insights", "spend,video_play_actions"): 120,
        ("/act_1/campaigns", "name,status"): 30,
        ("/1201/adsets", ""): 30,
        ("/1202/ads", "name"): 30,
        ("/act_1/adcreatives", "thumbnail_url"): 3600,
        ("/act_1", "name,currency"): 3600,
        ("/act_1", "name,balance"): 30,
        ("/me/adaccounts", "name"): 300,
        ("/act_1/users", "name"): 0,
        ("/1201", "name"): 0,
    },
    "page-app": {
        ("/1/conversations", "id,name"): 0,
        ("/t_1/messages", ""): 0,
        ("/me/accounts", "access_token"): 600,
        ("/1/feed", "message"): 30,
        ("/1_2/comments", ""): 10,
        ("/1/insights", ""): 900,
        ("/1", "name,about"): 3600,
        ("/1", "name,fan_count"): 0,
        ("/1/members", "id,name"): 0,
    },
}


def test_every_set_is_tested() -> None:
    """No set of rules is shipped that nobody loads."""
    assert {file.stem for file in RULES.iterdir()} == FRESH.keys()


@pytest.mark.parametrize("name", FRESH)
def test_a_shipped_set_holds_what_it_says(name: str) -> None:
    """Given as the settings file, a set is in force; what none of its tables names is checked every time."""
    book = rules_of(load(file=RULES / f"{name}.toml").settings)
    given = {read: book.rule(*read, "v25.0").fresh_s for read in FRESH[name]}
    assert given == FRESH[name]


STRETCHED = {
    "ads-dashboard": ("/act_1/insights", "/777/insights", "/act_1/campaigns"),
    "page-app": ("/1/feed", "/1_2/comments"),
}


@pytest.mark.parametrize("name", FRESH)
def test_lists_last_longer_where_calls_are_scarce(name: str) -> None:
    """What many look at is stretched as a limit comes near, and what is always asked never is."""
    book = rules_of(load(file=RULES / f"{name}.toml").settings)
    for path, fields in FRESH[name]:
        rule = book.rule(path, fields, "v25.0")
        assert rule.stretch_s > rule.fresh_s or path not in STRETCHED[name], path
        assert rule.stretch_s == 0 or rule.fresh_s > 0, path


@pytest.mark.parametrize("name", FRESH)
def test_nothing_in_a_shipped_set_is_odd(name: str) -> None:
    """No rule hides another, and what `check` warns of is in none of them."""
    assert oddities(load(file=RULES / f"{name}.toml").settings) == []
