"""`graph-sidecar run -- COMMAND`: runs a program behind a sidecar of its own, which ends with the program."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import tempfile
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import uvloop

from proxy.app import from_settings, listen, log_setup, sidecar
from proxy.app.system import core_dumps
from proxy.commands import trust
from proxy.settings import NAME, Settings
from proxy.shell.intercept import x509
from proxy.shell.intercept.ca import AuthorityError, load_or_make_ca, write
from proxy.shell.intercept.x509 import Pair
from proxy.shell.observe.stats import stats

_log = logging.getLogger("graph_sidecar.run")

NOT_FOUND, NOT_EXECUTABLE, SIGNALLED = 127, 126, 128
"""Exit statuses with their meaning in shells."""

_SENT_TO_FOREGROUND = (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP)
"""The signals that a terminal sends to its whole foreground process group."""
_ALWAYS_FORWARDED = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)


def run(settings: Settings, command: Sequence[str], environ: Mapping[str, str], *, is_quiet: bool = False) -> int:
    """Run *command* with its calls to Graph going through a sidecar; returns its exit status. Raises StartError.

    Unless *is_quiet*, a line on standard error sums up the savings at the end.
    """
    if not settings.core_dumps:
        core_dumps.forbid_core_dumps()
    log_setup.set_up(settings.log)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        status, report = runner.run(_run(settings, command, environ))
    log_setup.flush()
    if not is_quiet:
        sys.stderr.write(f"{NAME}: {summary(report)}\n")
    return status


def summary(stats: Mapping[str, Any]) -> str:
    """Returns *stats* in one line; calls, bytes and round trips are different numbers and are not added up."""
    calls, avoided = stats["calls"], dict(stats["calls_avoided"])
    if not calls["asked"]:
        return "no call to Graph came here; ways around it: docs/transparent.md"
    held_back = avoided.pop("throttle") + avoided.pop("refused")
    parts = {
        "{:,} counted": calls["counted"],
        "{:,} perhaps counted": calls["uncertain"],
        "{:,} avoided": sum(avoided.values()),
        "{:,} answered here while a limit was reached": held_back,
        "{:,} bytes not sent": stats["bytes_avoided"],
        "{:,} round trips not made": stats["round_trips_avoided"],
    }
    asked = f"calls to Graph: {calls['asked']:,} asked for"
    return ", ".join([asked, *(text.format(number) for text, number in parts.items() if number)])


async def _run(settings: Settings, command: Sequence[str], environ: Mapping[str, str]) -> tuple[int, dict[str, Any]]:
    """Returns the command's exit status, and the sidecar's stats at its end."""
    names = from_settings.graph_hosts(settings)
    authority = await asyncio.to_thread(_authority, settings.intercept.ca_dir, names)
    for name in trust.replaced(environ):
        _log.warning("%s of this environment is not used while the command runs", name)
    for what in trust.unreadable_stores(environ):
        _log.warning("%s cannot be read as PKCS #12, so it is not used while the command runs", what)
    with tempfile.TemporaryDirectory(prefix="graph-sidecar-run-", ignore_cleanup_errors=True) as folder:
        async with sidecar.sidecar(settings) as running:
            context = trust.TrustContext(Path(folder), names, environ, running.url)
            await asyncio.to_thread(_write_files, context, authority)
            await running.make_leaves(names)
            status = await _wait(command, {**environ, **trust.variables(context)})
    return status, stats(running.telemetry)


def _write_files(context: trust.TrustContext, authority: Pair) -> None:
    """Write the files that the environment variables name."""
    for path, content in trust.files(context, authority.public_pem).items():
        write(path, content)


def _authority(folder: Path, names: frozenset[str]) -> Pair:
    """Returns the authority in *folder*, made if missing. Raises StartError if it cannot sign for *names*."""
    now = datetime.now(UTC)
    try:
        found = load_or_make_ca(folder, names, now)
    except AuthorityError as error:
        raise listen.StartError(f"intercept.ca_dir: {error}") from None
    if why := x509.ca_problem(found, names, now):
        raise listen.StartError(f"intercept.ca_dir = {folder}: {why}; `graph-sidecar ca init --force` makes a new one")
    return found


async def _wait(command: Sequence[str], environ: Mapping[str, str]) -> int:
    try:
        with core_dumps.limit_for_children():
            process = await asyncio.create_subprocess_exec(*command, env=environ)
    except FileNotFoundError:
        _log.error("%s: not found", command[0])
        return NOT_FOUND
    except OSError as error:
        _log.error("%s: %s", command[0], error.strerror)
        return NOT_EXECUTABLE
    _forward(process)
    status = await process.wait()
    return status if status >= 0 else SIGNALLED - status


def _forward(process: asyncio.subprocess.Process) -> None:
    """Forward signals to the command, except those that a terminal has sent to the command already."""
    loop = asyncio.get_running_loop()

    def forward(number: int) -> None:
        if process.returncode is None:
            process.send_signal(number)

    for number in _ALWAYS_FORWARDED:
        loop.add_signal_handler(number, forward, number)
    for number in _SENT_TO_FOREGROUND:
        if _is_in_foreground():
            loop.add_signal_handler(number, lambda: None)
        else:
            loop.add_signal_handler(number, forward, number)


def _is_in_foreground() -> bool:
    try:
        with open("/dev/tty") as terminal:  # noqa: PTH123 - a device
            return os.tcgetpgrp(terminal.fileno()) == os.getpgrp()
    except OSError:
        return False
