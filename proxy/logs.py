"""Where and how the process tells what it does: lines of text on a terminal, lines of JSON elsewhere."""

from __future__ import annotations

import json
import logging
import sys
import traceback
from datetime import UTC, datetime
from typing import Any

from proxy.settings import Log


class _Lines(logging.Formatter):
    """Lines for people."""

    def formatException(self, ei: Any) -> str:  # noqa: N802 - the base class's name
        """Where it happened, without the error's own text: of a request that cannot be read it holds the first line."""
        return "".join(traceback.format_tb(ei[2])) + getattr(ei[0], "__name__", "")


class _JsonLines(_Lines):
    """Lines for machines."""

    def format(self, record: logging.LogRecord) -> str:
        """One object on one line; `where` in it only where there was an exception."""
        when = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        told = {"time": when, "level": record.levelname.lower(), "logger": record.name, "message": record.getMessage()}
        if record.exc_info:
            told["where"] = self.formatException(record.exc_info)
        return json.dumps(told)


def set_up(log: Log) -> None:
    """Send what everybody logs to standard error, as *log* says."""
    as_json = log.format == "json" or (log.format == "auto" and not sys.stderr.isatty())
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonLines() if as_json else _Lines("%(asctime)s %(levelname)-7s %(message)s", "%H:%M:%S"))
    logging.basicConfig(level=log.level.upper(), handlers=[handler], force=True)
    logging.getLogger("aiohttp").setLevel(logging.WARNING)
    logging.getLogger("asyncio").setLevel(logging.WARNING)
