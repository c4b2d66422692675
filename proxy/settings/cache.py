"""What is kept, where, how old it may be served, and the rules that say otherwise."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import platformdirs
from pydantic import BeforeValidator, Field, ValidationInfo, field_validator

from proxy.settings.base import YEAR_S, Section
from proxy.settings.types import Folder, Glob, HostNames, KeyFile, RuleVersion, SizeInMb, real, tables, user_folder


class CacheSettings(Section):
    """What is kept, where, and how old it may be served."""

    dir: Folder = Field(
        default_factory=lambda: user_folder(platformdirs.user_cache_path),
        description="the folder of the entries on disk",
    )
    memory_mb: int = Field(default=64, ge=0, le=1_048_576, description="megabytes of entries in memory; 0 for none")
    disk_mb: SizeInMb = Field(
        default=1024, ge=0, le=1_048_576, description="megabytes of entries on disk; 0 keeps them in memory only"
    )
    max_body_kb: int = Field(
        default=2048, ge=1, le=102_400, description="kilobytes of the largest body that is kept; larger ones pass by"
    )
    sealed: bool = Field(
        default=True, description="whether entries are encrypted under the installation's key and the caller's token"
    )
    key_file: KeyFile = Field(
        default_factory=lambda: user_folder(platformdirs.user_state_path) / "key",
        description="the installation's secret, 32 bytes, made on first start; `ephemeral` keeps one in memory only",
    )
    fresh_s: float = Field(
        default=0, ge=0, le=YEAR_S, description="seconds that an entry is served without asking Graph; 0 asks always"
    )
    stale_if_error_s: float = Field(
        default=0, ge=0, le=YEAR_S, description="seconds beyond fresh_s that an entry may stand in when Graph fails"
    )
    stale_while_revalidate_s: float = Field(
        default=0, ge=0, le=YEAR_S, description="seconds beyond fresh_s that an entry is served while Graph is asked"
    )
    stretch_s: float = Field(
        default=0, ge=0, le=YEAR_S, description="seconds up to which fresh_s is stretched as limits come near; 0 never"
    )

    @field_validator("key_file")
    @classmethod
    def _key_apart(cls, value: Path | str, info: ValidationInfo) -> Path | str:
        """Whoever may copy or purge the entries has no business with the key."""
        folder = info.data.get("dir")
        if folder and isinstance(value, Path) and real(value).is_relative_to(real(folder)):
            raise ValueError("must lie outside cache.dir")
        return value


class RuleSettings(Section):
    """One of `rules`: what may be done with the reads that it matches; what it leaves out is as in `cache`."""

    path: Glob = Field(description="a glob over the path without version, such as /act_*/insights; * covers slashes")
    fields: HostNames = Field(
        default=(), description="only reads that ask for no other fields than these; none: any read"
    )
    version: RuleVersion = Field(
        default="", description="only reads that ask for this version, such as v25.0; none: any"
    )
    fresh_s: float | None = Field(default=None, ge=0, le=YEAR_S, description="as cache.fresh_s")
    stale_if_error_s: float | None = Field(default=None, ge=0, le=YEAR_S, description="as cache.stale_if_error_s")
    stale_while_revalidate_s: float | None = Field(
        default=None, ge=0, le=YEAR_S, description="as cache.stale_while_revalidate_s"
    )
    stretch_s: float | None = Field(default=None, ge=0, le=YEAR_S, description="as cache.stretch_s")
    priority: int | None = Field(
        default=None, ge=0, le=7, description="the urgency of reads that name none: 0 first, 5 to 7 have time"
    )
    batch: bool = Field(default=True, description="false: these reads go to Graph alone")
    cache: bool = Field(default=True, description="false: nothing of these reads is kept")
    merge: bool | None = Field(default=None, description="as merge.enabled")


Rules = Annotated[tuple[RuleSettings, ...], BeforeValidator(tables)]
