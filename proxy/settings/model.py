"""The model of all settings."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, ValidationInfo, field_validator

from proxy.settings.addresses import Address, Listen
from proxy.settings.base import Section
from proxy.settings.cache import CacheSettings, Rules
from proxy.settings.listeners import InterceptSettings, ListenerSettings, WebhooksSettings
from proxy.settings.observe import CompareSettings, LogSettings, MetricsSettings, TracesSettings
from proxy.settings.shared import SharedSettings
from proxy.settings.types import HostList, TokenFile, has_home
from proxy.settings.upstream import BatchSettings, MergeSettings, PagingSettings, QuotaSettings, UpstreamSettings


class Settings(Section):
    """All settings. The model reads neither file nor environment; the command line passes them in."""

    listen: Listen = Field(
        default=Address("127.0.0.1", 8080),
        description="host and port for applications; every path there belongs to Graph",
    )
    admin: Listen = Field(
        default=Address("127.0.0.1", 9180),
        description="host and port for the sidecar's own paths: probes, /stats, /metrics, the dashboard, and POST "
        "/reload, /purge, /log and /quit",
    )
    admin_hosts: HostList = Field(
        default=(), description="host names that the admin listener answers to, besides localhost and any IP address"
    )
    admin_token_file: TokenFile = Field(
        default="",
        description="file with a token of 16 or more characters; if set, the admin listener requires it "
        "everywhere but at the probes and webhooks; if empty, only this machine may send POST",
    )
    drain_s: float = Field(
        default=25, ge=0, le=3600, description="seconds that open requests may still take after SIGTERM or POST /quit"
    )
    drain_grace_s: float = Field(
        default=0,
        ge=0,
        le=3600,
        description="seconds before the drain in which new requests are still accepted while /readyz says 503, "
        "for callers behind a Service",
    )
    core_dumps: bool = Field(
        default=False,
        description="whether the system may write the memory of this process, tokens included, to a core dump",
    )
    rules: Rules = Field(
        default=(), description="tables that say what holds for some reads; the first rule that matches a read wins"
    )
    listener: ListenerSettings = ListenerSettings()
    upstream: UpstreamSettings = UpstreamSettings()
    batch: BatchSettings = BatchSettings()
    cache: CacheSettings = Field(default_factory=CacheSettings)
    quota: QuotaSettings = QuotaSettings()
    merge: MergeSettings = MergeSettings()
    paging: PagingSettings = PagingSettings()
    webhooks: WebhooksSettings = WebhooksSettings()
    intercept: InterceptSettings = Field(default_factory=InterceptSettings)
    shared: SharedSettings = SharedSettings()
    compare: CompareSettings = CompareSettings()
    log: LogSettings = LogSettings()
    metrics: MetricsSettings = MetricsSettings()
    traces: TracesSettings = TracesSettings()

    @field_validator("admin")
    @classmethod
    def _admin_apart(cls, value: Address, info: ValidationInfo) -> Address:
        """Refuse one address for both listeners: every path of `listen` belongs to Graph."""
        if value.port and value == info.data.get("listen"):
            raise ValueError("must differ from listen")
        return value

    @field_validator("intercept", mode="before")
    @classmethod
    def _authority_without_home(cls, value: object, info: ValidationInfo) -> object:
        """Put the certificate authority beside the key, if the user has no home and names no folder."""
        key = info.data["cache"].key_file if "cache" in info.data else None
        if isinstance(value, dict) and "ca_dir" not in value and isinstance(key, Path) and not has_home():
            return {**value, "ca_dir": key.parent / "ca"}
        return value

    @field_validator("shared")
    @classmethod
    def _one_key(cls, value: SharedSettings, info: ValidationInfo) -> SharedSettings:
        """Refuse an ephemeral key with a shared store: replicas need one key."""
        cache = info.data.get("cache")
        if value.url and isinstance(cache, CacheSettings) and cache.key_file == "ephemeral":
            raise ValueError("url needs a cache.key_file that all replicas have, not an ephemeral one")
        return value

    @field_validator("intercept")
    @classmethod
    def _intercept_apart(cls, value: InterceptSettings, info: ValidationInfo) -> InterceptSettings:
        """Refuse an address that another listener has: this one expects TLS."""
        others = (info.data.get("listen"), info.data.get("admin"))
        if isinstance(value.listen, Address) and value.listen.port and value.listen in others:
            raise ValueError("listen must differ from the listen and admin of the whole")
        return value
