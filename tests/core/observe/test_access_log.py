"""What is told of a reply: how it came about, and nothing that is anybody's secret or name."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from proxy.core.cache.key import Keys
from proxy.core.http.cache_control import cache_directives
from proxy.core.model import Channel, Credential, Mode, Reply, Request
from proxy.core.observe.access_log import (
    AccessLogEntry,
    Outcome,
    PassedMessage,
    PreparedLine,
    Varying,
    line_template,
    of_failure,
    of_passthrough,
    of_read,
    shown_fields,
)
from proxy.core.quota.usage_headers import UsageLevel

KEYS = Keys(bytes(32))
OUTCOME = Outcome(200, 11, 0.0841, 1)
TOKEN = "EAABsecretEAABsecret"


def request(path: str = "/act_1/ads", query: str = "fields=id,name") -> Request:
    """A read with a token."""
    return Request("graph.test", "v25.0", path, query, credential=Credential(TOKEN))


def reply(body: bytes = b'{"id":"1"}', etag: str = "", **fields: object) -> Reply:
    """Graph's answer to it."""
    return Reply(200, (("ETag", etag),) if etag else (), body, **fields)  # type: ignore[arg-type]


def test_a_line_says_what_is_needed_to_play_it_again() -> None:
    """Route, path, key, fields and the answer's mark, and how the reply came about."""
    answer = reply(etag='"e"', mode=Mode.REVALIDATED, batch="ab-1", window_s=0.004, upstream_s=0.0793)
    told = of_read(request(), answer, OUTCOME, "/act_{id}/ads", KEYS)
    assert (told.mode, told.status, told.route, told.path, told.node) == (
        "REVALIDATED", 200, "/act_{id}/ads", "/act_1/ads", "act_1"
    )  # fmt: skip
    assert (told.fields, told.batch, told.size, told.total_ms) == ("id,name", "ab-1", 11, 84.1)
    assert (told.window_ms, told.upstream_ms, told.age_s) == (4.0, 79.3, None)
    assert told.app == KEYS.fingerprint(Credential(TOKEN)).hex()[:12]


def test_equal_reads_have_equal_keys_and_equal_answers_equal_marks() -> None:
    """By validator where there is one, else by body; so a replay sees what changed."""

    def line(read: Request, answer: Reply) -> tuple[str, str]:
        told = of_read(read, answer, OUTCOME, "", KEYS)
        return told.key, told.body

    same = line(request(), reply(b"1", etag='"e"'))
    assert line(request(), reply(b"2", etag='"e"')) == same
    assert line(request(), reply(b"1", etag='"f"'))[1] != same[1]
    assert line(request(), reply(b"1")) != line(request(), reply(b"2"))
    assert line(request(query="fields=id"), reply(b"1", etag='"e"'))[0] != same[0]


@pytest.mark.parametrize(
    "query, told",
    [
        ("", ""), ("limit=5", ""), ("fields=id,name", "id,name"), ("fields=feed.limit(1){message},id", "feed…,id"),
        ("fields=EAABtoken", "…"), ("fields=0f0f0f0f0f0f", "…"), ("fields=f0f0f0f0f0f0f0f0", "…"),
        ("fields=video_p25_watched_actions", "video_p25_watched_actions"), ("fields=%5B%22id%22%5D", "id"),
    ],
)  # fmt: skip
def test_fields_are_told_by_name_alone(query: str, told: str) -> None:
    """What has arguments or fields below is told by its name and a mark, what is no name is not told."""
    assert shown_fields(query) == told


@given(st.text(), st.text(), st.sampled_from(["GET", "POST", TOKEN, "P\x00ST"]))
def test_no_token_gets_into_a_line(path: str, query: str, method: str) -> None:
    """Wherever a caller puts it."""
    asked = request(f"/{path}/{TOKEN}", f"fields={TOKEN},{query}&ids=1,{TOKEN}&x={TOKEN}")
    usage = ("X-Business-Use-Case-Usage", json.dumps({TOKEN: [{"type": TOKEN, "call_count": 1}]}))
    answer = Reply(200, (usage, ("X-App-Usage", TOKEN)), TOKEN.encode())
    passage = PassedMessage(method, "graph.test", "", f"/{TOKEN}{path}", query, "method", writes=True)
    for line in (of_read(asked, answer, OUTCOME, "", KEYS), of_passthrough(passage, OUTCOME, "", "ab", "")):
        assert TOKEN.encode() not in msgspec.json.encode(line)
        assert TOKEN not in str(line)


def test_a_refusal_that_is_given_again_says_so() -> None:
    """A read and a message that passes through: the call is avoided, and the caller has an error."""
    again = Reply(400, (), b"", Mode.REUSED, detail="throttled")
    assert told(answer=again).refused
    assert not told(answer=replace(again, age=3.0, status=200)).refused
    message = PassedMessage("GET", "graph.test", "", "/1/picture", "", "edge", writes=False)
    line = of_passthrough(message, replace(OUTCOME, avoided=1), "", "ab", "", is_refused=True)
    assert (line.refused, line.avoided) == (True, 1)


def told(path: str = "/1", query: str = "", answer: Reply | None = None) -> AccessLogEntry:
    """The line about a read of *path* with *query*."""
    return of_read(request(path, query), answer or reply(), OUTCOME, "", KEYS)


def test_what_may_be_asked_together_has_the_same_rest() -> None:
    """Whatever their plain fields, and whether by an id of their own or among others; nothing else may differ."""
    alike = [("/1", "fields=a&limit=2"), ("/1", "fields=b,c&limit=2"), ("/", "fields=a&ids=1,2&limit=2")]
    assert len({told(*each).rest for each in alike}) == 1
    others = [("/1", "limit=2"), ("/1", "limit=3"), ("/1", "fields=a{b}&limit=2"), ("/me_too", "limit=2")]
    others += [("/me_three", "limit=2"), ("/", "fields=a&ids=1,x")]
    rests = {told(*each).rest for each in [*alike[:2], *others]}
    assert len(rests) == 6


def test_several_objects_are_told_by_their_ids() -> None:
    """Where each can be asked for by itself."""
    assert told("/", "ids=1,act_2").ids == "1,act_2"
    assert told("/", "ids=1,name_of_a_page").ids == ""


def test_graphs_error_and_what_it_said_of_limits_are_told() -> None:
    """Of an answer that Graph gave now: a throttle by its code, usage in percent."""
    refused = b'{"error":{"message":"(#80000) of EAABsecret","code":80000,"error_subcode":2446079}}'
    usage = {"1": [{"type": "ads_insights", "call_count": 100, "estimated_time_to_regain_access": 5}]}
    fields = (("X-Business-Use-Case-Usage", json.dumps(usage)), ("x-app-usage", '{"call_count":28}'))
    line = told(answer=Reply(400, fields, refused))
    assert (line.code, line.subcode, line.etag) == (80000, 2446079, False)
    assert line.usage == (UsageLevel("account", "1", "ads_insights", 100, 300), UsageLevel("app", "", "", 28))
    assert told(answer=Reply(200, fields, b"{}", mode=Mode.REUSED)).usage == ()


@pytest.mark.parametrize(
    "control", ["no-cache", "no-store", "only-if-cached", "max-age=5, min-fresh=1, max-stale=9, stale-if-error=0", ""]
)
def test_the_callers_wishes_are_told_as_it_could_have_said_them(control: str) -> None:
    """So that they are read again by what reads a caller's own."""
    wished = cache_directives({"cache-control": control, "if-none-match": '"secret"'})
    line = of_read(replace(request(), directives=wished), reply(), OUTCOME, "", KEYS)
    assert line.wishes == control
    assert cache_directives({"cache-control": line.wishes}) == replace(wished, if_none_match="")


def test_what_vouches_for_a_token_is_told_by_a_mark() -> None:
    """The same for the same proof; of one for its time alone that it is."""
    proofs = [Credential(TOKEN), Credential(TOKEN, "p"), Credential(TOKEN, "q"), Credential(TOKEN, "p", "1")]
    lines = [of_read(replace(request(), credential=who), reply(), OUTCOME, "", KEYS) for who in proofs]
    assert lines[0].proof == ""
    assert len({line.proof for line in lines}) == 4
    assert [line.timed for line in lines] == [False, False, False, True]


def test_a_reused_reply_says_how_old_it_is_and_what_it_saved() -> None:
    """Where Graph was not asked."""
    answer = reply(mode=Mode.REUSED, channel=Channel.BATCH, age=12.3456, ttl=3.0)
    told = of_read(request("/", "ids=1,2,3"), answer, Outcome(200, 11, 0.001, 3, 3), "/", KEYS)
    assert (told.age_s, told.calls, told.avoided, told.node) == (12.346, 3, 3, "1")
    assert "avoided 3" in str(told)


def test_what_broke_off_tells_what_had_left() -> None:
    """Nobody knows whether Graph counted it; the log's sums are those of the ledger all the same."""
    line = of_failure("cut", Outcome(502, 0, 0.0, 3, 0, 3, 3), "/")
    assert (line.mode, line.status, line.calls, line.sent, line.uncertain, line.key) == ("FAILED", 502, 3, 3, 3, "")


@pytest.mark.parametrize("edge", ["", '/"%d"', "/%s\\æ", "/77"])
def test_lines_of_other_objects_are_made_from_one_line(edge: str) -> None:
    """A line from a template says what the line of its own entry says, whatever stands in it."""
    path = f"/11{edge}"
    bare = AccessLogEntry(
        "MISS", 200, "GET", "h%", "v25.0", "/{id}", path, "ab", 0.0, node="11", key="k", body="b", size=9, fields="%d"
    )
    template = line_template(bare)
    assert template is not None
    own = replace(bare, path=f"/77{edge}", node="77", key="0" * 16, body="f" * 16, size=2048)
    made = template.line(b"77", own.key.encode(), own.body.encode(), own.size)
    assert made.encoded(Varying(0.5, batch="7")) == PreparedLine(own).encoded(Varying(0.5, batch="7"))


@pytest.mark.parametrize(
    "path, node, fields",
    [("/11x", "11", ""), ("/12/ads", "11", ""), ("/me", "me", ""), ("/11", "11", "\ue000"), ("/11/\ue000", "11", "")],
)
def test_a_line_of_an_unusual_form_is_no_template(path: str, node: str, fields: str) -> None:
    """Its path begins with no id, or a mark of the template stands in it already."""
    assert (
        line_template(AccessLogEntry("MISS", 200, "GET", "h", "", "/", path, "ab", 0.0, node=node, fields=fields))
        is None
    )
