"""`/metrics`: what `Counters` has counted, in the format that Prometheus reads. Nothing is counted here.

Every label has a bounded set of values: modes, causes, kinds and tiers are words of ours, routes are at most as many as
`core.observe.route_template` tells apart, usage is of the limits that the limiter keeps.
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
from proxy.shell.observe.counters import ERROR_ORIGINS, PUSHED, Counters
from proxy.shell.observe.stats import stats, tightest

STAGES = ("calm", "watch", "spare", "stop")
"""The stages of a limit, in the order of their numbers."""

Value = float | Mapping[str | tuple[str, ...], float]
"""A number, or one for each combination of labels."""


def _troubles(told: Counters) -> dict[str | tuple[str, ...], float]:
    """Returns how many troubles there are of each level and kind, 0 for none."""
    found = Counter((each["level"], each["about"]) for each in stats(told)["troubles"])
    return {(level, about): found[level, about] for level in LEVELS for about in ABOUT}


COUNTERS: tuple[tuple[str, str, tuple[str, ...], Callable[[Counters], Value]], ...] = (
    ("replies", "Replies to callers, by how they came about.", ("mode", "route", "status"),
     lambda told: {(mode.value, route, str(status)): n for (mode, route, status), n in told.replies.items()}),
    ("reply_details", "Replies to reads that have a detail in Cache-Status, by it.", ("detail",),
     lambda told: dict(told.details.items())),
    ("error_replies", "Replies with an error: Graph's now, its last refusal given again here, the sidecar's own.",
     ("origin",), lambda told: {origin: told.error_replies[origin] for origin in ERROR_ORIGINS}),
    ("calls_asked", "Calls that callers asked for, in Meta's units.", ("route",),
     lambda told: {route: line.asked for route, line in told.ledger.routes.items()}),
    ("calls_counted", "Calls that Meta counted: each slot, each id of ids=, each 304.", ("route",),
     lambda told: {route: line.counted for route, line in told.ledger.routes.items()}),
    ("calls_uncertain", "Calls that Meta may have counted, or not: cut off, left out, refused with their batch.",
     ("route",), lambda told: {route: line.uncertain for route, line in told.ledger.routes.items()}),
    ("calls_avoided", "Calls that were not made, by cause.", ("cause",),
     lambda told: {cause: told.ledger.avoided[cause] for cause in CAUSES}),
    ("calls_own", "Calls that no caller asked for: again after trouble, behind a reply, to compare.", (),
     lambda told: told.ledger.own),
    ("bytes_avoided", "Bytes of bodies that did not come again because Graph said 304.", (),
     lambda told: told.ledger.bytes_avoided),
    ("round_trips_avoided", "HTTP calls that were not made because reads shared a batch.", (),
     lambda told: told.packed - told.batches),
    ("http_calls", "HTTP calls to Graph: batches of ours, reads alone, callers' own batches, streams.", ("kind",),
     lambda told: {"batch": told.batches, "alone": told.alone, "carried": told.carries, "stream": told.streamed}),
    ("retries", "Reads that had to be asked again, by cause.", ("cause",), lambda told: dict(told.again.items())),
    ("paced_reads", "Reads that had time and waited their turn for the sake of a limit.", ("pool",),
     lambda told: dict(told.waited.items())),
    ("paced_seconds", "How long those waited in all.", ("pool",), lambda told: dict(told.waited_s.items())),
    ("limits_reached", "How often Graph's refusal stopped a pool.", ("pool",), lambda told: dict(told.stops.items())),
    ("compared_reads", "Replies compared with Graph's direct ones; one that differs in two ways is in two outcomes.",
     ("route", "outcome"),
     lambda told: {labels: n for labels, n in told.compared.items() if labels[1] != "reads"}),
    ("compare_skipped", "Reads that were to be compared and were not, by what was in the way.", ("reason",),
     lambda told: dict(told.not_compared.items())),
    ("client_batches", "Batches that applications sent themselves.", (), lambda told: told.client_batches),
    ("client_operations", "Operations in batches that applications sent themselves.", (),
     lambda told: told.client_operations),
    ("webhooks", "Notifications of Meta's, by what became of them.", ("outcome",),
     lambda told: {outcome: told.notifications[outcome] for outcome in PUSHED}),
    ("webhook_events", "Changes that Meta told of.", (), lambda told: told.events),
    ("store_evictions", "Entries that gave way to others.", ("tier",),
     lambda told: {tier: told.gauges.store()[f"{tier}_evictions"] for tier in ("memory", "disk")}),
    ("store_writes_dropped", "Entries that were not written, for the disk was too slow or in trouble.", (),
     lambda told: told.gauges.store()["writes_dropped"]),
)  # fmt: skip

GAUGES: tuple[tuple[str, str, tuple[str, ...], Callable[[Counters], Value]], ...] = (
    ("build_info", "The version that runs.", ("version",), lambda told: {told.version: 1}),
    ("start_time_seconds", "When it began, in seconds since 1970.", (), lambda told: told.start_time),
    ("calls_unsent", "Calls asked for and neither sent nor avoided: waiting, on their way, refused here, given up.", (),
     lambda told: told.ledger.unsent),
    ("queue_depth", "Reads that wait for their batch.", (), lambda told: told.gauges.queued()),
    ("open_requests", "Requests of callers that are being answered.", (), lambda told: told.gauges.open()),
    ("open_connections", "Connections of callers, tunnels included.", (), lambda told: told.gauges.connections()),
    ("max_connections", "The setting listener.connections.", (), lambda told: told.gauges.max_connections),
    ("draining", "Whether the sidecar is on its way out.", (), lambda told: told.gauges.draining()),
    ("config_last_reload_successful", "Whether the settings were taken at the last try; the start counts.", (),
     lambda told: told.gauges.last_reload().is_successful),
    ("config_last_reload_success_timestamp_seconds", "When settings were taken last, in seconds since 1970.", (),
     lambda told: told.gauges.last_reload().at),
    ("troubles", "What is wrong now, as /stats has it.", ("level", "about"), _troubles),
    ("in_flight", "HTTP calls to Graph that are on their way.", (), lambda told: told.in_flight),
    ("tasks", "Tasks of the event loop that have not ended.", (), lambda told: told.gauges.tasks()),
    ("store_entries", "Entries held.", ("tier",),
     lambda told: {tier: told.gauges.store()[f"{tier}_entries"] for tier in ("memory", "disk")}),
    ("store_bytes", "Bytes that entries take.", ("tier",),
     lambda told: {tier: told.gauges.store()[f"{tier}_bytes"] for tier in ("memory", "disk")}),
    ("store_breaker_open", "Whether the disk is left alone after trouble.", (),
     lambda told: told.gauges.store().get("breaker") == "open"),
    ("usage_stage", "What the sidecar does about a pool: 0 calm, 1 watch, 2 spare, 3 stop.", ("kind", "id", "type"),
     lambda told: {labels: STAGES.index(str(stage)) for labels, stage in _pools(told, "stage").items()}),
    ("usage_percent", "The newest usage that Graph told of, by pool.", ("kind", "id", "type"),
     lambda told: _pools(told, "percent")),
    ("usage_regain_seconds", "Seconds until a pool that is spent has calls again.", ("kind", "id", "type"),
     lambda told: _pools(told, "regain_s")),
)  # fmt: skip

SHARED_COUNTERS: tuple[tuple[str, str, tuple[str, ...], Callable[[Mapping[str, Any]], Value]], ...] = (
    ("shared_visits", "Visits to the shared store that it answered.", (), lambda told: told["visits"]),
    ("shared_visit_seconds", "Seconds that pieces were on their way there.", (), lambda told: told["visit_s"]),
    ("shared_failures", "Visits that got no answer.", (), lambda told: told["failed"]),
    ("shared_refusals", "Commands that the shared store answered with an error.", (), lambda told: told["refused"]),
    ("shared_breaker", "How often the shared store went away.", (), lambda told: told["opened"]),
    ("shared_flights", "Reads that replicas asked as one, by this one's part.", ("how",), lambda told: told["flights"]),
    ("shared_alone", "Reads that were asked without the others, by cause.", ("cause",), lambda told: told["alone"]),
    ("shared_entries", "Entries of the shared store.", ("what",), lambda told: told["entries"]),
    ("shared_log_records", "Records of the log that were read.", (), lambda told: told["log"]["records"]),
    ("shared_log_gaps", "Times at which records may have been missed.", (), lambda told: told["log"]["gaps"]),
    ("shared_log_lineages", "Logs that were begun.", (), lambda told: told["log"]["lineages"]),
    ("shared_probes", "Probes of limits: made here, or left to another replica.", ("who",),
     lambda told: told["probes"]),
    ("shared_writes_waited", "Writes whose answer waited for the log.", (), lambda told: told["writes_waited"]),
    ("shared_writes_untold", "Writes that were answered before the log had them.", (),
     lambda told: told["writes_untold"]),
)  # fmt: skip

SHARED_GAUGES: tuple[tuple[str, str, tuple[str, ...], Callable[[Mapping[str, Any]], Value]], ...] = (
    ("shared_up", "Whether the shared store answers.", (), lambda told: told["up"]),
    ("shared_believed", "Whether what other replicas change is heard.", (), lambda told: told["believed"]),
    ("shared_replicas", "Replicas seen.", (), lambda told: told["replicas"]),
    ("shared_waiting", "Flights of other replicas that are waited for.", (), lambda told: told["waiting"]),
    ("shared_log_lag_seconds", "Age of the last reading of the log.", (), lambda told: told["log"]["lag_s"]),
    ("shared_log_untold", "Records that the log has not taken yet.", (), lambda told: told["log"]["untold"]),
)  # fmt: skip

HISTOGRAMS: tuple[tuple[str, str, Callable[[Counters], Histogram]], ...] = (
    ("batch_slots", "Slots in a batch of ours.", lambda told: told.slots),
    ("window_seconds", "How long a read waited for company.", lambda told: told.window),
    ("upstream_seconds", "How long Graph took to answer.", lambda told: told.upstream),
    ("entry_age_seconds", "Age of what was served without asking Graph.", lambda told: told.age),
    ("event_loop_lag_seconds", "How late the event loop came to what was due.", lambda told: told.lag),
)

LABELLED: tuple[tuple[str, str, str, Callable[[Counters], Mapping[str, Histogram]]], ...] = (
    ("reply_seconds", "How long callers waited.", "mode",
     lambda told: {mode.value: histogram for mode, histogram in told.took_by_mode.items()}),
    ("lane_batch_slots", "Slots in a batch of ours, by the speed of the routes in it.", "lane",
     lambda told: {name: lane.slots for name, lane in told.lanes.items()}),
    ("lane_upstream_seconds", "How long Graph took to answer a batch, by the speed of the routes in it.", "lane",
     lambda told: {name: lane.upstream for name, lane in told.lanes.items()}),
)  # fmt: skip


class Exposition:
    """All metrics of one sidecar, in the format that a reader asks for."""

    def __init__(self, telemetry: Counters) -> None:
        """Read the numbers off *telemetry* at each scrape."""
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(_Told(telemetry))
        ProcessCollector(registry=self._registry)

    def scrape(self, accept: str) -> tuple[bytes, str]:
        """Returns the metrics of now and their media type, for a reader who takes what *accept* says."""
        encode, kind = choose_encoder(accept)
        return encode(self._registry), kind


class _Told(Collector):
    """Reads the numbers off when they are asked for."""

    def __init__(self, telemetry: Counters) -> None:
        self._telemetry = telemetry

    def collect(self) -> Iterator[Metric]:
        told = self._telemetry
        for name, text, labels, read in COUNTERS:
            yield _filled(CounterMetricFamily(_named(name), text, labels=labels), read(told))
        for name, text, labels, read in GAUGES:
            yield _filled(GaugeMetricFamily(_named(name), text, labels=labels), read(told))
        if shared := told.gauges.shared():
            for name, text, labels, tell in SHARED_COUNTERS:
                yield _filled(CounterMetricFamily(_named(name), text, labels=labels), tell(shared))
            for name, text, labels, tell in SHARED_GAUGES:
                yield _filled(GaugeMetricFamily(_named(name), text, labels=labels), tell(shared))
        for name, text, of in HISTOGRAMS:
            histogram = of(told)
            buckets = list(histogram.cumulative())
            yield HistogramMetricFamily(_named(name), text, buckets=buckets, sum_value=histogram.sum)
        for name, text, label, by in LABELLED:
            family = HistogramMetricFamily(_named(name), text, labels=(label,))
            for value, histogram in by(told).items():
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


def _pools(told: Counters, what: str) -> dict[str | tuple[str, ...], Any]:
    pools = tightest(told, told.usage_series)
    return {(pool["kind"], pool["id"], pool["type"]): pool[what] for pool in pools if pool[what] is not None}
