"""What is told, and where."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from proxy.settings.base import Section
from proxy.settings.types import Collector


class LogSettings(Section):
    """What is told on standard error."""

    level: Literal["debug", "info", "warning", "error"] = Field(default="info", description="the least that is told")
    format: Literal["auto", "text", "json"] = Field(
        default="auto", description="auto: text on a terminal, JSON lines elsewhere"
    )
    replies: bool = Field(default=True, description="whether each reply is a line, at info")


class TracesSettings(Section):
    """Where spans go; needs the extra `traces`."""

    endpoint: Collector = Field(
        default="", description="an OTLP/HTTP collector, such as http://127.0.0.1:4318/v1/traces; empty: no traces"
    )
