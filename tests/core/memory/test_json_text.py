from functools import partial
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.graph.errors import UNREADABLE
from proxy.core.memory.json_text import decode, is_heavy
from tests.work import processor_time


@given(st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**70), 2**70) | st.text())
def test_a_value_is_what_msgspec_reads(value: Any) -> None:
    """Numbers are read by another function than msgspec's, and come to the same."""
    text = msgspec.json.encode([value])
    assert decode(text) == msgspec.json.decode(text)


@pytest.mark.parametrize("text", ["1e999", "[-1e400]", "{", "nan"])
def test_what_is_no_json_is_called_so(text: str) -> None:
    """A number that is out of range is no number, as ever."""
    with pytest.raises(UNREADABLE):
        decode(text)


def test_numbers_with_large_exponents_take_no_longer_than_others() -> None:
    """A text of such numbers took two hundred times as long as one of small numbers."""
    small, large = (f"[{','.join([number] * 20_000)}]" for number in ("1.5e10", "1e308"))
    quick, slow = (processor_time(partial(decode, text)) for text in (small, large))
    assert slow < 20 * quick


@pytest.mark.parametrize(
    "raw, heavy",
    [
        (b"[" + b"1," * 99_000 + b"1]", False),
        (b"[" + b"1," * 100_001 + b"1]", True),
        (b"[" * 100_001, True),
        (b'["' + b"a" * 8_000_000 + b'"]', False),
        (b"[" + b"1" * 300_000 + b"]", True),
        (b"[" + b"123456789," * 30_000 + b"1]", False),
    ],
)
def test_the_weight_of_a_text(*, raw: bytes, heavy: bool) -> None:
    """A text is heavy by its values and by its longest numbers, not by its strings."""
    assert is_heavy(raw) == heavy
