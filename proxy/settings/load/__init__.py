"""Reads settings from flags, environment and file, and reports everything that is wrong with them at once.

    precedence   `load`: flags beat environment, environment beats file, file beats defaults
    sources      what each of these places gives
    problems     one line for each problem
    oddities     one line for each value that is allowed and hardly meant
    toml         values, and what a setting takes, as they are written

The command line passes the environment in; nothing here reads it.
"""

from proxy.settings.load.oddities import oddities
from proxy.settings.load.precedence import Loaded, load
from proxy.settings.load.problems import SettingsError, printable, unknown
from proxy.settings.load.sources import CONFIG_VARIABLE, SHORT_FLAGS, variable
from proxy.settings.load.toml import description_with_bounds, to_toml

__all__ = [
    "CONFIG_VARIABLE",
    "SHORT_FLAGS",
    "Loaded",
    "SettingsError",
    "description_with_bounds",
    "load",
    "oddities",
    "printable",
    "to_toml",
    "unknown",
    "variable",
]
