"""Settings of the cache, and the rules for some reads."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import platformdirs
from pydantic import BeforeValidator, Field, ValidationInfo, field_validator

from proxy.settings.base import YEAR_S, Section
from proxy.settings.types import Folder, Glob, HostNames, KeyFile, RuleVersion, SizeInMb, resolved, tables, user_folder


class CacheSettings(Section):
    """Which replies are stored, where, and for how long they may be served."""

    dir: Folder = Field(
        default_factory=lambda: user_folder(platformdirs.user_cache_path),
        description="folder of the entries on disk; if it cannot be used or does not respond, the sidecar goes on "
        "with memory alone and says so",
    )
    memory_mb: int = Field(default=64, ge=0, le=1_048_576, description="megabytes of entries in memory; 0 for none")
    disk_mb: SizeInMb = Field(
        default=1024, ge=0, le=1_048_576, description="megabytes of entries on disk; 0 keeps entries in memory only"
    )
    max_body_kb: int = Field(default=2048, ge=1, le=102_400, description="kilobytes of the largest body that is stored")
    sealed: bool = Field(
        default=True,
        description="whether entries are encrypted with the installation's key and the caller's token; if not "
        "they are signed, readable, and those that hold a token stay in memory",
    )
    key_file: KeyFile = Field(
        default_factory=lambda: user_folder(platformdirs.user_state_path) / "key",
        description="file of the installation's secret, 32 bytes of mode 0600, made at the first start; "
        "`ephemeral` keeps the secret in memory only",
    )
    fresh_s: float = Field(
        default=0,
        ge=0,
        le=YEAR_S,
        description="seconds that an entry is served without asking Graph; 0 always revalidates",
    )
    stale_if_error_s: float = Field(
        default=0,
        ge=0,
        le=YEAR_S,
        description="seconds beyond fresh_s that an entry may be served when Graph fails or throttles",
    )
    stale_while_revalidate_s: float = Field(
        default=0,
        ge=0,
        le=YEAR_S,
        description="seconds beyond fresh_s that an entry is served at once while the sidecar asks Graph in the "
        "background",
    )
    stretch_s: float = Field(
        default=0, ge=0, le=YEAR_S, description="seconds to which fresh_s grows as a rate limit comes near; 0 never"
    )

    @field_validator("key_file")
    @classmethod
    def _key_apart(cls, value: Path | str, info: ValidationInfo) -> Path | str:
        """Refuse a key inside the cache folder: a copy of the entries must not contain the key."""
        folder = info.data.get("dir")
        if folder and isinstance(value, Path) and resolved(value).is_relative_to(resolved(folder)):
            raise ValueError("must lie outside cache.dir")
        return value


class RuleSettings(Section):
    """One of `rules`: the settings of the reads that it matches; a missing key is as in `cache` and `merge`."""

    path: Glob = Field(
        description="glob over the path without its version, such as /act_*/insights; * also matches slashes"
    )
    fields: HostNames = Field(
        default=(), description="matches only reads that ask for no other fields than these; empty matches any read"
    )
    version: RuleVersion = Field(
        default="", description="matches only reads of this version, such as v25.0; empty matches any"
    )
    fresh_s: float | None = Field(default=None, ge=0, le=YEAR_S, description="as cache.fresh_s")
    stale_if_error_s: float | None = Field(default=None, ge=0, le=YEAR_S, description="as cache.stale_if_error_s")
    stale_while_revalidate_s: float | None = Field(
        default=None, ge=0, le=YEAR_S, description="as cache.stale_while_revalidate_s"
    )
    stretch_s: float | None = Field(default=None, ge=0, le=YEAR_S, description="as cache.stretch_s")
    priority: int | None = Field(
        default=None,
        ge=0,
        le=7,
        description="urgency (RFC 9218) of reads without a Priority field: 0 is first, 5 to 7 may wait",
    )
    batch: bool = Field(default=True, description="false sends these reads to Graph alone")
    cache: bool = Field(default=True, description="false stores nothing of these reads")
    merge: bool | None = Field(default=None, description="as merge.enabled")


Rules = Annotated[tuple[RuleSettings, ...], BeforeValidator(tables)]
