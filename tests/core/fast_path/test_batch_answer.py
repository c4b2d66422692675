"""Heads that are made from templates: they are, byte for byte, those that the readable functions make."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from proxy.core.batch.response import Slot, slot_reply, usual_slots
from proxy.core.cache import policy
from proxy.core.cache.key import Keys
from proxy.core.fast_path.answer_template import AnswerTemplates
from proxy.core.fast_path.batch_answer import AnswerKind, BatchAnswer, confirmed
from proxy.core.fast_path.prepared_read import Preparation, PreparedRead
from proxy.core.fast_path.prepared_reply import field_lines
from proxy.core.http import headers
from proxy.core.model import Channel, Credential, Entry, EntryMeta, Mode, Reply
from proxy.core.quota.usage_headers import usage_in
from proxy.core.reply.render import render
from proxy.core.reply.response_head import framed
from proxy.core.routing.hosts import GraphHosts, Head
from proxy.core.routing.rules import Rule, RuleBook
from tests.conftest import EFFORT

ANN, BEN = Credential("ann"), Credential("ben")
DATE = "Sat, 01 Jan 2000 00:00:00 GMT"
NEWEST = (("X-App-Usage", '{"call_count":77}'),)
TEMPLATES = AnswerTemplates()

NAMES = [
    "ETag", "etag", "X-App-Usage", "x-page-usage", "X-Business-Use-Case-Usage", "Content-Type", "Expires", "Vary",
    "Facebook-API-Version", "Set-Cookie", "Connection", "Server", "Date", "Age", "X-FB-Trace-ID", "Content-Encoding",
    "Strict-Transport-Security", "Content-Length", "no name",
]  # fmt: skip
VALUES = [
    '"e1"', '"e2"', 'W/"e1"', "text/javascript; charset=UTF-8", "close, x-page-usage", "v25.0", '{"call_count":1}',
    "100%", "*", "æ", "", "\ue000", "\ue101", '"~the-etag-of-this-reply~"', "two\nlines", "\udcff",
    '"TheEtagOfThisSlot"',
]  # fmt: skip
FIELDS = st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(VALUES)), max_size=7)
USUAL = st.lists(
    st.tuples(st.sampled_from(NAMES[2:9]), st.sampled_from(VALUES[3:7])), max_size=5, unique_by=lambda each: each[0]
).map(lambda fields: [*fields, ("ETag", '"e1"')])
OUTER = st.lists(st.tuples(st.sampled_from(NAMES[2:-1]), st.sampled_from(VALUES[:10])), max_size=6)
BODIES = [
    "{}",
    '{"id":"1"}',
    '{"error":{"code":1}}',
    '{"id":"1","name":"\\u00e6 error"}',
    '{"data":{"error":{"code":1}}}',
    "[]",
    "x",
    '{"paging":{"next":"https://graph.test/?_fb_a=1"}}',
    "æ",
]
BLOCKS = st.one_of(USUAL, USUAL, USUAL, FIELDS)


def prepared(token: str = "ann") -> PreparedRead:
    """A plain read of */1*."""
    made = Preparation(GraphHosts("graph.test", frozenset()), RuleBook((), Rule()), Keys(bytes(32))).prepare(
        Head("GET", f"/v25.0/1?access_token={token}", {"host": "sidecar.test"}), rewrite_links=False
    )
    assert made is not None
    return made


def entry(fields: list[tuple[str, str]], etag: str) -> Entry:
    """An entry that was stored with these *fields*."""
    kept = tuple(field for field in fields if headers.is_field(field))
    meta = EntryMeta(etag, "batch", 5.0, may_be_fresh=True, proofs=(b"",))
    return Entry(meta, headers.stored((*kept, ("ETag", etag)), etag), b'{"id":"0"}')


def settled(answer: BatchAnswer, read: PreparedRead, kept: Entry | None, slot: Slot) -> tuple[AnswerKind, Entry] | None:
    """What becomes of *slot*, and the entry that is stored, asked for at 9."""
    if slot.code == 304 and kept is not None:
        kind = answer.confirming(read, kept, slot)
        return None if kind is None else (kind, confirmed(kept, read.proof, 9.0))
    return answer.new(read, kept, slot, 9.0) if slot.code == 200 else None


class Case(NamedTuple):
    """A slot, what is around it, and what is held."""

    code: int
    fields: list[tuple[str, str]]
    outer: list[tuple[str, str]]
    held: tuple[list[tuple[str, str]], str] | None
    body: str
    is_top: bool
    is_shared: bool


CASES = st.builds(
    Case,
    st.sampled_from([304, 304, 200, 200, 400]),
    BLOCKS,
    OUTER,
    st.one_of(st.none(), *[st.tuples(BLOCKS, st.sampled_from(etags)) for etags in (VALUES[:1], VALUES[:3])]),
    st.sampled_from(BODIES),
    st.booleans(),
    st.booleans(),
)


@settings(max_examples=max(300, EFFORT.examples))
@given(CASES)
def test_a_head_from_a_template_is_that_of_the_readable_functions(case: Case) -> None:
    """What is answered, what is stored and what is learned; where there is no template, the functions answer."""
    code, fields, outer, held, body, is_top, is_shared = case
    read, kept = prepared(), None if held is None else entry(*held)
    around = Reply(200, tuple(outer), b"", upstream_s=0.25)
    told: dict[str, Any] = {"code": code, "headers": [{"name": name, "value": value} for name, value in fields]}
    told["body"] = None if code == 304 else body
    answer = BatchAnswer(around, ANN if is_top else BEN, "b-1", "quick", TEMPLATES)
    raw = json.dumps(told["headers"]).encode("utf-8", "surrogatepass")
    slot = Slot(code, msgspec.Raw(raw), None if code == 304 else body)
    answer.date = DATE.encode()
    found = settled(answer, read, kept, slot)
    if found is None:
        return
    kind, new = found
    head = kind.shared if is_shared else kind.own
    assert head is not None
    asked = read.request.with_validator("" if kept is None else kept.meta.etag)
    reply = slot_reply(told, around, conditional=bool(asked.validator), is_top=is_top)
    assert reply is not None
    wanted = policy.settle(asked, kept, reply, policy.Terms(Rule(), read.proof), 9.0)
    assert wanted is not None
    assert wanted.keep is not None
    etag = new.meta.etag.encode()
    assert Entry(new.meta, head.stored, new.body) == wanted.keep
    assert not kind.keeps_fields or new == wanted.keep
    assert (kind.mode, kind.usage) == (wanted.reply.mode, usage_in(reply.headers))
    given_reply = replace(wanted.reply, window_s=0.5, lane="quick")
    rendered = render(read.read, given_reply.shared() if is_shared else given_reply, read.link_origin, NEWEST)
    newest = field_lines(NEWEST) if head.takes_newest else b""
    made = etag.join(head.head) + newest + head.tail % (500, 250, len(new.body)) + new.body
    assert made == b"".join(framed(rendered, DATE, keeps=True))


def test_usual_slots_have_templates() -> None:
    """What Graph sends to most reads is not left to the readable functions: a new body, then a 304 without an ETag."""
    read, around = prepared(), Reply(200, (("x-fb-trace-id", "1"), ("X-App-Usage", '{"call_count":1}')), b"")
    slots = [
        {"code": 200, "headers": [{"name": "ETag", "value": '"e1"'}, {"name": "Vary", "value": "*"}], "body": "{}"},
        {"code": 304, "headers": [{"name": "Vary", "value": "*"}], "body": None},
    ]
    outer = replace(around, body=json.dumps(slots).encode())
    answer = BatchAnswer(outer, ANN, "b-1", "quick", AnswerTemplates())
    first, second = usual_slots(outer, 2)
    assert first is not None
    assert second is not None
    new = settled(answer, read, None, first)
    assert new is not None
    kind, entry_of_first = new
    assert kind.mode is Mode.MISS
    held = Entry(entry_of_first.meta, kind.own.stored, entry_of_first.body)
    for _ in range(2):
        again = settled(answer, read, held, second)
        assert again is not None
        confirming, entry_of_second = again
        assert (confirming.mode, confirming.keeps_fields) == (Mode.REVALIDATED, True)
        assert confirming.shared is not None
        assert b"collapsed" in confirming.shared.tail
        held = Entry(entry_of_second.meta, confirming.own.stored, held.body)


@pytest.mark.parametrize("given, is_confirmed", [(None, True), ('"e1"', True), ('W/"e1"', True), ('"e2"', False)])
def test_one_decision_says_whether_a_304_confirms(given: str | None, *, is_confirmed: bool) -> None:
    """The fast path and `settle` take the same 304s: those without an ETag, and with the same by weak comparison."""
    read, kept = prepared(), entry([("Vary", "*")], '"e1"')
    fields = [("Vary", "*"), *([] if given is None else [("ETag", given)])]
    listed = json.dumps([{"name": name, "value": value} for name, value in fields]).encode()
    around = Reply(200, (), b"")
    kind = BatchAnswer(around, ANN, "b-1", "quick", TEMPLATES).confirming(
        read, kept, Slot(304, msgspec.Raw(listed), None)
    )
    answer = Reply(304, tuple(fields), b"", channel=Channel.BATCH)
    settled = policy.settle(read.request.with_validator('"e1"'), kept, answer, policy.Terms(Rule(), read.proof), 9.0)
    assert (kind is not None, settled is not None) == (is_confirmed, is_confirmed)


def test_odd_arrays_have_no_usual_slots() -> None:
    """Another number, another type, or no JSON."""
    for body in (
        b"[]",
        b"[{}]",
        b'[{"code":"200"}]',
        b'[{"code":200,"body":{}}]',
        b"{",
        b'{"code":200}',
        b"[null,null]",
    ):
        assert usual_slots(Reply(200, (), body), 1) == ()
    assert usual_slots(Reply(500, (), b"[null]"), 1) == ()
    assert list(usual_slots(Reply(200, (), b"[null]"), 1)) == [None]
