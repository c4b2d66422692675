"""Names that users type or parse stay: settings, flags, `/stats` keys, metrics, log fields, words of Cache-Status."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from proxy.cli.commands import COMMANDS
from proxy.core.http import errors
from proxy.core.model import Mode
from proxy.core.observe.access_log import AccessLogEntry
from proxy.settings import names
from tests.journeys.conftest import MakeAsk, MakeScene

PUBLISHED: dict[str, Any] = json.loads((Path(__file__).parent.parent / "public_names.json").read_text())
BY_NAME = {"/routes", "/apps", "/accounts"}
"""Members of `/stats` whose keys are names of the traffic and not of the sidecar."""


def keys(value: object, prefix: str = "") -> Iterator[str]:
    """Yields the path of every key in *value*, a JSON document; `[]` stands for the first element of a list."""
    if isinstance(value, dict):
        for name, below in value.items():
            if prefix not in BY_NAME:
                yield f"{prefix}/{name}"
            yield from keys(below, f"{prefix}/{'*' if prefix in BY_NAME else name}")
    elif isinstance(value, list):
        for below in value[:1]:
            yield from keys(below, f"{prefix}[]")


def words_of(command: str) -> set[str]:
    """Returns the flags of *command* and the words that it takes in their place."""
    parser = argparse.ArgumentParser()
    COMMANDS[command].arguments(parser)
    actions = parser._actions
    flags = {flag for action in actions for flag in action.option_strings}
    return flags | {str(word) for action in actions for word in action.choices or ()}


def test_settings_keep_their_names() -> None:
    """A file, an environment variable or `--set` of an earlier version still means the same setting."""
    assert set(PUBLISHED["settings"]) <= names().keys()


@pytest.mark.parametrize("command", PUBLISHED["flags"])
def test_commands_keep_their_flags(command: str) -> None:
    """A script of an earlier version still runs."""
    assert set(PUBLISHED["flags"][command]) <= words_of(command)


def test_log_fields_keep_their_names() -> None:
    """A reader of the log, `replay` among them, finds each field under the name that it had."""
    assert set(PUBLISHED["log"]) <= set(AccessLogEntry.__struct_fields__)


def test_words_of_cache_status_stay() -> None:
    """The modes, and the details of errors of our own, are what operators search logs and metrics for."""
    assert set(PUBLISHED["modes"]) <= set(Mode)
    ours = {errors.word(kind) for kind in errors.SidecarError.__subclasses__()}
    assert set(PUBLISHED["error_details"]) <= ours


async def test_stats_and_metrics_keep_their_names(scene: MakeScene, ask: MakeAsk) -> None:
    """A dashboard or an alert of an earlier version still finds each number."""
    here = await scene()
    for _ in range(3):
        assert (await here.say("/v25.0/me", token="x")).status == 200
    assert set(PUBLISHED["stats"]) <= set(keys(await here.stats()))
    told = (await (await ask(here.front.admin_url)).say("/metrics")).body.decode()
    assert set(PUBLISHED["metrics"]) <= set(re.findall(r"^# TYPE (graph_sidecar\S+)", told, re.MULTILINE))
