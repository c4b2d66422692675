import pytest

from proxy.core.routing.rules import Rule, RuleBook, RuleMatch, fields_asked, names_version
from tests.core.samples import request

DEFAULT, FIRST, SECOND = Rule(), Rule(fresh_s=60), Rule(batch=False)


def book(*rules: tuple[str, set[str], Rule]) -> RuleBook:
    """A book of rules, each a path, fields and what holds."""
    return RuleBook([RuleMatch(path, frozenset(fields), rule) for path, fields, rule in rules], DEFAULT)


@pytest.mark.parametrize(
    "glob, path, matches",
    [
        ("/act_*/insights", "/act_1/insights", True),
        ("act_*/insights", "/act_1/insights", True),
        ("/act_*/insights/", "/act_1/insights", True),
        ("/act_*/insights", "/act_1/campaigns", False),
        ("/act_*/insights", "/act_1/insights/x", False),
        ("/act_*/insights", "/x/act_1/insights", False),
        ("*/feed", "/me/feed", True),
        ("*", "/anything/at/all", True),
        ("/", "/", True),
        ("/", "/me", False),
        ("/m?", "/me", True),
        ("/m.", "/me", False),
        ("/[12]*", "/1_2", True),
        ("/[12]*", "/3", False),
    ],
)
def test_globs(glob: str, path: str, matches: bool) -> None:  # noqa: FBT001
    """A rule holds for the paths that its glob covers from end to end, with or without slashes at its ends."""
    assert (book((glob, set(), FIRST)).rule(path, "") is FIRST) is matches


@pytest.mark.parametrize(
    "fields, matches",
    [
        ("id", True),
        ("id,name", True),
        ('["id","name"]', True),
        ("id,status", False),
        ("id,name{x}", False),
        ("", False),
        ("id,", False),
        ("id{", False),
        ('["id"', False),
    ],
)
def test_fields(fields: str, matches: bool) -> None:  # noqa: FBT001
    """A rule for some fields holds only where no other field is asked for; a list that cannot be read is no such."""
    rules = book(("/*", {"id", "name"}, FIRST))
    assert (rules.rule("/1", fields) is FIRST) is matches
    assert rules.rule("/1", fields) is rules.rule("/1", fields)


def test_the_first_that_matches_wins() -> None:
    """Rules are read from the top; where none matches the defaults hold."""
    rules = book(("/act_*", set(), FIRST), ("/*", set(), SECOND))
    assert [rules.rule("/act_1", ""), rules.rule("/me", "")] == [FIRST, SECOND]
    assert book(("/act_*", set(), FIRST)).rule("/me", "") is DEFAULT
    assert book().rule("/me", "id") is DEFAULT


def test_a_rule_for_one_version() -> None:
    """A rule that names a version holds where that one is asked for, and nowhere else."""
    rules = RuleBook([RuleMatch("/*", frozenset(), FIRST, "v25.0"), RuleMatch("/*", frozenset(), SECOND)], DEFAULT)
    assert [rules.rule("/1", "", version) for version in ("v25.0", "v24.0", "")] == [FIRST, SECOND, SECOND]
    assert [rules.of(request()), rules.of(request(version="v24.0"))] == [FIRST, SECOND]


def test_the_rule_of_a_request() -> None:
    """A request's path and the fields in its query say which rule it is under."""
    rules = book(("/1", {"name"}, FIRST))
    assert [rules.of(request("fields=name&limit=2")), rules.of(request("fields=id,name"))] == [FIRST, DEFAULT]
    assert book().of(request()) is DEFAULT


@pytest.mark.parametrize(
    "path, is_named",
    [
        ("/v25.0/me", True),
        ("v25.0", True),
        ("/v*.0/act_*", True),
        ("/v*", False),
        ("/vanity/feed", False),
        ("/*/v1.0", False),
    ],
)
def test_a_glob_that_names_a_version(*, path: str, is_named: bool) -> None:
    """A version in front is seen before anybody waits for a rule that never matches."""
    assert names_version(path) == is_named


@pytest.mark.parametrize("path", ["/1", "/me/feed", "/act_1/insights"])
@pytest.mark.parametrize("query", ["", "fields=id", "fields=id,name", "fields=name&limit=2"])
@pytest.mark.parametrize("version", ["", "v25.0"])
def test_a_match_finds_what_is_remembered(path: str, query: str, version: str) -> None:
    """A read has one rule, whether it is looked up among those of recent reads or searched for."""
    rules = [
        RuleMatch("/act_*", frozenset({"id", "name"}), FIRST, "v25.0"),
        RuleMatch("*/feed", frozenset(), SECOND),
        RuleMatch("*", frozenset({"id"}), Rule(fresh_s=7)),
    ]
    asked = request(query=query, path=path, version=version)
    for known in (RuleBook(rules, DEFAULT), RuleBook([], DEFAULT)):
        assert known.match(path, fields_asked(query), version) == known.of(asked)
