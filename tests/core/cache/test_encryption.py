import json
import struct
from urllib.parse import quote

import msgspec
import pytest
import zstandard
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.cache import encryption
from proxy.core.cache.encryption import BadSeal, Sealer
from proxy.core.model import Entry, EntryMeta

MASTER = bytes(range(32))
KEY = b"k" * 32
NONCE = b"n" * 12
TOKEN = "EAAB|token of one caller"
HELD = EntryMeta('"e1"', "batch", 1_700_000_000.25, may_be_fresh=True, proofs=(b"p" * 16,))

tokens = st.text(max_size=40)
entries = st.builds(
    Entry,
    meta=st.builds(
        EntryMeta,
        etag=st.text(max_size=50),
        channel=st.sampled_from(["batch", "direct"]),
        asked_at=st.floats(allow_nan=False),
        may_be_fresh=st.booleans(),
        proofs=st.lists(st.binary(max_size=16), max_size=3).map(tuple),
    ),
    headers=st.binary(max_size=200),
    body=st.one_of(st.binary(max_size=700), st.integers(500, 9000).map(lambda size: b"ab" * size)),
)


@pytest.fixture(params=[True, False], ids=["sealed", "unsealed"])
def sealer(request: pytest.FixtureRequest) -> Sealer:
    """Both kinds of sealer, one after the other."""
    return Sealer(MASTER, sealed=request.param)


def an_entry(body: bytes = b'{"id":"1"}', headers: bytes = b"ETag: x") -> Entry:
    """An entry with this body and these headers."""
    return Entry(HELD, headers, body)


@given(entries, st.binary(min_size=32, max_size=32), tokens, st.booleans())
def test_round_trip(entry: Entry, key: bytes, token: str, sealed: bool) -> None:  # noqa: FBT001
    """What was sealed comes back equal, whatever its bytes and whatever the token."""
    sealer = Sealer(MASTER, sealed=sealed)
    assert sealer.unseal(key, token, sealer.seal(key, token, entry, NONCE)) == entry


@given(entries, tokens, tokens, st.booleans())
def test_another_token_opens_nothing(entry: Entry, one: str, other: str, sealed: bool) -> None:  # noqa: FBT001
    """No token but the one that sealed an entry opens it."""
    if one == other:
        return
    sealer = Sealer(MASTER, sealed=sealed)
    with pytest.raises(BadSeal):
        sealer.unseal(KEY, other, sealer.seal(KEY, one, entry, NONCE))


@given(st.data(), st.booleans())
def test_any_changed_bit_breaks_the_seal(data: st.DataObject, sealed: bool) -> None:  # noqa: FBT001
    """One flipped bit anywhere in the blob is noticed."""
    sealer = Sealer(MASTER, sealed=sealed)
    blob = bytearray(sealer.seal(KEY, TOKEN, an_entry(), NONCE))
    place = data.draw(st.integers(0, len(blob) - 1))
    blob[place] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(BadSeal):
        sealer.unseal(KEY, TOKEN, bytes(blob))


def test_every_cut_breaks_the_seal(sealer: Sealer) -> None:
    """A blob cut short at any place does not open."""
    blob = sealer.seal(KEY, TOKEN, an_entry(), NONCE)
    for length in range(len(blob)):
        with pytest.raises(BadSeal):
            sealer.unseal(KEY, TOKEN, blob[:length])


@given(st.binary(max_size=200), st.booleans())
def test_foreign_bytes_do_not_open(blob: bytes, sealed: bool) -> None:  # noqa: FBT001
    """Bytes from elsewhere are a broken seal and no other error."""
    with pytest.raises(BadSeal):
        Sealer(MASTER, sealed=sealed).unseal(KEY, TOKEN, blob)


@pytest.mark.parametrize("blob", [None, 7, "text"])
def test_what_is_not_bytes_does_not_open(sealer: Sealer, blob: object) -> None:
    """A value of another type is a broken seal and no other error."""
    with pytest.raises(BadSeal):
        sealer.unseal(KEY, TOKEN, blob)  # type: ignore[arg-type]


def test_a_row_moved_to_another_key_does_not_open(sealer: Sealer) -> None:
    """The seal binds the database key."""
    blob = sealer.seal(KEY, TOKEN, an_entry(), NONCE)
    with pytest.raises(BadSeal):
        sealer.unseal(b"j" * 32, TOKEN, blob)


def test_another_installation_does_not_open(sealer: Sealer) -> None:
    """Without this installation's secret the token alone opens nothing."""
    blob = sealer.seal(KEY, TOKEN, an_entry(), NONCE)
    with pytest.raises(BadSeal):
        Sealer(b"x" * 32, sealed=sealer.sealed).unseal(KEY, TOKEN, blob)


def test_another_format_does_not_open(sealer: Sealer, monkeypatch: pytest.MonkeyPatch) -> None:
    """What another version of the layout wrote is a miss, not a misreading."""
    blob = sealer.seal(KEY, TOKEN, an_entry(), NONCE)
    monkeypatch.setattr(encryption, "FORMAT", b"GSC9")
    with pytest.raises(BadSeal):
        sealer.unseal(KEY, TOKEN, blob)


def test_switching_the_seal_makes_misses() -> None:
    """An entry of the sealed kind does not open as unsealed, nor the other way round."""
    on, off = Sealer(MASTER), Sealer(MASTER, sealed=False)
    for one, other in ((on, off), (off, on)):
        with pytest.raises(BadSeal):
            other.unseal(KEY, TOKEN, one.seal(KEY, TOKEN, an_entry(), NONCE))


@pytest.mark.parametrize("frame", ["bomb", "short", "unsized", "trailing", "flags", "meta", "beyond"])
def test_a_frame_that_lies_does_not_open(frame: str) -> None:
    """With the right keys too, a frame must hold what it says: no bomb is unpacked, nothing is left over."""
    meta = msgspec.msgpack.encode([["e", "batch", 0.0, True, []], b""])
    bomb = zstandard.compress(bytes(2**28))
    unsized = zstandard.ZstdCompressor(write_content_size=False).compress(b"x" * 1000)
    sized = zstandard.compress(b"x" * 1000)
    plain = {
        "bomb": _framed(1, meta, 600, bomb),
        "short": _framed(0, meta, 600, b"x" * 599),
        "unsized": _framed(1, meta, 1000, unsized),
        "trailing": _framed(1, meta, 1000, sized + b"more"),
        "flags": _framed(2, meta, 3, b"xyz"),
        "meta": _framed(0, b"\xc1", 3, b"xyz"),
        "beyond": struct.pack(">BII", 0, 2**31, 0) + meta,
    }[frame]
    key = encryption._derive(MASTER, b"gs-seal", TOKEN)
    blob = NONCE + AESGCM(key).encrypt(NONCE, plain, encryption.FORMAT + KEY)
    with pytest.raises(BadSeal):
        Sealer(MASTER).unseal(KEY, TOKEN, blob)


def test_a_broken_seal_says_nothing_of_its_contents() -> None:
    """The error's text and chain hold neither token nor body."""
    sealer = Sealer(MASTER, sealed=False)
    blob = sealer.seal(KEY, TOKEN, an_entry(b"secret body"), NONCE)
    with pytest.raises(BadSeal) as caught:
        sealer.unseal(KEY, "other", blob)
    assert caught.value.__suppress_context__
    assert "secret" not in str(caught.value)
    assert TOKEN not in repr(sealer)


def test_a_body_is_packed_only_where_it_pays() -> None:
    """Small and incompressible bodies are kept as they are, others shrink."""
    sealer = Sealer(MASTER)
    noise = AESGCM(MASTER).encrypt(NONCE, bytes(4000), None)
    small, random, text = (len(sealer.seal(KEY, TOKEN, an_entry(b), NONCE)) for b in (b"a" * 500, noise, b"a" * 4000))
    assert small > 500
    assert random > 4000
    assert text < 400


def test_nothing_readable_is_left_in_a_sealed_entry() -> None:
    """Neither body, headers, ETag nor token can be read in the blob."""
    entry = Entry(HELD, b"x-secret-header: 1", b"secret body")
    blob = Sealer(MASTER).seal(KEY, TOKEN, entry, NONCE)
    for secret in (b"secret", b'"e1"', b"batch", TOKEN.encode()):
        assert secret not in blob


@pytest.mark.parametrize("length", [0, 31, 33])
def test_the_secret_has_32_bytes(length: int) -> None:
    """A secret of another length is refused where it is handed over."""
    with pytest.raises(ValueError, match="32"):
        Sealer(bytes(length))


@pytest.mark.parametrize(
    "body",
    [
        TOKEN,
        f"https://graph.facebook.com/v25.0/me?after=x&t={quote(TOKEN, safe='')}",
        f"https://graph.facebook.com/v25.0/me?t={quote(TOKEN, safe='').replace('%7C', '%7c')}",
        quote(quote(TOKEN, safe=""), safe=""),
        json.dumps(TOKEN).replace("|", "\\u007C"),
        "".join(f"%{byte:02x}" for byte in TOKEN.encode()),
        '{"access_token":"of somebody else"}',
        '{"ACCESS_TOKEN":"of somebody else"}',
        "next=https%3A%2F%2Fgraph%2Fme%3Faccess%5Ftoken%3Dx",
    ],
)
def test_in_the_clear_no_token_is_written(body: str) -> None:
    """Unsealed, an entry in which a token can be read in any spelling may not be written, in body or headers."""
    sealer = Sealer(MASTER, sealed=False)
    assert not sealer.may_write(TOKEN, an_entry(body.encode()))
    assert not sealer.may_write(TOKEN, an_entry(headers=b"Link: " + body.encode()))
    assert Sealer(MASTER).may_write(TOKEN, an_entry(body.encode()))


def test_in_the_clear_other_entries_are_written() -> None:
    """Unsealed, an entry without tokens may be written, and having no token at all is no match."""
    sealer = Sealer(MASTER, sealed=False)
    assert sealer.may_write(TOKEN, an_entry(b'{"name":"100% \\/ caf\\u00e9"}'))
    assert sealer.may_write("", an_entry())


@given(st.text(min_size=8, max_size=40), st.text(max_size=30), st.text(max_size=30))
def test_in_the_clear_no_json_hides_a_token(token: str, before: str, after: str) -> None:
    """Whatever a token is made of, JSON's spelling of it within a body is recognised."""
    for ascii_only in (True, False):
        text = json.dumps({"next": before + token + after}, ensure_ascii=ascii_only)
        body = text.encode("utf-8", "surrogatepass")
        assert not Sealer(MASTER, sealed=False).may_write(token, an_entry(body))


def _framed(flags: int, meta: bytes, length: int, body: bytes) -> bytes:
    return struct.pack(">BII", flags, len(meta), length) + meta + body
