"""The dotted names of all settings, and which of them a reload changes."""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from proxy.settings.model import Settings

RELOADABLE = frozenset(
    {
        "admin_hosts",
        "admin_token_file",
        "batch",
        "cache.fresh_s",
        "cache.stale_if_error_s",
        "cache.stale_while_revalidate_s",
        "cache.stretch_s",
        "compare",
        "drain_grace_s",
        "drain_s",
        "log",
        "merge",
        "metrics",
        "paging",
        "quota.enabled",
        "quota.foresight_s",
        "quota.longest_wait_s",
        "quota.probe_s",
        "quota.spare_pct",
        "quota.stop_pct",
        "quota.watch_pct",
        "rules",
    }
)
"""Settings, and whole sections, that a reload changes while the sidecar runs; the others need a restart."""


def is_live(name: str) -> bool:
    """Returns whether a reload changes the setting *name*."""
    return name in RELOADABLE or name.partition(".")[0] in RELOADABLE


def names(model: type[BaseModel] = Settings, prefix: str = "") -> Mapping[str, FieldInfo]:
    """Returns every setting by its dotted name, in the order of the model."""
    found: dict[str, FieldInfo] = {}
    for name, field in model.model_fields.items():
        below = section(field)
        found |= names(below, f"{prefix}{name}.") if below else {prefix + name: field}
    return found


def value_of(settings: Settings, name: str) -> object:
    """The value of the setting *name* in *settings*."""
    return reduce(getattr, name.split("."), settings)


def section(field: FieldInfo) -> type[BaseModel] | None:
    """Returns the model of the section *field*, None if *field* is no section."""
    kind = field.annotation
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None
