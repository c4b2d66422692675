"""The flags that change settings, and what they come to."""

from __future__ import annotations

import argparse
import os
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from proxy import loading
from proxy.loading import SettingsError, written
from proxy.settings import names


def add_settings(parser: argparse.ArgumentParser) -> None:
    """The flags that change settings, and every setting below them."""
    parser.set_defaults(flags=[])
    parser.add_argument(
        "--config", type=Path, metavar="F", help=f"TOML file of settings (or {loading.CONFIG_VARIABLE})"
    )
    for flag, metavar in {"--listen": "H:P", "--admin": "H:P", "--upstream": "URL", "--cache-dir": "DIR"}.items():
        name = loading.SHORT_FLAGS[flag]
        info = names()[name]
        # argparse reads % as its own
        default = str(info.get_default(call_default_factory=True)).replace("%", "%%")
        parser.add_argument(flag, action=Flag, metavar=metavar, help=f"{info.description} (default: {default})")
    parser.add_argument("--set", action=Flag, metavar="KEY=VALUE", help="any setting below; may be given many times")
    parser.epilog = "\n".join(_reference())


class Flag(argparse.Action):
    """Notes flag and text in `flags`, in the order of the command line: the last on a setting wins."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, option_string: Any = None
    ) -> None:
        """Keep the flag as it was written, for messages."""
        del parser
        namespace.flags = [*namespace.flags, (option_string, values)]


def _reference() -> Iterator[str]:
    """Every setting with its default, what it takes and what it means."""
    yield "Flags beat environment variables, those beat the file, that beats the defaults. Each setting has one name:"
    yield "batch.window_ms is GRAPH_SIDECAR_BATCH__WINDOW_MS, --set batch.window_ms=5 and window_ms below [batch].\n"
    yield "settings and their defaults:"
    for name, info in names().items():
        yield f"  {name} = {written(info.get_default(call_default_factory=True))}"
        yield textwrap.fill(loading.meaning(info), 100, initial_indent=" " * 6, subsequent_indent=" " * 6)


def load(options: argparse.Namespace) -> loading.Loaded:
    """The settings that the command line, the environment and the file come to."""
    return loading.load(flags=options.flags, environ=os.environ, file=options.config)


def refuse_if(problems: list[str]) -> None:
    """End with these lines, if there are any."""
    if problems:
        raise SettingsError(problems)
