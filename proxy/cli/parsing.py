"""Argparse with our habits, and how numbers of seconds are read."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any, NoReturn

from proxy.settings import NAME


class Parser(argparse.ArgumentParser):
    """Argparse with our habits: no abbreviated flags, help as it is laid out, one line for an error."""

    def __init__(self, **options: Any) -> None:
        """Set the habits once, for the commands too."""
        super().__init__(allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter, **options)

    def error(self, message: str) -> NoReturn:
        """Point at the help in place of the usage."""
        self.exit(2, f"{NAME}: {message} (see {self.prog} --help)\n")


def seconds(least: float, most: float) -> Callable[[str], float]:
    """What reads a number of seconds between these."""

    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = -1
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(f"must be a number of seconds from {least:g} to {most:.15g}")
        return value

    return read
