from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from msgspec.structs import replace
from prometheus_client import CollectorRegistry, generate_latest

from proxy.core.cache.key import Keys
from proxy.core.model import Credential, Mode, Reply, Request
from proxy.core.observe.access_log import Outcome
from proxy.core.routing.rules import Rule
from proxy.shell.observe.access_logger import AccessLog
from proxy.shell.observe.counters import Counters
from proxy.shell.observe.log_writer import JsonLines, LogWriter
from proxy.shell.observe.prepared import PreparedHit
from proxy.shell.observe.prometheus import _CountersCollector
from proxy.shell.observe.route_counts import AnsweredCall, add_answers
from proxy.shell.observe.stats import stats

KEYS = Keys(b"k" * 32)
CREDENTIAL = Credential("sesame")
PATHS = [f"/{number}/{edge}" for number in range(1, 4) for edge in ("", "feed", "posts")]
PATHS += [f"/1/edge_{'abcdefghij'[at // 10]}{'abcdefghij'[at % 10]}" for at in range(80)]  # more than have a label


@contextmanager
def _writing() -> Iterator[io.StringIO]:
    """What the log's writer wrote, as in `serve`."""
    root, stream = logging.getLogger(), io.StringIO()
    before, writer = root.handlers[:], LogWriter(stream, JsonLines())
    level = root.level
    root.handlers[:] = [writer]
    root.setLevel(logging.INFO)
    yield stream
    writer.close()
    root.handlers[:] = before
    root.setLevel(level)


def _counters() -> Counters:
    counters = Counters(lambda: 0.0, lambda: 0.0)
    counters.access_log = AccessLog(KEYS, lambda _request: Rule())
    return counters


def _seen(counters: Counters) -> tuple[dict[str, Any], list[bytes]]:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_CountersCollector(counters))
    counters.gauges.store = lambda: (
        {f"{tier}_{what}": 0 for tier in ("memory", "disk") for what in _STORED} | {"writes_dropped": 0}
    )
    return stats(counters), sorted(generate_latest(registry).splitlines())


_STORED = ("evictions", "entries", "bytes")


def test_a_hit_that_was_prepared_counts_and_is_logged_as_any_other() -> None:
    """/stats, /metrics and the log are the same at any moment that they are read."""
    whole, quick, prepared = _counters(), _counters(), dict[str, PreparedHit]()
    with _writing() as lines:
        for turn in range(12):
            for at, path in enumerate(PATHS[turn % 5 : 60 : 1 + turn % 3]):
                _give(whole, path, at, {})
                _give(quick, path, at, prepared)
            if turn % 4 == 3:
                assert _seen(quick) == _seen(whole)
    told = [json.loads(line) for line in lines.getvalue().splitlines()]
    for line in told:
        del line["time"]
    assert len(told) == 2 * whole.replies.total()
    assert told[::2] == told[1::2]


def test_ordinary_answers_of_a_batch_count_and_are_logged_as_any_other() -> None:
    """Revalidated, changed, first seen or shared: /stats, /metrics and the log are the same at any moment."""
    whole, quick = _counters(), _counters()
    with _writing() as lines:
        for turn in range(9):
            for at, path in enumerate(PATHS[turn % 5 : 60 : 1 + turn % 3]):
                _ask(whole, path, turn + at, is_ordinary=False)
                _ask(quick, path, turn + at, is_ordinary=True)
            if turn % 4 == 3:
                assert _seen(quick) == _seen(whole)
    told = [json.loads(line) for line in lines.getvalue().splitlines()]
    for line in told:
        del line["time"]
    assert len(told) == 2 * whole.replies.total()
    assert told[::2] == told[1::2]
    assert whole.ledger.unsent == quick.ledger.unsent == 0


def _ask(counters: Counters, path: str, at: int, *, is_ordinary: bool) -> None:
    """A read that a batch answers, or another read's answer."""
    mode = (Mode.REVALIDATED, Mode.MISS, Mode.CHANGED, Mode.COALESCED)[at % 4]
    request = Request("graph.test", "v25.0", path, "fields=id", "", CREDENTIAL)
    lane, fingerprint = "quick" if at % 3 else "", KEYS.fingerprint(CREDENTIAL)
    reply = Reply(200, (("ETag", '"a"'),), b'{"id":"1"}', mode, batch=f"b-{at}", lane=lane)
    reply = replace(reply, window_s=at / 512, upstream_s=0.25 + at / 64)
    is_sent = mode is not Mode.COALESCED
    if is_ordinary:
        assert counters.access_log is not None
        counts = counters.route_counts(path, request.query, fingerprint.hex()[:12])
        counts.asked += 1
        counts.counted += is_sent
        counts.wait_for_settling()
        outcome = Outcome(200, len(reply.body), 0.0, 1, avoided=int(not is_sent), sent=int(is_sent))
        line = counters.access_log.prepare(request, reply, outcome, counts.route)
        answer = counts, mode, at / 16, at / 512, len(reply.body), line
        add_answers(counters, [answer], [], AnsweredCall(reply.upstream_s, reply.batch, lane))
        return
    cost = counters.asked(path, request.query, fingerprint)
    if is_sent:
        cost.send(1)
    counters.replied(request, reply, cost, at / 16, reply)


def test_no_hit_is_lost_where_routes_lose_their_labels() -> None:
    """More routes than have labels: each hit is on the line of a route or on that of the others."""
    counters, prepared, given = _counters(), dict[str, PreparedHit](), 0
    for turn in range(6):
        for path in PATHS[:: 1 if turn % 2 else -1][: 20 * (turn + 1)]:
            _give(counters, path, turn, prepared)
            given += 1
    assert counters.replies.total() == counters.ledger.asked == counters.ledger.avoided["fresh"] == given
    assert sum(line.avoided for line in counters.ledger.routes.values()) == given
    assert sum(sum(took.counts) for took in counters.took.values()) == given
    assert {route for _, route, _ in counters.replies} >= {"other"}


def test_no_comparison_is_lost_where_routes_lose_their_labels() -> None:
    """Each is on the line of a route that has a label, or on that of the others."""
    counters, prepared, given = _counters(), dict[str, PreparedHit](), 0
    for turn in range(6):
        for path in PATHS[:: 1 if turn % 2 else -1][: 20 * (turn + 1)]:
            _give(counters, path, turn, prepared)
            counters.compared_with_graph(path, ("json",) if turn else ())
            given += 1
    found = stats(counters)["compare"]
    assert (found["reads"], found["same"] + found["json"]) == (given, given)
    counters.settle()
    assert {route for route, _ in counters.compared} <= set(counters.ledger.routes)


def _give(counters: Counters, path: str, at: int, prepared: dict[str, PreparedHit]) -> None:
    request = Request("graph.test", "v25.0", path, "fields=id", "", CREDENTIAL)
    reply = Reply(200, (("ETag", '"a"'),), b'{"id":"1"}', Mode.REUSED, ttl=9.0, age=float(at))
    if path in prepared:
        prepared[path].add(0.0, at / 1024, float(at))
        return
    cost = counters.asked(path, request.query, KEYS.fingerprint(CREDENTIAL))
    counters.replied(request, reply, cost, at / 1024, reply)
    prepared[path] = counters.prepare_hit(request, reply, KEYS.fingerprint(CREDENTIAL), reply)
