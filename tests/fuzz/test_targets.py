"""Whatever bytes come in, every parser answers or raises its own documented error: no crash, no hang, no other error.

Each target starts from a corpus of inputs (tests/fuzz/corpus), which Hypothesis cuts, doubles, joins and spoils. `make
test` shows each target the same few examples every time; `make long` draws thousands of new ones, and `make fuzz` looks
for inputs that reach lines that no kept input reaches.
"""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import EFFORT
from tests.fuzz.targets import FOLDER, TARGETS, corpus_of

_MARKS = [bytes([mark]) for mark in b"{}[]\"',:&=%?#/\\\r\n\0\xff"] + [b"{result=", b"%00", b"\\ud83d", b"1e999"]


def spoiled(seeds: list[bytes]) -> st.SearchStrategy[bytes]:
    """Samples, and what cutting, doubling, joining and overwriting makes of them."""
    place = st.floats(0, 1)

    def cut(text: bytes, start: float, end: float) -> bytes:
        first, last = sorted((int(start * len(text)), int(end * len(text))))
        return text[:first] + text[last:]

    def insert(text: bytes, at: float, more: bytes) -> bytes:
        return text[: int(at * len(text))] + more + text[int(at * len(text)) :]

    return st.recursive(
        st.one_of(st.sampled_from(seeds), st.binary(max_size=40)),
        lambda texts: st.one_of(
            st.builds(cut, texts, place, place),
            st.builds(insert, texts, place, st.one_of(texts, st.binary(max_size=8), st.sampled_from(_MARKS))),
        ),
        max_leaves=6,
    )


@pytest.mark.parametrize("name", TARGETS)
def test_a_target_answers_or_raises_its_own_error(name: str) -> None:
    """Nothing but the documented errors leaves it, for the kept inputs and for what becomes of them."""
    target, corpus = TARGETS[name], corpus_of(name)
    with target.begin() as parse:
        for data in corpus:
            target.reads(parse, data)

        @settings(max_examples=min(EFFORT.examples, target.most_examples))
        @given(data=spoiled(corpus))
        def tried(data: bytes) -> None:
            target.reads(parse, data)

        tried()


def test_every_target_has_a_corpus() -> None:
    """And every corpus a target."""
    assert {file.stem for file in FOLDER.iterdir()} == set(TARGETS)
