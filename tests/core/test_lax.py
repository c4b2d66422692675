import json

import pytest

from proxy.core import lax


@pytest.mark.parametrize(
    "raw, value",
    [
        (b'{"a":"\\ud83d"}', {"a": "\ud83d"}),
        (b'["\\ude00",1]', ["\ude00", 1]),
        (b'{"a":"b\x01\n"}', {"a": "b\x01\n"}),
        (b'{"a":"\xff"}', {"a": "\ufffd"}),
        (b'{"a":"\\ud83d\\ude00"}', {"a": "\U0001f600"}),
    ],
)
def test_what_strict_readers_refuse(raw: bytes, value: object) -> None:
    """Cut emoji, raw control characters and broken UTF-8 are read as clients read them, and can be written again."""
    assert lax.decode(raw) == value
    assert json.loads(lax.encode(value)) == value


@pytest.mark.parametrize("raw", [b"", b"{", b"<html>", b"[" * 100_000, b"[1]x"])
def test_what_nobody_takes_for_json(raw: bytes) -> None:
    """What no client would read is not read here."""
    with pytest.raises(lax.UNREADABLE):
        lax.decode(raw)


def test_half_a_pair_within_a_body() -> None:
    """Half a surrogate pair in a text that is JSON itself becomes its escape, which says the same."""
    assert lax.text('{"a":"\ud83d\xe9"}') == '{"a":"\\ud83d\xe9"}'.encode()
