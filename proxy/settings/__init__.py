"""What can be set: one frozen model, each setting with its default, its bounds and its meaning.

    whole      `Settings`, the model: everything that can be set
      graph      how Graph is asked
      held       what is kept, and the rules for it
      ways_in    who comes in, and how
      telling    what is told: logs and traces
        section    what these are made of
        addresses · files · kinds   what a value may be
    naming     every setting by its dotted name, and which of them a reload changes

`proxy.loading` fills it from the file, the environment and the command line; `Settings()` alone is the defaults.
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
