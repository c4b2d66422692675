"""`graph-sidecar run -- COMMAND`: a sidecar for one program, which knows nothing of it, and as long as that runs."""

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

from proxy.app import core_dumps, from_settings, listen, log_setup, sidecar
from proxy.commands import trust
from proxy.settings import NAME, Settings
from proxy.shell.intercept import x509
from proxy.shell.intercept.ca import AuthorityError, load_or_make_ca, write
from proxy.shell.intercept.x509 import Pair
from proxy.shell.observe.stats import stats

_log = logging.getLogger("graph_sidecar.run")

NOT_FOUND, NOT_EXECUTABLE, SIGNALLED = 127, 126, 128
"""Exit statuses as shells give them."""

_OURS_AND_ITS = (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP)
"""What a terminal tells all of its foreground at once."""
_ITS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)


def run(settings: Settings, command: Sequence[str], environ: Mapping[str, str], *, is_quiet: bool = False) -> int:
    """Run *command* with its calls to Graph led through a sidecar; its exit status. Raises StartError.

    Unless *is_quiet*, a line on standard error says at the end what was saved.
    """
    if not settings.core_dumps:
        core_dumps.forbid_core_dumps()
    log_setup.set_up(settings.log)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        status, told = runner.run(_run(settings, command, environ))
    if not is_quiet:
        sys.stderr.write(f"{NAME}: {summary(told)}\n")
    return status


def summary(stats: Mapping[str, Any]) -> str:
    """What `/stats` tells, in a line. Calls, bytes and round trips are three numbers, which do not add up."""
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
    """The command's exit status, and what the sidecar has to tell when it has ended."""
    names = from_settings.graph_hosts(settings)
    authority = await asyncio.to_thread(_authority, settings.intercept.ca_dir, names)
    for name in trust.replaced(environ):
        _log.warning("%s of this environment is not used while the command runs", name)
    for what in trust.unread(environ):
        _log.warning("%s cannot be read as PKCS #12, so it is not used while the command runs", what)
    with tempfile.TemporaryDirectory(prefix="graph-sidecar-run-", ignore_cleanup_errors=True) as folder:
        async with sidecar.sidecar(settings) as running:
            told = trust.Told(Path(folder), names, environ, running.url)
            await asyncio.to_thread(_lay, told, authority)
            await running.mint(names)
            status = await _wait(command, {**environ, **trust.variables(told)})
    return status, stats(running.telemetry)


def _lay(told: trust.Told, authority: Pair) -> None:
    """Write the files that the variables name."""
    for path, content in trust.files(told, authority.public_pem).items():
        write(path, content)


def _authority(folder: Path, names: frozenset[str]) -> Pair:
    """The authority in *folder*, made for *names*. Raises StartError where its word would not be taken for them."""
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
    """Pass on what this process is told. A terminal tells the command itself, and would tell it twice."""
    loop = asyncio.get_running_loop()

    def tell(number: int) -> None:
        if process.returncode is None:
            process.send_signal(number)

    for number in _ITS:
        loop.add_signal_handler(number, tell, number)
    for number in _OURS_AND_ITS:
        if _is_in_foreground():
            loop.add_signal_handler(number, lambda: None)
        else:
            loop.add_signal_handler(number, tell, number)


def _is_in_foreground() -> bool:
    try:
        with open("/dev/tty") as terminal:  # noqa: PTH123 - a device
            return os.tcgetpgrp(terminal.fileno()) == os.getpgrp()
    except OSError:
        return False
