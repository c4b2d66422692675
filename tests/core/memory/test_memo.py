"""What is remembered stays within its bytes, however long the names are that it is remembered by."""

from __future__ import annotations

import gc

from proxy.core.cache import key as cache_key
from proxy.core.cache import purge
from proxy.core.cache.invalidation import InvalidationIndex
from proxy.core.memory.memo import MEMO_BYTES, Memo, Recent, short, weight
from proxy.core.merge import ids_split, selection
from proxy.core.model import Credential, Request
from proxy.core.observe import route_template
from proxy.core.quota import descriptors, usage_headers
from proxy.core.routing import fields_param, nodes, normal_form, rules


def test_what_is_asked_again_is_not_worked_out_again() -> None:
    """The function is asked once for each argument, None as an answer included."""
    asked: list[str] = []
    told = Memo(asked.append)
    for name in "abcabc":
        assert told(name) is None
    assert asked == ["a", "b", "c"]


def test_what_is_used_stays_and_the_rest_makes_room() -> None:
    """An argument that comes again and again is kept while thousands of others come once."""
    asked: list[str] = []

    def upper(name: str) -> str:
        asked.append(name)
        return name.upper()

    told = Memo(upper, 64_000)
    for number in range(5000):
        told(f"other {number}")
        assert told("always") == "ALWAYS"
        assert told.bytes <= 64_000
    assert asked.count("always") == 1
    assert 0 < len(told) < 1000


def test_what_is_too_long_is_not_kept() -> None:
    """One argument does not displace the others."""
    told = Memo(len, 64_000)
    told("short")
    assert told("x" * 64_000) == 64_000
    assert len(told) == 1


def test_the_newest_stay_within_bytes_and_places() -> None:
    """The least recently used leave first, and are told; what is too large leaves at once."""
    held = Recent[str, bytes](3, 64_000)
    assert [held.put(name, b"1") for name in "abc"] == [[], [], []]
    assert held.use("a") == b"1"
    assert held.put("d", b"2") == [("b", b"1")]
    assert held.put("e", b"3" * 64_000) == [("e", b"3" * 64_000)]
    assert [name for name, _ in held.items()] == ["c", "a", "d"]
    many = Recent[int, bytes](10**6, 64_000)
    for number in range(1000):
        many.put(number, bytes(1000))
        assert many.bytes <= 64_000
    assert len(many) < 64
    many.put(999, b"")
    many.clear()
    assert (len(many), many.bytes) == (0, 0)


def test_long_names_are_told_apart() -> None:
    """A digest stands for them; what is short stays as it is."""
    assert short("act_1") == "act_1"
    one, other = short("1" * 40_000), short("1" * 40_001)
    assert one != other
    assert max(len(one), len(other)) < 200


def test_a_weight_is_of_all_that_is_inside() -> None:
    """Structs, dataclasses and containers weigh what they hold."""
    long = "x" * 10_000
    rule = rules.RuleMatch(long, frozenset(), rules.Rule())
    assert weight((long, [long], {long: long}, {long}, Request("", "", long, long), rule)) > 8 * 10_000
    assert weight(cache_key.Keys(bytes(32))) < 1000  # somebody's own thing


def test_all_memories_together_stay_within_their_bytes() -> None:
    """Hundreds of reads, each by a name of its own of up to 60 KB, leave no memory larger than it may be."""
    invalidations, purges, drawn = InvalidationIndex(), purge.Purges(), descriptors.Descriptors()
    named = cache_key.Keys(bytes(32))
    told, book = (
        route_template.Routes(),
        rules.RuleBook([rules.RuleMatch("/a", frozenset(), rules.Rule())], rules.Rule()),
    )
    for number in range(600):
        text = f"{number}" + "x" * (200, 2_000, 15_000, 60_000)[number % 4]
        query = normal_form.read_target(f"/{text}?fields={text}&ids={text}").query
        request = Request("h", "", f"/{text}", query, credential=Credential(f"token {text}", "", ""))
        key, asker = named.entry(request), descriptors.QuotaSubject(b"1", request.path, query)
        purges.note(key, purge.PurgeSubject(request.path, invalidations.tags_of(request, b"1"), b"1"))
        invalidations.record_write([text], b"1", number)
        invalidations.learn(key, request, b"1", f'{{"id":"{text}","data":[{{"id":"{text}"}}]}}'.encode(), number)
        drawn.bucket_names(asker)
        drawn.learn(asker, [usage_headers.UsageLevel("account", str(number), "", 1.0)])
        told.label(request.path)
        book.of(request)
        selection.selection(request)
        ids_split.ids_in("/", query)
        nodes.calls_of(query)
        fields_param.asked_order(text)
    memories = [each for each in gc.get_objects() if isinstance(each, Memo | Recent)]
    assert len(memories) > 20
    assert sum(each.bytes for each in memories) < 64 * MEMO_BYTES
    assert weight(invalidations._tags._young.lists) < 8 * MEMO_BYTES
