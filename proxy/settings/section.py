"""What settings that belong together are made of."""

from __future__ import annotations

from pydantic import BaseModel

NAME = "graph-sidecar"
YEAR_S = 365 * 86400


class Section(BaseModel, frozen=True, extra="forbid", strict=True, validate_default=True, hide_input_in_errors=True):
    """Settings that belong together. Strict: `slots = true` is a mistake, not a one."""
