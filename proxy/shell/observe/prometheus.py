"""`/metrics`: the values of `Counters` in Prometheus' format. Nothing is counted here.

Every label has a bounded set of values: modes, causes, kinds and tiers are words of ours, routes are bounded by
`core.observe.route_template`, and limits by the limiter.

`metrics_route` puts it among the paths of the admin listener; `counters`, `route_counts` (for the fast path) and
`core/quota/ledger` say what is counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from proxy.core.observe.histogram import Histogram
from proxy.core.observe.troubles import ABOUT, LEVELS
from proxy.core.quota.ledger import CAUSES
from proxy.shell.observe.counters import PUSHED, SLOTS, Counters
from proxy.shell.observe.error_counts import ERROR_ORIGINS
from proxy.shell.observe.stats import stats, tightest

STAGES = ("calm", "watch", "spare", "stop")
"""The stages of a limit, in the order of their numbers."""

Value = float | Mapping[str | tuple[str, ...], float]
"""A number, or one for each combination of labels."""


def _troubles(counts: Counters) -> dict[str | tuple[str, ...], float]:
    """Returns how many troubles there are of each level and kind, 0 for none."""
    found = Counter((each["level"], each["about"]) for each in stats(counts)["troubles"])
    return {(level, about): found[level, about] for level in LEVELS for about in ABOUT}


COUNTERS: tuple[tuple[str, str, tuple[str, ...], Callable[[Counters], Value]], ...] = (
    ("replies", "Replies to callers, by mode, route and status.", ("mode", "route", "status"),
     lambda counts: {(mode.value, route, str(status)): n for (mode, route, status), n in counts.replies.items()}),
    ("reply_details", "Replies to reads with a detail in Cache-Status.", ("detail",),
     lambda counts: dict(counts.details.items())),
    ("error_replies", "Error replies: of Graph, Graph's last refusal repeated by the sidecar, or the sidecar's own.",
     ("origin",), lambda counts: {origin: counts.error_replies[origin] for origin in ERROR_ORIGINS}),
    ("calls_asked", "Calls that callers asked for, in Meta's units.", ("route",),
     lambda counts: {route: line.asked for route, line in counts.ledger.routes.items()}),
    ("calls_counted", "Calls that Meta counted: each slot, each id of ids=, each 304.", ("route",),
     lambda counts: {route: line.counted for route, line in counts.ledger.routes.items()}),
    ("calls_uncertain", "Calls that Meta may have counted, or not: cut off, left out, refused with their batch.",
     ("route",), lambda counts: {route: line.uncertain for route, line in counts.ledger.routes.items()}),
    ("calls_avoided", "Calls that were not made, by cause.", ("cause",),
     lambda counts: {cause: counts.ledger.avoided[cause] for cause in CAUSES}),
    ("calls_own", "Calls that no caller asked for: retries, revalidation in the background, comparisons.", (),
     lambda counts: counts.ledger.own),
    ("bytes_avoided", "Bytes of bodies that Graph did not send because it answered 304.", (),
     lambda counts: counts.ledger.bytes_avoided),
    ("round_trips_avoided", "HTTP calls that were not made because reads shared a batch.", (),
     lambda counts: counts.packed - counts.batches),
    ("http_calls", "HTTP calls to Graph: batches of ours, reads alone, callers' own batches, streams.", ("kind",),
     lambda counts: {
         "batch": counts.batches, "alone": counts.alone, "carried": counts.carries, "stream": counts.streamed,
     }),
    ("retries", "Reads that were retried, by cause.", ("cause",), lambda counts: dict(counts.again.items())),
    ("paced_reads", "Low-priority reads that waited so that a limit lasts.", ("pool",),
     lambda counts: dict(counts.waited.items())),
    ("paced_seconds", "Seconds that these reads waited.", ("pool",), lambda counts: dict(counts.waited_s.items())),
    ("limits_reached", "How often a refusal of Graph's stopped a limit.", ("pool",),
     lambda counts: dict(counts.stops.items())),
    ("compared_reads", "Replies compared with Graph's direct ones; one that differs in two ways is in two outcomes.",
     ("route", "outcome"),
     lambda counts: {labels: n for labels, n in counts.compared.items() if labels[1] != "reads"}),
    ("compare_skipped", "Reads that were chosen for a comparison and not compared, by reason.", ("reason",),
     lambda counts: dict(counts.not_compared.items())),
    ("client_batches", "Batches that applications sent themselves.", (), lambda counts: counts.client_batches),
    ("client_operations", "Operations in batches that applications sent themselves.", (),
     lambda counts: counts.client_operations),
    ("webhooks", "Notifications from Meta, by outcome.", ("outcome",),
     lambda counts: {outcome: counts.notifications[outcome] for outcome in PUSHED}),
    ("webhook_events", "Changes in these notifications.", (), lambda counts: counts.events),
    ("store_evictions", "Entries that were evicted.", ("tier",),
     lambda counts: {tier: counts.gauges.store()[f"{tier}_evictions"] for tier in ("memory", "disk")}),
    ("store_writes_dropped", "Entries that were not written because the disk was too slow or failed.", (),
     lambda counts: counts.gauges.store()["writes_dropped"]),
)  # fmt: skip

GAUGES: tuple[tuple[str, str, tuple[str, ...], Callable[[Counters], Value]], ...] = (
    ("build_info", "The running version.", ("version",), lambda counts: {counts.version: 1}),
    ("start_time_seconds", "Start time, in seconds since 1970.", (), lambda counts: counts.start_time),
    ("calls_unsent", "Calls asked for and neither sent nor avoided: waiting, in flight, refused here, given up.", (),
     lambda counts: counts.ledger.unsent),
    ("queue_depth", "Reads that wait for their batch.", (), lambda counts: counts.gauges.queued()),
    ("open_requests", "Requests of callers that are being answered.", (), lambda counts: counts.gauges.open()),
    ("open_connections", "Connections of callers, tunnels included.", (), lambda counts: counts.gauges.connections()),
    ("max_connections", "The setting listener.connections.", (), lambda counts: counts.gauges.max_connections),
    ("draining", "Whether the sidecar is draining.", (), lambda counts: counts.gauges.draining()),
    ("config_last_reload_successful", "Whether the last reload, or the start, took over the settings.", (),
     lambda counts: counts.gauges.last_reload().is_successful),
    ("config_last_reload_success_timestamp_seconds", "When settings were last taken over, in seconds since 1970.", (),
     lambda counts: counts.gauges.last_reload().at),
    ("troubles", "Present troubles, as in /stats.", ("level", "about"), _troubles),
    ("in_flight", "HTTP calls to Graph in flight.", (), lambda counts: counts.in_flight),
    ("tasks", "Tasks of the event loop that have not ended.", (), lambda counts: counts.gauges.tasks()),
    ("store_entries", "Stored entries.", ("tier",),
     lambda counts: {tier: counts.gauges.store()[f"{tier}_entries"] for tier in ("memory", "disk")}),
    ("store_bytes", "Bytes that entries take.", ("tier",),
     lambda counts: {tier: counts.gauges.store()[f"{tier}_bytes"] for tier in ("memory", "disk")}),
    ("store_breaker_open", "Whether the disk is not used for now, after an error.", (),
     lambda counts: counts.gauges.store().get("breaker") == "open"),
    ("usage_stage", "The stage of a limit: 0 calm, 1 watch, 2 spare, 3 stop.", ("kind", "id", "type"),
     lambda counts: {labels: STAGES.index(str(stage)) for labels, stage in _pools(counts, "stage").items()}),
    ("usage_percent", "The newest usage of a limit that Graph reported.", ("kind", "id", "type"),
     lambda counts: _pools(counts, "percent")),
    ("usage_regain_seconds", "Seconds until a reached limit has allowance again.", ("kind", "id", "type"),
     lambda counts: _pools(counts, "regain_s")),
)  # fmt: skip

SHARED_COUNTERS: tuple[tuple[str, str, tuple[str, ...], Callable[[Mapping[str, Any]], Value]], ...] = (
    ("shared_visits", "Visits to the shared store that it answered.", (), lambda counts: counts["visits"]),
    ("shared_visit_seconds", "Seconds that these visits took.", (), lambda counts: counts["visit_s"]),
    ("shared_failures", "Visits that got no answer.", (), lambda counts: counts["failed"]),
    ("shared_refusals", "Commands that the shared store answered with an error.", (), lambda counts: counts["refused"]),
    ("shared_breaker", "How often the shared store stopped answering.", (), lambda counts: counts["opened"]),
    ("shared_flights", "Flights shared with other replicas, by this replica's part.", ("how",),
     lambda counts: counts["flights"]),
    ("shared_alone", "Reads sent without a shared flight, by cause.", ("cause",), lambda counts: counts["alone"]),
    ("shared_entries", "Entries of the shared store.", ("what",), lambda counts: counts["entries"]),
    ("shared_log_records", "Records of the log that were read.", (), lambda counts: counts["log"]["records"]),
    ("shared_log_gaps", "How often records may have been missed.", (), lambda counts: counts["log"]["gaps"]),
    ("shared_log_lineages", "Logs that were begun.", (), lambda counts: counts["log"]["lineages"]),
    ("shared_probes", "Probes of limits: made here, or left to another replica.", ("who",),
     lambda counts: counts["probes"]),
    ("shared_writes_waited", "Writes whose answer waited for the log.", (), lambda counts: counts["writes_waited"]),
    ("shared_writes_untold", "Writes that were answered before the log had them.", (),
     lambda counts: counts["writes_untold"]),
)  # fmt: skip

SHARED_GAUGES: tuple[tuple[str, str, tuple[str, ...], Callable[[Mapping[str, Any]], Value]], ...] = (
    ("shared_up", "Whether the shared store answers.", (), lambda counts: counts["up"]),
    ("shared_believed", "Whether the changes of other replicas are known.", (), lambda counts: counts["believed"]),
    ("shared_replicas", "Replicas seen.", (), lambda counts: counts["replicas"]),
    ("shared_waiting", "Flights of other replicas that callers wait for.", (), lambda counts: counts["waiting"]),
    ("shared_log_lag_seconds", "Seconds since the log was last read.", (), lambda counts: counts["log"]["lag_s"]),
    ("shared_log_untold", "Records that the log has not taken yet.", (), lambda counts: counts["log"]["untold"]),
)  # fmt: skip

HISTOGRAMS: tuple[tuple[str, str, Callable[[Counters], Histogram]], ...] = (
    ("batch_slots", "Slots in a batch of ours.", lambda counts: Histogram.of(SLOTS, counts.sizes)),
    ("window_seconds", "How long a read waited for its batch.", lambda counts: counts.window),
    ("upstream_seconds", "How long Graph took to answer.", lambda counts: counts.upstream),
    ("entry_age_seconds", "Age of entries that were served without asking Graph.", lambda counts: counts.age),
    ("event_loop_lag_seconds", "How late the event loop ran a due task.", lambda counts: counts.lag),
)

LABELLED: tuple[tuple[str, str, str, Callable[[Counters], Mapping[str, Histogram]]], ...] = (
    ("reply_seconds", "How long callers waited.", "mode",
     lambda counts: {mode.value: histogram for mode, histogram in counts.took_by_mode.items()}),
    ("lane_batch_slots", "Slots in a batch of ours, by the speed of the routes in it.", "lane",
     lambda counts: {name: Histogram.of(SLOTS, lane.sizes) for name, lane in counts.lanes.items()}),
    ("lane_upstream_seconds", "How long Graph took to answer a batch, by the speed of the routes in it.", "lane",
     lambda counts: {name: lane.upstream for name, lane in counts.lanes.items()}),
)  # fmt: skip


class Exposition:
    """All metrics of one sidecar, in the format that a reader asks for."""

    def __init__(self, telemetry: Counters) -> None:
        """Read the values of *telemetry* at each scrape."""
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(_CountersCollector(telemetry))
        ProcessCollector(registry=self._registry)

    def scrape(self, accept: str) -> tuple[bytes, str]:
        """Returns the present metrics and their media type, in a format that the *accept* field allows."""
        encode, kind = choose_encoder(accept)
        return encode(self._registry), kind


class _CountersCollector(Collector):
    """Reads the values at each scrape."""

    def __init__(self, telemetry: Counters) -> None:
        self._telemetry = telemetry

    def collect(self) -> Iterator[Metric]:
        counts = self._telemetry
        for name, text, labels, read in COUNTERS:
            yield _filled(CounterMetricFamily(_named(name), text, labels=labels), read(counts))
        for name, text, labels, read in GAUGES:
            yield _filled(GaugeMetricFamily(_named(name), text, labels=labels), read(counts))
        if shared := counts.gauges.shared():
            for name, text, labels, value_of in SHARED_COUNTERS:
                yield _filled(CounterMetricFamily(_named(name), text, labels=labels), value_of(shared))
            for name, text, labels, value_of in SHARED_GAUGES:
                yield _filled(GaugeMetricFamily(_named(name), text, labels=labels), value_of(shared))
        for name, text, of in HISTOGRAMS:
            histogram = of(counts)
            buckets = list(histogram.cumulative())
            yield HistogramMetricFamily(_named(name), text, buckets=buckets, sum_value=histogram.sum)
        for name, text, label, by in LABELLED:
            family = HistogramMetricFamily(_named(name), text, labels=(label,))
            for value, histogram in by(counts).items():
                if any(histogram.counts):
                    family.add_metric((value,), list(histogram.cumulative()), histogram.sum)
            yield family


def _named(name: str) -> str:
    return f"graph_sidecar_{name}"


def _filled(family: CounterMetricFamily | GaugeMetricFamily, value: Value) -> Metric:
    if not isinstance(value, Mapping):
        family.add_metric((), value)
        return family
    for labels, each in value.items():
        family.add_metric((labels,) if isinstance(labels, str) else labels, each)
    return family


def _pools(counts: Counters, what: str) -> dict[str | tuple[str, ...], Any]:
    pools = tightest(counts, counts.usage_series)
    return {(pool["kind"], pool["id"], pool["type"]): pool[what] for pool in pools if pool[what] is not None}
