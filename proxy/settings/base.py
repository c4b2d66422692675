"""The base class of all sections of the settings, and the name and version of the product."""

from __future__ import annotations

from importlib import metadata

from pydantic import BaseModel

NAME = "graph-sidecar"
YEAR_S = 365 * 86400


class Section(BaseModel, frozen=True, extra="forbid", strict=True, validate_default=True, hide_input_in_errors=True):
    """Settings that belong together. Strict: `slots = true` is a mistake, not a one."""


def version() -> str:
    """As it was installed; a checkout runs without one."""
    try:
        return metadata.version(NAME)
    except metadata.PackageNotFoundError:
        return "not installed"
