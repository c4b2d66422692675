"""Heads that repeat are known by their bytes, in bounded memory, and without showing a token."""

from __future__ import annotations

import tracemalloc
from itertools import product

import pytest

from proxy.core.batch.request import batch_part, split_at_node, split_at_validator, tag_in_part
from proxy.core.cache.key import Keys
from proxy.core.fast_path import head
from proxy.core.fast_path.head_table import HeadTable, is_whole, split_object
from proxy.core.fast_path.prepared_read import Preparation, PreparedRead
from proxy.core.routing.hosts import GraphHosts, Head
from proxy.core.routing.rules import Rule, RuleBook, RuleMatch

PLAIN = Rule()
HOSTS = GraphHosts("graph.facebook.com", frozenset())
BLOCK = b"\r\nHost: here:8080\r\nAuthorization: Bearer SECRET\r\nAccept: */*\r\n\r\n"


def prepare(target: str = "/v25.0/111?fields=name", rule: Rule = PLAIN, **fields: str) -> PreparedRead | None:
    """The read of *target*, by *rule*, whose head has these fields too."""
    given = {"host": "here:8080", "authorization": "Bearer SECRET", **fields}
    preparation = Preparation(HOSTS, RuleBook((), rule), Keys(b"k" * 32))
    return preparation.prepare(Head("GET", target, given), rewrite_links=True)


def test_a_repr_shows_no_token() -> None:
    """Neither a read, nor a block, nor what a table holds."""
    table, read = HeadTable(2**20), prepare()
    block = table.add(BLOCK, head.read_fields(BLOCK))
    table.add_read(BLOCK, b"GET /v25.0/111?access_token=SECRET HTTP/1.1", read)
    assert read is not None
    assert "SECRET" not in f"{read!r}{block!r}{table!r}"


@pytest.mark.parametrize(
    "line",
    [
        b"Host:here",
        b"X-Folded: a\r\n b",
        b"X-Name : a",
        b"X-Trailing: a ",
        b"X-Bytes: \xc3\xa9",
        b"X-Control: a\x01b",
        b"Content-Length: 0",
        b"Transfer-Encoding: chunked",
        b"Expect: 100-continue",
        b"Upgrade: h2c",
        b"Connection: close",
        b"Proxy-Connection: close",
        b"Host: twice",
        b"CDN-Loop: graph-sidecar;id=0123456789abcdef",
    ],
)
def test_an_unusual_field_is_left_to_the_parser(line: bytes) -> None:
    """Whatever may be read in two ways, or says more than what is read, is not looked at here."""
    assert head.read_fields(b"\r\nHost: here\r\n" + line + b"\r\n\r\n") is None


@pytest.mark.parametrize(
    "line",
    [
        b"GET http://graph.facebook.com/111 HTTP/1.1",
        b"GET //111 HTTP/1.1",
        b"GET /111 HTTP/1.0",
        b"GET /1 11 HTTP/1.1",
        b"GET /111#x HTTP/1.1",
        b"GET /\xc3\xa9 HTTP/1.1",
        b"HEAD /111 HTTP/1.1",
    ],
)
def test_an_unusual_request_line_is_left_to_the_parser(line: bytes) -> None:
    """Only a GET of a path is looked at."""
    assert head.read_target(line) is None


@pytest.mark.parametrize(
    "data", [b"GET /1 HTTP/1.1" + BLOCK + b"G", b"GET /1 HTTP/1.1" + BLOCK * 2, b"POST /1 HTTP/1.1" + BLOCK, BLOCK[:-2]]
)
def test_only_one_whole_head_is_looked_at(data: bytes) -> None:
    """Not half of one, nor what another message follows."""
    assert not is_whole(data)


def test_what_each_message_says_anew_is_cut_out() -> None:
    """Names of traces and requests leave the block as it is without them."""
    changing = b"\r\ntraceparent: 00-1-2-01\r\nX-Request-ID: 77\r\nsentry-trace: a-b-1"
    assert head.without_changing(BLOCK[:-4] + changing + BLOCK[-4:]) == BLOCK
    assert head.without_changing(BLOCK) == BLOCK


def test_the_table_counts_at_least_the_bytes_that_its_reads_take() -> None:
    """Measured: the bound of the table is one of memory."""
    table, fields = HeadTable(10**9), head.read_fields(BLOCK)
    assert fields is not None
    table.add(BLOCK, fields)
    lines = [b"GET /v25.0/1203%09d?fields=id,name&limit=25 HTTP/1.1" % number for number in range(3000)]
    for line in lines[:1000]:  # what functions remember is full
        table.add_read(BLOCK, line, _prepared(line, fields))
    counted = table._bytes
    tracemalloc.start()
    for line in lines[1000:]:
        table.add_read(BLOCK, line, _prepared(line, fields))
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert taken <= table._bytes - counted


def _prepared(line: bytes, fields: dict[str, str]) -> PreparedRead | None:
    preparation = Preparation(HOSTS, RuleBook((), PLAIN), Keys(b"k" * 32))
    return preparation.prepare(Head("GET", head.read_target(line) or "", fields), rewrite_links=True)


def test_the_table_forgets_what_was_not_asked_for_lately() -> None:
    """Many heads of one program never take more than the limit, and what is used stays known."""
    table, used = HeadTable(limit=400_000), b"GET /used HTTP/1.1"
    table.add(BLOCK, {})
    table.add_read(BLOCK, used, None)
    for number in range(2000):
        table.find(BLOCK)
        known = table.find(BLOCK) or table.add(BLOCK, {})
        assert used in known.reads or table.find_older(BLOCK, used)[0]
        table.add_read(BLOCK, b"GET /%d HTTP/1.1" % number, None)
        assert sum(len(each.reads) for blocks in (table._young, table._old) for each in blocks.values()) < 300
    table.clear()
    assert table.find(BLOCK) is None
    assert not table.find_older(BLOCK, used)[0]


@pytest.mark.parametrize(
    "target, rule, fields",
    [
        ("/111?ids=1,2", Rule(), {}),
        ("/111?callback=app.got", Rule(), {}),
        ("/111?callback=1", Rule(), {}),
        ("/111?method=delete", Rule(), {}),
        ("/111?access_token=OTHER", Rule(), {}),
        ("/111?appsecret_proof=a&appsecret_time=1", Rule(), {}),
        ("/111?fields=name", Rule(merge=True), {}),
        ("/111", Rule(), {"cache-control": "max-age=3"}),
        ("/111", Rule(), {"cache-control": "no-cache"}),
        ("/111", Rule(), {"range": "bytes=0-1"}),
    ],
)
def test_what_needs_more_than_a_plain_answer_is_not_prepared(target: str, rule: Rule, fields: dict[str, str]) -> None:
    """It goes the usual way."""
    assert prepare(target, rule, **fields) is None
    assert prepare() is not None


LINES = [
    b"GET /v25.0/111?fields=id%2Cname&access_token=SECRET HTTP/1.1",
    b"GET /v25.0/111?filtering=111&access_token=SECRET HTTP/1.1",
    b"GET /v25.0/111/campaigns?limit=111 HTTP/1.1",
    b"GET /111 HTTP/1.1",
    b"GET /v25.0/111/v25.0?a=b HTTP/1.1",
    b"GET /v25.0/111?%7b%20+ HTTP/1.1",
]


TAGS = ['"0a1B"', '"xx99"', 'W/"ab+c %"', '"ä\\"']


@pytest.mark.parametrize("line", LINES)
@pytest.mark.parametrize("node", ["7", "222", "00111", "9" * 40])
def test_a_read_of_another_object_is_made_from_one_that_is_known(line: bytes, node: str) -> None:
    """It is the same as if its own request line had been parsed, and so is its operation in a batch."""
    preparation = Preparation(HOSTS, RuleBook((), PLAIN), Keys(b"k" * 32))

    def parsed(line: bytes) -> PreparedRead | None:
        target = head.read_target(line)
        assert target is not None
        fields = {"host": "here:8080", "accept-language": "de, en"}
        if b"access_token" not in line:
            fields["authorization"] = "Bearer SECRET"
        return preparation.prepare(Head("GET", target, fields), rewrite_links=True)

    other_line = line.replace(b"/111", f"/{node}".encode(), 1)
    first, split, other_split = parsed(line), split_object(line), split_object(other_line)
    if first is None or split is None or other_split is None:
        assert line == LINES[4]
        return
    assert (split[0], other_split[1]) == (other_split[0], node)
    made, wanted = preparation.prepare_like(first, node), parsed(other_line)
    assert made is not None
    assert wanted is not None
    names = [name for name in made.__struct_fields__ if name != "common"]
    assert [getattr(made, name) for name in names] == [getattr(wanted, name) for name in names]
    assert made.common is first.common
    around = split_at_node(batch_part(first.request), first.request)
    assert around is not None
    assert around[0] + node.encode() + around[1] == batch_part(made.request)
    for tag, other_tag in product(TAGS, TAGS):
        asked, wanted_tag = first.request.with_validator(tag), tag_in_part(other_tag)
        parts = split_at_validator(batch_part(asked), asked)
        assert (parts is None, wanted_tag is None) == (tag not in TAGS[:2], other_tag not in TAGS[:2])
        if parts is not None and wanted_tag is not None:
            before, between, behind = parts
            wanted_part = batch_part(made.request.with_validator(other_tag))
            assert before + node.encode() + between + wanted_tag + behind == wanted_part


def test_a_read_that_has_another_rule_is_made_by_itself() -> None:
    """Rules name objects."""
    rules = RuleBook((RuleMatch("/22*", frozenset(), Rule(fresh_s=60)),), PLAIN)
    asked = Head("GET", "/v25.0/111", {"host": "a", "authorization": "Bearer b"})
    preparation = Preparation(HOSTS, rules, Keys(b"k" * 32))
    first = preparation.prepare(asked, rewrite_links=True)
    assert first is not None
    assert preparation.prepare_like(first, "222") is None
    assert preparation.prepare_like(first, "112") is not None


def test_a_batch_is_worth_keeping_once_it_has_come_twice() -> None:
    """Until the table forgets all; of very many batches that come once it remembers few."""
    table = HeadTable(10_000)
    assert [table.note_batch(b"one") for _ in range(3)] == [False, True, True]
    table.clear()
    assert not table.note_batch(b"one")
    assert not any(table.note_batch(number) for number in range(5000))
    assert not table.note_batch(b"one")


def test_reads_of_ever_other_objects_are_not_kept() -> None:
    """A read of an object is kept once it came twice of late; of a loop over more than fit none would be found."""
    table, preparation = HeadTable(2**20), Preparation(HOSTS, RuleBook((), PLAIN), Keys(b"k" * 32))

    def find(number: int) -> PreparedRead:
        read = table.read_of(b"GET /v25.0/%d?fields=id HTTP/1.1%b" % (number, BLOCK), preparation, rewrites_links=True)
        assert read is not None
        assert read.request.path == f"/{number}"
        return read

    find(1)
    assert find(7) is not find(7)
    assert find(7) is find(7)
    before = table._bytes
    for _ in range(2):
        for number in range(10_000, 12_000):
            find(number)
    assert table._bytes == before
    assert find(7).key == preparation.keys.entry(find(7).request)


def _head(number: int) -> bytes:
    return b"GET /v25.0/1203%09d?fields=id,name&limit=25 HTTP/1.1%b" % (number, BLOCK)


def _loop(table: HeadTable, preparation: Preparation, reads: int) -> int:
    """Ask for so many *reads* in turn, of all of which memory holds an entry; returns how many the table knew."""
    known = 0
    for number in range(reads):
        read = table.read_of(_head(number), preparation, rewrites_links=True)
        assert read is not None
        assert read.request.path == f"/1203{number:09d}"
        known += read.is_kept
        if not read.is_kept:
            table.keep(_head(number), read)
    return known


def test_of_a_loop_over_more_reads_than_fit_a_part_is_found_each_time() -> None:
    """As long as memory holds their entries; and what the loop does not ask for any more makes room in the end."""
    table, preparation = HeadTable(2**20), Preparation(HOSTS, RuleBook((), PLAIN), Keys(b"k" * 32))
    known = [_loop(table, preparation, 2000) for _ in range(3)]
    assert known[0] < 5
    assert 500 < known[1] == known[2]
    other = HeadTable(2**20)
    assert _loop(other, preparation, 200) < _loop(other, preparation, 200) == 200
    found = [table.read_of(_head(number), preparation, rewrites_links=True) for number in range(2000, 2050)]
    for _ in range(800):
        for number, read in enumerate(found, 2000):
            assert read is not None
            table.keep(_head(number), read)
        if table.read_of(_head(2000), preparation, rewrites_links=True) is found[0]:
            break
    else:
        pytest.fail("no room is made")


def test_the_table_counts_at_least_the_bytes_of_reads_whose_entries_are_held() -> None:
    """With the operations in which they were asked for last."""
    table, preparation = HeadTable(10**9), Preparation(HOSTS, RuleBook((), PLAIN), Keys(b"k" * 32))
    heads = [_head(number) for number in range(1500)]

    def keep(data: bytes) -> None:
        read = table.read_of(data, preparation, rewrites_links=True)
        assert read is not None
        if not read.is_kept:
            table.keep(data, read)
        read.asked = read.request.with_validator('"0123456789abcdef"')
        read.part = batch_part(read.asked)

    for data in heads[:500]:
        keep(data)
    counted = table._bytes
    tracemalloc.start()
    for data in heads[500:]:
        keep(data)
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert 0 < taken <= table._bytes - counted
