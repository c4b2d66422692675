"""Forms in the bodies of POSTs: what is read of them, and that a long one lets others have their turn."""

from __future__ import annotations

import gzip
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.routing.query import split_pairs
from proxy.shell.http.forms import File, Form, read_form, write_form
from tests.work import longest_turn, slowness

URLENCODED = {"content-type": "application/x-www-form-urlencoded"}
JSON = {"content-type": "application/json"}
BOUNDARY = {"content-type": 'multipart/form-data; boundary="xyz"'}


def parts(*pieces: str, end: str = "--xyz--\r\n") -> bytes:
    """A multipart body of *pieces*, each its header fields and its content."""
    return ("".join(f"--xyz\r\n{piece}\r\n" for piece in pieces) + end).encode()


def part(name: str, content: str = "1") -> str:
    """A part that is a parameter."""
    return f'Content-Disposition: form-data; name="{name}"\r\n\r\n{content}'


async def test_parts_and_files_of_a_multipart_body() -> None:
    """Parameters are text, files keep their header fields; what stands before the first boundary is nobody's."""
    file = 'Content-Disposition: form-data; name="pic"; filename="a.png"\r\nContent-Type: image/png\r\n\r\n\r\n--xy\r\n'
    found = await read_form(b"preamble\r\n" + parts(part("batch", "[\r\n]"), file) + b"epilogue", BOUNDARY)
    fields = {"Content-Disposition": 'form-data; name="pic"; filename="a.png"', "Content-Type": "image/png"}
    assert found == Form({"batch": "[\r\n]"}, {"pic": File(fields, b"\r\n--xy\r\n")})


async def test_what_is_written_is_read() -> None:
    """A multipart body of our own is read as what it was written from."""
    file = File({"Content-Disposition": 'form-data; name="f"; filename="Søn.bin"'}, bytes(range(256)))
    made = write_form({"a": "Søn & co", "b": ""}, [file])
    assert await read_form(made.body, {"content-type": made.kind}) == Form({"a": "Søn & co", "b": ""}, {"f": file})


@pytest.mark.parametrize(
    "body",
    [
        b"",
        parts(part("a"), end=""),
        parts("Content-Disposition: form-data\r\n\r\n1"),
        parts("\r\n1"),
        parts("no field\r\n\r\n1"),
        parts(part("a")).replace(b"--xyz\r\n", b"--xyzz\r\n"),
        parts('Content-Disposition: form-data; name="a"\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n1'),
        parts(f"X: {'a' * 3000}\r\n{part('a')}"),
        parts(*(part("a") for _ in range(1001))),
    ],
)
async def test_a_multipart_body_that_is_not_understood(body: bytes) -> None:
    """What is no plain form, or one of more parts than anybody sends, is none: it goes to Graph untouched."""
    assert await read_form(body, BOUNDARY) is None


async def test_as_many_parts_as_are_looked_into() -> None:
    """A thousand parts are read."""
    found = await read_form(parts(*(part(f"p{at}") for at in range(1000))), BOUNDARY)
    assert found is not None
    assert len(found.parameters) == 1000


LARGE = 8 * 2**20
HEAVY = {
    "tiny parts": (parts(part("a")) * 60_000, BOUNDARY, True),
    "lines that begin like the boundary": (b"\r\n--xyz" * (LARGE // 7), BOUNDARY, True),
    "pairs in gzip": (gzip.compress(b"a&" * (LARGE // 2), 1), {**URLENCODED, "content-encoding": "gzip"}, True),
    "separators": (b"&" * LARGE, URLENCODED, True),
    "escapes in one value": (b"a=" + b"%41" * (LARGE // 3 - 2), URLENCODED, False),
    "escapes in many values": (b"&".join([b"a=" + b"%41" * 21_000] * 100), URLENCODED, False),
    "bytes that are no text": (b"a=" + b"\xff" * (LARGE - 2), URLENCODED, True),
    "arrays": (b'{"a":[' + b"[]," * (LARGE // 4) + b"1]}", JSON, True),
    "numbers with exponents": (b'{"a":[' + b"1e308," * 90_000 + b"1]}", JSON, False),
    "numbers with many digits": (b'{"a":[' + (b"1" * 4000 + b",") * 2000 + b"1]}", JSON, True),
}


@pytest.mark.parametrize("body, fields, is_none", HEAVY.values(), ids=HEAVY)
async def test_a_heavy_body_keeps_nobody_waiting(*, body: bytes, fields: dict[str, str], is_none: bool) -> None:
    """Whatever eight megabytes hold, the loop is held for less than a tenth of a second of the processor at a time.

    Each of these took from half a second to a minute.
    """
    found: list[Form | None] = []

    async def read() -> None:
        found.append(await read_form(body, fields))

    allowed = 0.1 * slowness()
    assert await longest_turn(read, allowed) < allowed
    assert (found[-1] is None) == is_none


@given(st.lists(st.text("a%+&=é \r\n41", max_size=8), max_size=6), st.integers(16_378, 16_388))
async def test_a_long_value_is_read_like_a_short_one(pieces: list[str], length: int) -> None:
    """Slices end where they may: no escape and no character is cut in two."""
    text = f"x={'a' * length}{''.join(pieces)}&y={quote('é' * 30_000)}{''.join(pieces)}b"
    assert await read_form(text.encode(), URLENCODED) == Form(dict(split_pairs(text)))
