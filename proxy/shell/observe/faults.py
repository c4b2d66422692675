"""Logs faults of the sidecar itself."""

from __future__ import annotations

import logging
import traceback

_log = logging.getLogger("graph_sidecar.server")


def log_fault(fault: Exception) -> None:
    """Log a fault of the sidecar: where it happened, without values, which may hold a token."""
    frames = traceback.extract_tb(fault.__traceback__)
    where = "".join(f"\n  {frame.filename}:{frame.lineno} {frame.name}" for frame in frames)
    _log.error("a fault of the sidecar's own: %s%s", type(fault).__name__, where)
