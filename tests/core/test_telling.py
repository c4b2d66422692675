"""What is told of a reply: how it came about, and nothing that is anybody's secret or name."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.keys import Keys
from proxy.core.messages import Channel, Credential, Mode, Reply, Request
from proxy.core.telling import Outcome, Passage, of_passage, of_read, shown_fields

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
    asked = request(f"/{path}/{TOKEN}", f"fields={TOKEN},{query}&x={TOKEN}")
    passage = Passage(method, "graph.test", "", f"/{TOKEN}{path}", query, "method", writes=True)
    for told in (of_read(asked, reply(TOKEN.encode()), OUTCOME, "", KEYS), of_passage(passage, OUTCOME, "", "ab", "")):
        assert TOKEN.encode() not in msgspec.json.encode(told)
        assert TOKEN not in str(told)


def test_a_reused_reply_says_how_old_it_is_and_what_it_saved() -> None:
    """Where Graph was not asked."""
    answer = reply(mode=Mode.REUSED, channel=Channel.BATCH, age=12.3456, ttl=3.0)
    told = of_read(request("/", "ids=1,2,3"), answer, Outcome(200, 11, 0.001, 3, 3), "/", KEYS)
    assert (told.age_s, told.calls, told.avoided, told.node) == (12.346, 3, 3, "1")
    assert "avoided 3" in str(told)
