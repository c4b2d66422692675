"""Fills the settings from flags, environment and file, and tells everything that is wrong with them at once.

    precedence   `load`: flags beat environment beats file beats default
    places       what each of the three gives
    literals     what text stands for
    problems     a line for whatever is wrong
    words        values, and what a setting takes, as they are written

Nothing here looks at the environment by itself: the command line hands it in.
"""

from proxy.settings.load.precedence import Loaded, load
from proxy.settings.load.problems import SettingsError, printable, unknown
from proxy.settings.load.sources import CONFIG_VARIABLE, SHORT_FLAGS, variable
from proxy.settings.load.toml import meaning, to_toml

__all__ = [
    "CONFIG_VARIABLE",
    "SHORT_FLAGS",
    "Loaded",
    "SettingsError",
    "load",
    "meaning",
    "printable",
    "to_toml",
    "unknown",
    "variable",
]
