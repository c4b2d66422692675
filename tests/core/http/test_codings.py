"""Bodies are unpacked as they were packed, however they are cut into pieces; what ends early is not whole."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.http import codings
from proxy.core.http.codings import STEP, Broken, Ended

TEXT = b'{"id":"111","name":"' + b"abc" * 100 + b'"}'


def raw(text: bytes) -> bytes:
    """Deflate without the wrapper that RFC 9110 asks for."""
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(text) + packer.flush()


PACKED: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "gzip": ("gzip", gzip.compress),
    "x-gzip": ("x-gzip", gzip.compress),
    "deflate": ("deflate", zlib.compress),
    "deflate without a wrapper": ("deflate", raw),
}


def unpacked(coding: str, *pieces: bytes) -> bytes:
    """What *pieces* hold. Raises Broken, Ended."""
    unpack = codings.unpacker([coding])
    assert unpack is not None
    found = b"".join(part for piece in pieces for part in unpack.feed(piece))
    unpack.end()
    return found


def bytewise(data: bytes) -> Sequence[bytes]:
    """*data* in pieces of one byte."""
    return [data[at : at + 1] for at in range(len(data))]


@pytest.mark.parametrize("kind", PACKED)
def test_what_was_packed_is_unpacked(kind: str) -> None:
    """In one piece and byte by byte."""
    coding, pack = PACKED[kind]
    assert unpacked(coding, pack(TEXT)) == unpacked(coding, *bytewise(pack(TEXT))) == TEXT
    assert unpacked(coding, pack(b"")) == b""


@pytest.mark.parametrize("kind", PACKED)
def test_what_ends_early_is_not_whole(kind: str) -> None:
    """Wherever a stream is cut, even after the last byte of text."""
    coding, pack = PACKED[kind]
    whole = pack(TEXT)
    for end in range(1, len(whole)):
        with pytest.raises(Ended):
            unpacked(coding, whole[:end])


@pytest.mark.parametrize("behind", [b"", b"\0" * 20, b"garbage", b"\x1f", b"\x1f\0"])
@pytest.mark.parametrize("kind", PACKED)
def test_what_follows_is_left_out(kind: str, behind: bytes) -> None:
    """Padding and garbage behind a whole stream are no part of it."""
    coding, pack = PACKED[kind]
    assert unpacked(coding, *bytewise(pack(TEXT) + behind)) == TEXT


def test_several_members_are_one_body() -> None:
    """Gzip may come in members; one that is cut is not whole."""
    both = gzip.compress(b'{"a":') + gzip.compress(b"1}")
    assert unpacked("gzip", both) == unpacked("gzip", *bytewise(both)) == b'{"a":1}'
    with pytest.raises(Ended):
        unpacked("gzip", both[:-1])


@given(st.sampled_from(sorted(PACKED)), st.binary(max_size=50))
def test_nothing_else_is_raised(kind: str, body: bytes) -> None:
    """Whatever comes is text, broken, or cut."""
    try:
        unpacked(PACKED[kind][0], *bytewise(body))
    except (Broken, Ended):
        pass


def test_a_little_is_much_in_small_steps() -> None:
    """What unpacks to megabytes comes a step at a time."""
    unpack = codings.unpacker(["gzip"])
    assert unpack is not None
    sizes = [len(part) for part in unpack.feed(gzip.compress(bytes(10 * STEP + 1)))]
    assert (max(sizes), sum(sizes)) == (STEP, 10 * STEP + 1)


@pytest.mark.parametrize(
    "value, named, is_known",
    [
        ("gzip", ["gzip"], True),
        (" GZip ", ["gzip"], True),
        ("identity", [], True),
        ("", [], True),
        ("x-fb-dz", ["x-fb-dz"], False),
        ("br", ["br"], False),
        ("zstd", ["zstd"], False),
        ("gzip, x-fb-dz", ["gzip", "x-fb-dz"], False),
        ("gzip, gzip", ["gzip", "gzip"], False),
    ],
)
def test_codings_as_they_are_named(value: str, named: list[str], *, is_known: bool) -> None:
    """Names are of any case; two codings, one above the other, were not asked for."""
    assert codings.content_codings((("content-encoding", value),)) == named
    assert codings.is_known(named) is is_known
    assert (codings.unpacker(named) is not None) is (is_known and bool(named))
