"""Whatever bytes come in, every parser answers or raises its own documented error: no crash, no hang, no other error.

Each target starts from a corpus of real samples (tests/fuzz/corpus.json), which Hypothesis cuts, doubles, joins and
spoils. `make test` shows each target the same few examples every time; `make long` draws thousands of new ones.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.commands.replay.log_reader import LogReader
from proxy.core.batch.response import resolve
from proxy.core.cache.encryption import BadSeal, Sealer
from proxy.core.cache.purge import Purges, read_order
from proxy.core.client_batch import jsonpath, references
from proxy.core.client_batch.parse import Unresolved, read_envelope
from proxy.core.graph import paging
from proxy.core.graph.errors import is_clean, read_error
from proxy.core.graph.webhooks import is_authentic, is_signature, read_events
from proxy.core.http import headers, request_head
from proxy.core.http.cache_control import cache_directives, matches
from proxy.core.http.errors import BadRequest
from proxy.core.model import Credential, Reply
from proxy.core.quota.usage_headers import usage_in, usage_levels
from proxy.core.routing.classify import classify
from proxy.core.routing.hosts import Head
from proxy.core.routing.normal_form import read_target
from proxy.settings.load import SettingsError, load
from tests.core.samples import GRAPH, HOSTS, NO_RULES, request

CORPUS: dict[str, list[str]] = json.loads((Path(__file__).parent / "corpus.json").read_text())
_MARKS = [bytes([mark]) for mark in b"{}[]\"',:&=%?#/\\\r\n\0\xff"] + [b"{result=", b"%00", b"\\ud83d", b"1e999"]
BATCH = (request("fields=id"), request("fields=name"), request("limit=2"))
SEALER = Sealer(bytes(32))


def targets(text: bytes) -> None:
    """A request target."""
    read_target(text.decode("latin-1"))


def heads(text: bytes) -> None:
    """The head of a request: its target and its header fields."""
    request_head.escaped(text)
    line, *lines = text.decode("latin-1").split("\n")
    fields = {name.strip().lower(): value.strip() for name, _, value in (each.partition(":") for each in lines)}
    classify(Head("GET", line or "/", {"host": GRAPH, **fields}), b"", HOSTS, NO_RULES)
    cache_directives(fields)
    matches(fields.get("if-none-match", ""), '"e"')


def batches(text: bytes) -> None:
    """A batch of an application's own."""
    form = {"batch": text.decode("utf-8", "surrogateescape"), "access_token": "t"}
    read_envelope(Head("POST", "/v25.0/", {"host": GRAPH}), form, HOSTS)


def jsonpaths(text: bytes) -> None:
    """A JSONPath of a reference."""
    jsonpath.find(text.decode("latin-1"), {"data": [{"id": "1"}, {"id": "2", "name": ["a", {"b": 1}]}]})


def texts_with_references(text: bytes) -> None:
    """A relative URL with references to earlier operations."""
    found = text.decode("latin-1")
    references.names_in(found)
    references.can_be_followed(found)
    references.fill(found, {"one": {"data": [{"id": "1"}]}})


def replies_to_batches(text: bytes) -> None:
    """Graph's reply to a batch of three: one outcome for each read, and no read forgotten."""
    answer = Reply(200, (("Content-Type", "application/json"),), text)
    fates = resolve(BATCH, Credential("EAAB|secret-of-ann"), answer, 0)
    again = [place for batch in fates.batches for place in batch]
    assert sorted([*fates.replies, *again, *fates.singles]) == [0, 1, 2]


def replies(text: bytes) -> None:
    """The body of a single reply."""
    is_clean(text)
    read_error(text)
    assert paging.rewrite(text, HOSTS.link_hosts, "http://here") is not None


def usage(text: bytes) -> None:
    """Usage headers."""
    value = text.decode("latin-1")
    fields = tuple((name, value) for name in sorted(headers.USAGE))
    usage_levels(usage_in(fields))


def webhooks(text: bytes) -> None:
    """A notification of Meta's."""
    read_events(text)
    signature = text.decode("latin-1")
    assert not (is_signature(signature) and is_authentic(signature, text, "secret of sixteen"))


def stored_blobs(text: bytes) -> None:
    """A row of the database that somebody wrote into it."""
    SEALER.unseal(b"k" * 32, "token", text)


def purge_orders(text: bytes) -> None:
    """An order of the operator, and those that an earlier run left."""
    Purges().load(text, 1000.0)
    read_order(text)


TARGETS: dict[str, tuple[Callable[[bytes], None], tuple[type[Exception], ...]]] = {
    "targets": (targets, ()),
    "heads": (heads, (BadRequest,)),
    "batches": (batches, (Unresolved, BadRequest)),
    "jsonpaths": (jsonpaths, (jsonpath.BadPath,)),
    "references": (texts_with_references, (jsonpath.BadPath, Unresolved)),
    "batch_replies": (replies_to_batches, ()),
    "replies": (replies, ()),
    "usage": (usage, ()),
    "webhooks": (webhooks, (ValueError, BadRequest)),
    "blobs": (stored_blobs, (BadSeal,)),
    "purges": (purge_orders, (BadRequest, ValueError)),
}


def spoiled(seeds: list[str]) -> st.SearchStrategy[bytes]:
    """Samples, and what cutting, doubling, joining and overwriting makes of them."""
    seed = st.sampled_from([each.encode("latin-1", "replace") for each in seeds])
    place = st.floats(0, 1)

    def cut(text: bytes, start: float, end: float) -> bytes:
        first, last = sorted((int(start * len(text)), int(end * len(text))))
        return text[:first] + text[last:]

    def insert(text: bytes, at: float, more: bytes) -> bytes:
        return text[: int(at * len(text))] + more + text[int(at * len(text)) :]

    return st.recursive(
        st.one_of(seed, st.binary(max_size=40)),
        lambda texts: st.one_of(
            st.builds(cut, texts, place, place),
            st.builds(insert, texts, place, st.one_of(texts, st.binary(max_size=8), st.sampled_from(_MARKS))),
        ),
        max_leaves=6,
    )


@pytest.mark.parametrize("name", TARGETS)
@given(data=st.data())
def test_a_parser_answers_or_raises_its_own_error(name: str, data: Any) -> None:
    """Nothing but the documented errors leaves a parser."""
    parse, documented = TARGETS[name]
    text = data.draw(spoiled(CORPUS[name]))
    try:
        parse(text)
    except documented:
        pass


@given(lines=spoiled(CORPUS["log"]))
def test_a_log_is_replayed_or_its_bad_lines_are_named(lines: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    """`replay` reads on behind a line that it cannot read."""
    file = tmp_path_factory.getbasetemp() / "fuzzed.log"
    file.write_bytes(lines)
    list(LogReader(str(file)).lines())


@given(text=spoiled(CORPUS["settings"]))
def test_a_settings_file_is_read_or_refused_in_words(text: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Nothing but the error that names what is wrong leaves the reader of settings."""
    file = tmp_path_factory.getbasetemp() / "fuzzed.toml"
    file.write_bytes(text)
    with contextlib.suppress(SettingsError):
        load(file=file)
