"""Everything that can be set: one frozen model, each setting with its default, its bounds and its meaning.

    model        `Settings`: every section, and the settings outside of sections
    listeners    listener, intercept, webhooks
    upstream     upstream, batch, merge, quota, paging
    cache        cache, and the tables of rules
    shared       shared
    observe      log, metrics, compare, traces
    names        every setting by its dotted name, and which of them a reload changes
    types · addresses · base    the types of values, and the base class of the sections
    load/        reads settings from flags, environment and file

`Settings()` alone is the defaults. `make settings` writes docs/settings.md and config/graph-sidecar.toml from them.
"""

from proxy.settings.addresses import Address, parse_address
from proxy.settings.base import NAME
from proxy.settings.cache import CacheSettings, RuleSettings
from proxy.settings.model import Settings
from proxy.settings.names import RELOADABLE, is_live, names, section, value_of
from proxy.settings.observe import LogSettings
from proxy.settings.upstream import UpstreamSettings

__all__ = [
    "NAME",
    "RELOADABLE",
    "Address",
    "CacheSettings",
    "LogSettings",
    "RuleSettings",
    "Settings",
    "UpstreamSettings",
    "is_live",
    "names",
    "parse_address",
    "section",
    "value_of",
]
