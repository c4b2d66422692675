"""Fills the settings from flags, environment and file, and tells everything that is wrong with them at once.

    precedence   `load`: flags beat environment beats file beats default
    places       what each of the three gives
    literals     what text stands for
    problems     a line for whatever is wrong
    words        values, and what a setting takes, as they are written

Nothing here looks at the environment by itself: the command line hands it in.
"""

from proxy.loading.places import CONFIG_VARIABLE, SHORT_FLAGS, variable
from proxy.loading.precedence import Loaded, load
from proxy.loading.problems import SettingsError, shown, unknown
from proxy.loading.words import meaning, written

__all__ = [
    "CONFIG_VARIABLE",
    "SHORT_FLAGS",
    "Loaded",
    "SettingsError",
    "load",
    "meaning",
    "shown",
    "unknown",
    "variable",
    "written",
]
