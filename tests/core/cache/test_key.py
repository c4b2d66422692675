from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from proxy.core.cache.key import Keys
from proxy.core.model import CacheDirectives, Channel, Credential, Request
from tests.core.samples import INSTAGRAM, TOKEN, plain, request

KEYS = Keys(b"m" * 32)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
parts = st.tuples(*[texts.map(lambda text: text.replace("\0", ""))] * 5)


def test_an_entry_has_one_name() -> None:
    """The same read is found again, with another proof, on another channel, with other wishes of its caller's."""
    others: dict[str, Any] = {
        "credential": Credential(TOKEN, "proof", "1"),
        "channel": Channel.DIRECT,
        "directives": CacheDirectives(no_cache=True),
        "validator": '"e"',
    }
    assert {KEYS.entry(replace(request(), **{name: value})) for name, value in others.items()} == {
        KEYS.entry(request())
    }
    assert Keys(b"m" * 32).entry(request()) == KEYS.entry(request())


@pytest.mark.parametrize(
    "other",
    [
        {"credential": Credential("another")},
        {"credential": None},
        {"credential": Credential("")},
        {"host": INSTAGRAM},
        {"version": ""},
        {"path": "/2"},
        {"query": ""},
        {"language": "da"},
    ],
)
def test_what_tells_entries_apart(other: dict[str, Any]) -> None:
    """Nobody gets what another token, host, version, path, query or language was answered."""
    assert KEYS.entry(replace(request(), **other)) != KEYS.entry(request())


@pytest.mark.parametrize(
    "other",
    [
        {"path": "/2"},
        {"credential": Credential("another")},
        {"credential": Credential(TOKEN, "proof")},
        {"directives": CacheDirectives(max_age=0)},
        {"directives": CacheDirectives(min_fresh=0)},
        {"directives": CacheDirectives(max_stale=0)},
        {"directives": CacheDirectives(stale_if_error=0)},
    ],
)
def test_what_tells_flights_apart(other: dict[str, Any]) -> None:
    """Twins read the same, are vouched for alike and take an answer as old; nothing else keeps them apart."""
    alike = replace(request(), channel=Channel.DIRECT, validator='"e"', directives=CacheDirectives(if_none_match='"e"'))
    assert KEYS.flight(alike) == KEYS.flight(request())
    assert KEYS.flight(replace(request(), **other)) != KEYS.flight(request())


@given(parts, parts)
def test_parts_never_run_into_one_another(
    one: tuple[str, str, str, str, str], other: tuple[str, str, str, str, str]
) -> None:
    """Whatever stands in them, two reads that differ have two names."""
    first, second = Request(*one), Request(*other)
    assert (KEYS.entry(first) == KEYS.entry(second)) is (first == second)


@given(texts, texts)
def test_fingerprints(one: str, other: str) -> None:
    """A token has one fingerprint, another token another, and no token its own."""
    first, second = KEYS.fingerprint(Credential(one)), KEYS.fingerprint(Credential(other, "proof", "time"))
    assert (first == second) is (one == other)
    assert first != KEYS.fingerprint(None)
    assert len(first) == 16


@given(st.text("abcdef0123456789", min_size=8, max_size=40))
def test_no_name_holds_the_token(token: str) -> None:
    """What stands for a token on disk and in metrics cannot be read back, nor made without our secret."""
    read = plain(f"/v25.0/me?access_token={token}&appsecret_proof={token}").request
    made = (KEYS.fingerprint(read.credential), KEYS.entry(read), KEYS.proof(read.credential))
    assert not any(token.encode() in name or token in name.hex() for name in made)
    other = Keys(b"n" * 32)
    assert not set(made) & {other.fingerprint(read.credential), other.entry(read), other.proof(read.credential)}


@pytest.mark.parametrize("who", [None, Credential("token"), Credential("other")])
def test_no_proof_is_no_proof(who: Credential | None) -> None:
    """What was fetched without a proof is known to be so."""
    assert KEYS.proof(who) == b""


def test_proofs() -> None:
    """Nobody borrows a proof: another one, a timed one and none are four different things."""
    told = [KEYS.proof(Credential(TOKEN, *voucher)) for voucher in (("p",), ("q",), ("p", "1"), ("", "1"), ("p1",), ())]
    assert len(set(told)) == len(told)


def test_odd_bytes_have_names() -> None:
    """A token, a query or a language that is no UTF-8 is as good as any."""
    read = plain("/v25.0/me?access_token=%ff&a=%fe&appsecret_proof=%fd").request
    assert len({KEYS.entry(read), KEYS.proof(read.credential), KEYS.fingerprint(read.credential)}) == 3


@pytest.mark.parametrize("edge", ["", "/campaigns", "/a/b"])
def test_the_keys_of_many_objects_are_those_of_each(edge: str) -> None:
    """What is hashed once for reads that differ in their objects alone gives the key that each has by itself."""
    keys, asked = Keys(bytes(range(32))), request(path=f"/1{edge}", language="de", query="fields=id")
    fingerprint = keys.fingerprint(asked.credential)
    of_objects = keys.of_objects(fingerprint, asked)
    for node in ("1", "2", "123456789012345", "1"):
        assert of_objects.derive(node) == keys.entry(replace(asked, path=f"/{node}{edge}"))
