"""Joins the sources: flags beat environment, file, defaults of a package and defaults of the model, in this order."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from proxy.settings import Settings, names
from proxy.settings.load.problems import SettingsError, describe
from proxy.settings.load.sources import (
    CONFIG_VARIABLE,
    DEFAULTS_VARIABLE,
    from_environment,
    from_file,
    from_flags,
    from_named_file,
    sections,
)


class Loaded(NamedTuple):
    """The settings, and the origin of each."""

    settings: Settings
    origins: dict[str, str]


def load(
    *, flags: Iterable[tuple[str, str]] = (), environ: Mapping[str, str] | None = None, file: Path | None = None
) -> Loaded:
    """Returns the settings from *flags* over *environ* over *file* over the defaults. Raises SettingsError.

    The environment may name the file, and a file of defaults.
    """
    environ = environ or {}
    own_file = from_file(file) if file else from_named_file(environ, CONFIG_VARIABLE)
    places = [from_flags(flags), from_environment(environ), own_file, from_named_file(environ, DEFAULTS_VARIABLE)]
    merged = {name: given for place in reversed(places) for name, given in place.given.items()}
    origins = {name: given.origin for name, given in merged.items()}
    problems = [problem for place in places for problem in place.problems]
    try:
        settings = Settings.model_validate(_tree({name: given.value for name, given in merged.items()}))
    except ValidationError as error:
        details = error.errors(include_url=False)
        raise SettingsError(problems + [describe(detail, origins) for detail in details]) from None
    if problems:
        raise SettingsError(problems)
    return Loaded(settings, {name: origins.get(name, "default") for name in names()})


def _tree(values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns *values* (by dotted name) as nested tables; with every section, so that errors have full names."""
    tree: dict[str, Any] = {name: {} for name in sections()}
    for name, value in values.items():
        above, _, last = name.rpartition(".")
        (tree[above] if above else tree)[last] = value
    return tree
