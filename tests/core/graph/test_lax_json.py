import json

import pytest

from proxy.core.graph import lax_json


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
    assert lax_json.decode(raw) == value
    assert json.loads(lax_json.encode(value)) == value


@pytest.mark.parametrize("raw", [b"", b"{", b"<html>", b"[" * 100_000, b"[1]x"])
def test_what_nobody_takes_for_json(raw: bytes) -> None:
    """What no client would read is not read here."""
    with pytest.raises(lax_json.UNREADABLE):
        lax_json.decode(raw)


def test_half_a_pair_within_a_body() -> None:
    """Half a surrogate pair in a text that is JSON itself becomes its escape, which says the same."""
    assert lax_json.text('{"a":"\ud83d\xe9"}') == '{"a":"\\ud83d\xe9"}'.encode()
