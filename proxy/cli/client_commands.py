"""The commands `top`, `wait`, `reload`, `quit`, `cache`, `replay` and `doctor`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from proxy.cli.arguments import add_settings, load, seconds
from proxy.settings import NAME
from proxy.settings.load import SettingsError

DAY_S = 86_400


def add_top(parser: argparse.ArgumentParser) -> None:
    """Add the settings, which say where the sidecar is, and the flags of the display."""
    from proxy.commands.top import EVERY_S

    add_settings(parser)
    parser.add_argument("--once", action="store_true", help="print one frame and end, as without a terminal")
    parser.add_argument(
        "--interval",
        type=seconds(EVERY_S, 3600),
        default=EVERY_S,
        metavar="S",
        help=f"seconds from one frame to the next (default: {EVERY_S:g})",
    )


def top(options: argparse.Namespace) -> int:
    """Show a running sidecar; `--admin` may be a whole URL here."""
    from proxy.app.token_files import admin_token
    from proxy.commands import control
    from proxy.commands.top import FollowError, run

    urls = [text for flag, text in options.flags if flag == "--admin" and "://" in text]
    options.flags = [(flag, text) for flag, text in options.flags if text not in urls]
    settings = load(options).settings
    url = urls[-1].rstrip("/") if urls else f"http://{control.from_here(settings.admin)}"
    try:
        return run(url, admin_token(settings), once=options.once, interval=options.interval)
    except FollowError as error:
        raise SettingsError([str(error)]) from None


def add_wait(parser: argparse.ArgumentParser) -> None:
    """Add the settings, which say where the sidecar is, and `--timeout`."""
    add_settings(parser)
    parser.add_argument(
        "--timeout", type=seconds(0, DAY_S), default=60.0, metavar="S", help="seconds to wait (default: 60)"
    )


def wait(options: argparse.Namespace) -> int:
    """Wait until a sidecar is ready."""
    from proxy.commands import control

    return _run_or_fail(lambda: control.wait(load(options).settings, options.timeout))


def add_quit(parser: argparse.ArgumentParser) -> None:
    """Add the settings, which say where the sidecar is, and `--timeout`."""
    add_settings(parser)
    parser.add_argument(
        "--timeout",
        type=seconds(0, DAY_S),
        metavar="S",
        help="seconds to wait (default: drain_grace_s and drain_s, and 5)",
    )


def end(options: argparse.Namespace) -> int:
    """End a sidecar, and wait until it has ended."""
    from proxy.commands import control

    return _run_or_fail(lambda: control.end(load(options).settings, options.timeout))


def reload(options: argparse.Namespace) -> int:
    """Reload the settings of a sidecar, and print what changed."""
    from proxy.commands import control

    return _run_or_fail(lambda: print(control.reload(load(options).settings)))


def add_cache(parser: argparse.ArgumentParser) -> None:
    """Add the action, and the settings, which say where the cache is."""
    parser.add_argument("what", choices=("stats", "purge", "verify"), help="count, remove or check what is held")
    add_settings(parser)


def cache(options: argparse.Namespace) -> int:
    """Count, remove or check the entries: through the running sidecar, or else in its folder."""
    from proxy.commands import cache as commands_cache

    return _run_or_fail(lambda: commands_cache.WHAT[options.what](load(options).settings))


def _run_or_fail(work: Callable[[], None]) -> int:
    """Returns the status of *work*: 1 after a line on standard error if it raises ControlError."""
    from proxy.commands.control import ControlError

    try:
        work()
    except ControlError as error:
        print(f"{NAME}: {error}", file=sys.stderr)
        return 1
    return 0


def add_replay(parser: argparse.ArgumentParser) -> None:
    """Add the log file, and the settings to try."""
    parser.add_argument(
        "file", metavar="FILE", help="the sidecar's log: lines of JSON, gzipped or not; - for its input"
    )
    parser.add_argument("--json", action="store_true", help="print all of it as JSON")
    add_settings(parser)


def replay(options: argparse.Namespace) -> int:
    """Print what other settings would have saved of the calls in a log; nothing is sent."""
    from proxy.commands.replay import run

    return run(options.file, load(options).settings, as_json=options.json)


def add_doctor(parser: argparse.ArgumentParser) -> None:
    """Add the token file, and the objects to read."""
    parser.add_argument(
        "--token-file", type=Path, required=True, metavar="F", help="holds an access token, and no more"
    )
    parser.add_argument("--object", default="me", metavar="ID", help="what is read (default: me); a Page tells most")
    parser.add_argument(
        "--edge", default="", metavar="E", help="an edge of it with three objects or more, such as posts"
    )
    parser.add_argument(
        "--secret-file", type=Path, metavar="F", help="holds the app's secret, for appsecret_proof (default: none)"
    )
    parser.add_argument("--json", action="store_true", help="print all of it as JSON")
    parser.add_argument(
        "--report", action="store_true", help="print it without token, id or name, to be pasted into an issue"
    )
    add_settings(parser)


def doctor(options: argparse.Namespace) -> int:
    """Check the sidecar's assumptions about Graph; returns 0 if all that were checked hold, else 1."""
    from proxy.shell.files import TokenFileError, read_token

    settings, origins = load(options)
    try:
        token = read_token(options.token_file)
        secret = read_token(options.secret_file) if options.secret_file else ""
    except TokenFileError as error:
        raise SettingsError([str(error)]) from None
    from proxy.commands import doctor as commands_doctor
    from proxy.commands.doctor.graph_client import TokenAndSecret

    request = commands_doctor.DoctorOptions(
        TokenAndSecret(token, secret), options.object, options.edge, options.json, options.report
    )
    return commands_doctor.run(settings, origins, request)
