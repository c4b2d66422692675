"""Grafana's dashboard and the alerts ask for nothing that /metrics does not tell."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from tests.journeys.conftest import MakeScene
from tests.shell.valkey.servers import free_port

CONFIG = Path(__file__).parents[2] / "config"
DASHBOARD = json.loads((CONFIG / "grafana" / "dashboard.json").read_text())
ALERTS = yaml.safe_load((CONFIG / "prometheus" / "alerts.yaml").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
OF_PROMETHEUS = {"instance", "job", "le"}
"""Labels that the scraper adds, or that every histogram has."""


def queries() -> Iterator[tuple[str, str]]:
    """Every query with the title of its panel, Grafana's own variables filled in."""
    for panel in PANELS:
        for target in panel["targets"]:
            text = target["expr"].replace("$__rate_interval", "1m").replace("$__range", "1h").replace("$instance", "a")
            yield panel["title"], text


def alerts() -> Iterator[tuple[str, str]]:
    """Every alert's condition with its name."""
    for group in ALERTS["groups"]:
        for rule in group["rules"]:
            yield rule["alert"], rule["expr"]


def selectors(found: Any) -> Iterator[Any]:
    """The metrics that a query names."""
    if isinstance(found, promql_parser.VectorSelector):
        yield found
    for name in ("expr", "vector_selector", "lhs", "rhs", "param"):
        if (inner := getattr(found, name, None)) is not None:
            yield from selectors(inner)
    for inner in getattr(found, "args", ()):
        yield from selectors(inner)


@pytest.fixture
async def told(scene: MakeScene, tmp_path: Path) -> dict[str, set[str]]:
    """The metrics that a sidecar tells, by the names that a query uses, each with its labels."""
    apart = {"url": f"redis://127.0.0.1:{free_port()}"}  # a store that is away: metrics of the fleet are told
    cache = {"key_file": tmp_path / "key"}
    here = await scene({"rules": [{"path": "/*", "fresh_s": 60}], "shared": apart, "cache": cache})
    for path in ("/v25.0/111", "/v25.0/111", "/v25.0/222/picture", "/v25.0/act_1/campaigns"):
        await here.say(path, token="ann")
    raw = await here.caller.say(f"{here.front.admin_url}/metrics", headers={"Accept": "text/plain; version=0.0.4"})
    found: dict[str, set[str]] = defaultdict(set)
    for family in text_string_to_metric_families(raw.body.decode()):
        found[f"{family.name}_total" if family.type == "counter" else family.name] |= set()
        if family.type == "histogram":
            found[f"{family.name}_bucket"] |= set()
        for sample in family.samples:
            found[sample.name] |= sample.labels.keys()
    return found


async def test_every_query_names_metrics_that_exist(told: dict[str, set[str]]) -> None:
    """Each metric of each query is one that is told, and each label one that it has."""
    told["up"] = set()  # Prometheus makes it itself
    for title, text in (*queries(), *alerts()):
        named = list(selectors(promql_parser.parse(text)))
        assert named, title
        for selector in named:
            assert selector.name in told, f"{title}: {selector.name}"
        labels = {label for group in re.findall(r"by \(([^)]*)\)", text) for label in group.split(", ")}
        labels |= {label for group in re.findall(r"\{([^}]*)\}", text) for label in re.findall(r"(\w+)=", group)}
        has = set().union(*(told[selector.name] for selector in named))
        assert not has or labels - OF_PROMETHEUS <= has, f"{title}: {labels - has}"


async def test_what_is_told_is_shown(told: dict[str, set[str]]) -> None:
    """Nothing of ours that matters goes unseen: the three savings, what is asked and counted, quota and times."""
    asked = " ".join(text for _, text in queries())
    for name in (
        "calls_avoided_total", "bytes_avoided_total", "round_trips_avoided_total", "calls_asked_total",
        "calls_counted_total", "replies_total", "usage_percent", "usage_regain_seconds", "batch_slots_bucket",
        "upstream_seconds_bucket", "window_seconds_bucket", "event_loop_lag_seconds_bucket",
        "shared_flights_total", "shared_alone_total", "shared_log_lag_seconds", "shared_replicas",
    ):  # fmt: skip
        assert f"graph_sidecar_{name}" in asked


def test_panels_lie_side_by_side() -> None:
    """Each panel has a title, an explanation and a unit, and none lies over another; no panel adds up the savings."""
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken
        assert max(x for x, _ in cells) < 24
        taken |= cells
    for panel in PANELS:
        assert panel["title"]
        assert panel["description"]
        assert panel["fieldConfig"]["defaults"]["unit"]
        assert sum(saving in json.dumps(panel["targets"]) for saving in ("calls_av", "bytes_av", "round_trips_av")) <= 1
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
