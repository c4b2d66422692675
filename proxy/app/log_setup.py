"""Sets up logging to standard error: lines of text on a terminal, lines of JSON elsewhere."""

from __future__ import annotations

import logging
import sys
import warnings

from proxy.settings import LogSettings
from proxy.shell.observe.access_logger import SINK
from proxy.shell.observe.log_writer import LOG as REPLIES
from proxy.shell.observe.log_writer import JsonLines, LogWriter, TextLines


def set_up(log: LogSettings) -> None:
    """Set up logging as *log* says."""
    _collect_less()
    _hold_back_warnings()
    as_json = log.format == "json" or (log.format == "auto" and not sys.stderr.isatty())
    text = TextLines("%(asctime)s %(levelname)-7s %(message)s", "%H:%M:%S")
    lines = JsonLines(log.sample) if as_json else text
    logging.basicConfig(handlers=[LogWriter(sys.stderr, lines, log.sample)], force=True)
    logging.getLogger("aiohttp").setLevel(logging.WARNING)
    logging.getLogger("asyncio").setLevel(logging.WARNING)
    change(level=log.level, replies=log.replies)


def _collect_less() -> None:
    """Do not collect what no line shows: that saves a third of a line's cost (docs.python.org/3/howto/logging.html)."""
    logging._srcfile = None  # noqa: SLF001 - documented there under this name
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False


def _hold_back_warnings() -> None:
    """Hide warnings of libraries, unless Python is run with -W: they quote input, which may be a token."""
    if not sys.warnoptions:
        warnings.simplefilter("ignore")


def change(*, level: str | None = None, replies: bool | None = None) -> dict[str, object]:
    """Change the log level, and whether *replies* are logged; None leaves a value. Returns both values in force."""
    if level is not None:
        logging.getLogger().setLevel(level.upper())
    if replies is not None:
        logging.getLogger(REPLIES).setLevel(logging.NOTSET if replies else logging.WARNING)
    SINK.refresh()
    now = logging.getLevelName(logging.getLogger().level).lower()
    return {"level": now, "replies": logging.getLogger(REPLIES).isEnabledFor(logging.INFO)}


def flush() -> None:
    """Wait until all lines that were logged are written."""
    for handler in logging.getLogger().handlers:
        handler.flush()
