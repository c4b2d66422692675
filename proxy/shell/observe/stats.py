"""The document of `/stats`: the sums of `Counters` as JSON, and the present troubles. Nothing is counted here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from proxy.core.model import Mode
from proxy.core.observe.histogram import Histogram
from proxy.core.observe.troubles import troubles
from proxy.core.quota.ledger import CAUSES, LedgerLine
from proxy.core.reply.comparison import KINDS
from proxy.shell.observe.counters import PUSHED, Counters
from proxy.shell.observe.error_counts import ERROR_ORIGINS

TOP = 20
"""The most routes, and the most accounts, that are shown."""

LIMITS = 100
"""The most limits of Graph's that are shown, the tightest: each token may have some, and dashboards ask each second."""


def stats(telemetry: Counters) -> dict[str, Any]:
    """Returns the document of `/stats`, with the present troubles."""
    numbers = _numbers(telemetry)
    if shared := telemetry.gauges.shared():
        numbers["shared"] = dict(shared)
    return {**numbers, "troubles": troubles(numbers)}


def _numbers(telemetry: Counters) -> dict[str, Any]:
    sums = telemetry.ledger
    return {
        "version": telemetry.version,
        "instance": telemetry.instance,
        "upstream": telemetry.upstream_origin,
        "uptime_s": round(telemetry.clock() - telemetry.began, 1),
        "now": round(telemetry.now(), 3),
        "state": "draining" if telemetry.gauges.draining() else "serving",
        "open": telemetry.gauges.open(),
        "connections": telemetry.gauges.connections(),
        "last_reload": _last_reload(telemetry),
        "replies": _modes(telemetry),
        "outcomes": _modes_shown(telemetry),
        "error_replies": {origin: telemetry.error_replies[origin] for origin in ERROR_ORIGINS},
        "calls": _calls(telemetry),
        "calls_avoided": {cause: sums.avoided[cause] for cause in CAUSES},
        "bytes_avoided": sums.bytes_avoided,
        "round_trips_avoided": telemetry.packed - telemetry.batches,
        "slots_per_batch": {str(size): telemetry.sizes[size] for size in sorted(telemetry.sizes)},
        "lanes": _lanes(telemetry),
        "asked_again": dict(sorted(telemetry.again.items())),
        "client_batches": {"batches": telemetry.client_batches, "operations": telemetry.client_operations},
        "webhooks": {**{word: telemetry.notifications[word] for word in PUSHED}, "events": telemetry.events},
        "queued": telemetry.gauges.queued(),
        "in_flight": telemetry.in_flight,
        "compare": _compared(telemetry),
        "store": dict(telemetry.gauges.store()),
        "window_ms": _quantiles(telemetry.window, 50, 90, 99),
        "upstream_ms": _quantiles(telemetry.upstream, 50, 90, 99),
        "loop_lag_ms": _quantiles(telemetry.lag, 50, 99),
        "usage": tightest(telemetry),
        "paced": _paced(telemetry),
        "stopped": dict(sorted(telemetry.stops.items())),
        "routes": [_route(telemetry, route, line) for route, line in _top(sums.routes)],
        "apps": [{"app": name, **_shown(line)} for name, line in _top(sums.apps)],
        "accounts": [{"account": name, **_shown(line)} for name, line in _top(sums.accounts)],
        "errors": list(reversed(telemetry.errors)),
    }


def _last_reload(telemetry: Counters) -> dict[str, object]:
    is_successful, at = telemetry.gauges.last_reload()
    return {"successful": is_successful, "at": round(at, 3)}


def _lanes(telemetry: Counters) -> dict[str, dict[str, float]]:
    """Returns the batches of each lane: how many, their slots, and how long Graph took of late."""
    return {
        name: {
            "batches": lane.sizes.total(),
            "slots": sum(size * number for size, number in lane.sizes.items()),
            **{f"upstream_{word}_ms": each for word, each in _quantiles(lane.upstream, 50, 99).items()},
        }
        for name, lane in telemetry.lanes.items()
        if lane.sizes
    }


def _modes(telemetry: Counters) -> dict[str, int]:
    """Returns the number of replies of each mode, over all routes and statuses."""
    modes: Counter[Mode] = Counter()
    for (mode, _, _), number in telemetry.replies.items():
        modes[mode] += number
    return {mode.value: modes[mode] for mode in Mode}


def _modes_shown(telemetry: Counters) -> dict[str, int]:
    """Returns the replies by mode; those that gave Graph's last refusal again are a mode of their own."""
    modes = _modes(telemetry)
    for mode, number in telemetry.refused.items():
        modes[mode.value] -= number
    return {**modes, "REFUSED": telemetry.refused.total()}


def _calls(telemetry: Counters) -> dict[str, int]:
    sums = telemetry.ledger
    return {
        "asked": sums.asked,
        "counted": sums.counted,
        "uncertain": sums.uncertain,
        "unsent": sums.unsent,
        "own": sums.own,
        "batches": telemetry.batches,
        "slots": telemetry.packed,
        "alone": telemetry.alone,
        "passed": telemetry.streamed,
    }


def _compared(telemetry: Counters) -> dict[str, Any]:
    """Returns the comparisons with direct replies, in all and by route; a reply may differ in two ways."""
    sums, routes = Counter[str](), dict[str, Counter[str]]()
    for (route, outcome), number in telemetry.compared.items():
        sums[outcome] += number
        routes.setdefault(route, Counter())[outcome] += number
    most = sorted(routes.items(), key=lambda row: (row[1]["reads"] - row[1]["same"], row[1]["reads"]), reverse=True)
    return {
        "percent": telemetry.compare_percent(),
        **_outcomes(sums),
        "skipped": dict(sorted(telemetry.not_compared.items())),
        "routes": [{"route": route, **_outcomes(found)} for route, found in most[:TOP]],
    }


def _outcomes(found: Counter[str]) -> dict[str, int]:
    return {outcome: found[outcome] for outcome in ("reads", "same", *KINDS)}


def _paced(telemetry: Counters) -> dict[str, dict[str, float]]:
    """Returns how many low-priority reads waited, and how long, by the type of the limit."""
    return {
        pool: {"reads": reads, "s": round(telemetry.waited_s[pool], 3)}
        for pool, reads in sorted(telemetry.waited.items())
    }


def _route(telemetry: Counters, route: str, line: LedgerLine) -> dict[str, object]:
    took = telemetry.took.get(route)
    p50 = round(took.quantile(0.5) * 1000, 1) if took else 0.0
    return {"route": route, **_shown(line), "bytes_avoided": line.bytes_avoided, "p50_ms": p50}


def _quantiles(histogram: Histogram, *percents: int) -> dict[str, float]:
    """Returns the quantiles of *histogram* in milliseconds, by their usual names."""
    return {f"p{percent}": round(histogram.quantile(percent / 100) * 1000, 2) for percent in percents}


def tightest(telemetry: Counters, most: int = LIMITS) -> list[Mapping[str, Any]]:
    """Returns the limits with the least room left, at most *most* of them, the tightest first."""
    return sorted(telemetry.gauges.usage(), key=_tightness, reverse=True)[:most]


def _tightness(pool: Mapping[str, Any]) -> tuple[bool, float]:
    """Return the key by which limits are sorted: Graph may refuse calls for a limit with a small usage."""
    return pool["stage"] == "stop", pool["percent"]


def _top(lines: Mapping[str, LedgerLine]) -> list[tuple[str, LedgerLine]]:
    return sorted(lines.items(), key=lambda item: item[1].asked, reverse=True)[:TOP]


def _shown(line: LedgerLine) -> dict[str, int]:
    names = ("asked", "counted", "uncertain", "avoided", "refused")
    return {name: getattr(line, name) for name in names}
