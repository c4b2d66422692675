"""The command `ca`: the certificate authority of transparent mode."""

from __future__ import annotations

import argparse
import os

from proxy.cli.arguments import add_settings, load
from proxy.settings.load import SettingsError


def add_ca(parser: argparse.ArgumentParser) -> None:
    """Add the action, and the settings that say where the authority is and which hosts it signs for."""
    parser.add_argument(
        "action",
        choices=["init", "show", "bundle", "env"],
        help="init: makes the authority; show: prints it; bundle: prints it with the system's roots, for clients; "
        "env: writes what clients read beside it and prints the variables that name that",
    )
    parser.add_argument("--force", action="store_true", help="init: puts a new authority in the place of the old one")
    add_settings(parser)


def ca(options: argparse.Namespace) -> int:
    """Make the certificate authority of transparent mode, or print it."""
    settings = load(options).settings
    from proxy.commands import ca as commands_ca
    from proxy.shell.intercept.ca import AuthorityError

    try:
        print(commands_ca.ACTIONS[options.action](commands_ca.CaRequest(settings, os.environ, options.force)), end="")
    except AuthorityError as error:
        raise SettingsError([f"intercept.ca_dir: {error}"]) from None
    return 0
