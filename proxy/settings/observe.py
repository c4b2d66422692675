"""Settings of the log, of metrics, of comparisons and of traces."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from proxy.settings.base import Section
from proxy.settings.types import Collector


class LogSettings(Section):
    """The log on standard error."""

    level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="the lowest level that is logged"
    )
    format: Literal["auto", "text", "json"] = Field(
        default="auto", description="auto is text on a terminal and JSON lines elsewhere"
    )
    replies: bool = Field(default=True, description="whether each reply is logged, at level info")
    sample: float = Field(
        default=1,
        ge=0,
        le=1,
        description="share of the lines of good replies that is logged; errors and writes are always logged",
    )


class MetricsSettings(Section):
    """The metrics of `/metrics`."""

    usage_series: int = Field(
        default=100,
        ge=0,
        le=4096,
        description="most limits of Graph in each metric whose name begins with usage_, the tightest first; 0 for none",
    )


class CompareSettings(Section):
    """Comparison of the sidecar's replies with Graph's direct replies: see docs/compare.md."""

    percent: float = Field(
        default=0,
        ge=0,
        le=100,
        description="percent of the reads that are also sent to Graph as they came, to count how the replies differ; "
        "each is a call more",
    )


class TracesSettings(Section):
    """OpenTelemetry traces."""

    endpoint: Collector = Field(
        default="",
        description="URL of an OTLP/HTTP collector, such as http://127.0.0.1:4318/v1/traces; empty for no traces; "
        "needs two more packages, see docs/install.md",
    )
