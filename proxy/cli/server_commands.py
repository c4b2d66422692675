"""The commands `serve`, `run`, `check` and `fingerprint`: a sidecar's start, settings and secret."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable

from proxy.app import preflight
from proxy.cli.arguments import add_settings, load, refuse_if
from proxy.settings import value_of
from proxy.settings.load import Loaded, SettingsError, oddities, to_toml


def serve(options: argparse.Namespace) -> int:
    """Run the sidecar until SIGTERM or SIGINT."""
    settings = _load_and_try(options).settings
    if not settings.upstream.nameservers:
        _leave_out("aiodns")
    from proxy.app import process
    from proxy.app.system import service_manager

    notify = service_manager.notifier(os.environ.get("NOTIFY_SOCKET", ""))
    return _run_or_refuse(lambda: process.serve(settings, lambda: load(options).settings, notify))


def _leave_out(module: str) -> None:
    """Make imports of an optional *module* fail: aiohttp imports all that it might use, which takes memory."""
    sys.modules.setdefault(module, None)  # type: ignore[arg-type] # as documented for the import system


def add_run(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `serve`; the command follows after `--`."""
    parser.add_argument("--quiet", action="store_true", help="ends without a line of what was saved")
    add_settings(parser)
    parser.usage = "graph-sidecar run [--quiet] [FLAGS OF serve] -- COMMAND ..."


FOR_ONE_COMMAND = [
    ("--listen", "127.0.0.1:0"),
    ("--admin", "127.0.0.1:0"),
    ("--set", "intercept.listen="),
    ("--set", "webhooks.listen="),
]
"""The settings that `run` overrides: free ports on loopback, and no listeners for other programs."""


def run(options: argparse.Namespace) -> int:
    """Run a command whose calls to Graph go through a sidecar of its own."""
    if not options.words:
        raise SettingsError(["run takes a command behind --, such as: graph-sidecar run -- tap-facebook --help"])
    options.flags = [*FOR_ONE_COMMAND, *options.flags]
    settings, origins = _load_and_try(options)
    if origins["log.level"] == "default":  # standard error is the command's
        settings = settings.model_copy(update={"log": settings.log.model_copy(update={"level": "warning"})})
    from proxy.commands import run as commands_run

    return _run_or_refuse(lambda: commands_run.run(settings, options.words, os.environ, is_quiet=options.quiet))


def _run_or_refuse(work: Callable[[], int]) -> int:
    """Returns the status of *work*, which starts a sidecar; a StartError is reported like a bad setting."""
    from proxy.app import listen

    try:
        return work()
    except listen.StartError as error:
        raise SettingsError([str(error)]) from None


def _load_and_try(options: argparse.Namespace) -> Loaded:
    """Returns the settings. Raises SettingsError with all that is wrong in them and on this machine."""
    try:
        loaded = load(options)
    except SettingsError as error:
        raise _with_machine(error) from None
    refuse_if(preflight.problems(loaded.settings))
    return loaded


def _with_machine(error: SettingsError) -> SettingsError:
    """Returns *error* with the problems that the settings that it does not name have on this machine."""
    more = preflight.problems(error.usable) if error.usable else []
    return SettingsError(error.problems + error.unrelated(more))


def add_check(parser: argparse.ArgumentParser) -> None:
    """Add the settings, and `--strict`."""
    parser.add_argument("--strict", action="store_true", help="ends with status 2 after warnings, too")
    add_settings(parser)


def check(options: argparse.Namespace) -> int:
    """Print the settings in force, odd values, and all problems that would keep `serve` from starting."""
    try:
        settings, origins = load(options)
    except SettingsError as error:
        _print_warnings(error.unrelated(oddities(error.usable) if error.usable else []))
        raise _with_machine(error) from None
    for name, origin in origins.items():
        print(f"{f'{name} = {to_toml(value_of(settings, name))}':<60}  # {origin}")
    no_disk = [f"{line}; memory alone would hold entries" for line in preflight.warnings(settings)]
    found = [*oddities(settings), *no_disk]
    _print_warnings(found)
    refuse_if(preflight.problems(settings))
    if not found:
        print("nothing is wrong")
    return 2 if found and options.strict else 0


def _print_warnings(lines: list[str]) -> None:
    for line in lines:
        print(f"warning: {line}")


def fingerprint(options: argparse.Namespace) -> int:
    """Print the fingerprint of the token on standard input, as the log's `app` and `/stats` name it."""
    key_file = load(options).settings.cache.key_file
    if key_file == "ephemeral":
        raise SettingsError(["cache.key_file: is ephemeral, so fingerprints differ in each run"])
    if not key_file.exists():
        raise SettingsError([f"cache.key_file: is missing: {key_file}"])
    token = sys.stdin.readline().strip()
    if not token:
        raise SettingsError(["fingerprint takes a token on standard input, on one line"])
    from proxy.core.cache.key import Keys
    from proxy.core.model import Credential
    from proxy.shell.store import KeyFileError, load_or_make_key

    try:
        keys = Keys(load_or_make_key(key_file))
    except KeyFileError as error:
        raise SettingsError([str(error)]) from None
    print(keys.fingerprint(Credential(token)).hex()[:12])
    return 0
