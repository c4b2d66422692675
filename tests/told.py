"""What `/stats` tells, as a sample; a journey sees to it that the real one has the same shape."""

from __future__ import annotations

from typing import Any

NOW = 1_760_000_000.0

STATS: dict[str, Any] = {
    "version": "0.1.0",
    "instance": "ads-7f6d:8080",
    "upstream": "https://graph.facebook.com",
    "uptime_s": 3725.0,
    "now": NOW,
    "state": "serving",
    "open": 2,
    "connections": 5,
    "last_reload": {"successful": True, "at": NOW - 3600},
    "replies": {
        "MISS": 20, "REVALIDATED": 30, "CHANGED": 4, "REUSED": 50, "STALE": 6, "COALESCED": 70, "SKIPPED": 8,
        "FAILED": 9,
    },
    "outcomes": {
        "MISS": 20, "REVALIDATED": 30, "CHANGED": 4, "REUSED": 47, "STALE": 6, "COALESCED": 70, "SKIPPED": 8,
        "FAILED": 9, "REFUSED": 3,
    },
    "error_replies": {"graph": 2, "refused": 3, "sidecar": 9},
    "calls": {"asked": 1180, "counted": 1054, "uncertain": 3, "batches": 120, "slots": 1040, "alone": 6, "passed": 8},
    "calls_avoided": {
        "collapsed": 70, "fresh": 40, "stale": 6, "merged": 5, "superset": 3, "throttle": 2, "refused": 3,
    },
    "bytes_avoided": 45_600_000,
    "round_trips_avoided": 920,
    "slots_per_batch": {"1": 20, "2": 30, "12": 60, "50": 10},
    "lanes": {
        "quick": {"batches": 110, "slots": 1280, "upstream_p50_ms": 43.0, "upstream_p99_ms": 90.0},
        "slow": {"batches": 10, "slots": 20, "upstream_p50_ms": 2100.0, "upstream_p99_ms": 2400.0},
    },
    "asked_again": {"slot": 3},
    "client_batches": {"batches": 2, "operations": 60},
    "webhooks": {"heard": 7, "forged": 0, "refused": 0, "events": 9},
    "queued": 3,
    "in_flight": 2,
    "store": {
        "memory_entries": 812, "memory_bytes": 3_100_000, "memory_evictions": 0, "index_entries": 900, "queue_depth": 2,
        "writes": 900, "writes_dropped": 0, "bad_rows": 0, "disk_entries": 900, "disk_bytes": 12_400_000,
        "disk_evictions": 0, "disk_troubles": 0, "quarantines": 0, "breaker": "closed",
        "other_key": False,
    },
    "window_ms": {"p50": 1.1, "p90": 2.2, "p99": 3.3},
    "upstream_ms": {"p50": 44.0, "p90": 55.0, "p99": 1266.0},
    "loop_lag_ms": {"p50": 0.1, "p99": 2.1},
    "usage": [
        {
            "kind": "app", "id": "9f3c21aa04be", "type": "", "percent": 41.0,
            "trend_per_min": 1.3, "regain_s": None, "regain_named": False,
            "stage": "calm", "age_s": 2.0, "foreseen_percent": None, "foreseen_in_s": None,
        },
        {
            "kind": "account", "id": "act_1", "type": "ads_insights", "percent": 100.0, "trend_per_min": 0.0,
            "regain_s": 1260.0, "regain_named": True, "stage": "stop", "age_s": 31.0,
            "foreseen_percent": None, "foreseen_in_s": None,
        },
    ],
    "paced": {"app": {"reads": 3, "s": 1.5}},
    "stopped": {"app": 1},
    "routes": [
        {
            "route": "/act_{id}/campaigns", "asked": 900, "counted": 800, "uncertain": 0, "avoided": 100, "refused": 0,
            "bytes_avoided": 40_000_000, "p50_ms": 82.1,
        },
        {
            "route": "/{id}", "asked": 280, "counted": 254, "uncertain": 0, "avoided": 26, "refused": 0,
            "bytes_avoided": 5_600_000,
            "p50_ms": 61.0,
        },
    ],
    "apps": [{"app": "9f3c21aa04be", "asked": 1180, "counted": 1054, "uncertain": 0, "avoided": 126, "refused": 0}],
    "accounts": [{"account": "act_1", "asked": 900, "counted": 800, "uncertain": 0, "avoided": 100, "refused": 0}],
    "errors": [
        {"at": NOW - 60, "mode": "FAILED", "status": 504, "route": "/{id}", "code": None, "what": "late"},
        {"at": NOW - 90, "mode": "MISS", "status": 400, "route": "/act_{id}/ads", "code": 17, "what": "throttled"},
    ],
    "troubles": [
        {
            "level": "bad", "about": "quota", "what": "Ad account act_1 ads insights: the limit is reached",
            "ago_s": None, "for_s": 1260.0, "for_named": True,
        },
        {
            "level": "bad", "about": "graph", "what": "Graph does not answer in time",
            "ago_s": 40.0, "for_s": None, "for_named": False,
        },
    ],
}  # fmt: skip
