"""Settings of calls to Graph: connections, batches, merging, quota, paging links."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, ValidationInfo, field_validator

from proxy.settings.base import NAME, Section
from proxy.settings.types import HostList, NoServer, Origin, Servers, UserAgent


class UpstreamSettings(Section):
    """How the sidecar calls Graph."""

    origin: Origin = Field(
        default="https://graph.facebook.com", description="where calls go: scheme, host and perhaps a port"
    )
    hosts: HostList = Field(
        default=(
            "graph.beta.facebook.com",
            "graph-video.facebook.com",
            "graph-video.beta.facebook.com",
            "rupload.facebook.com",
            "streaming-graph.facebook.com",
            "graph.instagram.com",
            "graph.threads.net",
            "graph.threads.com",
        ),
        description="other hosts that an application may name in Host; uploads and streams on them pass through",
    )
    nameservers: Servers = Field(
        default=(),
        description="DNS servers, IP or IP:PORT, that are asked for Graph's addresses past the hosts file; empty "
        "asks the system",
    )
    address: NoServer = Field(
        default="", description="IP or IP:PORT at which Graph is reached, whatever its name resolves to"
    )
    user_agent: UserAgent = Field(
        default=NAME,
        description="User-Agent of every read; ETags depend on it, so it has no version that an upgrade would change",
    )
    connections: int = Field(
        default=64,
        ge=1,
        le=10_000,
        description="calls to Graph at once, streams not included; no token and no kind of call takes the last ones",
    )
    connect_timeout_s: float = Field(
        default=5, ge=0.1, le=300, description="seconds to open a connection to Graph, then 502"
    )
    reply_timeout_s: float = Field(
        default=300,
        ge=0.1,
        le=3600,
        description="seconds without a byte of a reply from Graph, then 504; a late read is not repeated, since "
        "Graph may still be working on it",
    )
    buffered_mb: int = Field(
        default=64,
        ge=2,
        le=1_048_576,
        description="megabytes of all replies that are being read; beyond it they wait their turn; a reply that would "
        "take more than half is not stored: a batch is asked again in parts, a read is streamed to its caller",
    )
    rest_ms: float = Field(
        default=100,
        ge=0,
        le=10_000,
        description="milliseconds that a connection waits after a reply before its next call, so that a second, "
        "unrequested reply is noticed and closes it",
    )


class BatchSettings(Section):
    """How different reads share one call to Graph."""

    enabled: bool = Field(
        default=True, description="whether reads are sent in batches; if not, every read is a call of its own"
    )
    slots: int = Field(default=50, ge=1, le=50, description="most reads in one batch; Graph takes no more than 50")
    window_ms: float = Field(
        default=5,
        ge=0,
        le=1000,
        description="milliseconds that a read waits for others while calls are in flight; a read that finds none "
        "in flight does not wait",
    )
    in_flight: int = Field(
        default=8,
        ge=1,
        le=1000,
        description="batches of one group in flight before the window grows in proportion: behind twice as many "
        "it is twice as long",
    )
    queue: int = Field(
        default=10_000,
        ge=1,
        le=1_000_000,
        description="reads of one group that may wait for a batch; the next caller gets 503 with Retry-After",
    )
    queue_s: float = Field(
        default=2,
        ge=0.1,
        le=3600,
        description="seconds that a read may wait for a connection, then 503 with Retry-After; once the first in "
        "the queue has waited a quarter of it, new reads are refused at once",
    )
    group: Literal["shared", "token"] = Field(
        default="shared",
        description="shared: one batch may hold several tokens, each slot with its own; token: a batch holds the "
        "reads of one token",
    )
    lanes: bool = Field(
        default=True,
        description="whether slow and quick routes leave in batches of their own; the sidecar learns from calls "
        "which is which",
    )


class MergeSettings(Section):
    """How reads of one object that differ in their fields share one call."""

    enabled: bool = Field(
        default=False,
        description="whether reads of one object that differ only in fields become one call, and fresh entries "
        "answer reads of fewer fields or of single ids",
    )


class QuotaSettings(Section):
    """How calls are saved as Graph's rate limits come near."""

    enabled: bool = Field(
        default=True, description="whether the sidecar acts on Graph's rate limits; if not, it only reports them"
    )
    group: Literal["token", "shared"] = Field(
        default="token",
        description="token: each token has limits of its own; shared: all tokens belong to one app and share its "
        "limits",
    )
    watch_pct: float = Field(
        default=60,
        ge=1,
        le=100,
        description="percent of a limit used from which freshness is stretched, where stretch_s allows",
    )
    spare_pct: float = Field(
        default=80,
        ge=1,
        le=100,
        description="percent of a limit used from which reads of low priority wait; not below watch_pct",
    )
    stop_pct: float = Field(
        default=100,
        ge=1,
        le=100,
        description="percent of a limit used from which entries are served in place of a call, where "
        "stale_if_error_s allows; not below spare_pct and above watch_pct",
    )
    probe_s: float = Field(
        default=30,
        ge=0.1,
        le=3600,
        description="longest pause in seconds before a reached limit is probed, where Graph names no time: the "
        "pause begins at 1 s and doubles with each refusal",
    )
    longest_wait_s: float = Field(
        default=30, ge=0, le=3600, description="longest time in seconds that a read of low priority waits"
    )
    foresight_s: float = Field(
        default=300,
        ge=0,
        le=3600,
        description="seconds to look ahead: where reads of low priority use a limit, the stages watch and spare "
        "begin this long before the present rise reaches them; 0 looks at present usage only",
    )

    @field_validator("spare_pct")
    @classmethod
    def _spare_after_watch(cls, value: float, info: ValidationInfo) -> float:
        if value < info.data.get("watch_pct", 0):
            raise ValueError("must not lie below quota.watch_pct")
        return value

    @field_validator("stop_pct")
    @classmethod
    def _stop_after_both(cls, value: float, info: ValidationInfo) -> float:
        if value < info.data.get("spare_pct", 0) or value <= info.data.get("watch_pct", 0):
            raise ValueError("must lie above quota.watch_pct, and not below quota.spare_pct")
        return value


class PagingSettings(Section):
    """Links to further pages inside replies."""

    rewrite: bool = Field(
        default=True, description="whether paging links to Graph are rewritten to point at the sidecar"
    )
