"""The base class of all sections of the settings, and the name and version of the product."""

from __future__ import annotations

from importlib import metadata

from pydantic import BaseModel

NAME = "graph-sidecar"
YEAR_S = 365 * 86400


class Section(BaseModel, frozen=True, extra="forbid", strict=True, validate_default=True, hide_input_in_errors=True):
    """A section of the settings. Strict: `slots = true` is an error, not 1."""


def version() -> str:
    """The installed version; a checkout may have none."""
    try:
        return metadata.version(NAME)
    except metadata.PackageNotFoundError:
        return "not installed"
