"""How Graph is asked: where, in what company, and how often."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, ValidationInfo, field_validator

from proxy.settings.base import NAME, Section
from proxy.settings.types import HostList, NoServer, Origin, Servers, UserAgent


class UpstreamSettings(Section):
    """Graph, as the sidecar asks it."""

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
        description="the other hosts that an application may ask for by Host",
    )
    nameservers: Servers = Field(
        default=(),
        description="DNS servers that are asked for Graph's addresses, past the hosts file; none: as the system does",
    )
    address: NoServer = Field(
        default="", description="an IP address, perhaps with a port, where Graph is reached whatever its name says"
    )
    user_agent: UserAgent = Field(
        default=NAME,
        description="sent with every read; ETags depend on it, so it holds no version that an upgrade would change",
    )
    connections: int = Field(
        default=64,
        ge=1,
        le=10_000,
        description="calls to Graph at once, streams apart; no token and no kind of call takes the last ones",
    )
    connect_timeout_s: float = Field(
        default=5, ge=0.1, le=300, description="seconds that opening a connection to Graph may take"
    )
    reply_timeout_s: float = Field(
        default=300,
        ge=0.1,
        le=3600,
        description="seconds that Graph may be silent over a reply, then 504; a late read is not asked again",
    )
    buffer_mb: int = Field(
        default=64,
        ge=2,
        le=1_048_576,
        description="megabytes of all replies that are being read; one that would hold more than half is streamed",
    )
    rest_ms: float = Field(
        default=100,
        ge=0,
        le=10_000,
        description="milliseconds that a connection rests after a reply: a second one that nobody asked for ends it",
    )


class BatchSettings(Section):
    """How reads that differ share one call to Graph."""

    enabled: bool = Field(default=True, description="whether reads ride in batches at all")
    slots: int = Field(default=50, ge=1, le=50, description="reads in one batch, at most; Graph takes no more than 50")
    window_ms: float = Field(
        default=5,
        ge=0,
        le=1000,
        description="milliseconds that a read waits for company; one that finds nothing in flight waits for nobody",
    )
    in_flight: int = Field(
        default=8,
        ge=1,
        le=1000,
        description="batches of one group that Graph works on before the window widens: behind twice as many it is "
        "twice as long",
    )
    queue: int = Field(
        default=10_000,
        ge=1,
        le=1_000_000,
        description="reads of one group that may wait; a caller beyond them gets a 503 with Retry-After",
    )
    queue_s: float = Field(
        default=2,
        ge=0.1,
        le=3600,
        description="seconds that a read waits for a connection, at most, then 503; once the first in line has waited "
        "a quarter of them, newcomers get it at once",
    )
    group: Literal["shared", "token"] = Field(
        default="shared",
        description="shared: tokens ride together, each slot with its own; token: a batch holds one token",
    )


class MergeSettings(Section):
    """How reads of one node or edge that differ in their fields share one call."""

    enabled: bool = Field(
        default=False,
        description="whether they are asked as one and answered from what is held for more fields or single ids",
    )


class QuotaSettings(Section):
    """How calls are spared as Graph's limits come near."""

    enabled: bool = Field(default=True, description="whether anything is done about limits, besides telling of them")
    group: Literal["token", "shared"] = Field(
        default="token",
        description="token: each token's limits are its own; shared: all tokens are of one app and share its limits",
    )
    watch_pct: float = Field(
        default=60, ge=1, le=100, description="percent used from which freshness is stretched, where stretch_s allows"
    )
    spare_pct: float = Field(
        default=80, ge=1, le=100, description="percent used from which reads of low priority wait their turn"
    )
    stop_pct: float = Field(
        default=100, ge=1, le=100, description="percent used from which what is held answers, where a rule allows"
    )
    probe_s: float = Field(
        default=30,
        ge=0.1,
        le=3600,
        description="seconds that a stopped limit is left alone, at most, if Graph names no time: from 1 on, doubled "
        "by each probe that is refused",
    )
    longest_wait_s: float = Field(
        default=30, ge=0, le=3600, description="seconds that a read of low priority waits, at most; then it goes"
    )
    foresight_s: float = Field(
        default=300,
        ge=0,
        le=3600,
        description="seconds ahead: a stage that the present rise reaches by then holds already, save stop, where "
        "reads of low priority draw on the limit, too; 0: only what is used counts",
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
    """The links to further pages inside replies."""

    rewrite: bool = Field(default=True, description="whether paging links to Graph come back pointing at the sidecar")
