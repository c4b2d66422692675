"""Joins the sources: flags beat environment, file, defaults of a package and defaults of the model, in this order."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from proxy.settings import Settings, names
from proxy.settings.load.problems import SettingsError, describe, path_text
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
    tree = _tree({name: deepcopy(given.value) for name, given in merged.items()})
    settings, details = _validated(tree)
    if settings is None or details or problems:
        found = [describe(detail, origins) for detail in details]
        raise SettingsError(problems + found, settings, frozenset(path_text(detail["loc"]) for detail in details))
    return Loaded(settings, {name: origins.get(name, "default") for name in names()})


def _validated(tree: dict[str, Any]) -> tuple[Settings | None, list[ErrorDetails]]:
    """Returns the settings in *tree* with defaults in place of bad values, and the problems with these.

    None if a default does not fit the other values. Values that bad ones kept from being compared are compared then.
    """
    found: list[ErrorDetails] = []
    while True:
        try:
            return Settings.model_validate(tree), found
        except ValidationError as error:
            details = error.errors(include_url=False)
        bad = {path_text(detail["loc"]) for detail in found}
        found += [detail for detail in details if not found or _is_meant(detail, bad)]
        removals = [_remove(tree, detail["loc"]) for detail in details]
        if not any(removals):
            return None, found


_COMPARED_WITH = {"shared": {"cache.key_file"}, "intercept": {"listen", "admin"}}
"""Sections that are compared with other settings once all of their own values are good."""


def _is_meant(detail: ErrorDetails, bad: Collection[str]) -> bool:
    """Returns whether *detail* is about what was set, and not about the defaults in place of the *bad* settings."""
    compared_with = _COMPARED_WITH.get(str(detail["loc"][0]))
    return compared_with is not None and compared_with.isdisjoint(bad)


def _remove(tree: dict[str, Any], location: Sequence[int | str]) -> bool:
    """Remove the value at *location*, or the nearest one above it that has a name; returns whether there was one."""
    here: Any = tree
    last: tuple[dict[str, Any], str] | None = None
    for part in location:
        if isinstance(here, dict) and part in here:
            last = here, str(part)
        elif not (isinstance(here, list) and isinstance(part, int) and part < len(here)):
            break
        here = here[part]
    if last:
        del last[0][last[1]]
    return last is not None


def _tree(values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns *values* (by dotted name) as nested tables; with every section, so that errors have full names."""
    tree: dict[str, Any] = {name: {} for name in sections()}
    for name, value in values.items():
        above, _, last = name.rpartition(".")
        (tree[above] if above else tree)[last] = value
    return tree
