"""Credentials: every way of sending a token means the same, and a proof counts for its own caller only."""

from __future__ import annotations

import asyncio

import pytest

from proxy.emulator import proof_of, token_hash
from tests.journeys.conftest import MakeGate, MakeScene, MakeTwins
from tests.journeys.talking import asked

READ = "/v25.0/111?fields=id,name,viewer"
SECRET = "app-secret"
ANN = proof_of(SECRET, "ann")
ANN_TIMED = f"appsecret_proof={proof_of(SECRET, 'ann', '1700000000')}&appsecret_time=1700000000"
FRESH = {"cache": {"fresh_s": 3600}}


@pytest.mark.parametrize("scheme", ["Bearer", "OAuth", "bearer", "oauth"])
async def test_a_token_in_the_header_is_as_good_as_one_in_the_query(twins: MakeTwins, scheme: str) -> None:
    """A program that sends `Authorization` gets Graph's answer, and shares entries with the same token in a query."""
    both = await twins()
    said = {"Authorization": f"{scheme} ann"}
    first = await both.alike(READ, headers=said)
    assert first.cache == "fwd=uri-miss; stored"
    again = await both.alike(READ, token="ann")
    assert again.cache == "fwd=stale; fwd-status=304"
    assert again.body == first.body


@pytest.mark.parametrize("token", ["999|app-token", "a+b/c==", "æøå", "per%cent&amp;"])
async def test_a_token_of_any_letters_reaches_graph_whole(scene: MakeScene, token: str) -> None:
    """App tokens hold a `|`, others have base64 characters: Graph gets each as the application wrote it."""
    from urllib.parse import quote

    here = await scene()
    assert (await here.say(f"{READ}&access_token={quote(token, safe='')}")).status == 200
    assert here.slots == [1]
    assert dict(here.graph.ledger.tokens) == {token_hash(token): 1}


async def test_two_tokens_in_one_request_are_for_graph_to_judge(twins: MakeTwins) -> None:
    """A request with two tokens passes through: the sidecar does not guess whose it is."""
    both = await twins()
    heard = await both.alike(READ, token="ann", headers={"Authorization": "Bearer bob"})
    assert heard.cache == "fwd=bypass; detail=credentials"


async def test_the_same_token_twice_is_one_token(scene: MakeScene) -> None:
    """Some SDKs send their token in header and query: such a read is batched and stored like any other."""
    here = await scene()
    heard = await here.say(READ, token="ann", headers={"Authorization": "Bearer ann"})
    assert heard.cache == "fwd=uri-miss; stored"


async def test_authorization_of_another_kind_goes_through_untouched(twins: MakeTwins) -> None:
    """A credential that is no access token, such as Basic, is neither read nor stored."""
    both = await twins()
    heard = await both.alike(READ, headers={"Authorization": "Basic YW5uOmFubg=="})
    assert heard.status == 400
    assert heard.cache == "fwd=bypass; detail=authorization"


async def test_a_proof_goes_to_graph_and_into_no_key(scene: MakeScene) -> None:
    """A program that begins to send proofs, with or without a time, keeps the entries of its token."""
    here = await scene(app_secret=SECRET)
    await here.say(READ, token="ann")
    signed = await here.say(f"{READ}&appsecret_proof={ANN}", token="ann")
    timed = await here.say(f"{READ}&{ANN_TIMED}", token="ann")
    assert [signed.cache, timed.cache] == ["fwd=stale; fwd-status=304"] * 2
    plain, with_proof, with_time = (slot["relative_url"] for slot in here.asked)
    assert "appsecret" not in plain
    assert with_proof.endswith(f"&appsecret_proof=#{token_hash(ANN)}")
    assert with_time.endswith("&appsecret_time=1700000000")


async def test_callers_with_different_proofs_do_not_share_a_flight(scene: MakeScene, gate: MakeGate) -> None:
    """A proof that was checked for one caller does not count for another: a forged proof gets Graph's refusal."""
    here = await scene(app_secret=SECRET, require_proof=True)
    shut = gate(here.graph)
    callers = await here.caller.start(
        here.say(f"{READ}&appsecret_proof={ANN}", token="ann"),
        here.say(f"{READ}&appsecret_proof={ANN}", token="ann"),
        here.say(f"{READ}&{ANN_TIMED}", token="ann"),
        here.say(f"{READ}&appsecret_proof=forged", token="ann"),
        here.say(READ, token="ann"),
    )
    shut.open()
    heard = await asyncio.gather(*callers)
    assert [each.status for each in heard] == [200, 200, 200, 400, 400]
    assert "Invalid appsecret_proof" in heard[3].json["error"]["message"]
    assert "require an appsecret_proof" in heard[4].json["error"]["message"]


@pytest.mark.parametrize("proof", ["appsecret_proof=forged", f"appsecret_proof={ANN}&appsecret_time=1", ""])
async def test_what_is_fresh_is_not_served_under_a_proof_that_graph_has_not_seen(scene: MakeScene, proof: str) -> None:
    """A stolen token without the app's secret gets nothing, not even a fresh entry."""
    here = await scene(FRESH, app_secret=SECRET, require_proof=True)
    good = f"{READ}&appsecret_proof={ANN}"
    await here.say(good, token="ann")
    assert (await here.say(good, token="ann")).cache.startswith("hit; ttl=")
    assert (await here.say(f"{READ}&{proof}", token="ann")).status == 400
    assert (await here.say(good, token="ann")).cache.startswith("hit; ttl=")


async def test_a_timed_proof_is_asked_each_time_and_takes_nothing_from_others(scene: MakeScene) -> None:
    """A proof with a time is checked each time; the program with a plain proof keeps its fresh entries."""
    here = await scene(FRESH, app_secret=SECRET, require_proof=True)
    await here.say(f"{READ}&appsecret_proof={ANN}", token="ann")
    for _time in range(2):
        assert (await here.say(f"{READ}&{ANN_TIMED}", token="ann")).cache == "fwd=stale; fwd-status=304"
        assert (await here.say(f"{READ}&appsecret_proof={ANN}", token="ann")).cache.startswith("hit; ttl=")


async def test_reads_without_a_token_go_alone(scene: MakeScene) -> None:
    """A read without a token never enters a batch, whose token would lend it another caller's rights."""
    here = await scene(public_ids=("111",))
    nobody, ann, nosy = await asyncio.gather(
        here.say(READ), here.say(READ, token="ann"), here.say("/v25.0/222?fields=id,viewer")
    )
    assert nobody.json["viewer"] == "0"
    assert ann.json["viewer"] != "0"
    assert (nosy.status, nosy.json["error"]["code"]) == (400, 104)
    assert here.slots == [1]
    assert all("access_token=" in slot["relative_url"] for slot in here.asked if "relative_url" in slot)


async def test_reads_without_a_token_have_a_key_of_their_own(scene: MakeScene) -> None:
    """A body that a token fetched is not served without that token, however fresh, nor the other way round."""
    here = await scene(FRESH, public_ids=("111",))
    ann = await here.say(READ, token="ann")
    first, second = await here.say(READ), await here.say(READ)
    assert ann.json["viewer"] != first.json["viewer"] == "0"
    assert second.body == first.body
    assert second.cache.startswith("hit; ttl=")
    assert (await here.say(READ, token="ann")).body == ann.body


@pytest.mark.parametrize("blank", ["access_token=", "access_token", "access_token=%20", "access_token=&access_token="])
async def test_a_blank_token_is_nobodys(twins: MakeTwins, blank: str) -> None:
    """A program without a token gets what Graph shows without one, not another caller's entry."""
    both = await twins(settings=FRESH, public_ids=("111",))
    ann = await both.alike(READ, token="ann")
    assert (await both.alike(f"{READ}&{blank}")).json["viewer"] != ann.json["viewer"]
    assert all("access_token=#" in slot["relative_url"] for slot in asked(both.behind) if "relative_url" in slot)


async def test_reads_without_a_token_are_revalidated(scene: MakeScene) -> None:
    """A read without a token is revalidated too: an unchanged body is not sent again."""
    here = await scene(public_ids=("111",))
    first, second = await here.say(READ), await here.say(READ)
    assert second.cache == "fwd=stale; fwd-status=304"
    assert second.body == first.body
