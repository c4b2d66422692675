"""What Prometheus reads: every name and label, and that they are the numbers that were counted."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from prometheus_client.parser import text_string_to_metric_families

from proxy.core.model import Channel, Mode, Reply
from proxy.core.quota.ledger import CAUSES
from proxy.shell.observe.counters import Counters
from proxy.shell.observe.gauges import Gauges, LastReload
from proxy.shell.observe.metrics_route import metrics_route
from tests.shell.fakes import Clock, ask

STORE = {
    f"{tier}_{what}": number
    for number, tier in enumerate(("memory", "disk"), 1)
    for what in ("entries", "bytes", "evictions")
} | {"writes_dropped": 7, "breaker": "open"}
USAGE = [{"kind": "app", "id": "abc", "type": "x", "stage": "calm", "percent": 61.5, "regain_s": None,
          "regain_named": False, "foreseen_percent": None},
         {"kind": "account", "id": "act_1", "type": "ads_insights", "stage": "stop", "percent": 100.0,
          "regain_s": 90.0, "regain_named": True, "foreseen_percent": None}]  # fmt: skip

Series = dict[tuple[str, ...], float]


async def scraped(telemetry: Counters, accept: str = "") -> web.Response:
    """One scrape."""
    ((row,),) = metrics_route(telemetry).values()
    answer = await row.handler(make_mocked_request("GET", "/metrics", headers={"Accept": accept}))
    assert isinstance(answer, web.Response)
    return answer


async def series(telemetry: Counters) -> Series:
    """What Prometheus makes of it: values by name and labels, each as `name=value`."""
    body = (await scraped(telemetry)).body
    assert isinstance(body, bytes)
    return {
        (sample.name, *(f"{name}={value}" for name, value in sample.labels.items())): sample.value
        for family in text_string_to_metric_families(body.decode())
        for sample in family.samples
    }


@pytest.fixture
def telemetry() -> Counters:
    """One that has seen a little of everything."""
    made = Counters(Clock(), Clock(1_700_000_000.0))
    made.gauges = Gauges(
        connections=lambda: 9,
        max_connections=90,
        draining=lambda: True,
        last_reload=lambda: LastReload(is_successful=False, at=5.0),
        queued=lambda: 3,
        open=lambda: 2,
        tasks=lambda: 5,
        store=lambda: STORE,
        usage=lambda: USAGE,
    )
    request = ask("/act_1/ads")
    cost = made.asked(request.path, request.query, b"f" * 16)
    with made.batch([(cost, 1), (cost, 1)], "quick") as sending:
        sending.left()
        sending.answered([True, True])
    confirmed = Reply(200, (), b"body", Mode.REVALIDATED, window_s=0.004, upstream_s=0.08)
    made.replied(request, confirmed, cost, 0.09, confirmed)
    other = made.asked(request.path, request.query, b"f" * 16)
    fresh = Reply(200, (), b"body", Mode.REUSED, Channel.BATCH, ttl=1.0, age=20.0, detail="stretched")
    made.replied(request, fresh, other, 0.001, fresh)
    made.asked_again(1, "slot")
    made.pushed("heard", 2)
    made.compared_with_graph("/1", ("json", "headers"))
    made.not_compared["limit"] += 1
    made.paced(1.5, "app")
    made.stopped("account/ads_insights")
    made.lagged(0.002)
    return made


async def test_the_numbers_are_those_that_were_counted(telemetry: Counters) -> None:
    """Each under its name, with its labels."""
    told = await series(telemetry)
    for key, value in {
        ("replies_total", "mode=REVALIDATED", "route=/act_{id}/ads", "status=200"): 1,
        ("reply_details_total", "detail=stretched"): 1,
        ("calls_asked_total", "route=/act_{id}/ads"): 2, ("calls_counted_total", "route=/act_{id}/ads"): 2,
        ("calls_avoided_total", "cause=fresh"): 1, ("calls_avoided_total", "cause=throttle"): 0,
        ("calls_own_total",): 1, ("calls_unsent",): 0, ("bytes_avoided_total",): 4, ("round_trips_avoided_total",): 1,
        ("http_calls_total", "kind=batch"): 1, ("http_calls_total", "kind=alone"): 0,
        ("retries_total", "cause=slot"): 1, ("queue_depth",): 3, ("in_flight",): 0, ("tasks",): 5,
        ("batch_slots_bucket", "le=1.0"): 0, ("batch_slots_bucket", "le=2.0"): 1, ("batch_slots_sum",): 2,
        ("lane_batch_slots_sum", "lane=quick"): 2, ("lane_upstream_seconds_count", "lane=quick"): 1,
        ("window_seconds_bucket", "le=0.005"): 1, ("upstream_seconds_bucket", "le=0.1"): 1,
        ("entry_age_seconds_bucket", "le=15.0"): 0, ("entry_age_seconds_bucket", "le=60.0"): 1,
        ("webhooks_total", "outcome=heard"): 1,
        ("event_loop_lag_seconds_count",): 1, ("reply_seconds_count", "mode=REUSED"): 1,
        ("store_entries", "tier=memory"): 1, ("store_evictions_total", "tier=disk"): 2,
        ("store_writes_dropped_total",): 7, ("start_time_seconds",): 1_700_000_000.0,
        ("usage_percent", "id=abc", "kind=app", "type=x"): 61.5, ("usage_stage", "id=abc", "kind=app", "type=x"): 0,
        ("usage_stage", "id=act_1", "kind=account", "type=ads_insights"): 3,
        ("open_connections",): 9, ("max_connections",): 90, ("open_requests",): 2, ("draining",): 1,
        ("config_last_reload_successful",): 0, ("config_last_reload_success_timestamp_seconds",): 5,
        ("store_breaker_open",): 1, ("troubles", "about=drain", "level=warn"): 1,
        ("troubles", "about=settings", "level=warn"): 1, ("troubles", "about=store", "level=warn"): 1,
        ("troubles", "about=quota", "level=bad"): 1, ("troubles", "about=graph", "level=bad"): 0,
        ("usage_regain_seconds", "id=act_1", "kind=account", "type=ads_insights"): 90,
    }.items():  # fmt: skip
        assert told[f"graph_sidecar_{key[0]}", *key[1:]] == value, key
    assert told[("graph_sidecar_tasks",)] == 5
    assert ("graph_sidecar_usage_regain_seconds", "id=abc", "kind=app", "type=x") not in told


async def test_the_format_is_the_one_that_is_asked_for(telemetry: Counters) -> None:
    """Plain text for anybody, OpenMetrics for those who say so."""
    plain, modern = await scraped(telemetry), await scraped(telemetry, "application/openmetrics-text; version=1.0.0")
    assert plain.headers["Content-Type"].startswith("text/plain")
    assert modern.headers["Content-Type"].startswith("application/openmetrics-text")
    assert isinstance(modern.body, bytes)
    assert modern.body.endswith(b"# EOF\n")


async def test_labels_are_bounded(telemetry: Counters) -> None:
    """Whatever callers ask for, a scrape stays as small."""
    for number in range(1000):
        name = "".join(chr(97 + int(digit)) for digit in str(number))
        cost = telemetry.asked(f"/1/{name}", "", number.to_bytes(16, "big"))
        telemetry.replied(ask(f"/1/{name}"), Reply(200, (), b""), cost, 0.1, Reply(200, (), b""))
    told = await series(telemetry)
    assert len({key[2] for key in told if key[0] == "graph_sidecar_replies_total"}) <= 65
    assert sum(told[key] for key in told if key[0] == "graph_sidecar_replies_total") == 1002
    assert told["graph_sidecar_calls_asked_total", "route=other"] > 900


async def test_series_of_limits_are_as_many_as_the_setting_says(telemetry: Counters) -> None:
    """The tightest remain, whatever is known of others."""
    for most, shown in ((1, {"id=act_1"}), (0, set())):
        telemetry.usage_series = most
        told = await series(telemetry)
        assert {key[1] for key in told if key[0] == "graph_sidecar_usage_percent"} == shown


async def test_every_cause_is_told_from_the_start() -> None:
    """A counter that is not there yet cannot be subtracted from."""
    fresh = Counters(Clock(), Clock())
    fresh.gauges = Gauges(store=lambda: STORE)
    told = await series(fresh)
    assert {key[1] for key in told if key[0] == "graph_sidecar_calls_avoided_total"} == {f"cause={c}" for c in CAUSES}


async def test_the_docs_name_every_metric(telemetry: Counters) -> None:
    """And none that is not there."""
    ours = {name.removeprefix("graph_sidecar_") for name, *_ in await series(telemetry) if name.startswith("graph_")}
    told = {re.sub(r"_(bucket|count|sum)$", "", name) for name in ours if not name.endswith("_created")}
    assert set(_in_docs()) == told


def _in_docs() -> Iterator[str]:
    text = Path(__file__).parents[3].joinpath("docs/observing.md").read_text()
    table = text.partition("| metric | labels |")[2].partition("\n\n")[0]
    for row in table.splitlines():
        yield from re.findall(r"`([a-z_]+)`", row.partition("|")[2].partition("|")[0])
