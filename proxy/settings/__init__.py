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
from proxy.settings.graph import Upstream
from proxy.settings.held import Cache, Rule
from proxy.settings.naming import LIVE, is_live, names, section, value_of
from proxy.settings.section import NAME
from proxy.settings.telling import Log
from proxy.settings.whole import Settings

__all__ = [
    "LIVE",
    "NAME",
    "Address",
    "Cache",
    "Log",
    "Rule",
    "Settings",
    "Upstream",
    "is_live",
    "names",
    "parse_address",
    "section",
    "value_of",
]
